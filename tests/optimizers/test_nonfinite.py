"""Steps with gradients that are not finite: nothing changes, it is counted, training goes on."""

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import networks
from larq_filter import binary, callbacks, filters, flips, presets
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer, nonfinite

import larq as lq

BAD = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "1e30": 1e30}
SHAPE = (6, 5)


def kernel(dtype="float32", name="layer"):
    layer = lq.layers.QuantDense(
        SHAPE[1],
        kernel_quantizer=lq.quantizers.NoOp(precision=1),
        kernel_initializer=binary.RandomSign(0),
        use_bias=False,
        dtype=dtype,
        name=name,
    )
    layer(tf.zeros((1, SHAPE[0]), dtype))
    return layer.kernel


def gradients(steps, seed=0):
    random = np.random.default_rng(seed)
    return [
        (
            tf.constant(random.normal(size=SHAPE), tf.float32),
            tf.constant(random.normal(size=5), tf.float32),
        )
        for _ in range(steps)
    ]


def spoiled(gradient, value):
    values = gradient.numpy()
    values.flat[3] = value
    return tf.constant(values)


def state(optimizer, *variables):
    """Every number of the optimizer and the variables, but the counter of skipped steps."""
    kept = [v for v in optimizer.variables if v is not optimizer.skipped_steps]
    return [binary.latent(v).numpy() for v in (*kept, *variables)]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


MODES = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}


# What is finite -----------------------------------------------------------------------------------


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(max_dims=3, max_side=4),
        elements=st.floats(-(2**60), 2**60, width=32)
        | st.sampled_from([np.float32(value) for value in BAD.values()]),
    )
)
def test_finds_what_numpy_finds(array):
    with np.errstate(over="ignore"):
        squares = np.sum(np.square(array.astype(np.float32)), dtype=np.float32)
    assert bool(nonfinite.all_finite([tf.zeros(3), tf.constant(array)])) == bool(
        np.isfinite(squares)
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_dtype(dtype, value):
    good = tf.constant([60000.0] * 1000 + [-60000.0], dtype)
    assert bool(nonfinite.all_finite([good]))
    bad = tf.concat([good, tf.constant([value], dtype)], 0)
    assert not bool(nonfinite.all_finite([good, bad]))


def test_rows_of_an_embedding():
    slices = [tf.IndexedSlices(tf.constant([[1.0], [v]]), [0, 5], [9, 1]) for v in (2.0, np.nan)]
    assert bool(nonfinite.all_finite(slices[:1]))
    assert not bool(nonfinite.all_finite(slices))


# Skipping -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("value, where", [("nan", "kernel"), ("inf", "bias")])
@pytest.mark.parametrize("mode", MODES)
def test_a_bad_step_is_as_if_it_had_never_been(mode, value, where):
    """20 steps with a bad one in the middle end where the 20 without it end, bit for bit."""
    ends = []
    for bad_at in (None, 10):
        w, bias = kernel(), tf.Variable(tf.ones(5))
        optimizer = FilterOptimizer(clipvalue=0.9)  # clipping would hide an infinite number
        optimizer.build([w, bias])
        step = MODES[mode](
            lambda g, b, o=optimizer, v=(w, bias): o.apply_gradients([(g, v[0]), (b, v[1])])
        )
        for index, pair in enumerate(gradients(20)):
            if index == bad_at:
                before = state(optimizer, w, bias)
                bad = list(pair)
                bad[where == "bias"] = spoiled(bad[where == "bias"], BAD[value])
                step(*bad)
                assert_same(state(optimizer, w, bias), before)
                assert int(optimizer.skipped_steps) == 1
            step(*pair)
        ends.append(state(optimizer, w, bias))
        assert int(optimizer.iterations) == 20
    assert_same(*ends)


def preset(name, **options):
    if name == "prob_bop":
        options["steps_per_epoch"] = 10
    return presets.PRESETS[name](default_optimizer=None, **options)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_no_preset_lets_it_in(name):
    """States that square, draw, rank, reset or count: none changes in a bad step."""
    w = kernel()
    optimizer = preset(name)
    optimizer.build([w])
    step = tf.function(lambda g: optimizer.apply_gradients([(g, w)]))
    for gradient, _ in gradients(5):
        step(gradient)
    before = state(optimizer, w)
    for value in BAD.values():
        step(spoiled(gradient, value))
    assert_same(state(optimizer, w), before)
    assert int(optimizer.skipped_steps) == len(BAD)
    step(gradient)
    assert all(np.all(np.isfinite(array)) for array in state(optimizer, w))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.0, 1e-39, 1e18])
