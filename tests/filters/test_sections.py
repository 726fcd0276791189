"""SecondOrderSections and HeavyBall against scipy.signal, in float64 and in float32."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from larq_filter._keras import keras, tf
from larq_filter.filters import CascadedEMA, HeavyBall, SecondOrderSections

schedules = keras.optimizers.schedules

DESIGNS = {
    "butterworth 1": signal.butter(1, 0.05, fs=1, output="sos"),
    "butterworth 2": signal.butter(2, 0.02, fs=1, output="sos"),
    "butterworth 5": signal.butter(5, 0.05, fs=1, output="sos"),
    "chebyshev": signal.cheby1(4, 1, 0.1, fs=1, output="sos"),
    "band pass": signal.butter(2, [0.05, 0.1], "bandpass", fs=1, output="sos"),
    "fir": [[0.25, 0.5, 0.25, 1, 0, 0]],
    "two averages": CascadedEMA(alpha=0.02, gamma=0.1).sos(),
    "a0 of 2": 2 * signal.butter(3, 0.1, fs=1, output="sos"),
}
HEAVY = [
    HeavyBall(gain=0.01, leak=0.1),
    HeavyBall(gain=1.0, leak=0.1, rate=1e-4),
    HeavyBall(gain=0.1, leak=0.1, rate=0.3, nesterov=True),
    HeavyBall(gain=0.2, leak=1.0),
    HeavyBall(gain=0.5, leak=0.05, compensated=True),
]
ALL = [SecondOrderSections(design) for design in DESIGNS.values()] + HEAVY


@pytest.mark.parametrize("f", ALL, ids=[*DESIGNS, *map(repr, HEAVY)])
def test_equals_scipy(f):
    """Tolerance 1e-12 of the largest output, float64, 2,000 steps of noise with a mean."""
    x = np.random.default_rng(0).normal(0.2, 1.0, (2000, 3, 2))
    expected = signal.sosfilt(f.sos(), x, axis=0)
    y, state = f.run(x)
    assert np.max(np.abs(y - expected)) <= 1e-12 * np.max(np.abs(expected))
    assert len(state) == f.state_size


@pytest.mark.parametrize("f", ALL, ids=[*DESIGNS, *map(repr, HEAVY)])
def test_stop_and_continue(f):
    x = np.random.default_rng(1).normal(size=(60, 4))
    whole, _ = f.run(x)
    first, state = f.run(x[:20])
    second, _ = f.run(x[20:], state, first_step=20)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)


@pytest.mark.parametrize("f", ALL, ids=[*DESIGNS, *map(repr, HEAVY)])
def test_it_is_causal_and_linear(f):
    x = np.random.default_rng(2).normal(size=(50, 2))
    late = x.copy()
    late[30:] += 1
    np.testing.assert_array_equal(f.run(late)[0][:30], f.run(x)[0][:30])
    np.testing.assert_array_equal(f.run(-4 * x)[0], -4 * f.run(x)[0])


@pytest.mark.parametrize("f", ALL, ids=[*DESIGNS, *map(repr, HEAVY)])
def test_config_round_trip(f):
    assert type(f).from_config(f.get_config()) == f
    plain = json.loads(json.dumps(f.get_config()))
    assert type(f).from_config(plain) == f
    saved = json.loads(json.dumps(keras.utils.serialize_keras_object(f)))
    again = keras.utils.deserialize_keras_object(saved)
    assert again == f
    assert hash(again) == hash(f)


def test_equality_is_by_coefficients():
    slow, fast = ([[b, 0, 0, 1, b - 1, 0]] for b in (0.1, 0.2))
    assert SecondOrderSections(slow) == SecondOrderSections(np.array(slow))
    assert SecondOrderSections(slow) != SecondOrderSections(fast)
    twice = SecondOrderSections(2 * np.array(slow))
    assert twice == SecondOrderSections(slow)
    with pytest.raises(AttributeError):
        twice.coefficients = ()


def test_single_step_by_hand():
    """b = (0.5, 0.25, 0.25), a = (-1, 0.5): e1 = 1.25, e0 = 1, c1 = 1, c0 = 0.5."""
    f = SecondOrderSections([[0.5, 0.25, 0.25, 1, -1, 0.5]])
    y, (s1, s2) = f.step(np.array(4.0), (np.array(2.0), np.array(8.0)), {}, np)
    assert (float(y), float(s1), float(s2)) == (4.0, 2.0 + (5.0 - 4.0 + 8.0), 8.0 + (4.0 - 2.0))
    f = HeavyBall(gain=0.5, leak=0.25, rate=2.0)
    y, (u, _) = f.step(np.array(5.0), (np.array(4.0), np.array(1.0)), f.rates(), np)
    assert (float(u), float(y)) == (4.0 + 2.0 - 1.0, 1.0 + 10.0)


# Float32 ------------------------------------------------------------------------------------------


def direct_form(sos, x):
    """Direct form II transposed, in the dtype of ``x``: what SciPy runs in float64."""
    kind = x.dtype.type
    for b0, b1, b2, _, a1, a2 in [[kind(c) for c in row] for row in sos]:
        y, s1, s2 = np.empty_like(x), np.zeros_like(x[0]), np.zeros_like(x[0])
        for t, value in enumerate(x):
            y[t] = b0 * value + s1
            s1 = b1 * value - a1 * y[t] + s2
            s2 = b2 * value - a2 * y[t]
        x = y
    return x


def noise_and_step(steps):
    """Two weights: one meets white noise, the other ones."""
    noise = np.random.default_rng(0).normal(size=steps)
    return np.stack([noise, np.ones(steps)], axis=1)


def errors(y, expected):
    return np.max(np.abs(y - expected), axis=0) / np.max(np.abs(expected), axis=0)


@pytest.mark.parametrize(
    ("cutoff", "steps", "bound", "direct"),
    [(1e-1, 2000, 2e-7, 0), (1e-2, 2000, 1e-6, 1e-6), (1e-3, 3000, 1e-5, 5e-4)],
)
def test_float32_is_close_to_float64(cutoff, steps, bound, direct):
    """The table of the docstring: increments within ``bound``, direct form beyond ``direct``."""
    sos = signal.butter(2, cutoff, fs=1, output="sos")
    x = noise_and_step(steps)
    expected = SecondOrderSections(sos).run(x)[0]
    x = x.astype(np.float32)
    y = SecondOrderSections(sos).run(x)[0]
    assert y.dtype == np.float32
    assert np.all(errors(y, expected) <= bound)
    assert np.all(errors(SecondOrderSections(sos, True).run(x)[0], expected) <= 3e-7)
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.all(errors(direct_form(sos, x), expected) >= direct)


def test_the_direct_form_diverges_in_float32_where_the_increments_do_not():
    """Cutoff 1e-5: its float32 coefficients have a pole outside the unit circle."""
    a1, a2 = signal.butter(2, 1e-5, fs=1, output="sos")[0, 4:].astype(np.float32)
    assert np.max(np.abs(np.roots(np.array([1, a1, a2], np.float64)))) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cutoff", "jit_compile"), [(1e-4, True), (1e-5, True), (1e-6, True), (1e-6, False)]
)
def test_low_cutoffs_in_float32_tensorflow(cutoff, jit_compile):
    """100,000 steps of noise and of ones as a compiled training step runs them, compensated.

    Reference: the same in float64, which agrees with SciPy as far as SciPy's own form holds there
    (1e-6 of the largest output at cutoff 1e-6). A compiler that optimised the compensation away
    would miss the bound by a factor of 100.
    """
    steps = 100_000
    sos = signal.butter(2, cutoff, fs=1, output="sos")
    f = SecondOrderSections(sos, compensated=True)
    x = noise_and_step(steps)

    @tf.function(jit_compile=jit_compile)
    def respond(x):
        y, state = tf.zeros([2]), f.zero_state(tf.zeros([2]), tf)
        for t in tf.range(steps):
            y, state = f.step(x[t], state, {}, tf)
        return y

    y = respond(tf.constant(x, tf.float32)).numpy()
    exact = SecondOrderSections(sos).run(x)[0]
    assert np.all(errors(signal.sosfilt(sos, x, axis=0), exact) <= 1e-6)
    assert np.all(np.abs(y - exact[-1]) <= 1e-6 * np.max(np.abs(exact), axis=0))


def test_compensation_is_automatic_where_a_pole_is_slow():
    assert SecondOrderSections(signal.butter(2, 1e-3, fs=1, output="sos")).state_size == 2
    assert SecondOrderSections(signal.butter(4, 1e-6, fs=1, output="sos")).state_size == 8
    assert SecondOrderSections(DESIGNS["butterworth 5"], compensated=True).state_size == 12
    assert HeavyBall(gain=1e-8, leak=0.1).state_size == 4
    assert HeavyBall(gain=1e-8, leak=0.1, compensated=False).state_size == 2
    assert HeavyBall(gain=schedules.PolynomialDecay(1e-8, 10, 0.0), leak=0.1).state_size == 2
    assert [HEAVY[0].order, ALL[2].order] == [2, 6]


# Starting from an output --------------------------------------------------------------------------


@pytest.mark.parametrize("f", [*ALL, CascadedEMA(alpha=0.1, gamma=1.0)], ids=repr)
def test_started_from_an_output_it_holds_it(f):
    """The constant input that belongs to the output holds it, and without input it starts there."""
    b, a = f.sos()[:, :3].sum(axis=1), f.sos()[:, 3:].sum(axis=1)
    output = np.array([0.5, -2.0])
    if np.prod(b) == 0:
        with pytest.raises(ValueError, match="gain 0 at frequency zero"):
            f.state_from_output(output, np)
        return
    state = f.state_from_output(output, np)
    assert len(state) == f.state_size
    held, _ = f.run(np.tile(output * np.prod(a / b), (200, 1)), state)
    np.testing.assert_allclose(held, np.tile(output, (200, 1)), rtol=1e-10)


def test_start_equals_scipys():
    sos = DESIGNS["butterworth 5"]
    x = np.random.default_rng(3).normal(size=300)
    expected, _ = signal.sosfilt(sos, x, zi=2.0 * signal.sosfilt_zi(sos))
    f = SecondOrderSections(sos)
    y, _ = f.run(x[:, None], f.state_from_output(np.array([2.0]), np))
    np.testing.assert_allclose(y[:, 0], expected, atol=1e-12)


# The heavy ball -----------------------------------------------------------------------------------


def test_real_poles_are_a_cascade_and_complex_ones_overshoot():
    alpha, gamma = 0.02, 0.3
    cascade = CascadedEMA(alpha=alpha, gamma=gamma)
    ball = HeavyBall(gain=alpha * gamma, leak=alpha + gamma - alpha * gamma)
    x = np.random.default_rng(4).normal(size=(500, 2))
    np.testing.assert_allclose(ball.run(x)[0], cascade.run(x)[0], atol=1e-13)
    numerator, denominator = signal.sos2tf(cascade.sos())
    np.testing.assert_allclose(ball.sos()[0, 3:], denominator[:3], atol=1e-15)
    np.testing.assert_allclose(ball.sos()[0, :3], numerator[:3], atol=1e-15)
    ones = np.ones((500, 1))
    assert np.max(ball.run(ones)[0]) <= 1
    assert np.max(HeavyBall(gain=0.01, leak=0.1).run(ones)[0]) > 1.1


def test_schedules_move_the_heavy_ball():
    decay = schedules.PolynomialDecay(0.5, 100, 0.25)
    f = HeavyBall(gain=decay, leak=0.5)
    np.testing.assert_allclose(f.sos(50), HeavyBall(gain=0.375, leak=0.5).sos(), rtol=1e-6)
    x = np.random.default_rng(5).normal(size=200)
    u = y = 0.0
    for t, value in enumerate(x):
        u = 0.5 * u + (0.5 - 0.25 * min(t, 100) / 100) * (value - y)
        y = y + u
    assert f.run(x)[0][-1] == pytest.approx(y, abs=1e-6)  # the schedule is float32
    warm_up = schedules.PolynomialDecay(0.0, 100, 0.5)
    assert HeavyBall(gain=warm_up, leak=0.5).rates_at(0)["gain"] == 0


STABLE = [[1, 0, 0, 1, -0.5, 0]]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: SecondOrderSections([1, 0, 0, 1, 0, 0]), ValueError, ["(6,)", "(sections, 6)"]),
        (lambda: SecondOrderSections(np.zeros((0, 6))), ValueError, ["(0, 6)"]),
        (lambda: SecondOrderSections("butter"), TypeError, ["'butter'", "scipy.signal"]),
        (lambda: SecondOrderSections([[1, 0, 0, 0, 0, 0]]), ValueError, ["a0", "not 0"]),
        (lambda: SecondOrderSections([[np.nan, 0, 0, 1, 0, 0]]), ValueError, ["finite", "nan"]),
        (lambda: SecondOrderSections([[1, 0, 0, 1, -1, 0]]), ValueError, ["radius 1;", "leak=0"]),
        (
            lambda: SecondOrderSections([*STABLE, [1, 0, 0, 1, 0, 1.21]]),
            ValueError,
            ["radius 1.1;", "strictly inside the unit circle"],
        ),
        (lambda: SecondOrderSections([[1, 0, 0, 1, 2.5, 1]]), ValueError, ["radius 2;"]),
        (
            lambda: SecondOrderSections(schedules.PolynomialDecay(0.1, 10)),
            TypeError,
            ["no schedule", "CascadedEMA"],
        ),
        (lambda: SecondOrderSections(STABLE, compensated=2), TypeError, ["compensated", "2"]),
        (lambda: HeavyBall(gain=0.0, leak=0.1), ValueError, ["gain", "(0, inf)"]),
        (lambda: HeavyBall(gain=0.1, leak=0.0), ValueError, ["leak", "(0, 1]"]),
        (lambda: HeavyBall(gain=0.1, leak=0.1, rate=-1), ValueError, ["rate", "(0, inf)"]),
        (lambda: HeavyBall(gain=4.0, leak=0.1), ValueError, ["radius", "weight decay"]),
        (
            lambda: HeavyBall(gain=schedules.PolynomialDecay(4.0, 10), leak=0.1),
            ValueError,
            ["radius", "weight decay"],
        ),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


@settings(max_examples=60)
@given(st.complex_numbers(max_magnitude=0.95), st.floats(-3, 3), st.floats(-3, 3))
def test_any_conjugate_pair_equals_scipy(pole, b1, b2):
    sos = np.array([[1.0, b1, b2, 1.0, -2 * pole.real, abs(pole) ** 2]])
    x = np.random.default_rng(6).normal(size=200)
    expected = signal.sosfilt(sos, x)
    y, _ = SecondOrderSections(sos).run(x)
    assert np.max(np.abs(y - expected)) <= 1e-12 * np.max(np.abs(expected))
