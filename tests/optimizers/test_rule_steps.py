"""Rules around the steps of latent kernels: order, ways to train, files, what quantizers hear."""

import numpy as np
import pytest

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.latent_rules import AdaptiveClipping, Clip, GlorotScale, Metaplastic, Mirror
from larq_filter.optimizers.latent_optimizer import LatentOptimizer
from larq_filter.quantizers.sign import second_moment
from latent import (
    DECAY,
    RULES,
    data,
    fit,
    gradients_of,
    latent_model,
    make,
    optimizers,
    split,
    values,
)

import larq  # isort: skip

# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["weights.h5", "checkpoint"])
@pytest.mark.parametrize(
    ("saved", "loaded", "words"),
    [
        ([Clip(), Metaplastic()], [Metaplastic(), Clip()], ["Clip, Metaplastic", "Metaplastic, C"]),
        (RULES, (), ["the rules Chain(SilentWeights, Glorot", "expected is that of no rules"]),
    ],
)
def test_a_file_with_other_rules_is_refused(saved, loaded, words, form, tmp_path):
    model, other = latent_model(), latent_model()
    for each, rules in ((model, saved), (other, loaded)):
        each.compile(make("adam", rules=rules), "sparse_categorical_crossentropy")
        each.optimizer.build(each.trainable_variables)
    path = tmp_path / f"file.{form}" if form == "weights.h5" else tmp_path / "file"
    model.save_weights(path)
    with pytest.raises(ValueError, match="does not fit LatentOptimizer") as raised:
        other.load_weights(path)
    assert all(word in str(raised.value) for word in words)


def test_a_file_without_rules_is_that_of_before_there_were_any(tmp_path):
    path = str(tmp_path / "checkpoint")
    plain, other, with_rules = (make("adam", rules=rules) for rules in ((), (), RULES))
    assert "rules" not in plain.get_config()
    kernels = latent_model().trainable_variables
    store = {}
    for optimizer in (plain, other, with_rules):
        optimizer.build(kernels)
    plain.save_own_variables(store)
    assert not [name for name in store if "rule" in name]
    other.load_own_variables(store)
    with pytest.raises(ValueError, match=r"of no rules; expected is that of the rules Chain\(Sil"):
        with_rules.load_own_variables(store)
    names = [name for name, _ in tf.train.list_variables(tf.train.Checkpoint(o=plain).write(path))]
    assert not [name for name in names if "rules" in name]


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1])
def test_rules_of_kernels_frozen_since_begin_anew(count, tmp_path):
    model = latent_model()
    model.compile(make("adam", rules=RULES), "sparse_categorical_crossentropy")
    fit(model, 1)
    for layer, _ in binary.binary_kernels(model)[count:]:
        layer.trainable = False
    model.save(tmp_path / "model.keras")
    with (
        pytest.warns(UserWarning, match="trained more kernels than LatentOptimizer"),
        pytest.warns(UserWarning, match="leaves out the state of kernel_optimizer"),
    ):
        loaded = keras.models.load_model(tmp_path / "model.keras")
    if count:
        fit(loaded, 1)


def test_a_model_saved_before_its_first_step_is_loaded(tmp_path):
    model = latent_model()
    model.compile(make("adam", rules=RULES), "sparse_categorical_crossentropy")
    model.optimizer.decay_0 = 0.2
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.decay_0) == np.float32(0.2)
    fit(loaded, 1)


# Training -----------------------------------------------------------------------------------------


def custom_loop(model):
    x, y = data()
    loss = keras.losses.SparseCategoricalCrossentropy()
    optimizer, variables = model.optimizer, model.trainable_variables
    for _ in range(2):
        for first in range(0, 64, 16):
            with tf.GradientTape() as tape:
                output = model(x[first : first + 16], training=True)
                value = loss(y[first : first + 16], output)
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))


