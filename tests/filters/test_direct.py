"""FIR, MA and AR: by hand, long responses, unstable coefficients, errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from larq_filter import analysis
from larq_filter._keras import keras
from larq_filter.filters import AR, EMA, FIR, MA, Cascade, LeakyIntegrator, moving_average

schedules = keras.optimizers.schedules


def test_single_steps_by_hand():
    y, state = FIR([0.5, 0.25, -1]).step(np.array(8.0), (np.array(4.0), np.array(3.0)), {}, np)
    assert (float(y), *map(float, state)) == (4.0 + 1.0 - 3.0, 8.0, 4.0)
    y, state = AR([0.5, -0.25]).step(np.array(8.0), (np.array(4.0), np.array(2.0)), {}, np)
    assert (float(y), *map(float, state)) == (8.0 + 2.0 - 0.5, 9.5, 4.0)


def test_sizes():
    assert (FIR([2.0]).order, FIR([2.0]).state_size) == (0, 0)
    assert (moving_average(390).state_size, AR([0.5, 0.1]).state_size) == (389, 2)


def test_a_moving_average_is_the_mean_of_the_last_gradients():
    x = np.random.default_rng(0).normal(size=(50, 2))
    y, _ = moving_average(7).run(x)
    means = [np.mean(x[t - 6 : t + 1], axis=0) for t in range(6, 50)]
    np.testing.assert_allclose(y[6:], means, atol=1e-15)
    assert moving_average(1) == FIR([1.0])
    assert MA([0.5, 0.25]) == FIR([1, 0.5, 0.25])


def test_one_coefficient_is_a_leaky_integrator():
    x = np.random.default_rng(1).normal(size=200)
    expected, _ = LeakyIntegrator(gain=1.0, leak=0.25).run(x)
    np.testing.assert_allclose(AR([0.75]).run(x)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("coefficients", [[0.9], [0.8, 0.1]])
def test_published_settings_have_gain_10(coefficients):
    assert analysis.gain(AR(coefficients), 0.0)[1] == pytest.approx(10, rel=1e-14)
    y, _ = AR(coefficients).run(np.ones((400, 1)))
    assert y[-1, 0] == pytest.approx(10, rel=1e-12)


# Long responses -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("window", ["boxcar", "hamming", "hann"])
def test_256_taps_keep_their_digits(window):
    """Against lfilter; SciPy's sections of the same taps are wrong by 1e-7 to 1e22."""
    taps = signal.firwin(256, 0.01, window=window, fs=1.0)
    x = np.random.default_rng(2).normal(size=1000)
    expected = signal.lfilter(taps, [1.0], x)
    largest = np.max(np.abs(expected))
    f = FIR(taps)
    assert np.max(np.abs(f.run(x)[0] - expected)) <= 1e-14 * largest
    y, _ = f.run(x[:, None].astype(np.float32))
    assert np.max(np.abs(y[:, 0] - expected)) <= 2e-6 * largest
    grid = np.linspace(0, 0.5, 100)
    exact = np.exp(-2j * np.pi * np.outer(grid, np.arange(256))) @ taps
    np.testing.assert_allclose(analysis.frequency_response(f, grid)[1], exact, atol=1e-13)
    np.testing.assert_allclose(analysis.impulse_response(f), taps, rtol=0, atol=1e-17)
    sections = signal.sosfilt(f.sos(), x)
    assert np.max(np.abs(sections - expected)) >= 1e-7 * largest  # how much, the processor decides


@pytest.mark.parametrize("length", [1, 2, 10, 256])
def test_closed_forms_of_a_moving_average(length):
    """h is 1/n, n times: neighbours share n-1 of n, noise sqrt(1/n), delay (n-1)/2."""
    f = moving_average(length)
    ratio = math.acos((length - 1) / length) / math.pi
    assert analysis.expected_flip_ratio(f) == pytest.approx(ratio, rel=1e-13)
    assert analysis.noise_gain(f) == pytest.approx(1 / math.sqrt(length), rel=1e-14)
    assert analysis.mean_delay(f) == pytest.approx((length - 1) / 2, rel=1e-12, abs=1e-15)
    assert analysis.time_constant(f) == 1.0
    assert len(analysis.impulse_response(f)) == length
    if length > 2:
        edge = analysis.cutoff(f)  # the Dirichlet kernel
        kernel = math.sin(math.pi * edge * length) / (length * math.sin(math.pi * edge))
        assert kernel**2 == pytest.approx(0.5, rel=1e-12)


def test_zeros_of_a_moving_average_are_found():
    """All of period 10, 5, ... is averaged out; there is no phase there and no delay."""
    frequencies = np.arange(1, 6) / 10
    assert np.max(analysis.gain(moving_average(10), frequencies)[1]) < 1e-15
    assert np.all(np.isnan(analysis.group_delay(moving_average(10), frequencies)[1]))


def test_a_symmetric_response_delays_by_half_its_length():
    f = FIR(signal.firwin(31, 0.1, fs=1.0))
    delay = analysis.group_delay(f, np.linspace(0, 0.1, 30))[1]
    np.testing.assert_allclose(delay, 15, rtol=1e-11)