@pytest.mark.parametrize("name", presets.PRESETS)
def test_small_and_huge_gradients(name, scale):
    """Weights stay -1 and +1 and states finite, from gradients of 0 to the largest allowed."""
    w = kernel()
    optimizer = preset(name, jit_compile=False)
    optimizer.build([w])
    step = tf.function(lambda g: optimizer.apply_gradients([(g, w)]))
    before = binary.latent(w).numpy()
    for gradient, _ in gradients(30):
        step(gradient * scale)
    assert int(optimizer.iterations) == 30
    assert binary.holds_signs(w)
    assert all(np.all(np.isfinite(array)) for array in state(optimizer, w))
    if scale == 0 and name != "equal_bits":  # which makes half of the weights +1 whatever comes
        np.testing.assert_array_equal(binary.latent(w).numpy(), before)


# Raising ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_raises_with_the_name_before_anything_changes(mode):
    w, bias = kernel(name="third_layer"), tf.Variable(tf.ones(5), name="bias")
    optimizer = FilterOptimizer(on_nonfinite="raise")
    optimizer.build([w, bias])
    step = MODES[mode](lambda g, b: optimizer.apply_gradients([(g, w), (b, bias)]))
    (g, b), after = gradients(2)
    step(g, b)
    before = state(optimizer, w, bias)
    with pytest.raises(tf.errors.InvalidArgumentError, match="gradient of third_layer/kernel"):
        step(spoiled(g, np.nan), b)
    with pytest.raises(tf.errors.InvalidArgumentError, match="gradient of bias"):
        step(g, spoiled(b, np.inf))
    assert_same(state(optimizer, w, bias), before)
    assert int(optimizer.skipped_steps) == 0
    step(*after)
    assert int(optimizer.iterations) == 2


def test_wrong_choice():
    with pytest.raises(ValueError, match=r"on_nonfinite.*'ignore'.*skip, raise"):
        FilterOptimizer(on_nonfinite="ignore")


def test_choice_and_counter_are_saved(tmp_path):
    x, y = data(bad=1)
    model = network(on_nonfinite="skip")
    with pytest.warns(RuntimeWarning):
        model.fit(x, y, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert loaded.on_nonfinite == "skip"
    assert int(loaded.skipped_steps) == 1
    again = FilterOptimizer.from_config(FilterOptimizer(on_nonfinite="raise").get_config())
    assert again.on_nonfinite == "raise"


# Training -----------------------------------------------------------------------------------------


def network(jit_compile=None, policy="float32", wrap=None, **options):
    keras.mixed_precision.set_global_policy(policy)
    # It keeps no statistics, which NaN would spoil.
    model = networks.small_network(keras.layers.LayerNormalization)
    optimizer = FilterOptimizer(**options)
    optimizer = wrap(optimizer) if wrap else optimizer
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit_compile)
    return model


def data(bad=0, steps=8):
    """``steps`` batches of 8; the first images of ``bad`` of them hold a NaN."""
    x = np.random.default_rng(0).normal(size=(8 * steps, 8)).astype("float32")
    y = np.argmax(x[:, :3], axis=1)
    x[8 : 8 * (bad + 1) : 8, 0] = np.nan
    return x, y


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [None, True], ids=["graph", "xla"])
@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_fit_goes_on_and_tells(jit_compile, steps_per_execution):
    """With two bad batches of 8 training ends where it ends without those two."""
    x, y = data(bad=2)
    keras.utils.set_random_seed(1)
    model = network(jit_compile)
    model.steps_per_execution = steps_per_execution
    monitor = callbacks.FlipMonitor()
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    with pytest.warns(RuntimeWarning, match="2 steps were skipped because"):
        history = model.fit(x, y, callbacks=[monitor], **fit)
    assert history.history["skipped_steps"] == [2]
    keras.utils.set_random_seed(1)
    clean = network(jit_compile)
    good = np.all(np.isfinite(x.reshape(8, -1)), axis=1).repeat(8)
    clean.fit(x[good], y[good], **fit)
    assert_same(state(model.optimizer, *model.variables), state(clean.optimizer, *clean.variables))
    model.fit(x[good], y[good], **fit)  # nothing new to tell: no second warning


