"""Flip counts against counting by hand."""

import csv

import numpy as np
import pytest

from larq_filter import analysis, binary, callbacks, filters, flips
from larq_filter._keras import keras, tf
from larq_filter.callbacks import flip_monitor
from larq_filter.optimizers import FilterOptimizer

import larq as lq


def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 8)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


def layers_of(quantizer="ste_sign"):
    kernel = {"kernel_quantizer": quantizer, "kernel_constraint": "weight_clip"}
    return [
        lq.layers.QuantDense(16, name="first", **kernel),
        keras.layers.BatchNormalization(),
        lq.layers.QuantDense(12, input_quantizer="ste_sign", name="second", **kernel),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(3, activation="softmax"),
    ]


def model_of(quantizer="ste_sign"):
    return keras.Sequential([keras.Input((8,)), *layers_of(quantizer)])


class Subclassed(keras.Model):
    """Takes a dict, and has no variables before its first call."""

    def __init__(self):
        super().__init__()
        self.parts = layers_of()

    def call(self, inputs, training=None):
        x = inputs["x"]
        for part in self.parts:
            x = part(x)
        return x


def negative(model):
    return [binary.latent(kernel).numpy() < 0 for _, kernel in binary.binary_kernels(model)]


class ByHand(keras.callbacks.Callback):
    """Compares the signs after every batch: right when one batch is one step."""

    def on_train_begin(self, logs=None):
        self.before = negative(self.model)
        self.flips, self.steps = np.zeros(2), 0

    def on_train_batch_end(self, batch, logs=None):
        now = negative(self.model)
        self.flips += [np.sum(a != b) for a, b in zip(now, self.before, strict=True)]
        self.before, self.steps = now, self.steps + 1


OPTIMIZERS = {
    "filter": lambda: FilterOptimizer(),
    "latent adam": lambda: keras.optimizers.Adam(0.05),
    "latent sgd": lambda: keras.optimizers.SGD(5.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("quantizer", ["ste_sign", "magnitude_aware_sign"])
def test_flip_ratio_is_the_count_by_hand(name, quantizer):
    x, y = data()
    model = model_of(quantizer)
    model.compile(OPTIMIZERS[name](), "sparse_categorical_crossentropy")
    if name == "filter":
        model.optimizer.build(model.trainable_variables)
    monitor, hand = callbacks.FlipMonitor(), ByHand()
    history = model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor, hand]).history
    sizes = np.array([8 * 16, 16 * 12])
    expected = hand.flips / hand.steps
    assert hand.flips.min() > 0
    assert history["flip_ratio"][0] == pytest.approx(expected.sum() / sizes.sum(), abs=1e-12)
    measured = [monitor.per_layer[name].flip_ratio for name in ("first", "second")]
    assert measured == pytest.approx(list(expected / sizes), abs=1e-12)


@pytest.mark.slow
def test_counts_every_step_under_steps_per_execution():
    """The same training in executions of 1 and of 4 steps counts the same flips."""
    x, y = data()
    ratios = []
    for steps in (1, 4):
        keras.utils.set_random_seed(0)
        model = model_of()
        model.compile(
            FilterOptimizer(), "sparse_categorical_crossentropy", steps_per_execution=steps
        )
        callback = callbacks.FlipMonitor()
        fit = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0}
        ratios.append(model.fit(x, y, callbacks=[callback], **fit).history["flip_ratio"])
    assert ratios[0] == ratios[1]
    assert min(ratios[0]) > 0


@pytest.mark.slow
def test_frozen_kernels_count_zero():
    x, y = data()
    model = model_of()
    for layer, _ in binary.binary_kernels(model):
        layer.trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    callback = callbacks.FlipMonitor()
    history = model.fit(x, y, verbose=0, callbacks=[callback]).history
    assert history["flip_ratio"] == [0.0]
    assert [layer.flip_ratio for layer in callback.per_layer.values()] == [0.0, 0.0]
    assert callback.total.never_flipped == 1.0


