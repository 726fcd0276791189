"""What holds for every linear filter, with scipy.signal.lfilter in float64 as the reference."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import references
from examples_of_rules import FIXED, LINEAR
from larq_filter import analysis, binary, filters
from larq_filter._keras import keras, tf
from larq_filter.filters import AR, EMA, FIR, Cascade, LeakyIntegrator, Parallel
from larq_filter.optimizers import FilterOptimizer

import larq as lq

fixed = pytest.mark.parametrize(("f", "b", "a"), FIXED.values(), ids=FIXED)
linear = pytest.mark.parametrize("f", LINEAR.values(), ids=LINEAR)


def close(y, expected, tolerance):
    assert np.max(np.abs(y - expected)) <= tolerance * np.max(np.abs(expected))


@fixed
def test_equals_scipy(f, b, a):
    """Tolerance 1e-12 of the largest output, float64, 2,000 steps of noise with a mean."""
    x = np.random.default_rng(0).normal(0.2, 1.0, (2000, 3, 2))
    close(f.run(x)[0], signal.lfilter(b, a, x, axis=0), 1e-12)


@fixed
def test_sections_equal_scipy(f, b, a):
    x = np.random.default_rng(0).normal(0.2, 1.0, 2000)
    close(signal.sosfilt(f.sos(), x), signal.lfilter(b, a, x), 1e-9)


@linear
def test_state_is_as_declared(f):
    like = np.zeros((3, 2), np.float32)
    state = f.zero_state(like, np)
    _, after = f.run(np.ones((4, 3, 2), np.float32))
    assert len(state) == len(after) == f.state_size
    assert [np.shape(array) for array in state] == [np.shape(array) for array in after]
    assert {np.asarray(array).dtype for array in state} <= {np.dtype(np.float32)}


@linear
def test_stop_and_continue(f):
    references.stops_and_continues(f)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 3e-6)])
@linear
def test_tensorflow_runs_the_same_step(f, dtype, tolerance):
    """100 steps compiled by XLA, beside NumPy in float64."""
    x = np.random.default_rng(2).normal(size=(100, 3))
    rates = {name: tf.constant(rate, dtype) for name, rate in f.rates_at(0).items()}

    @tf.function(jit_compile=True)
    def respond(x):
        state = f.zero_state(x[0], tf)
        outputs = tf.TensorArray(x.dtype, 100)
        for t in tf.range(100):
            y, state = f.step(x[t], state, rates, tf)
            outputs = outputs.write(t, y)
        return outputs.stack()

    y = respond(tf.constant(x, dtype))
    assert y.dtype == dtype
    close(y.numpy(), f.run(x)[0], tolerance)


@pytest.mark.parametrize("name", ["firwin", "ar 2", "butterworth", "kalman", "kalman in parallel"])
def test_the_optimizer_trains_with_it(name):
    """30 steps of one kernel; weights and state as those of the filter run alone, float32."""
    f = LINEAR[name]
    layer = lq.layers.QuantDense(
        4,
        kernel_quantizer=lq.quantizers.NoOp(precision=1),
        kernel_initializer=binary.RandomSign(0),
        use_bias=False,
    )
    layer(tf.zeros((1, 6)))
    kernel = layer.trainable_variables[0]
    optimizer = FilterOptimizer(f, default_optimizer=None)
    x = np.random.default_rng(3).normal(size=(30, 6, 4)).astype(np.float32)
    for gradient in x:
        optimizer.apply_gradients([(tf.constant(gradient), kernel)])
    y, state = f.run(x)
    np.testing.assert_array_equal(layer.kernel, -np.sign(y[-1]))
    states = [v.numpy() for v in optimizer.variables if "filter" in v.name]
    for array, expected in zip(states, state, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)


@linear
def test_config_round_trip(f):
    assert type(f).from_config(f.get_config()) == f
    saved = json.loads(json.dumps(keras.utils.serialize_keras_object(f)))
    again = keras.utils.deserialize_keras_object(saved)
    assert again == f
    assert hash(again) == hash(f)
    assert again.rates_at(0) == f.rates_at(0)


def test_no_two_are_equal():
    assert len(set(LINEAR.values())) == len(LINEAR)


# Starting from an output --------------------------------------------------------------------------


# The inner stages of a cascade start from zero: no steady state, and so in these two.
STEADY = [name for name in FIXED if name not in ("cascade", "parallel of kinds")]


@pytest.mark.parametrize("name", STEADY)
def test_started_from_an_output_a_constant_input_holds_it(name):
    f, b, a = FIXED[name]
    output = np.array([0.5, -2.0])
    constant = output * np.sum(a) / np.sum(b)
    y, _ = f.run(np.tile(constant, (50, 1)), f.state_from_output(output, np))
    np.testing.assert_allclose(y, np.tile(output, (50, 1)), rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in STEADY if name != "parallel"])
def test_the_start_is_scipys(name):
    """``scipy.signal.lfilter_zi`` is the state of a step of 1, whatever its state variables."""
    f, b, a = FIXED[name]
    x = np.random.default_rng(5).normal(size=(50, 1))
    if max(len(b), len(a)) > 1:
        start = signal.lfilter_zi(b, a) * 3.0 * np.sum(a) / np.sum(b)
        expected, _ = signal.lfilter(b, a, x[:, 0], zi=start)
    else:
        expected = b[0] * x[:, 0]
    y, _ = f.run(x, f.state_from_output(np.array([3.0]), np))
    np.testing.assert_allclose(y[:, 0], expected, rtol=1e-9, atol=1e-9)


@linear
def test_the_start_in_tensorflow_is_that_in_numpy(f):
    output = np.array([[0.5, -2.0]])
    for array, expected in zip(
        f.state_from_output(tf.constant(output), tf), f.state_from_output(output, np), strict=True
    ):
        np.testing.assert_allclose(array, expected, rtol=1e-15)


# Analysis -----------------------------------------------------------------------------------------


@fixed
def test_frequency_response_equals_scipy(f, b, a):
    grid = np.linspace(0, 0.499, 200)
    _, expected = signal.freqz(b, a, grid, fs=1.0)
    frequencies, response = analysis.frequency_response(f, grid)
    np.testing.assert_allclose(response, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(analysis.gain(f, grid)[1], np.abs(response))
    np.testing.assert_array_equal(analysis.phase(f, grid)[1], np.unwrap(np.angle(response)))


@fixed
def test_group_delay_is_the_slope_of_the_phase(f, b, a):
    """Central differences of SciPy's own phase, where something passes."""
    grid, h = np.linspace(0.003, 0.497, 98), 1e-6
    turn = [signal.freqz(b, a, grid + s * h, fs=1.0)[1] for s in (-1, 1)]
    expected = -np.angle(turn[1] / turn[0]) / (4 * np.pi * h)
    passing = np.abs(turn[0]) > 1e-3 * np.max(np.abs(turn[0]))
    delay = analysis.group_delay(f, grid)[1]
    np.testing.assert_allclose(delay[passing], expected[passing], rtol=1e-5, atol=1e-5)


