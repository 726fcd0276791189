"""Several replicas: the kernels of one device, from the same global batches.

Floating point sums depend on their order, and replicas add in another order than one device. So the
exact comparisons use integers, whose sums are exact; where there is a batch normalisation they use
float64, in which a weight is decided by rounding only if its signal is zero.
"""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from larq_filter import (
    FilterOptimizer,
    binary,
    callbacks,
    filters,
    flips,
    models,
    to_latent_free,
)
from larq_filter._keras import keras, tf
from larq_filter.experiments import checkpoints, progress, run_folder, strategies, training

import larq

STEPS, BATCH = 12, 16
SMALL = run_folder.Config(model="mlp", width=16, epochs=2, train_examples=300, batch_size=50)


def copies_of(variable):
    return [np.array(binary.latent(copy)) for copy in binary.replicas(variable)]


def kernels_of(model):
    """The binary kernels of the first replica; all replicas hold the same -1 and +1."""
    kernels = []
    for _, variable in binary.binary_kernels(model):
        first, *others = copies_of(variable)
        assert np.all(np.abs(first) == 1)
        for other in others:
            np.testing.assert_array_equal(other, first)
        kernels.append(first)
    return kernels


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


# One device and several ---------------------------------------------------------------------------


def integers(dtype="float32"):
    random = np.random.default_rng(0)
    x = random.integers(-3, 4, (STEPS * BATCH, 8)).astype(dtype)
    return x, random.integers(-4, 5, (STEPS * BATCH, 4)).astype(dtype)


def integer_network(policy="float32"):
    """Latent +-1 to be, without batch normalisation: integer outputs, dyadic gradients."""
    keras.utils.set_random_seed(1)
    keras.mixed_precision.set_global_policy(policy)  # Larq's layers know no other
    dense = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}
    return keras.Sequential(
        [
            keras.Input((8,)),
            larq.layers.QuantDense(16, **dense),
            larq.layers.QuantDense(4, input_quantizer=larq.quantizers.SteSign(8.0), **dense),
            keras.layers.Activation("linear", dtype="float32"),
        ]
    )


def integer_optimizer():
    return FilterOptimizer(filters.EMA(0.25), flips.Threshold(0.125), default_optimizer=None)


class Replicas(keras.callbacks.Callback):
    """Looks at all replicas after every step."""

    def on_train_batch_end(self, batch, logs=None):
        kernels_of(self.model)


def trained_on_integers(wrap=lambda optimizer: optimizer, policy="float32", watch=(), **options):
    """A network after ``STEPS`` steps, whose every step asserts that it begins with -1 and +1."""
    model = integer_network(policy)
    model.compile(wrap(integer_optimizer()), "mse", **options)
    inner = model.train_step

    def train_step(data):
        signs = [binary.latent(v) for _, v in binary.binary_kernels(model)]
        checks = [tf.debugging.Assert(tf.reduce_all(tf.abs(w) == 1), [w]) for w in signs]
        with tf.control_dependencies([check for check in checks if check is not None]):
            return inner(data)

    model.train_step = train_step
    x, y = integers()
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=list(watch))
    return model


@dataclasses.dataclass
class Alone:
    """What one device reached."""

    kernels: list
    states: list
    activity: dict


@pytest.fixture(scope="module")
def single():
    keras.backend.clear_session()
    monitor = callbacks.FlipMonitor()
    model = trained_on_integers(watch=[monitor])
    states = [state.numpy() for state in model.optimizer.state_variables()]
    return Alone(kernels_of(model), states, dataclasses.asdict(monitor.total))


@pytest.mark.slow
def test_two_replicas_train_like_one_device(single, strategy):
    """Bit for bit: kernels and filter states; -1 and +1 on every replica from the first step."""
    with strategy.scope():
        model = trained_on_integers(watch=[Replicas()])
    assert_same(kernels_of(model), single.kernels)
    for state, expected in zip(model.optimizer.state_variables(), single.states, strict=True):
        for copy in copies_of(state):
            np.testing.assert_array_equal(copy, expected)
    start = [copies_of(v)[0] < 0 for _, v in binary.binary_kernels(integer_network())]
    assert min(np.mean((k < 0) != s) for k, s in zip(single.kernels, start, strict=True)) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("steps", [4, 5])