@pytest.mark.slow
def test_layers_of_one_name_are_counted_apart(tmp_path):
    """Two nested models of the same layers, of which one is frozen."""
    x, y = data()
    image = keras.Input((8,))
    towers = [keras.Sequential(layers_of()[:4], name=name) for name in "ab"]
    both = keras.layers.Concatenate()([tower(image) for tower in towers])
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(both))
    towers[1].trainable = False
    model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    monitor = callbacks.FlipMonitor(tmp_path / "flips.csv", tmp_path / "tensorboard")
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor])
    ratios = {name: activity.flip_ratio for name, activity in monitor.per_layer.items()}
    assert list(ratios) == ["first", "second", "first (2)", "second (2)"]
    assert min(ratios["first"], ratios["second"]) > 0
    assert ratios["first (2)"] == ratios["second (2)"] == 0
    with (tmp_path / "flips.csv").open(newline="") as file:
        assert [row["layer"] for row in csv.DictReader(file)] == list(ratios)
    assert monitor.flipped_layers() == {name: ratio > 0 for name, ratio in ratios.items()}


@pytest.mark.slow
def test_the_model_is_left_as_it_was():
    x, y = data()
    model = model_of()
    model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0, callbacks=[callbacks.FlipMonitor()])
    assert "train_step" not in vars(model)
    model.fit(x, y, verbose=0)  # traces the model's own step again
    model.fit(x, y, verbose=0, callbacks=[callbacks.FlipMonitor()])


@pytest.mark.slow
def test_replicas_count_once(strategy):
    """Under two replicas the ratio is that of one device, not twice it."""
    x, y = data()
    with strategy.scope():
        model = model_of()
        model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
    monitor, hand = callbacks.FlipMonitor(), ByHand()
    history = model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor, hand]).history
    expected = hand.flips.sum() / hand.steps / (8 * 16 + 16 * 12)
    assert expected > 0
    assert history["flip_ratio"][0] == pytest.approx(expected, abs=1e-12)


UNBUILT = {"sequential": lambda: keras.Sequential(layers_of()), "subclassed": Subclassed}


class CountsTurns(keras.optimizers.SGD):
    """Counts in the step itself, for each kernel, which of its signs a step has turned."""

    def build(self, var_list):
        super().build(var_list)
        if not hasattr(self, "turned"):  # Keras calls it at each step
            self.turned = [tf.Variable(0.0, trainable=False) for _ in var_list]

    def update_step(self, gradient, variable):
        before = tf.identity(variable) < 0
        super().update_step(gradient, variable)
        turned = tf.math.count_nonzero((variable < 0) != before, dtype=tf.float32)
        self.turned[self._index_dict[self._var_key(variable)]].assign_add(turned)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNBUILT)
@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 4}, {"run_eagerly": True}])
def test_a_model_that_its_first_batch_builds_is_counted_from_its_first_step(name, options):
    x, y = data()
    inputs = {"x": x} if name == "subclassed" else x
    model, monitor = UNBUILT[name](), callbacks.FlipMonitor()
    optimizer = CountsTurns(5.0, jit_compile=False)
    model.compile(optimizer, "sparse_categorical_crossentropy", **options)
    logs = model.fit(inputs, y, batch_size=8, verbose=0, callbacks=[monitor]).history
    variables = zip(model.trainable_variables, optimizer.turned, strict=True)
    turned = sum(float(count) for variable, count in variables if binary.is_binary(variable))
    expected = turned / 8 / (8 * 16 + 16 * 12)
    assert expected > 0
    assert logs["flip_ratio"][0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
def test_a_model_that_its_first_batch_builds_on_replicas(strategy):
    x, y = data()
    with strategy.scope():
        model = UNBUILT["sequential"]()
        model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    monitor = callbacks.FlipMonitor()
    logs = model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[monitor]).history
    assert min(logs["flip_ratio"]) > 0 and min(logs["signal"]) > 0
    assert set(monitor.per_layer) == {"first", "second"}