@fixed
def test_responses_equal_scipy(f, b, a):
    impulse = signal.lfilter(b, a, signal.unit_impulse(3000))
    step = signal.lfilter(b, a, np.ones(3000))
    close(analysis.impulse_response(f, 3000), impulse, 1e-12)
    close(analysis.step_response(f, 3000), step, 1e-12)
    h = analysis.impulse_response(f)
    close(h, impulse[: len(h)], 1e-12)
    assert np.sum(impulse[len(h) :] ** 2) <= 1e-3 * np.sum(impulse**2)
    assert len(analysis.step_response(f)) == len(h)


@fixed
def test_sums_equal_those_of_the_impulse_response(f, b, a):
    h = signal.lfilter(b, a, signal.unit_impulse(20_000))
    assert analysis.noise_gain(f) == pytest.approx(np.sqrt(np.sum(h**2)), rel=1e-11)
    rho = np.sum(h[1:] * h[:-1]) / np.sum(h**2)
    assert analysis.expected_flip_ratio(f) == pytest.approx(np.arccos(rho) / np.pi, rel=1e-9)
    delay = np.sum(np.arange(len(h)) * h) / np.sum(h)
    assert analysis.mean_delay(f) == pytest.approx(delay, rel=1e-9, abs=1e-12)
    radius = np.max(np.abs(np.roots(a)), initial=0.0)
    assert analysis.time_constant(f) == pytest.approx(1 / (1 - radius), rel=1e-9)