def test_steps_per_execution(steps, single, strategy):
    """Kernels and counted flips are those of single steps; 5 does not divide the 12."""
    monitor = callbacks.FlipMonitor()
    with strategy.scope():
        model = trained_on_integers(steps_per_execution=steps, watch=[monitor])
    assert_same(kernels_of(model), single.kernels)
    found = dataclasses.asdict(monitor.total)
    assert found == pytest.approx(single.activity, rel=1e-6)  # the mean signal is not exact
    assert found["flip_ratio"] > 0


@pytest.mark.slow
def test_whole_step_under_xla(single):
    """What a TPU needs; the soak tests do so with a deep network."""
    assert_same(kernels_of(trained_on_integers(jit_compile=True)), single.kernels)


# Mixed precision ----------------------------------------------------------------------------------

SCALES = [2.0**4, 2.0**7]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_on_replicas(policy, strategy):
    """Two dynamic loss scales give the same kernels and states; the states stay float32."""
    ends = []
    for scale in SCALES:
        with strategy.scope():
            model = trained_on_integers(
                lambda optimizer, scale=scale: keras.mixed_precision.LossScaleOptimizer(
                    optimizer, dynamic=True, initial_scale=scale, dynamic_growth_steps=5
                ),
                policy,
            )
        assert float(model.optimizer.loss_scale) == scale * 4  # it has grown twice on the way
        states = model.optimizer.inner_optimizer.state_variables()
        assert {state.dtype for state in states} == {tf.float32}
        assert int(model.optimizer.inner_optimizer.iterations.numpy()) == STEPS
        ends.append(kernels_of(model) + [copies_of(state)[0] for state in states])
    assert_same(*ends)


def test_an_overflow_on_replicas_changes_nothing(strategy):
    """A loss scale beyond float16: Keras halves it and skips the step on both replicas."""
    with strategy.scope():
        model = integer_network("mixed_float16")
        optimizer = integer_optimizer()
        model.compile(
            keras.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=2.0**40), "mse"
        )
        model.optimizer.build(model.trainable_variables)
    before = kernels_of(model) + [copies_of(s)[0] for s in optimizer.state_variables()]
    x, y = integers()
    model.fit(x[: 3 * BATCH], y[: 3 * BATCH], batch_size=BATCH, verbose=0)
    assert_same(kernels_of(model) + [copies_of(s)[0] for s in optimizer.state_variables()], before)
    assert float(model.optimizer.loss_scale) == 2.0**37


# Runs ---------------------------------------------------------------------------------------------


def saved_kernels(folder):
    model = keras.models.load_model(pathlib.Path(folder) / "model.keras", compile=False)
    return kernels_of(model)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one device, in float64."""
    keras.backend.set_floatx("float64")
    return training.run(SMALL, tmp_path_factory.mktemp("alone") / "run", verbose=0)


@pytest.mark.slow
def test_a_run_with_synchronised_batch_normalisation(alone, strategy, tmp_path):
    keras.backend.set_floatx("float64")
    result = training.run(SMALL, tmp_path / "run", verbose=0, strategy=strategy)
    assert_same(saved_kernels(result.output_dir), saved_kernels(alone.output_dir))
    assert result.flip_ratio == alone.flip_ratio
    assert result.loss == pytest.approx(alone.loss, rel=1e-4)
    kept = json.loads((tmp_path / "run/config.json").read_text())["strategy"]
    assert kept == strategies.describe(strategy)
    assert "strategy" not in json.loads(
        (pathlib.Path(alone.output_dir) / "config.json").read_text()
    )
    with pytest.raises(run_folder.RunExists, match="strategy: .* there, None now"):
        training.run(SMALL, tmp_path / "run", verbose=0)
    assert training.run(SMALL, tmp_path / "run", verbose=0, strategy=strategy) == result


@pytest.mark.slow
def test_a_run_with_statistics_of_each_replica_says_so(alone, strategy, tmp_path, said):
    keras.backend.set_floatx("float64")
    training.run(SMALL, tmp_path / "run", verbose=0, strategy=strategy, synchronized=False)
    assert "2 of 2 batch normalisations" in " ".join(said)
    pairs = zip(saved_kernels(tmp_path / "run"), saved_kernels(alone.output_dir), strict=True)
    assert any(np.any(a != b) for a, b in pairs)


def test_a_copy_keeps_synchronised_batch_normalisation():
    """Keras' configs forget it."""
    model = models.build("mlp", input_shape=(8, 8, 1), num_classes=4, width=8)
    assert strategies.synchronize_batch_norm(model) == []
    for copy in (model, to_latent_free(model)):
        norms = [layer for layer in copy.layers if hasattr(layer, "moving_mean")]
        assert [(norm.synchronized, norm.fused) for norm in norms] == [(True, False)] * 2