def test_an_unbuilt_model_without_binary_kernels_has_nothing_to_count():
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="FlipMonitor has nothing to count"):
        model.fit(data()[0], np.zeros((64, 3)), verbose=0, callbacks=[callbacks.FlipMonitor()])


def test_a_monitor_that_counts_nothing_yet():
    with pytest.raises(RuntimeError, match="give it to fit, or call attach"):
        callbacks.FlipMonitor().flips_per_weight()
    with pytest.raises(TypeError, match="Expected a tf.keras.Model, not 'model'"):
        callbacks.FlipMonitor().attach("model")


def test_nothing_to_count():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    x, _ = data()
    with pytest.raises(ValueError, match="FlipMonitor has nothing to count"):
        model.fit(x, np.zeros((64, 3)), verbose=0, callbacks=[callbacks.FlipMonitor()])


class ByHandPerWeight(keras.callbacks.Callback):
    """Keeps the signs after every batch: the whole history of every weight."""

    def on_train_begin(self, logs=None):
        self.history = [negative(self.model)]

    def on_train_batch_end(self, batch, logs=None):
        self.history.append(negative(self.model))


def test_every_quantity_against_the_history_of_signs():
    """Two epochs of 8 steps; quantities of the second one, from the recorded signs."""
    x, y = data()
    model = model_of()
    model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    monitor, hand = callbacks.FlipMonitor(), ByHandPerWeight()
    fit = {"batch_size": 8, "epochs": 2, "verbose": 0}
    logs = model.fit(x, y, callbacks=[monitor, hand], **fit).history
    for index, name in enumerate(["first", "second"]):
        signs = np.array([step[index] for step in hand.history])  # (17, in, out)
        flipped = signs[1:] != signs[:-1]
        net = np.mean(signs[16] != signs[8])
        layer = monitor.per_layer[name]
        assert layer.weights == signs[0].size
        assert layer.flip_ratio == pytest.approx(flipped[8:].mean(), abs=1e-12)
        assert layer.flip_ratio_epoch == pytest.approx(net, abs=1e-12)
        assert layer.flip_flop == pytest.approx(1 - net / flipped[8:].sum(axis=0).mean(), abs=1e-12)
        assert layer.never_flipped == pytest.approx(np.mean(flipped.sum(axis=0) == 0), abs=1e-12)
        assert layer.flip_flop > 0
    for quantity in ("flip_ratio", "flip_ratio_epoch", "flip_flop", "never_flipped", "signal"):
        assert logs[quantity][1] == getattr(monitor.total, quantity)


@pytest.mark.slow
def test_signal_rates_and_prediction_of_the_filter():
    """One step per epoch by hand: the signal is the state, the rates those of the last step."""
    x, y = data()
    model = model_of()
    f = filters.CascadedEMA(
        alpha=keras.optimizers.schedules.PolynomialDecay(0.1, 4, 0.02), gamma=0.5
    )
    model.compile(FilterOptimizer(f), "sparse_categorical_crossentropy")
    monitor = callbacks.FlipMonitor()
    logs = model.fit(x, y, batch_size=64, epochs=3, verbose=0, callbacks=[monitor]).history
    assert logs["alpha"] == pytest.approx([0.1, 0.08, 0.06])
    assert logs["gamma"] == pytest.approx([0.5] * 3)
    assert logs["time_constant"] == pytest.approx([10, 12.5, 1 / 0.06])
    a, b = 1 - 0.06, 0.5
    predicted = np.arccos((a + b) / (1 + a * b)) / np.pi
    assert logs["predicted_flip_ratio"][2] == pytest.approx(predicted)
    states = [v.numpy() for v in model.optimizer.variables if "filter_1" in v.name]
    expected = np.mean(np.abs(np.concatenate([state.ravel() for state in states])))
    assert logs["signal"][2] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_prediction_is_the_mean_over_the_epoch():
    """In the last epoch of a decay to 0 that of the last step would be far too low."""
    x, y = data()
    model = model_of()
    steps, most = 64, 0.1
    f = filters.CascadedEMA(
        alpha=keras.optimizers.schedules.PolynomialDecay(most, steps, 0.0), gamma=0.5
    )
    model.compile(FilterOptimizer(f), "sparse_categorical_crossentropy")
    monitor = callbacks.FlipMonitor()
    logs = model.fit(x, y, batch_size=2, epochs=2, verbose=0, callbacks=[monitor]).history
    alpha, b = most * (1 - np.arange(steps) / steps), 0.5
    each = np.arccos((1 - alpha + b) / (1 + (1 - alpha) * b)) / np.pi
    first, second = each[:32].mean(), each[32:].mean()
    assert logs["predicted_flip_ratio"] == pytest.approx([first, second], rel=0.03)
    assert each[-1] < 0.3 * second