def test_in_series_with_a_slow_average():
    """The time constant is the average's, the response the product, at alpha 1e-7 as well."""
    f = Cascade([moving_average(64), EMA(1e-7)])
    assert analysis.time_constant(f) == pytest.approx(1e7, rel=1e-8)
    assert analysis.cutoff(f) == pytest.approx(analysis.cutoff(EMA(1e-7)), rel=1e-9)
    assert analysis.mean_delay(f) == pytest.approx(31.5 + (1e7 - 1), rel=1e-8)
    # Energies: sum over pairs of taps of rho^abs(i-j), rho = 1 - alpha, times those of the EMA.
    lags = np.abs(np.subtract.outer(np.arange(64), np.arange(64)))
    power = np.sum((1 - 1e-7) ** lags) / 64**2 * 1e-7 / (2 - 1e-7)
    assert analysis.noise_gain(f) == pytest.approx(math.sqrt(power), rel=1e-8)
    one_more = (1e-7 / (2 - 1e-7)) * np.sum(
        (1 - 1e-7) ** np.abs(np.subtract.outer(np.arange(64), np.arange(64) + 1))
    ) / 64**2  # fmt: skip
    angle = math.sqrt(2 * (power - one_more) / power)
    assert analysis.expected_flip_ratio(f) == pytest.approx(angle / math.pi, rel=1e-5)


def test_a_high_pass_says_what_it_lacks():
    f = FIR([1, -1])
    for function in (analysis.cutoff, analysis.mean_delay):
        with pytest.raises(ValueError, match="is 0|adds up to 0"):
            function(f)
    assert analysis.expected_flip_ratio(f) == pytest.approx(2 / 3, rel=1e-12)  # rho = -1/2


@settings(max_examples=60)
@given(
    poles=st.lists(st.floats(0, 0.9), min_size=1, max_size=3),
    angles=st.lists(st.floats(0, math.pi), min_size=3, max_size=3),
)
def test_any_stable_poles_are_taken(poles, angles):
    a = np.ones(1)
    for radius, angle in zip(poles, angles, strict=False):
        a = np.polymul(a, [1, -2 * radius * math.cos(angle), radius**2])
    f = AR(-a[1:])
    x = np.random.default_rng(3).normal(size=100)
    expected = signal.lfilter([1], a, x)
    np.testing.assert_allclose(f.run(x)[0], expected, atol=1e-12 * np.max(np.abs(expected)))
    # A pole of multiplicity 6 comes back from its polynomial with a sixth of the digits.
    assert analysis.time_constant(f) == pytest.approx(1 / (1 - max(poles)), rel=0.05)


@pytest.mark.parametrize(("coefficient", "bound"), [(0.9, 1e-6), (0.999, 3e-5), (0.9999, 1e-3)])
def test_float32_is_as_close_as_the_docstring_says(coefficient, bound):
    ones = np.ones((50_000, 1))
    expected, _ = AR([coefficient]).run(ones)
    y, _ = AR([coefficient]).run(ones.astype(np.float32))
    assert y.dtype == np.float32
    error = np.max(np.abs(y - expected)) / np.max(expected)
    assert bound / 10 < error < bound


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: FIR([]), ValueError, ["taps", "[0.5, 0.25]", "[]"]),
        (lambda: FIR(0.5), ValueError, ["taps", "list", "0.5"]),
        (lambda: FIR([[0.5]]), ValueError, ["taps", "list"]),
        (lambda: FIR([0.5, np.nan]), ValueError, ["taps", "finite", "nan"]),
        (lambda: FIR(["a"]), TypeError, ["taps", "'a'"]),
        (lambda: FIR([0, 0]), ValueError, ["All 2 `taps` are 0", "no gradient"]),
        (lambda: FIR({-1: 0.5, 0: 0.5}), TypeError, ["taps", "dict", "-1", "causal"]),
        (lambda: FIR(schedules.PolynomialDecay(1.0, 9)), TypeError, ["constants", "schedule"]),
        (lambda: MA([np.inf]), ValueError, ["coefficients", "inf"]),
        (lambda: AR([]), ValueError, ["coefficients", "[0.8, 0.1]"]),
        (lambda: AR([1.0]), ValueError, ["AR([1.0])", "radius 1;", "leak=0"]),
        (lambda: AR([0.0, 1.21]), ValueError, ["radius 1.1;", "inside the unit circle"]),
        (lambda: AR([-1.5]), ValueError, ["radius 1.5;"]),
        (lambda: AR([1.6, -1.0]), ValueError, ["radius 1;"]),
        (lambda: moving_average(0), ValueError, ["length", "0", "[1, 4096]"]),
        (lambda: moving_average(2.5), TypeError, ["length", "2.5", "integer"]),
        (lambda: FIR([1, -1]).state_from_output(np.ones(1), np), ValueError, ["up to 0", "zero"]),
        (
            lambda: FIR([0.1, 0.2, -0.3]).state_from_output(np.ones(1), np),  # 5e-17
            ValueError,
            ["add up to 0"],
        ),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)