@pytest.mark.parametrize("name", ["firwin", "moving average", "ar 1", "ar 2", "parallel"])
def test_cutoff_is_where_half_the_power_passes(name):
    f, b, a = FIXED[name]
    _, response = signal.freqz(b, a, [0.0, analysis.cutoff(f)], fs=1.0)
    assert abs(response[1] / response[0]) ** 2 == pytest.approx(0.5, rel=1e-11)


@linear
def test_is_linear(f):
    assert f.is_linear
    assert not Cascade([f, filters.NormalizedEMA(alpha=0.1, sigma=0.1)]).is_linear


numbers = st.floats(-10, 10).map(lambda value: round(value, 3))
sequences = st.lists(numbers, min_size=8, max_size=8)


@settings(max_examples=100)
@given(
    f=st.sampled_from(list(LINEAR.values())),
    x=sequences,
    z=sequences,
    c=numbers,
    k=st.integers(0, 4),
)
def test_superposition_and_time_invariance(f, x, z, c, k):
    """The signal of a weighted sum is that of the parts; later gradients give a later signal."""
    x, z = np.array(x), np.array(z)
    terms = np.abs(f.run(x)[0]) + np.abs(c * f.run(z)[0])
    error = f.run(x + c * z)[0] - (f.run(x)[0] + c * f.run(z)[0])
    scale = 1 + np.max(terms) + 10 * np.max(np.abs(x) + np.abs(c * z))
    assert np.max(np.abs(error)) <= 1e-12 * scale
    if f in [g for g, _, _ in FIXED.values()]:
        late = f.run(np.concatenate([np.zeros(k), x]))[0]
        np.testing.assert_array_equal(late[:k], 0)
        np.testing.assert_allclose(late[k:], f.run(x)[0], atol=1e-12 * scale)


@settings(max_examples=100)
@given(
    taps=st.lists(numbers, min_size=1, max_size=12).filter(any),
    feedback=st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=3),
    alpha=st.floats(1e-3, 1),
    gains=st.tuples(numbers, numbers, numbers),
)
def test_any_parallel_is_the_sum_of_scipys(taps, feedback, alpha, gains):
    f = Parallel([FIR(taps), AR(feedback), EMA(alpha)], gains)
    x = np.random.default_rng(4).normal(size=100)
    pairs = [(taps, [1]), ([1], [1, *(-b for b in feedback)]), ([alpha], [1, alpha - 1])]
    outputs = [gain * signal.lfilter(b, a, x) for gain, (b, a) in zip(gains, pairs, strict=True)]
    scale = 1 + sum(np.max(np.abs(output)) for output in outputs)
    assert np.max(np.abs(f.run(x)[0] - sum(outputs))) <= 1e-12 * scale
    grid = np.linspace(0, 0.5, 20)
    expected = sum(
        gain * signal.freqz(b, a, grid, fs=1.0)[1]
        for gain, (b, a) in zip(gains, pairs, strict=True)
    )
    assert np.max(np.abs(analysis.frequency_response(f, grid)[1] - expected)) <= 1e-11 * scale


@settings(max_examples=60)
@given(
    f=st.sampled_from([f for f in LINEAR.values() if not isinstance(f, Cascade)]),
    output=st.floats(-1e3, 1e3),
)
def test_the_start_is_in_units_of_the_output(f, output):
    one = f.state_from_output(np.array([1.0]), np)
    for array, unit in zip(f.state_from_output(np.array([output]), np), one, strict=True):
        if np.shape(unit):  # a scalar is no signal
            np.testing.assert_allclose(array, output * unit, rtol=1e-12, atol=1e-300)


def test_accumulators_stay_infinite_in_parallel():
    f = Parallel([EMA(0.5), LeakyIntegrator(0.5, 0.0)], [1, 1])
    assert analysis.gain(f, [0.0, 0.5])[1].tolist() == [np.inf, pytest.approx(1 / 3 + 0.25)]
    assert analysis.time_constant(f) == np.inf
    with pytest.raises(ValueError, match="never forgets"):
        analysis.noise_gain(f)