@pytest.mark.slow
def test_steps_that_forget_nothing_are_no_part_of_the_prediction():
    x, y = data()
    model = model_of()
    kalman = filters.Kalman(0.01, 2.0, transition=5.0, initial_variance=0.01)
    decay = keras.optimizers.schedules.PolynomialDecay(0.1, 4, 0.02)
    f = filters.Cascade([kalman, filters.EMA(decay)])
    model.compile(FilterOptimizer(f), "sparse_categorical_crossentropy")
    monitor = callbacks.FlipMonitor()
    logs = model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[monitor]).history
    with pytest.raises(ValueError, match="never forgets"):
        analysis.expected_flip_ratio(f, 1)
    expected = np.mean([analysis.expected_flip_ratio(f, step) for step in (2, 3)])
    assert logs["predicted_flip_ratio"] == pytest.approx([expected])


@pytest.mark.slow
def test_a_rate_set_by_a_callback_is_the_one_reported():
    x, y = data()
    model = model_of()
    rule = flips.Threshold(1e-3)
    model.compile(FilterOptimizer(filters.EMA(0.5), rule), "sparse_categorical_crossentropy")
    model.optimizer.alpha = 0.25
    model.optimizer.threshold = 1e-4
    logs = model.fit(x, y, verbose=0, callbacks=[callbacks.FlipMonitor()]).history
    assert logs["alpha"] == [0.25]
    assert logs["threshold"] == pytest.approx([1e-4])
    assert logs["time_constant"] == [4.0]
    assert "predicted_flip_ratio" not in logs  # it holds for Sign


@pytest.mark.slow
def test_latent_training_has_flips_and_no_signal():
    x, y = data()
    model = model_of()
    model.compile("adam", "sparse_categorical_crossentropy")
    logs = model.fit(x, y, verbose=0, callbacks=[callbacks.FlipMonitor()]).history
    assert "flip_ratio" in logs
    assert not {"signal", "alpha", "predicted_flip_ratio"} & set(logs)


@pytest.mark.slow
def test_csv_and_tensorboard_hold_every_layer(tmp_path):
    pytest.importorskip("tensorboard")  # which newer versions of TensorFlow do not bring
    x, y = data()
    model = model_of()
    model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    monitor = callbacks.FlipMonitor(tmp_path / "a" / "b" / "flips.csv", tmp_path / "board")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[monitor])
    with (tmp_path / "a" / "b" / "flips.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["epoch"], row["layer"]) for row in table] == [
        ("0", "first"),
        ("0", "second"),
        ("1", "first"),
        ("1", "second"),
    ]
    assert float(table[3]["flip_ratio"]) == monitor.per_layer["second"].flip_ratio
    (events,) = (tmp_path / "board").glob("events*")
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert {"flip_ratio/first", "never_flipped/second", "flips_per_weight/first"} <= tags


@pytest.mark.parametrize("shape", [(100, 12), (3, 3, 8, 64), (4096, 4096), (7,)])
def test_the_histogram_sees_every_output_channel(shape):
    counter = flip_monitor._Counter("layer", tf.Variable(tf.ones(shape)))
    counter.flips.assign(tf.broadcast_to(tf.range(shape[-1]), shape))
    sample = counter.sample().numpy()
    assert len(sample) <= flip_monitor.HISTOGRAM_WEIGHTS
    assert len(np.unique(sample)) == shape[-1]


