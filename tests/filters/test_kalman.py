"""The Kalman filter beside a hand-written one, its limit, its schedule of gains."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from larq_filter import analysis
from larq_filter._keras import keras, tf
from larq_filter.filters import EMA, Cascade, Kalman

schedules = keras.optimizers.schedules


def textbook(x, q, r, c, p):
    """Predict, then update, with covariances as matrices of one entry; outputs and gains."""
    transition, measure = np.array([[c]]), np.array([[1.0]])
    estimate, covariance = np.zeros((1, 1)), np.array([[p]])
    outputs, gains = [], []
    for value in x:
        estimate = transition @ estimate
        covariance = transition @ covariance @ transition.T + q
        innovation = measure @ covariance @ measure.T + r
        gain = covariance @ measure.T @ np.linalg.inv(innovation)
        estimate = estimate + gain @ (value - measure @ estimate)
        covariance = (np.eye(1) - gain @ measure) @ covariance
        outputs.append(estimate.item())
        gains.append(gain.item())
    return np.array(outputs), np.array(gains)


NUMBERS = {
    "published": (0.01, 2.0, 5.0, 0.01),
    "walk": (1e-4, 1.0, 1.0, 1.0),
    "shrinking": (0.1, 1.0, 0.9, 0.0),
    "alternating": (0.1, 1.0, -0.5, 2.0),
    "forgetful": (0.1, 1.0, 0.0, 2.0),
}


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_equals_the_textbook(numbers):
    x = np.random.default_rng(0).normal(0.5, 1.0, 300)
    outputs, gains = textbook(x, *numbers)
    f = Kalman(*numbers)
    np.testing.assert_allclose(f.run(x)[0], outputs, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose([f.sos(t)[0, 0] for t in range(300)], gains, rtol=1e-11)
    if numbers[0] > 1e-3:  # the others have settled by now
        assert f.sos(10**9)[0, 0] == pytest.approx(gains[-1], rel=1e-11)


def test_the_defaults_are_the_published_numbers():
    assert Kalman() == Kalman(*NUMBERS["published"])
    gains = [round(float(Kalman().sos(t)[0, 0]), 2) for t in range(4)]
    poles = [round(float(-Kalman().sos(t)[0, 4]), 2) for t in range(4)]
    assert gains == [0.12, 0.74, 0.95, 0.96]  # as the docstring has them
    assert poles == [4.42, 1.29, 0.26, 0.20]


def test_single_step_by_hand():
    """P = 4 * 0.5 + 1 = 3, K = 3/4, y = 2 * 3 + 0.75 * (10 - 6), P = 3/4."""
    f = Kalman(process_variance=1, measurement_variance=1, transition=2, initial_variance=0.5)
    start = (np.array(3.0), f.zero_state(np.array(0.0), np)[1])
    y, (state, variance) = f.step(np.array(10.0), start, {}, np)
    assert (float(y), float(state), float(variance)) == (9.0, 9.0, 0.75)


def test_all_weights_share_one_variance():
    for xp, like in ((np, np.zeros((3, 2), np.float32)), (tf, tf.zeros((3, 2)))):
        y, variance = Kalman(initial_variance=0.25).zero_state(like, xp)
        assert (tuple(y.shape), tuple(variance.shape)) == ((3, 2), ())
        assert (y.dtype, variance.dtype) == (like.dtype, like.dtype)
        assert float(variance) == 0.25
    state = Kalman(initial_variance=0.25).state_from_output(np.array([1.0, -2.0]), np)
    assert (state[0].tolist(), float(state[1])) == ([1.0, -2.0], 0.25)


@settings(max_examples=80)
@given(
    ratio=st.floats(-3, 3).map(lambda exponent: 10**exponent),
    transition=st.floats(-20, 20),
    initial=st.floats(0, 100),
)
def test_the_limit_solves_the_riccati_equation_and_is_stable(ratio, transition, initial):
    """P (before the update) solves P = c^2 R P / (R + P) + Q, here with R = 1."""
    b = 1 - transition**2 - ratio
    limit = (-b + math.sqrt(b * b + 4 * ratio)) / 2 if b < 0 else (
        2 * ratio / (b + math.sqrt(b * b + 4 * ratio))
    )  # fmt: skip
    gain, _, _, _, pole, _ = Kalman(ratio, 1.0, transition, initial).sos(10**6)[0]
    assert gain == pytest.approx(limit / (1 + limit), rel=1e-9)
    assert abs(pole) < 1


@settings(max_examples=40)
@given(scale=st.floats(-20, 20).map(lambda exponent: 10**exponent))
def test_only_ratios_of_the_variances_matter(scale):
    x = np.random.default_rng(1).normal(size=50)
    scaled = Kalman(0.01 * scale, 2.0 * scale, 5.0, 0.01 * scale)
    np.testing.assert_allclose(scaled.run(x)[0], Kalman().run(x)[0], rtol=1e-9)


def test_at_transition_1_it_becomes_an_average():
    f = Kalman(process_variance=1e-4, measurement_variance=1.0, transition=1.0)
    alpha = float(f.sos(10**5)[0, 0])
    average = EMA(alpha)
    for function in (analysis.cutoff, analysis.noise_gain, analysis.expected_flip_ratio):
        assert function(f, step=10**5) == pytest.approx(function(average), rel=1e-12)
    x = np.random.default_rng(2).normal(size=3000)
    y, _ = f.run(x)
    assert abs(y[-1] - average.run(x)[0][-1]) < 1e-6


def test_analysis_holds_the_gain_of_the_step():
    f = Kalman()
    for step in (2, 5, 100):
        gain, _, _, _, pole, _ = f.sos(step)[0]
        expected = gain / (1 + pole)
        assert analysis.gain(f, 0.0, step=step)[1] == pytest.approx(expected, rel=1e-13)
        h = gain * (-pole) ** np.arange(20)
        np.testing.assert_allclose(analysis.impulse_response(f, 20, step), h, atol=1e-12)
    both = Cascade([f, EMA(0.5)])
    product = analysis.gain(f, [0.1, 0.3], step=5)[1] * analysis.gain(EMA(0.5), [0.1, 0.3])[1]
    np.testing.assert_allclose(analysis.gain(both, [0.1, 0.3], step=5)[1], product, rtol=1e-13)
    with pytest.raises(ValueError, match="flip ratio at step 0.*Kalman filter settles"):
        analysis.expected_flip_ratio(f)


@pytest.mark.parametrize("name", ["cutoff", "frequency_response", "gain", "phase", "group_delay"])
def test_no_answer_where_the_pole_is_outside_the_circle(name):
    question = getattr(analysis, name)
    with pytest.raises(ValueError, match="at step 0.*Kalman filter settles"):
        question(Cascade([EMA(0.5), Kalman()]))
    question(Cascade([EMA(0.5), Kalman()]), step=5)


@pytest.mark.parametrize(("ratio", "bound"), [(1e-2, 1e-6), (1e-4, 1e-5), (1e-6, 1e-4)])
def test_the_gain_in_float32(ratio, bound):
    """K about sqrt(ratio); within 2e-8/K of itself as the docstring says, times 5."""
    f = Kalman(ratio, 1.0, 1.0, 1.0)
    steps = int(20 / math.sqrt(ratio))

    @tf.function(jit_compile=True)
    def last_variance():
        state = f.zero_state(tf.zeros([1]), tf)
        for _ in tf.range(steps):
            _, state = f.step(tf.zeros([1]), state, {}, tf)
        return state[1]

    gain = float(f._gain(float(last_variance()))[0])
    assert abs(gain / f.sos(steps)[0, 0] - 1) < min(bound, 5 * 2e-8 / gain + 1e-6)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Kalman(0.0), ValueError, ["process_variance", "0.0", "[1e-30, 1e+30]"]),
        (lambda: Kalman(measurement_variance=-1), ValueError, ["measurement_variance", "-1"]),
        (lambda: Kalman(transition=1e4), ValueError, ["transition", "[-1000, 1000]"]),
        (lambda: Kalman(transition=np.nan), ValueError, ["transition", "nan"]),
        (lambda: Kalman(initial_variance=-1), ValueError, ["initial_variance", "[0, 1e+30]"]),
        (lambda: Kalman("x"), TypeError, ["process_variance", "'x'"]),
        (
            lambda: Kalman(schedules.PolynomialDecay(0.1, 10)),
            TypeError,
            ["process_variance", "a constant", "PolynomialDecay"],
        ),
        (lambda: Kalman().sos(-1), ValueError, ["step", "-1", "from 0"]),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)