def test_every_training_tells():
    """Python shows a warning of the same text and place once."""
    x, y = data(bad=1)
    model = network()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            model.fit(x, y, batch_size=8, verbose=0)
    told = [str(each.message) for each in caught if each.category is RuntimeWarning]
    assert [text.split("so far: ")[1] for text in told] == ["1.", "2.", "3."]


@pytest.mark.slow
def test_fit_raises_when_xla_drops_the_assertion():
    """Inside a training step compiled as a whole nothing can raise: the end of fit does."""
    x, y = data(bad=1)
    model = network(jit_compile=True, on_nonfinite="raise")
    with pytest.raises(RuntimeError, match="1 step was skipped"):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model = network(on_nonfinite="raise")
    with pytest.raises(tf.errors.InvalidArgumentError, match="gradient of quant_dense"):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)


@pytest.mark.parametrize("dynamic", [True, False])
def test_an_overflow_of_the_loss_scale_changes_nothing(dynamic):
    """A loss scale that overflows float16: no weight, state or rate moves.

    Where the scale is dynamic Keras skips the steps before they come here; else the guard does.
    """

    def wrap(optimizer):
        options = {"dynamic": dynamic, "initial_scale": 2.0**40}
        return keras.mixed_precision.LossScaleOptimizer(optimizer, **options)

    model = network(policy="mixed_float16", wrap=wrap)
    inner = model.optimizer.inner_optimizer
    model.optimizer.build(model.trainable_variables)
    before = state(inner, *model.variables)[1:]  # Keras counts the steps it skips in `iterations`
    x, y = data(steps=3)
    fit = {"batch_size": 8, "verbose": 0}
    if dynamic:
        model.fit(x, y, **fit)
        assert int(inner.skipped_steps) == 0
        assert float(model.optimizer.loss_scale) == 2.0**37
    else:
        with pytest.warns(RuntimeWarning, match="3 steps were skipped"):
            model.fit(x, y, **fit)
        assert int(inner.iterations) == 0
    assert_same(state(inner, *model.variables)[1:], before)