WAYS = {
    "graph": {},
    "eager": {"run_eagerly": True},
    "steps": {"steps_per_execution": 2},
    "loop": {},
}


@pytest.mark.slow
def test_every_way_of_training_takes_the_same_steps():
    trained = {}
    for way, options in WAYS.items():
        model = latent_model(normalization=lambda: None)
        model.compile(make(rules=RULES), "sparse_categorical_crossentropy", **options)
        custom_loop(model) if way == "loop" else fit(model, 2)
        assert int(model.optimizer.iterations) == 8
        trained[way] = values(model.trainable_variables + model.optimizer.variables)
    for way in trained:
        for mine, theirs in zip(trained[way], trained["graph"], strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5, err_msg=way)


def test_rules_are_for_latent_kernels_only():
    model, twin = latent_model(), latent_model()
    optimizer, alone = make(rules=[GlorotScale()]), make()
    for gradients in gradients_of(model.trainable_variables, 5):
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        alone.apply_gradients(zip(gradients, twin.trainable_variables, strict=True))
    (_, mine), (_, theirs) = (split(each.trainable_variables) for each in (model, twin))
    for one, other in zip(values(mine), values(theirs), strict=True):
        np.testing.assert_array_equal(one, other)


C = np.sqrt((8 + 16) / 1.5)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (GlorotScale(), lambda old, g: np.clip(old - C * g, -1, 1)),
        (Mirror(0.5), lambda old, g: np.tanh(np.arctanh(old) - 0.5 * g)),
    ],
)
def test_the_constraint_comes_last_and_only_then(rule, expected):
    """A rule sees where the optimizer went; what the rule makes of it is kept within bounds."""
    kernel = split(latent_model().trainable_variables)[0][0]
    old, random = values([kernel])[0], np.random.default_rng(0)
    gradient = 1.5 * random.normal(size=old.shape).astype("float32")
    assert kernel.constraint is not None and (np.abs(old - gradient) > 1).any()
    optimizer = LatentOptimizer(optimizers.SGD(1.0), "sgd", [rule])
    optimizer.apply_gradients([(tf.constant(gradient), kernel)])
    np.testing.assert_allclose(values([kernel])[0], expected(old, gradient), atol=1e-5)


def test_decay_of_the_kernel_optimizer_belongs_to_the_step():
    """It comes before ``after``, and what is excluded from it by name stays so."""
    kernel = split(latent_model().trainable_variables)[0][0]
    old = values([kernel])[0]
    sgd = optimizers.SGD(0.5, weight_decay=0.1)
    LatentOptimizer(sgd, "sgd", [Clip(0.25)]).apply_gradients([(tf.zeros_like(old), kernel)])
    np.testing.assert_allclose(values([kernel])[0], np.clip(0.95 * old, -0.25, 0.25), rtol=1e-6)


def test_rates_can_be_read_and_set():
    model = latent_model()
    optimizer = make(rules=[Clip(0.5), Mirror(DECAY(2.0, 4, 1.0))])
    model.compile(optimizer, "sparse_categorical_crossentropy")
    fit(model, 1)
    assert np.abs(values(split(model.trainable_variables)[0])[0]).max() < 1
    assert float(optimizer.beta_1) == 1.25  # of the last step, the fourth
    optimizer.limit_0 = 0.25
    assert float(optimizer.limit_0) == 0.25
    with pytest.raises(ValueError, match=r"limit.*\(0, inf\)"):
        optimizer.limit_0 = -1.0
    with pytest.raises(TypeError, match="beta_1.*follows PolynomialDecay"):
        optimizer.beta_1 = 1.0


def test_a_gradient_with_nan_stays_in_its_unit():
    kernel = split(latent_model().trainable_variables)[0][0]
    gradient = np.ones(kernel.shape, "float32")
    gradient[0, 3] = np.nan
    optimizer = make(rules=[AdaptiveClipping(), Clip()])
    optimizer.apply_gradients([(tf.constant(gradient), kernel)])
    assert np.isnan(values([kernel])[0]).any(axis=0).nonzero()[0].tolist() == [3]


