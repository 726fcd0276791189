"""Analysis against scipy.signal, closed forms, and simulated gradients."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, signal

from larq_filter import analysis, filters, flips, hyperparameters
from larq_filter._keras import keras
from larq_filter.filters import EMA, Cascade, CascadedEMA, LeakyIntegrator

schedules = keras.optimizers.schedules


class Sections(filters.Filter):
    """Any sections, stable or not: what analysis reads of a filter."""

    def __init__(self, sections):
        self.sections = np.atleast_2d(np.asarray(sections, np.float64))

    def __repr__(self):
        return f"Sections({self.sections.tolist()})"

    def sos(self, step=0):
        return self.sections


class NotLinear(filters.Filter):
    def __repr__(self):
        return "NotLinear()"


def butterworth(order, cutoff, kind="lowpass"):
    return Sections(signal.butter(order, cutoff, kind, fs=1.0, output="sos"))


FORGETTING = {
    "ema": EMA(0.03),
    "no memory": EMA(1.0),
    "cascade": CascadedEMA(alpha=1e-2, gamma=0.1),
    "double pole": CascadedEMA(alpha=0.05, gamma=0.05),
    "slow first": Cascade([EMA(1e-3), EMA(0.5), EMA(1.0)]),
    "leaky": LeakyIntegrator(gain=3.0, leak=0.02),
    "heavy ball": filters.HeavyBall(gain=0.01, leak=0.1),
    "butterworth": filters.SecondOrderSections(signal.butter(3, 0.02, fs=1.0, output="sos")),
    "butterworth 8": butterworth(8, 0.1),
    "chebyshev": Sections(signal.cheby1(4, 1, 0.05, fs=1.0, output="sos")),
    "high pass": butterworth(2, 0.1, "highpass"),
    "band pass": butterworth(2, [0.01, 0.1], "bandpass"),
    "fir": Sections(signal.tf2sos([0.5, 0.25, 0.125, 0.0625], [1.0])),
    "alternating": Sections([[1.0, 0.0, 0.0, 1.0, 0.9, 0.0]]),
    "two real poles": Sections([[1.0, 0.5, 0.0, 1.0, -1.4, 0.45]]),
}
forgetting = pytest.mark.parametrize("f", FORGETTING.values(), ids=FORGETTING.keys())
ACCUMULATOR = LeakyIntegrator(gain=0.5, leak=0.0)


@forgetting
def test_frequency_response_equals_scipy(f):
    frequencies, response = analysis.frequency_response(f, np.linspace(0.001, 0.499, 200))
    _, expected = signal.sosfreqz(f.sos(), frequencies, fs=1.0)
    np.testing.assert_allclose(response, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(analysis.gain(f, frequencies)[1], np.abs(response))
    np.testing.assert_array_equal(analysis.phase(f, frequencies)[1], np.unwrap(np.angle(response)))


@forgetting
def test_group_delay_equals_scipy(f):
    frequencies, delay = analysis.group_delay(f, np.linspace(0.001, 0.45, 200))
    b, a = signal.sos2tf(f.sos())
    _, expected = signal.group_delay((b, a), frequencies, fs=1.0)
    np.testing.assert_allclose(delay, expected, rtol=1e-5, atol=1e-5)


def test_group_delay_is_the_slope_of_the_phase():
    f = butterworth(3, 0.02)
    frequencies, phase = analysis.phase(f, np.linspace(1e-4, 0.2, 20001))
    slope = -np.gradient(phase, 2 * np.pi * frequencies)
    delay = analysis.group_delay(f, frequencies)[1]
    np.testing.assert_allclose(delay[1:-1], slope[1:-1], rtol=1e-4)


def test_group_delay_is_undefined_where_nothing_passes():
    delay = analysis.group_delay(butterworth(2, 0.1), [0.1, 0.5])[1]
    assert np.isnan(delay).tolist() == [False, True]
    assert np.isnan(analysis.group_delay(butterworth(2, 0.1, "highpass"), 0.0)[1])


@pytest.mark.parametrize("alpha", [1e-2, 1e-4, 1e-6, 1e-7])
def test_slow_filters_keep_their_digits(alpha):
    """The response of an EMA written in sin^2, which cancels nothing; SciPy loses 9 digits at 1e-7.

    Tolerance: what rounding `alpha - 1` to float64 takes from alpha.
    """
    f, tolerance = EMA(alpha), 2**-52 / alpha
    frequencies, gain = analysis.gain(f)
    expected = alpha / np.sqrt(alpha**2 + 4 * (1 - alpha) * np.sin(np.pi * frequencies) ** 2)
    np.testing.assert_allclose(gain, expected, rtol=tolerance + 1e-14)
    exact = math.asin(alpha / (2 * math.sqrt(1 - alpha))) / math.pi
    assert analysis.cutoff(f) == pytest.approx(exact, rel=tolerance + 1e-13)
    assert analysis.time_constant(f) == pytest.approx(1 / alpha, rel=tolerance)
    assert analysis.mean_delay(f) == pytest.approx(1 / alpha - 1, rel=tolerance)
    assert analysis.noise_gain(f) == pytest.approx(math.sqrt(alpha / (2 - alpha)), rel=tolerance)
    assert analysis.expected_flip_ratio(f) == pytest.approx(
        2 / math.pi * math.asin(math.sqrt(alpha / 2)), rel=tolerance
    )


def test_default_grid():
    frequencies, gain = analysis.gain(EMA(1e-6))
    assert frequencies.shape == (1001,)
    assert (frequencies[0], frequencies[-1]) == (pytest.approx(1e-9), 0.5)
    np.testing.assert_allclose(np.diff(np.log(frequencies)), np.log(0.5e9) / 1000)
    assert gain[0] > 0.9999 and gain[-1] < 1e-6


def test_cycles_per_epoch():
    f = CascadedEMA(alpha=1e-3, gamma=0.1)
    per_step, response = analysis.frequency_response(f)
    per_epoch, same = analysis.frequency_response(f, steps_per_epoch=390)
    np.testing.assert_allclose(per_epoch, per_step * 390)
    np.testing.assert_allclose(same, response, rtol=1e-10)
    for function in (analysis.gain, analysis.phase, analysis.group_delay):
        np.testing.assert_allclose(
            function(f, [0.0, 1.0, 195.0], steps_per_epoch=390)[1],
            function(f, [0.0, 1 / 390, 0.5])[1],
            rtol=1e-10,
        )
    assert analysis.cutoff(f, steps_per_epoch=390) == pytest.approx(390 * analysis.cutoff(f))


@forgetting
def test_impulse_and_step_response_equal_scipy(f):
    h = analysis.impulse_response(f, 500)
    expected = signal.sosfilt(f.sos(), signal.unit_impulse(500))
    np.testing.assert_allclose(h, expected, rtol=0, atol=1e-13 * np.max(np.abs(h)))
    np.testing.assert_allclose(
        analysis.step_response(f, 500), np.cumsum(h), rtol=1e-9, atol=1e-9 * np.max(np.abs(h))
    )


@forgetting
def test_default_length_holds_the_whole_response(f):
    """What comes after the default length is below 1e-3 of the response (energy)."""
    h = analysis.impulse_response(f)
    total = np.sum(analysis.impulse_response(f, 10 * len(h)) ** 2)
    assert total - np.sum(h**2) < 1e-3 * total
    assert len(analysis.step_response(f)) == len(h)


@forgetting
def test_sums_of_the_impulse_response(f):
    """Noise gain, flip ratio and mean delay against sums of 20,000 samples."""
    h = analysis.impulse_response(f, 20_000)
    assert analysis.noise_gain(f) == pytest.approx(np.sqrt(np.sum(h**2)), rel=1e-9)
    rho = np.sum(h[1:] * h[:-1]) / np.sum(h**2)
    assert analysis.expected_flip_ratio(f) == pytest.approx(np.arccos(rho) / np.pi, rel=1e-7)
    if abs(np.sum(h)) > 1e-6:
        delay = np.sum(np.arange(len(h)) * h) / np.sum(h)
        assert analysis.mean_delay(f) == pytest.approx(delay, rel=1e-5, abs=1e-9)
        assert analysis.mean_delay(f) == pytest.approx(float(analysis.group_delay(f, 0.0)[1]))


@forgetting
def test_time_constant_is_that_of_the_slowest_pole(f):
    largest = max(np.max(np.abs(signal.tf2zpk(row[:3], row[3:])[1])) for row in f.sos())
    assert analysis.time_constant(f) == pytest.approx(1 / (1 - largest), rel=1e-6)


@forgetting
def test_order_of_stages_does_not_matter(f):
    both = Cascade([f, EMA(1e-4)])
    swapped = Cascade([EMA(1e-4), f])
    for function in (analysis.noise_gain, analysis.expected_flip_ratio, analysis.time_constant):
        assert function(both) == pytest.approx(function(swapped), rel=1e-11)


# Printed in the design of the method: four and three decimals.
@pytest.mark.parametrize(
    ("alpha", "gamma", "printed"), [(1e-3, 1.0, 0.0142), (1e-3, 0.1, 0.0033), (1e-2, 0.1, 0.0104)]
)
def test_flip_ratio_as_printed(alpha, gamma, printed):
    assert round(analysis.expected_flip_ratio(CascadedEMA(alpha=alpha, gamma=gamma)), 4) == printed


@pytest.mark.parametrize(
    "f",
    [
        EMA(1.0),
        EMA(0.3),
        CascadedEMA(alpha=1e-2, gamma=0.1),
        butterworth(2, 0.02),
        FORGETTING["high pass"],
        FORGETTING["fir"],
    ],
    ids=repr,
)
def test_flip_ratio_of_simulated_noise(f):
    """200 weights, 10,000 steps of Gaussian noise; the sign of the filter's own output.

    Tolerance: five standard errors of the mean over the weights, which are independent.
    """
    x = np.random.default_rng(7).normal(size=(11_000, 200))
    y = signal.sosfilt(f.sos(), x, axis=0)[1_000:]  # ten time constants of the slowest
    ratios = np.mean(np.diff(np.sign(y), axis=0) != 0, axis=0)
    error = np.std(ratios, ddof=1) / math.sqrt(len(ratios))
    assert abs(np.mean(ratios) - analysis.expected_flip_ratio(f)) < 5 * error
    assert np.std(y) == pytest.approx(analysis.noise_gain(f), rel=0.05)


def test_flip_rule_flips_as_often_as_expected():
    """The same through Filter.run and flips.Sign, weights and all.

    Tolerance: five standard errors, of 0.67 % each (2,000 weights, 20 time constants).
    """
    f = CascadedEMA(alpha=1e-2, gamma=0.1)
    y, _ = f.run(np.random.default_rng(8).normal(size=(3_000, 2_000)).astype(np.float32))
    weight, count = -np.sign(y[999]), 0
    for signal_now in y[1_000:]:
        flipped, _ = flips.Sign().flip(weight, signal_now, (), {}, np)
        weight = np.where(flipped, -weight, weight)
        count += np.count_nonzero(flipped)
    assert count / y[1_000:].size == pytest.approx(analysis.expected_flip_ratio(f), rel=0.034)


@pytest.mark.parametrize("step", [0, 250, 999])
def test_schedules_are_read_at_the_step(step):
    f = CascadedEMA(alpha=schedules.PolynomialDecay(1e-2, 1000, 0.0), gamma=0.1)
    held = CascadedEMA(alpha=f.rates_at(step)["alpha"], gamma=0.1)
    for function in (
        analysis.cutoff,
        analysis.time_constant,
        analysis.mean_delay,
        analysis.noise_gain,
        analysis.expected_flip_ratio,
    ):
        assert function(f, step=step) == function(held)
    for function in (
        analysis.frequency_response,
        analysis.gain,
        analysis.phase,
        analysis.group_delay,
    ):
        np.testing.assert_array_equal(function(f, step=step)[1], function(held)[1])
    for function in (analysis.impulse_response, analysis.step_response):
        np.testing.assert_array_equal(function(f, 50, step), function(held, 50))


def test_when_the_schedule_has_reached_zero_nothing_moves():
    f = CascadedEMA(alpha=schedules.PolynomialDecay(1e-2, 1000, 0.0), gamma=0.1)
    assert analysis.expected_flip_ratio(f, step=1000) == 0.0
    assert analysis.time_constant(f, step=1000) == math.inf
    assert not np.any(analysis.gain(f, [0.0, 0.1, 0.5], step=1000)[1])


def test_accumulator():
    assert analysis.time_constant(ACCUMULATOR) == math.inf
    frequencies, gain = analysis.gain(ACCUMULATOR, [0.0, 0.5])
    assert gain.tolist() == [math.inf, 0.25]
    np.testing.assert_array_equal(analysis.impulse_response(ACCUMULATOR, 4), [0.5] * 4)


LARGEST = 2 * math.sqrt(2) - 2


@pytest.mark.parametrize("alpha", [LARGEST + 1e-9, 0.83, 1.0])
def test_a_fast_average_has_no_cutoff(alpha):
    with pytest.raises(ValueError, match=r"no cutoff.*0\.7071.*2 sqrt\(2\) - 2 = 0\.8284"):
        analysis.cutoff(EMA(alpha))


def test_the_fastest_average_with_a_cutoff():
    """At the bound the cutoff is the highest frequency; the square root makes 1e-9 into 1e-5."""
    assert analysis.cutoff(EMA(LARGEST - 1e-9)) == pytest.approx(0.5, abs=1e-4)
    assert analysis.gain(EMA(LARGEST), 0.5)[1] == pytest.approx(math.sqrt(0.5), rel=1e-14)


@pytest.mark.parametrize("cutoff", [0.3, 1e-2, 1e-4])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_cutoff_of_a_butterworth_design(order, cutoff):
    """The design is for this very number; its coefficients carry 2^-53/cutoff^2 of it."""
    assert analysis.cutoff(butterworth(order, cutoff)) == pytest.approx(
        cutoff, rel=1e-13 + 2**-52 / cutoff**2
    )


def linear_functions():
    return {
        "frequency_response": analysis.frequency_response,
        "gain": analysis.gain,
        "phase": analysis.phase,
        "group_delay": analysis.group_delay,
        "impulse_response": analysis.impulse_response,
        "step_response": analysis.step_response,
        "cutoff": analysis.cutoff,
        "time_constant": analysis.time_constant,
        "mean_delay": analysis.mean_delay,
        "noise_gain": analysis.noise_gain,
        "expected_flip_ratio": analysis.expected_flip_ratio,
    }


@pytest.mark.parametrize("name", linear_functions())
def test_wrong_filters(name):
    function = linear_functions()[name]
    with pytest.raises(ValueError, match="NotLinear is not linear"):
        function(NotLinear())
    with pytest.raises(TypeError, match="must be a filter from larq_filter.filters, not 0.1"):
        function(0.1)
    with pytest.raises(ValueError, match="`step` is -1"):
        function(EMA(0.1), step=-1)


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda: analysis.gain(EMA(0.1), [0.1, 0.6]), ValueError, ["0.6", "[0, 0.5]", "per step"]),
        (lambda: analysis.cutoff(EMA(0.1), step="a"), TypeError, ["`step`", "'a'", "[0, inf)"]),
        (lambda: analysis.gain(EMA(0.1), -0.1), ValueError, ["-0.1", "[0, 0.5]"]),
        (lambda: analysis.gain(EMA(0.1), math.nan), ValueError, ["nan", "[0, 0.5]"]),
        (
            lambda: analysis.gain(EMA(0.1), [51.0], steps_per_epoch=100),
            ValueError,
            ["51.0", "[0, 50]", "per epoch"],
        ),
        (lambda: analysis.gain(EMA(0.1), steps_per_epoch=0), ValueError, ["0", "(0, inf)"]),
        (lambda: analysis.cutoff(EMA(0.1), steps_per_epoch="x"), ValueError, ["'x'", "(0, inf)"]),
        (lambda: analysis.cutoff(ACCUMULATOR), ValueError, ["frequency 0", "inf", "gain"]),
        (lambda: analysis.cutoff(FORGETTING["high pass"]), ValueError, ["frequency 0", "is 0"]),
        (lambda: analysis.mean_delay(FORGETTING["high pass"]), ValueError, ["adds up to 0"]),
        (lambda: analysis.mean_delay(ACCUMULATOR), ValueError, ["mean delay", "never forgets"]),
        (lambda: analysis.noise_gain(ACCUMULATOR), ValueError, ["noise gain", "leak", "step 0"]),
        (lambda: analysis.expected_flip_ratio(ACCUMULATOR), ValueError, ["flip ratio", "leak"]),
        (
            lambda: analysis.noise_gain(Sections([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])),
            ValueError,
            ["unit circle"],
        ),
        (
            lambda: analysis.noise_gain(Sections([1.0, 0.0, 0.0, 1.0, -2.5, 1.0])),
            ValueError,
            ["unit circle"],
        ),
        (lambda: analysis.impulse_response(ACCUMULATOR), ValueError, ["inf steps", "`steps`"]),
        (lambda: analysis.step_response(EMA(1e-7)), ValueError, ["1e+07 steps", "`steps`"]),
        (lambda: analysis.impulse_response(EMA(0.1), 0), ValueError, ["steps", "0", "[1, "]),
        (lambda: analysis.impulse_response(EMA(0.1), 2.5), TypeError, ["steps", "2.5"]),
        (lambda: hyperparameters.suggest(0, 10), ValueError, ["steps_per_epoch", "0", "[1, "]),
        (lambda: hyperparameters.suggest(390, -1), ValueError, ["epochs", "-1", "[1, "]),
        (
            lambda: hyperparameters.suggest(390.0, 10),
            TypeError,
            ["steps_per_epoch", "390.0", "integer"],
        ),
        (lambda: hyperparameters.suggest(390, True), TypeError, ["epochs", "True", "integer"]),
        (
            lambda: hyperparameters.suggest(1, 5),
            ValueError,
            ["5 steps", "too short", "6/steps_per_epoch"],
        ),
    ],
)
def test_errors_say_what_is_allowed(use, error, words):
    with pytest.raises(error) as raised:
        use()
    for word in words:
        assert word in str(raised.value)


def test_suggestion():
    """CIFAR-10, batch 128: half an epoch is 195 steps, a third of the run 13,000."""
    suggestion = hyperparameters.suggest(steps_per_epoch=390, epochs=100)
    assert 1 / suggestion.alpha == pytest.approx(math.sqrt(195 * 13_000))
    assert (suggestion.gamma, suggestion.schedule, suggestion.steps) == (0.1, "linear", 39_000)
    f = suggestion.filter()
    assert f == CascadedEMA(
        alpha=schedules.PolynomialDecay(suggestion.alpha, 39_000, 0.0), gamma=0.1
    )
    assert f.rates_at(19_500)["alpha"] == pytest.approx(suggestion.alpha / 2)
    assert f.rates_at(39_000)["alpha"] == 0
    for words in ("alpha 0.000628", "linear to 0", "195 steps", "13,000 steps", "momentum 0.9"):
        assert words in str(suggestion)


def test_a_short_window_is_not_smoothed():
    assert hyperparameters.suggest(10, 6).gamma == 0.1  # window 10
    assert hyperparameters.suggest(10, 5).gamma == 1.0
    assert "no room" in hyperparameters.suggest(10, 5).reason


@settings(max_examples=60)
@given(steps_per_epoch=st.integers(3, 10_000), epochs=st.integers(2, 1000))
def test_suggested_window_lies_between_the_bounds(steps_per_epoch, epochs):
    window = 1 / hyperparameters.suggest(steps_per_epoch, epochs).alpha
    assert steps_per_epoch / 2 <= window <= steps_per_epoch * epochs / 3
    assert hyperparameters.suggest(steps_per_epoch, epochs).filter().order == 2


log_rates = st.floats(-7, 0).map(lambda exponent: 10**exponent)


@settings(max_examples=100)
@given(alpha=log_rates, gamma=log_rates)
def test_cascade_formulas(alpha, gamma):
    """Any two rates of 1e-7 to 1: closed forms without cancellation; a, b = 1-alpha, 1-gamma.

    1 - (a+b)/(1+ab) = alpha gamma / (1+ab) and 1 + (a+b)/(1+ab) = (1+a)(1+b) / (1+ab).
    """
    f = CascadedEMA(alpha=alpha, gamma=gamma)
    a, b = 1 - alpha, 1 - gamma
    tolerance = 1e-13 + 2**-52 / min(alpha, gamma)
    angle = 2 * math.atan(math.sqrt(alpha * gamma / ((1 + a) * (1 + b))))
    assert analysis.expected_flip_ratio(f) == pytest.approx(angle / math.pi, rel=tolerance)
    noise = alpha * gamma * (1 + a * b) / ((1 + a) * (1 + b) * (1 - a * b))
    assert analysis.noise_gain(f) == pytest.approx(math.sqrt(noise), rel=tolerance)
    delay = (1 - alpha) / alpha + (1 - gamma) / gamma
    assert analysis.mean_delay(f) == pytest.approx(delay, rel=tolerance, abs=1e-15)
    assert analysis.time_constant(f) == pytest.approx(1 / min(alpha, gamma), rel=tolerance)


def test_double_pole_near_the_circle():
    """1/(1 - r z^-1)^2 has energy (1 + r^2)/(1 - r^2)^3; SciPy's general solver is 1e-4 off."""
    r = 1 - 2.0**-13  # its square is exact
    energy = (1 + r**2) / ((1 - r) * (1 + r)) ** 3
    f = Sections([1.0, 0.0, 0.0, 1.0, -2 * r, r**2])
    assert analysis.noise_gain(f) ** 2 == pytest.approx(energy, rel=1e-13)