@pytest.mark.slow
def test_only_what_is_new_is_told(tmp_path):
    """Neither a loaded count nor an earlier, larger one hides a report or makes one."""
    x, y = data(bad=3)
    clean_x, clean_y = data()
    model = network()
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.save(tmp_path / "before.keras")
    model.optimizer.build(model.trainable_variables)
    checkpoint = tf.train.Checkpoint(model=model)
    path = checkpoint.write(str(tmp_path / "checkpoint"))
    with pytest.warns(RuntimeWarning, match="3 steps"):
        model.fit(x, y, **fit)
    model.save(tmp_path / "after.keras")
    loaded = keras.models.load_model(tmp_path / "after.keras")
    loaded.fit(clean_x, clean_y, **fit)
    assert int(loaded.optimizer.skipped_steps) == 3
    checkpoint.read(path).assert_existing_objects_matched()
    with pytest.warns(RuntimeWarning, match="1 step"):
        model.fit(*data(bad=1), **fit)
    assert int(model.optimizer.skipped_steps) == 1


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_joint_overflow_raises_too(mode):
    """No gradient is beyond the limit, all of them together are."""
    variables = [kernel(name="first"), kernel(name="second")]
    optimizer = FilterOptimizer(default_optimizer=None, on_nonfinite="raise")
    optimizer.build(variables)
    step = MODES[mode](lambda *g: optimizer.apply_gradients(zip(g, variables, strict=True)))
    one = tf.fill(SHAPE, np.float32(4e18))  # half the squares of 30: 2.4e38, below 3.4e38
    assert bool(nonfinite.all_finite([one])) and not bool(nonfinite.all_finite([one, one]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="norm of all gradients"):
        step(one, one)
    assert int(optimizer.skipped_steps) == 0


# Replicas -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", BAD)
def test_one_bad_replica_stops_the_step_of_all(value, strategy):
    """The other replica's gradients are good; both skip, and both go on alike."""
    with strategy.scope():
        w, bias = kernel(), tf.Variable(tf.ones(5))
        optimizer = FilterOptimizer()
        optimizer.build([w, bias])

    step = networks.step_on_replicas(strategy, optimizer, [w, bias])

    def everything():
        copies = [
            getattr(v, "values", [v]) for v in (*optimizer.variables, w.latent_variable, bias)
        ]
        for each in copies:
            assert_same([copy.numpy() for copy in each], [each[0].numpy()] * len(each))
        return [each[0].numpy() for each in copies]

    for (g0, b0), (g1, b1) in zip(gradients(6, seed=1), gradients(6, seed=2), strict=True):
        step(tf.stack([g0, g1]), tf.stack([b0, b1]))
    before = everything()
    step(tf.stack([g0, spoiled(g1, BAD[value])]), tf.stack([b0, b1]))
    counters = [int(v.numpy()) for v in (optimizer.iterations, optimizer.skipped_steps)]
    assert counters == [6, 1]
    skipped = [v is optimizer.skipped_steps for v in optimizer.variables] + [False, False]
    after = everything()
    assert_same(
        [a for a, s in zip(after, skipped, strict=True) if not s],
        [b for b, s in zip(before, skipped, strict=True) if not s],
    )
    step(tf.stack([g0, g1]), tf.stack([b0, b1]))
    assert any(not np.array_equal(a, b) for a, b in zip(everything(), after, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_fit_on_replicas(policy, strategy):
    x, y = data(bad=1)
    wrap = keras.mixed_precision.LossScaleOptimizer if policy != "float32" else None
    with strategy.scope():
        model = network(policy=policy, wrap=wrap)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if wrap:
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)  # Keras' loss scaling skips it
    else:
        with pytest.warns(RuntimeWarning, match="1 step was skipped"):
            model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for _, w in binary.binary_kernels(model):
        assert binary.holds_signs(w)
    assert all(np.all(np.isfinite(v.numpy())) for v in optimizer.variables)


@pytest.mark.slow
def test_raises_on_replicas(strategy):
    x, y = data(bad=1)
    with strategy.scope():
        model = network(on_nonfinite="raise")
    with pytest.raises(tf.errors.InvalidArgumentError, match="gradient of .*quant_dense"):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)


# Rates that leave their interval ------------------------------------------------------------------


class Broken(keras.optimizers.schedules.LearningRateSchedule):
    """Good for some steps, then not."""

    def __init__(self, value, good_steps=5):
        self.value, self.good_steps = value, good_steps

    def __call__(self, step):
        return tf.where(tf.cast(step, tf.int64) < self.good_steps, 0.01, self.value)

    def get_config(self):
        return {"value": self.value, "good_steps": self.good_steps}


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, np.inf])
@pytest.mark.parametrize("mode", MODES)
def test_a_schedule_that_leaves_its_interval_is_not_followed(mode, value):
    w, bias = kernel(), tf.Variable(tf.ones(5))
    optimizer = FilterOptimizer(filters.EMA(Broken(value)))
    optimizer.build([w, bias])
    step = MODES[mode](lambda g, b: optimizer.apply_gradients([(g, w), (b, bias)]))
    for index, pair in enumerate(gradients(8)):
        step(*pair)
        if index == 4:
            before = state(optimizer, w, bias)
    assert_same(state(optimizer, w, bias), before)
    assert [int(optimizer.iterations), int(optimizer.skipped_steps)] == [5, 3]


RULES = {
    "threshold": lambda rate: FilterOptimizer(filters.EMA(0.1), flips.Threshold(rate)),
    "flip_alpha": lambda rate: FilterOptimizer(filters.EMA(0.1), NamedAlpha(rate)),
    "alpha_1": lambda rate: FilterOptimizer(filters.Cascade([filters.EMA(0.1), filters.EMA(rate)])),
    "gain": lambda rate: FilterOptimizer(filters.LeakyIntegrator(rate, 0.1)),
}


class NamedAlpha(flips.Threshold):
    """A rule with a rate that the filter has too."""

    def rates(self):
        return {"alpha": self.threshold}

    def with_rate(self, name, rate):
        return NamedAlpha(rate)

    def flip(self, weight, signal, state, rates, xp):
        return weight * signal > rates["alpha"], state


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_every_rate_is_looked_at_and_named(name):
    model = network()
    model.compile(RULES[name](Broken(-1.0, 3)), "sparse_categorical_crossentropy")
    with pytest.warns(RuntimeWarning, match=rf"5 steps .* {name} is -1 at step 3, it must lie in"):
        model.fit(*data(), batch_size=8, verbose=0)