def test_batch_normalisations_that_can_not_be_synchronised():
    layers = [keras.layers.BatchNormalization(renorm=renorm) for renorm in (True, False)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    assert strategies.synchronize_batch_norm(model) == [layers[0].name]


def test_global_batches_are_split_not_changed(strategy):
    data = tf.data.Dataset.range(22).batch(8)
    sharded = strategies.sharded(data, strategy)
    policy = sharded.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA
    assert strategies.sharded(data, None) is data
    for whole, parts in zip(data, strategy.experimental_distribute_dataset(sharded), strict=True):
        parts = strategy.experimental_local_results(parts)
        assert len(parts) == 2
        np.testing.assert_array_equal(tf.concat(parts, 0), whole)


def test_batches_that_replicas_can_not_share_alike(strategy, tmp_path):
    odd = dataclasses.replace(SMALL, batch_size=25)
    with pytest.raises(ValueError, match="multiple of 2: 24 or 26"):
        training.run(odd, tmp_path / "run", strategy=strategy)
    assert not (tmp_path / "run").exists()


class Stop(Exception):
    """Stands for a crash."""


@pytest.mark.slow
def test_backup_brings_everything_back(tmp_path):
    """Weights, optimizer, flip counters, tables, wall time; ``fit`` goes on after the epoch."""
    table = tmp_path / "metrics.csv"

    def start():
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = integer_network()
        model.compile(integer_optimizer(), "mse")
        monitor = callbacks.FlipMonitor()
        monitor.attach(model)
        backup = progress.Backup(model, monitor.counters, checkpoints.Tables([table]), tmp_path)
        return model, monitor, backup

    def logger(append):
        return keras.callbacks.CSVLogger(str(table), append=append)

    x, y = integers()
    fit = {"batch_size": BATCH, "verbose": 0, "epochs": 3}
    model, monitor, backup = start()
    assert backup.restore() == 0
    crash = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (_ for _ in ()).throw(Stop) if epoch == 1 else None
    )
    with pytest.raises(Stop):
        model.fit(x, y, callbacks=[monitor, logger(append=False), backup, crash], **fit)
    rows = table.read_text()
    table.write_text(rows + "2,0.5\n1")  # of an epoch that was not saved, and of one half written
    again, monitor_again, backup_again = start()
    assert backup_again.restore() == 2
    assert table.read_text() == rows
    assert_same(kernels_of(again), kernels_of(model))
    assert_same(
        [v.numpy() for v in again.optimizer.variables],
        [v.numpy() for v in model.optimizer.variables],
    )
    assert monitor_again.flips_per_weight() == monitor.flips_per_weight() > 0
    assert float(backup_again.seconds) == float(backup.seconds) > 0
    callbacks_again = [monitor_again, logger(append=True), backup_again]
    history = again.fit(x, y, callbacks=callbacks_again, **fit)
    assert history.epoch == [2]
    assert table.read_text().startswith(rows)
    assert [line.split(",")[0] for line in table.read_text().splitlines()[1:]] == ["0", "1", "2"]
    again.fit(x, y, callbacks=[backup_again], **fit)  # a second training with it


