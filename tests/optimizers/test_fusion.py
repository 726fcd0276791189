"""Compiled updates beside plain ones, for every filter and every flip rule."""

import warnings

import numpy as np
import pytest

from examples_of_rules import LINEAR, NONLINEAR, RULES
from larq_filter import binary, filters, flips
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer, default_alpha, fusion

from larq.quantized_variable import QuantizedVariable  # isort: skip
from larq.quantizers import NoOp  # isort: skip

SHAPES = [(3, 3, 2, 4), (12, 4), (3, 3, 2, 4)]
FILTERS = {
    **LINEAR,
    **{f"nonlinear {index}": f for index, f in enumerate(NONLINEAR)},
    "compensated": filters.CascadedEMA(alpha=1e-6, gamma=0.3),
    "default": filters.CascadedEMA(alpha=default_alpha(0.1, 10), gamma=0.3),
    "heavy ball": filters.HeavyBall(gain=0.5, leak=0.25, rate=0.5),
    "leaky": filters.LeakyIntegrator(gain=1.0, leak=0.1),
    "sections": filters.SecondOrderSections([[0.1, 0.05, 0, 1, -1.5, 0.6]]),
}


def kernels(dtype="float32", shapes=SHAPES):
    random = np.random.default_rng(1)
    return [
        QuantizedVariable.from_variable(
            tf.Variable(random.choice([-1.0, 1.0], shape), dtype=dtype, name=f"kernel_{index}"),
            quantizer=NoOp(precision=1),
            precision=1,
        )
        for index, shape in enumerate(shapes)
    ]


def gradients(dtype="float32", steps=30, shapes=SHAPES, digits=None):
    """Noise with a slowly turning mean per weight, so that weights flip early and late.

    With `digits` they are multiples of 2^-digits.
    """
    random = np.random.default_rng(0)
    means = [random.normal(size=shape) for shape in shapes]
    for step in range(steps):
        turn = np.cos(step / 8)
        noisy = [turn * m + random.normal(size=m.shape) for m in means]
        if digits is not None:
            noisy = [np.round(g * 2**digits) / 2**digits for g in noisy]
        yield [tf.constant(g, dtype) for g in noisy]


def walk(jit_compile, dtype, *arguments, digits=None, **options):
    """The weights after each step, and the states in the end."""
    optimizer = FilterOptimizer(
        *arguments, default_optimizer=None, jit_compile=jit_compile, **options
    )
    variables = kernels(dtype)
    optimizer.build(variables)
    step = tf.function(lambda g: optimizer.apply_gradients(zip(g, variables, strict=True)))
    weights = []
    for g in gradients(dtype, digits=digits):
        step(g)
        weights.append(np.concatenate([binary.latent(v).numpy().ravel() for v in variables]))
    return np.array(weights), [array.numpy() for array in optimizer.state_variables()]


def assert_alike(*arguments, **options):
    """float64: equal weights at every step, states within 1e-12 of the largest number in any."""
    plain, states = walk(False, "float64", *arguments, **options)
    compiled, compiled_states = walk(True, "float64", *arguments, **options)
    np.testing.assert_array_equal(compiled, plain)
    assert np.mean(plain[1:] != plain[:-1]) > 0.005
    largest = max((np.abs(state).max() for state in states), default=0.0)
    for one, other in zip(states, compiled_states, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-12 * largest)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILTERS)
def test_every_filter(name):
    keras.backend.set_floatx("float64")
    assert_alike(FILTERS[name])


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(RULES)))
def test_every_flip_rule(index):
    keras.backend.set_floatx("float64")
    assert_alike(filters.LeakyIntegrator(gain=1.0, leak=0.1), RULES[index])


@pytest.mark.parametrize("start", ["number", "initializer"])
def test_warm_start(start):
    keras.backend.set_floatx("float64")
    warm_start = 0.5 if start == "number" else keras.initializers.RandomNormal(seed=3)
    assert_alike(filters.CascadedEMA(alpha=0.1, gamma=0.3), warm_start=warm_start)