@pytest.mark.slow
def test_monitors_one_after_the_other_see_the_signals_of_replicas(strategy):
    """The second is not left with what was compiled for the first, or for none."""
    x, y = data()
    with strategy.scope():
        model = model_of()
        model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    for _ in range(2):
        history = model.fit(x, y, verbose=0, callbacks=[callbacks.FlipMonitor()]).history
        assert history["signal"][0] > 0


@pytest.mark.slow
def test_a_decay_to_zero_by_a_callback_is_reported():
    """Rates set without validation, 0 at the end: the rate is logged, the prediction NaN."""
    x, y = data()
    model = model_of()
    model.compile(FilterOptimizer(filters.EMA(0.1)), "sparse_categorical_crossentropy")
    scheduler = lq.callbacks.HyperparameterScheduler(lambda epoch: 0.1 * (1 - epoch), "alpha")
    monitor = callbacks.FlipMonitor()
    logs = model.fit(x, y, epochs=2, verbose=0, callbacks=[scheduler, monitor]).history
    assert logs["alpha"] == pytest.approx([0.1, 0.0])
    for quantity in ("time_constant", "predicted_flip_ratio"):
        assert np.isfinite(logs[quantity]).tolist() == [True, False]


@pytest.mark.slow
def test_signals_go_to_their_layer_after_one_is_frozen():
    x, y = data()
    model = model_of()
    optimizer = FilterOptimizer()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    model.get_layer("first").trainable = False
    model.compile(optimizer, "sparse_categorical_crossentropy")
    monitor = callbacks.FlipMonitor()
    model.fit(x, y, verbose=0, callbacks=[monitor])
    assert np.isnan(monitor.per_layer["first"].signal)
    assert monitor.per_layer["second"].signal > 0


@pytest.mark.slow
def test_a_second_monitor_is_refused_and_an_interrupted_one_can_return():
    x, y = data()
    model = model_of()
    model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    first, second = callbacks.FlipMonitor(), callbacks.FlipMonitor()
    with pytest.raises(ValueError, match="has a FlipMonitor already"):
        model.fit(x, y, verbose=0, callbacks=[first, second])
    model.fit(x, y, verbose=0, callbacks=[first])  # left from the call above; it goes on
    assert "train_step" not in vars(model)
    assert first.total.signal > 0
    model.fit(x, y, verbose=0, callbacks=[second])
    assert second.total.flip_ratio > 0


@pytest.mark.slow
def test_an_own_train_step_is_kept():
    x, y = data()
    model = model_of()
    model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    calls = []

    def train_step(batch):
        calls.append(1)
        return type(model).train_step(model, batch)

    model.train_step = train_step
    monitor = callbacks.FlipMonitor()
    model.fit(x, y, verbose=0, callbacks=[monitor])
    assert calls and monitor.total.flip_ratio > 0
    assert model.train_step is train_step


@pytest.mark.parametrize("argument", ["csv_path", "tensorboard_dir"])
def test_what_cannot_be_written_is_found_before_the_first_step(tmp_path, argument):
    if argument == "tensorboard_dir":
        pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("in the way")
    x, y = data()
    model = model_of()
    model.compile("adam", "sparse_categorical_crossentropy")
    before = model.get_weights()
    monitor = callbacks.FlipMonitor(**{argument: tmp_path / "file" / "flips"})
    with pytest.raises(OSError, match="FlipMonitor can't write .*file.*: .* Give another csv_path"):
        model.fit(x, y, verbose=0, callbacks=[monitor])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_without_tensorboard_it_says_what_to_install(monkeypatch, tmp_path):
    """TensorFlow 2.21 does not bring it any more."""
    monkeypatch.setattr(flip_monitor, "has_tensorboard", lambda: False)
    callbacks.FlipMonitor(tmp_path / "flips.csv")
    with pytest.raises(ImportError, match=r"larq_filter\[tensorboard\]"):
        callbacks.FlipMonitor(tensorboard_dir=tmp_path)