@settings(max_examples=60)
@given(alpha=log_rates, gain=st.floats(1e-3, 1e3))
def test_a_positive_gain_changes_no_flip(alpha, gain):
    plain, loud = EMA(alpha), LeakyIntegrator(gain=gain * alpha, leak=alpha)
    ratio = analysis.expected_flip_ratio(plain)
    assert analysis.expected_flip_ratio(loud) == pytest.approx(ratio, rel=1e-12)
    assert analysis.noise_gain(loud) == pytest.approx(gain * analysis.noise_gain(plain), rel=1e-12)


@settings(max_examples=60)
@given(
    radius=st.floats(0, 0.99),  # SciPy's own error: 1e-4 at a double pole of 0.9999
    angle=st.floats(0, math.pi),
    zeros=st.tuples(*[st.floats(-2, 2)] * 2),
)
def test_any_section_against_scipys_lyapunov_solver(radius, angle, zeros):
    """Complex poles of any angle, zeros anywhere, energies by a general solver."""
    b = np.poly(zeros)
    a = np.array([1.0, -2 * radius * math.cos(angle), radius**2])
    f = Sections([*b, *a])
    transition, inputs, out, direct = signal.tf2ss(b, a)
    covariance = linalg.solve_discrete_lyapunov(transition, inputs @ inputs.T)
    energy = (out @ covariance @ out.T + direct**2).item()
    neighbours = (out @ (transition @ covariance @ out.T + inputs * direct)).item()
    assert analysis.noise_gain(f) ** 2 == pytest.approx(energy, rel=1e-6)
    assert math.cos(math.pi * analysis.expected_flip_ratio(f)) == pytest.approx(
        neighbours / energy, abs=1e-6
    )