@pytest.mark.slow
def test_a_rate_written_past_the_optimizer_is_not_used():
    model = network(gradient_filter=filters.EMA(0.1))
    schedule = lq.callbacks.HyperparameterScheduler(lambda epoch: 0.1 - 1.1 * epoch, "alpha")
    with pytest.warns(RuntimeWarning, match=r"8 steps .* alpha is -1 at step 8, .* \(0, 1\]"):
        model.fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[schedule])
    model.optimizer.alpha = 0.1
    model.fit(*data(), batch_size=8, verbose=0)
    assert int(model.optimizer.iterations) == 16


@pytest.mark.slow
def test_a_rate_outside_raises_with_its_name():
    model = network(gradient_filter=filters.EMA(Broken(1.5)), on_nonfinite="raise")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"alpha is outside its interval"):
        model.fit(*data(), batch_size=8, verbose=0)
    model = network(
        jit_compile=True, gradient_filter=filters.EMA(Broken(1.5)), on_nonfinite="raise"
    )
    with pytest.raises(RuntimeError, match=r"alpha is 1.5 at step 5, it must lie in \(0, 1\]"):
        model.fit(*data(), batch_size=8, verbose=0)


@pytest.mark.slow
def test_rates_on_replicas(strategy):
    with strategy.scope():
        model = network(gradient_filter=filters.EMA(Broken(1.5)))
    with pytest.warns(RuntimeWarning, match="3 steps .* alpha is 1.5 at step 5"):
        model.fit(*data(), batch_size=8, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 5


# States that leave all bounds ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Rootless(filters.Filter):
    """An EMA of gradients of +-1, with a root that large ones have no value for: NaN."""

    @property
    def order(self):
        return 1

    def step(self, x, state, rates, xp):
        root = xp.sqrt(2.0 - xp.abs(x))  # not times 0: TensorFlow may leave such a term out
        y = state[0] + 0.1 * (x - state[0]) + (root - 1.0)
        return y, (y,)


@pytest.mark.parametrize("mode", MODES)
def test_a_filter_that_makes_nan_of_finite_gradients_keeps_its_state(mode):
    w = kernel()
    optimizer = FilterOptimizer(Rootless(), default_optimizer=None)
    optimizer.build([w])
    step = MODES[mode](lambda g: optimizer.apply_gradients([(g, w)]))
    step(tf.ones(SHAPE))
    (before,), signs = [v.numpy() for v in optimizer.state_variables()], binary.latent(w).numpy()
    step(spoiled(-tf.ones(SHAPE), 3.0))
    expected = before + np.float32(0.1) * (-1 - before)
    expected.flat[3] = before.flat[3]
    (after,) = (v.numpy() for v in optimizer.state_variables())
    np.testing.assert_allclose(after, expected, rtol=1e-6)
    assert binary.latent(w).numpy().flat[3] == signs.flat[3]
    with pytest.warns(RuntimeWarning, match="NaN or Inf from finite gradients, 1 times"):
        optimizer.finalize_variable_values([w])
    optimizer.finalize_variable_values([w])  # told once


def test_kept_states_on_replicas(strategy):
    with strategy.scope():
        w = kernel()
        optimizer = FilterOptimizer(Rootless(), default_optimizer=None)
        optimizer.build([w])
    step = networks.step_on_replicas(strategy, optimizer, [w])
    step(tf.stack([spoiled(tf.ones(SHAPE), 3.0)] * 2))
    for v in optimizer.state_variables():
        assert all(np.all(np.isfinite(copy.numpy())) for copy in binary.replicas(v))
    with pytest.warns(RuntimeWarning, match="NaN or Inf from finite gradients"):
        optimizer.finalize_variable_values([w])


@pytest.mark.parametrize("name", presets.PRESETS)
def test_filters_of_presets_stay_finite(name):
    """So nothing has to be looked at in each step."""
    assert filters.stays_finite(preset(name).gradient_filter)


def test_a_gain_beyond_all_bounds_is_found():
    assert not filters.stays_finite(filters.LeakyIntegrator(1e30, 0.1))
    assert not filters.stays_finite(Rootless())