def test_float32_differs_by_roundings_only():
    """XLA rounds a product and a sum once: states within 4 units of 2^-24 of the largest."""
    f = filters.CascadedEMA(alpha=0.1, gamma=0.3)
    plain, states = walk(False, "float32", f)
    compiled, compiled_states = walk(True, "float32", f)
    largest = max(np.abs(state).max() for state in states)
    for one, other in zip(states, compiled_states, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=4 * 2**-24 * largest)
    signals = np.concatenate([state.ravel() for state in states[1::2]])
    different = compiled[-1] != plain[-1]
    assert np.all(np.abs(signals[different]) < 4 * 2**-24 * largest)


def test_a_rule_that_gains_nothing_is_left_to_tensorflow(monkeypatch):
    monkeypatch.setattr(flips.Threshold, "gains_from_xla", False)
    optimizer = FilterOptimizer(filters.EMA(0.5), flips.Threshold(1e-3), default_optimizer=None)
    variables = kernels()
    optimizer.build(variables)
    optimizer.apply_gradients(zip(next(gradients()), variables, strict=True))
    assert not optimizer._steps._together._programs
    assert optimizer.get_config()["jit_compile"] is True


def test_kernels_of_one_shape_share_a_program(monkeypatch):
    """One trace for each shape and number of kernels in a launch."""
    monkeypatch.setattr(fusion, "WEIGHTS", 24)
    shapes = [(3, 4), (2, 3), (3, 4), (3, 4), (30, 2), (3, 4), (3, 4)]
    variables = kernels(shapes=shapes)
    optimizer = FilterOptimizer(filters.EMA(0.5), default_optimizer=None)
    optimizer.build(variables)
    traces = []
    update = optimizer._steps._update_compiled
    optimizer._steps._together = fusion.FusedUpdates(
        lambda *row: traces.append(row[0].shape) or update(*row)
    )
    step = tf.function(lambda g: optimizer.apply_gradients(zip(g, variables, strict=True)))
    for g in gradients(shapes=shapes, steps=3):
        step(g)
    # (3, 4): two launches of two and one of one; the last program has one row.
    assert sorted(map(tuple, traces)) == [(2, 3), (3, 4), (3, 4), (3, 4), (30, 2)]
    assert all(binary.holds_signs(variable) for variable in variables)


def test_launches_keep_shapes_apart_and_stay_small(monkeypatch):
    monkeypatch.setattr(fusion, "WEIGHTS", 10)
    arrays = [np.zeros(shape, np.float32) for shape in [(5,), (4, 5), (5,), (), (5,), (4, 5)]]
    assert fusion.launches([tf.constant(a) for a in arrays]) == [[0, 2], [4], [1], [5], [3]]
    monkeypatch.setattr(fusion, "KERNELS", 2)
    assert fusion.launches([tf.zeros([])] * 5) == [[0, 1], [2, 3], [4]]
    mixed = [tf.zeros(2), tf.zeros(2, tf.float64), tf.zeros(2)]
    assert fusion.launches(mixed) == [[0, 2], [1]]


@pytest.mark.parametrize("device", ["CPU:0", "CPU:1"])
def test_steps_where_the_variables_lie(device):
    """Everything on one device is compiled, whatever device the step is called on."""
    with tf.device(device):
        variables = kernels()
        optimizer = FilterOptimizer(default_optimizer=None)
    optimizer.build(variables)
    step = tf.function(lambda g: optimizer.apply_gradients(zip(g, variables, strict=True)))
    before = [binary.latent(v).numpy() for v in variables]
    step(next(gradients()))
    assert optimizer.jit_compile
    for variable, old in zip(variables, before, strict=True):
        assert np.any(binary.latent(variable).numpy() != old)