@pytest.mark.slow
def test_mixed_precision_skips_what_is_not_finite():
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = latent_model()
    model.compile(make(rules=RULES), "sparse_categorical_crossentropy")
    assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    start, inner = values(model.trainable_variables), model.optimizer.inner_optimizer
    fit(model, 1)
    for before, after in zip(start, values(model.trainable_variables), strict=True):
        assert np.isfinite(after).all() and np.any(before != after)
    states = [v for v in inner.variables if "_rules_" in v.name]
    assert len(states) == 4 and all(state.dtype == tf.float32 for state in states)
    before = values([*states, *model.trainable_variables])
    x, y = data()
    model.fit(np.nan * x, y, 64, verbose=0)
    for one, other in zip(before, values([*states, *model.trainable_variables]), strict=True):
        np.testing.assert_array_equal(one, other)


class Listening(larq.quantizers.SteSign):
    """A quantizer that remembers what it was told."""

    def after_step(self, variable, optimizer):
        self.told = variable, optimizer
        self.seen.assign(binary.latent(variable))
        self.moment.assign(second_moment(optimizer, variable))


@pytest.mark.slow
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_a_quantizer_is_told_of_each_step(graph):
    """Of what the constraint has left of the kernel, and of the optimizer's memory of this step."""
    quantizer = Listening()
    layer = larq.layers.QuantDense(
        2, kernel_quantizer=quantizer, kernel_constraint="weight_clip", use_bias=False
    )
    layer.build((None, 3))
    kernel, optimizer = layer.kernel, make("adam", rules=[GlorotScale()])
    quantizer.seen, quantizer.moment = (tf.Variable(tf.zeros([3, 2])) for _ in range(2))

    def step(gradient):
        optimizer.apply_gradients([(gradient, kernel)])

    step = tf.function(step) if graph else step
    for _ in range(3):
        before = values([kernel])[0]
        step(1e3 * tf.ones([3, 2]))
        np.testing.assert_array_equal(quantizer.seen, values([kernel])[0])
        assert np.any(before != quantizer.seen.numpy())
    assert quantizer.told[0] is kernel and quantizer.told[1] is optimizer.kernel_optimizer
    np.testing.assert_array_equal(
        quantizer.moment, second_moment(optimizer.kernel_optimizer, kernel)
    )


def test_the_second_moment_of_a_kernel():
    kernel = split(latent_model().trainable_variables)[0][0]
    adam, momentum = make("adam"), make("momentum")
    of = lambda optimizer, variable=kernel: second_moment(optimizer.kernel_optimizer, variable)  # noqa: E731
    assert of(adam) is None  # not built
    adam.apply_gradients([(2 * tf.ones(kernel.shape), kernel)])
    np.testing.assert_allclose(of(adam), np.full(kernel.shape, 4e-3), 1e-6)
    assert of(adam, tf.Variable(0.0)) is None
    momentum.build([kernel])
    assert of(momentum) is None


def test_old_weights_are_kept_for_rules_after_the_step_only():
    """The kernel optimizer gets the kernel itself unless a rule needs it without constraint."""

    class Watching(optimizers.SGD):
        def apply_gradients(self, pairs, **kwargs):
            pairs = list(pairs)
            self.seen = [variable for _, variable in pairs]
            return super().apply_gradients(pairs, **kwargs)

    for rules, same in (((), True), ([AdaptiveClipping()], True), ([Clip()], False)):
        kernel, optimizer = split(latent_model().trainable_variables)[0][0], Watching()
        LatentOptimizer(optimizer, "sgd", rules).apply_gradients([(tf.ones([8, 16]), kernel)])
        assert (optimizer.seen[0] is kernel) == same
        assert (optimizer.seen[0].constraint is not None) == same