def harmed(folder, harm):
    """A folder of backups with some harm done."""
    (data,) = folder.glob("ckpt-*.data-*")
    if harm == "the index is gone":
        data.with_name(data.name.split(".")[0] + ".index").unlink()
    elif harm == "the name of the newest is gone":
        (folder / "checkpoint").unlink()
    elif harm == "the name of the newest is empty":
        (folder / "checkpoint").write_text("")
    else:
        content = bytearray(data.read_bytes())
        content[int(len(content) * float(harm))] ^= 4
        data.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize(
    "harm",
    [
        *("0.01", "0.3", "0.5", "0.7", "0.99"),
        *("the index is gone", "the name of the newest is gone", "the name of the newest is empty"),
    ],
)
def test_a_damaged_backup_is_named_and_changes_nothing(harm, tmp_path):
    x, y = integers()

    def start():
        model = integer_network()
        model.compile(integer_optimizer(), "mse")
        return model, progress.Backup(model, tf.Module(), checkpoints.Tables([]), tmp_path)

    model, backup = start()
    assert backup.restore() == 0
    model.fit(x, y, batch_size=BATCH, verbose=0, epochs=3, callbacks=[backup])
    harmed(tmp_path / "backup" / "chief", harm)
    model, backup = start()
    before = model.get_weights()
    with pytest.raises(RuntimeError, match="The backup in .*backup/chief can't be read"):
        backup.restore()
    assert_same(model.get_weights(), before)


# Making them --------------------------------------------------------------------------------------

CLUSTER = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
TASK = {"type": "worker", "index": 1}


@pytest.mark.parametrize(
    "content, problem",
    [
        (None, "it is not set"),
        ("{", "it is no JSON"),
        ([], 'names no "worker"'),
        ({"cluster": {"worker": []}, "task": TASK}, 'names no "worker"'),
        ({"cluster": {**CLUSTER, "ps": ["a:1"]}, "task": TASK}, "not ps"),
        ({"cluster": {"worker": ["127.0.0.1"]}, "task": TASK}, 'not a list of "host:port"'),
        ({"cluster": {"worker": "a:1"}, "task": TASK}, 'not a list of "host:port"'),
        ({"cluster": CLUSTER}, 'its "task" is None'),
        ({"cluster": CLUSTER, "task": {"type": "chief", "index": 0}}, "must be one of worker"),
        (
            {"cluster": CLUSTER, "task": {"type": "worker", "index": 2}},
            r"is 2, not in 0, \.\.\., 1",
        ),
        ({"cluster": CLUSTER, "task": {"type": "worker"}}, "is None, not in"),
    ],
)
def test_a_wrong_tf_config(content, problem, monkeypatch):
    if content is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=problem) as error:
        strategies.make("multi_worker")
    assert strategies.EXAMPLE in str(error.value)


def test_a_right_tf_config():
    strategies.check_tf_config(strategies.EXAMPLE)
    task = {"type": "chief", "index": "0"}  # TensorFlow takes text too
    strategies.check_tf_config(json.dumps({"cluster": {**CLUSTER, "chief": ["a:1"]}, "task": task}))


@pytest.mark.parametrize(
    "arguments, error, problem",
    [
        (("tpu",), ValueError, "Unknown strategy 'tpu'; choose one of none, mirrored, multi_w"),
        (("none", 2), ValueError, "for the strategy mirrored only"),
        (("mirrored", 0), ValueError, "must be at least 1"),
    ],
)
def test_strategies_that_can_not_be_made(arguments, error, problem):
    with pytest.raises(error, match=problem):
        strategies.make(*arguments)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="without a GPU only")
def test_logical_cpus_where_there_is_no_gpu():
    assert strategies.make("none") is None
    tf.constant(0)  # TensorFlow has started, with two
    assert strategies.make("mirrored").num_replicas_in_sync == 2
    with pytest.raises(RuntimeError, match="started with 2 logical CPUs, and 3 are needed"):
        strategies.make("mirrored", 3)