def test_variables_on_two_devices_are_stepped_by_plain_operations():
    weights = []
    for device in ("CPU:0", "CPU:1"):
        with tf.device(device):
            variables = kernels()
        optimizer = FilterOptimizer(default_optimizer=None)
        if device == "CPU:1":
            with pytest.warns(RuntimeWarning, match="lie on 2 devices"):
                optimizer.build(variables)
        optimizer.build(variables)
        for g in gradients(steps=3):
            optimizer.apply_gradients(zip(g, variables, strict=True))
        weights.append([binary.latent(v).numpy() for v in variables])
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_gradient_of_unknown_shape():
    (variable,) = kernels(shapes=[(3, 4)])
    optimizer = FilterOptimizer(default_optimizer=None)
    optimizer.build([variable])

    @tf.function
    def step():
        gradient = tf.numpy_function(lambda: np.ones((3, 4), np.float32), [], tf.float32)
        optimizer.apply_gradients([(gradient, variable)])

    step()
    np.testing.assert_array_equal(binary.latent(variable), -np.ones((3, 4)))


def test_observer_sees_the_signal_of_each_kernel():
    """Called outside of the compiled program, so that it may print or call Python."""
    variables = kernels()
    optimizer = FilterOptimizer(filters.EMA(0.25), default_optimizer=None)
    optimizer.build(variables)
    seen = {}

    def note(position, value):
        seen[int(position)] = value

    optimizer.observe_signals(lambda position, signal: tf.py_function(note, [position, signal], []))
    step = tf.function(lambda g: optimizer.apply_gradients(zip(g, variables, strict=True)))
    (g,) = gradients(steps=1)
    step(g)
    assert sorted(seen) == [0, 1, 2]
    for position, value in enumerate(g):
        np.testing.assert_allclose(seen[position], 0.25 * value, rtol=1e-6)


@pytest.fixture
def asked_again():
    """Whether there is XLA is remembered; what this test makes of it must not reach others."""
    fusion.is_available.cache_clear()
    yield
    fusion.is_available.cache_clear()


def test_without_xla_it_says_so_once_and_trains(asked_again, monkeypatch):
    function = tf.function

    def no_xla(*arguments, jit_compile=None, **options):
        if jit_compile:
            raise tf.errors.UnimplementedError(None, None, "no XLA devices\nat all")
        return function(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fusion.tf, "function", no_xla)
        with pytest.warns(RuntimeWarning, match=r"not available here \(no XLA devices\)") as seen:
            asked = walk(True, "float32", filters.EMA(0.1))
            walk(True, "float32", filters.EMA(0.1))
        assert len(seen) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plain = walk(False, "float32", filters.EMA(0.1))
    for one, other in zip(asked[1], plain[1], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(asked[0], plain[0])


@pytest.mark.slow
def test_replicas_are_compiled_too(strategy):
    """As on one device, bit for bit, also in float32."""
    f, rule = filters.CascadedEMA(alpha=0.1, gamma=0.3), flips.Threshold(1e-3)
    alone, states = walk(True, "float32", f, rule, digits=10)
    with strategy.scope():
        variables = kernels()
        optimizer = FilterOptimizer(f, rule, default_optimizer=None)
        optimizer.build(variables)

    @tf.function
    def step(g):
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            share = tf.gather(tf.constant([0.25, 0.75]), number)  # their sum is exact
            parts = [each * share for each in g]
            optimizer.apply_gradients(zip(parts, variables, strict=True))

        strategy.run(replica)

    for index, g in enumerate(gradients(digits=10)):
        step(g)
        for copy in range(2):
            found = [v.latent_variable.values[copy].numpy().ravel() for v in variables]
            np.testing.assert_array_equal(np.concatenate(found), alone[index])
    for array, state in zip(optimizer.state_variables(), states, strict=True):
        np.testing.assert_array_equal(array.values[1].numpy(), state)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_layers_give_plain_variables(policy):
    import larq

    keras.mixed_precision.set_global_policy(policy)
    layer = larq.layers.QuantDense(3, kernel_quantizer="ste_sign", use_bias=False)
    layer.build((None, 4))
    stored = binary.stored(layer.kernel)
    assert isinstance(stored, tf.Variable) and stored.dtype == tf.float32
    optimizer = FilterOptimizer(filters.EMA(0.5), default_optimizer=None)
    optimizer.build([layer.kernel])
    optimizer.apply_gradients([(tf.fill((4, 3), 1.0), layer.kernel)])
    np.testing.assert_array_equal(binary.latent(layer.kernel), -np.ones((4, 3)))
