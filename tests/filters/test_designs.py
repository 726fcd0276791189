"""Designs against closed forms of the analog filters, exact where SciPy's sections are not."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, special

from larq_filter import analysis, filters
from larq_filter._keras import keras
from larq_filter.filters import (
    FIR,
    DeltaSections,
    SecondOrderSections,
    bessel,
    butterworth,
    chebyshev,
    from_transfer_function,
    iir,
)
from larq_filter.filters.transfer import from_sos

schedules = keras.optimizers.schedules

CUTOFFS = [0.3, 1e-2, 1e-4, 1e-6, 1e-10]
ORDERS = [1, 2, 3, 5, 8]


def analog(frequencies, cutoff):
    """Analog frequency over that of the cutoff: the bilinear transform in closed form."""
    return np.tan(np.pi * frequencies) / np.tan(np.pi * cutoff)


def near(cutoff):
    """Frequencies around a cutoff, up to 100 times it."""
    return np.geomspace(1e-3 * cutoff, min(100 * cutoff, 0.49), 200)


# The closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_butterworth(cutoff, order):
    f, grid = butterworth(order, cutoff), near(cutoff)
    expected = 1 / np.sqrt(1 + analog(grid, cutoff) ** (2 * order))
    np.testing.assert_allclose(analysis.gain(f, grid)[1], expected, rtol=2e-12)
    assert analysis.gain(f, 0.0)[1] == pytest.approx(1.0, rel=1e-14)
    assert analysis.cutoff(f) == pytest.approx(cutoff, rel=1e-13)
    assert f.order == order


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_chebyshev_1(cutoff, order):
    """``1 / (1 + e^2 T_n^2)``, T_n the Chebyshev polynomial and e^2 = 10^(ripple/10) - 1."""
    f, grid = chebyshev(order, cutoff, 1.5), near(cutoff)
    ripple = 10**0.15 - 1
    expected = 1 / np.sqrt(1 + ripple * special.eval_chebyt(order, analog(grid, cutoff)) ** 2)
    np.testing.assert_allclose(analysis.gain(f, grid)[1], expected, rtol=1e-11)
    assert 20 * math.log10(analysis.gain(f, cutoff)[1]) == pytest.approx(-1.5, rel=1e-11)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_chebyshev_2(cutoff, order):
    """``1 / (1 + 1 / (e^2 T_n^2(1/w)))``, e^2 = 1 / (10^(attenuation/10) - 1)."""
    f, grid = chebyshev(order, cutoff, 30.0, kind=2), near(cutoff)
    ripple = 1 / (10**3 - 1)
    power = ripple * special.eval_chebyt(order, 1 / analog(grid, cutoff)) ** 2
    expected = np.sqrt(power / (1 + power))
    np.testing.assert_allclose(analysis.gain(f, grid)[1], expected, rtol=1e-10, atol=1e-13)
    assert 20 * math.log10(analysis.gain(f, cutoff)[1]) == pytest.approx(-30, rel=1e-11)


def bessel_gain(order, w):
    """``abs(theta_n(0) / theta_n(j w))``, theta_n the reverse Bessel polynomial (integers)."""
    coefficients = [
        math.factorial(2 * order - k)
        // (2 ** (order - k) * math.factorial(k) * math.factorial(order - k))
        for k in range(order + 1)
    ]
    return abs(coefficients[0] / np.polyval(coefficients[::-1], 1j * w))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_bessel(cutoff, order):
    low, high = 0.1, 100.0  # where the polynomial itself has lost 3 dB, by bisection
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if bessel_gain(order, middle) ** 2 > 0.5 else (low, middle)
    f, grid = bessel(order, cutoff), near(cutoff)
    expected = bessel_gain(order, low * analog(grid, cutoff))
    np.testing.assert_allclose(analysis.gain(f, grid)[1], expected, rtol=1e-11)
    assert analysis.cutoff(f) == pytest.approx(cutoff, rel=1e-13)


def test_bessel_delays_all_slow_gradients_alike():
    frequencies, delay = analysis.group_delay(bessel(4, 1e-3), np.linspace(0, 5e-4, 20))
    np.testing.assert_allclose(delay, delay[0], rtol=2e-4)
    assert np.ptp(analysis.group_delay(butterworth(4, 1e-3), frequencies)[1]) > 0.1 * delay[0]
    assert np.max(analysis.step_response(bessel(4, 1e-3))) < 1.01
    overshoot = [np.max(analysis.step_response(butterworth(n, 1e-3))) - 1 for n in (2, 8)]
    assert overshoot == [pytest.approx(0.043, abs=5e-4), pytest.approx(0.163, abs=5e-4)]


FAMILIES = [
    ("butter", {}),
    ("cheby1", {"ripple": 1.0}),
    ("cheby2", {"attenuation": 30.0}),
    ("ellip", {"ripple": 1.0, "attenuation": 40.0}),
    ("bessel", {}),
]


@pytest.mark.parametrize("order", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(
    ("btype", "cutoff"),
    [
        ("lowpass", 0.1),
        ("highpass", 0.1),
        ("bandpass", [0.05, 0.1]),
        ("bandstop", [0.05, 0.1]),
    ],
)
@pytest.mark.parametrize(("ftype", "ripples"), FAMILIES)
def test_every_design_of_scipys(ftype, ripples, btype, cutoff, order):
    """At cutoffs where SciPy's own sections are exact: responses, and 500 steps of noise."""
    f = iir(ftype, order, cutoff, btype, **ripples)
    sos = signal.iirfilter(
        order,
        cutoff,
        ripples.get("ripple"),
        ripples.get("attenuation"),
        btype=btype,
        ftype="bessel_mag" if ftype == "bessel" else ftype,
        output="sos",
        fs=1.0,
    )
    frequencies = np.linspace(1e-3, 0.499, 200)
    _, expected = signal.sosfreqz(sos, frequencies, fs=1.0)
    np.testing.assert_allclose(analysis.frequency_response(f, frequencies)[1], expected, atol=1e-11)
    x = np.random.default_rng(0).normal(size=500)
    np.testing.assert_allclose(f.run(x)[0], signal.sosfilt(sos, x), atol=1e-11)
    np.testing.assert_allclose(signal.sosfilt(f.sos(), x), signal.sosfilt(sos, x), atol=1e-11)
    assert f.order == (2 * order if btype.startswith("band") else order)


# Low cutoffs --------------------------------------------------------------------------------------


def exact_step_response(order, cutoff, t):
    """A Butterworth's by partial fractions over its poles in d, extended precision.

    ``y_t = 1 + sum_i r_i (1 + d_i)^t``: nothing cancels but the final sum, of numbers near 1.
    """
    kind = np.clongdouble
    angles = np.pi * (2 * np.arange(order).astype(np.longdouble) + 1 + order) / (2 * order)
    s = np.tan(np.pi * np.longdouble(cutoff)) * np.exp(kind(1j) * angles.astype(kind))
    d = 2 * s / (1 - s)
    factor = np.prod(-d / 2)  # the gain at d = 0 is 1, with all zeros at d = -2
    y = np.ones(len(t), kind)
    for i, pole in enumerate(d):
        others = np.prod(pole - np.delete(d, i))
        weight = factor * (pole + 2) ** order / others / pole
        y += weight * np.exp(t.astype(kind) * np.log1p(pole))
    return y.real.astype(float)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("cutoff", [1e-2, 1e-4, 1e-6])
def test_step_response_is_exact(cutoff, order):
    """As long as it takes to settle, two million steps at 1e-6; SciPy's sections are 1e-6 off."""
    steps = int(2 / cutoff)
    t = np.unique(np.linspace(0, steps - 1, 500).astype(int))
    expected = exact_step_response(order, cutoff, t)
    y = analysis.step_response(butterworth(order, cutoff), steps)[t]
    np.testing.assert_allclose(y, expected, atol=1e-11)
    assert expected[-1] == pytest.approx(1.0, abs=1e-2)
    if order == 2 and cutoff == 1e-6:
        sos = signal.butter(order, cutoff, fs=1.0, output="sos")
        assert np.max(np.abs(signal.sosfilt(sos, np.ones(steps))[t] - expected)) > 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_recursion_itself_is_exact(order):
    """30,000 steps at cutoff 1e-4, float64, and float32 with compensation."""
    f, steps = butterworth(order, 1e-4, compensated=True), 30_000
    t = np.arange(steps)
    expected = exact_step_response(order, 1e-4, t)
    ones = np.ones((steps, 1))
    np.testing.assert_allclose(f.run(ones)[0][:, 0], expected, atol=1e-12)
    y = f.run(ones.astype(np.float32))[0][:, 0]
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_scipys_sections_lose_what_these_keep():
    """The table of ``DeltaSections``: gain up to twice the cutoff, order 4."""
    for cutoff, theirs in {1e-2: 3e-15, 1e-4: 1e-10, 1e-6: 1e-6, 1e-8: 1e-2}.items():
        grid = np.geomspace(cutoff / 100, 2 * cutoff, 300)
        expected = 1 / np.sqrt(1 + analog(grid, cutoff) ** 8)
        error = np.abs(analysis.gain(butterworth(4, cutoff), grid)[1] - expected)
        assert np.max(error) <= 2e-15
        half = np.pi * grid
        transfer = from_sos(signal.butter(4, cutoff, fs=1.0, output="sos"))
        rounded = np.abs(transfer.evaluate(2j * np.sin(half) * np.exp(1j * half))[0])
        assert np.max(np.abs(rounded - expected)) >= theirs


def test_gain_is_shared_by_the_sections():
    """SciPy puts (pi cutoff)^8 = 1e-44 into one section, which float32 flushes to 0."""
    sos = signal.butter(8, 1e-6, fs=1.0, output="sos")
    assert np.float32(sos[0, 0]) < 1e-43
    rows = np.array(butterworth(8, 1e-6).coefficients)
    np.testing.assert_allclose(rows[:, 2] / rows[:, 5], 1.0, rtol=1e-13)
    assert np.min(np.abs(rows[rows != 0])) > 1e-12


def test_low_cutoffs_are_compensated_and_odd_orders_waste_nothing():
    assert butterworth(2, 1e-3).state_size == 2
    assert butterworth(2, 1e-6).state_size == 4
    assert butterworth(5, 0.1).state_size == 5
    assert butterworth(1, 0.1).state_size == 1
    assert SecondOrderSections(signal.butter(1, 0.1, fs=1.0, output="sos")).state_size == 1
    assert butterworth(3, 0.1, compensated=True).state_size == 6


@settings(max_examples=60)
@given(
    order=st.integers(1, 24),
    cutoff=st.floats(-9, -0.4).map(lambda exponent: 10**exponent),
    make=st.sampled_from([butterworth, bessel]),
)
def test_any_order_and_cutoff(order, cutoff, make):
    f = make(order, cutoff)
    assert f.order == order
    assert analysis.cutoff(f) == pytest.approx(cutoff, rel=1e-11)
    assert analysis.gain(f, 0.0)[1] == pytest.approx(1.0, rel=1e-11)


def test_cycles_per_epoch():
    assert butterworth(2, 0.39, steps_per_epoch=390) == butterworth(2, 0.39 / 390)
    band = iir("butter", 2, [1, 5], "bandpass", steps_per_epoch=100)
    assert band == iir("butter", 2, [0.01, 0.05], "bandpass")
    assert analysis.cutoff(bessel(3, 2.0, steps_per_epoch=100), steps_per_epoch=100) == (
        pytest.approx(2.0, rel=1e-12)
    )


# Sections in d ------------------------------------------------------------------------------------


def test_a_section_by_hand():
    """(0.5 d^2 + 0.25 d + 0.25) / (d^2 + d + 0.5), then (0.5 d + 0.25) / (d + 0.5)."""
    f = DeltaSections([[0.5, 0.25, 0.25, 1, 1, 0.5], [0, 0.5, 0.25, 0, 1, 0.5]])
    assert (f.order, f.state_size) == (3, 3)
    y, state = f.step(np.array(4.0), tuple(map(np.array, (2.0, 8.0, 1.0))), {}, np)
    # First: y = 2 + 2 = 4, s1 = 2 + (1 - 4 + 8), s2 = 8 + (1 - 2). Second: y = 2 + 1.
    assert float(y) == 3.0
    assert [float(s) for s in state] == [7.0, 7.0, 1.0 + (1.0 - 1.5)]


def test_both_forms_of_sections_are_one_filter():
    sos = signal.ellip(5, 1, 40, 0.1, fs=1.0, output="sos")
    x = np.random.default_rng(1).normal(size=200)
    rows = [
        [b0, 2 * b0 + b1, b0 + b1 + b2, 1, 2 + a1, 1 + a1 + a2] for b0, b1, b2, _, a1, a2 in sos
    ]
    f = DeltaSections(2 * np.array(rows))
    np.testing.assert_allclose(f.run(x)[0], SecondOrderSections(sos).run(x)[0], atol=1e-13)
    np.testing.assert_allclose(f.sos(), sos, atol=1e-15)


def test_high_passes_can_not_be_started_from_an_output():
    for f in (
        butterworth(3, 0.1, btype="highpass"),
        SecondOrderSections(signal.butter(3, 0.1, "highpass", fs=1.0, output="sos")),
        SecondOrderSections([[0.1, -0.3, 0.2, 1, -0.5, 0.1]]),  # adds up to 3e-17
    ):
        with pytest.raises(ValueError, match="gain 0 at frequency zero"):
            f.state_from_output(np.ones(1), np)


# From a transfer function -------------------------------------------------------------------------


@settings(max_examples=80)
@given(
    b=st.lists(
        st.floats(-3, 3).map(lambda value: round(value, 3)) | st.just(1e-16), min_size=1, max_size=6
    ).filter(lambda b: max(map(abs, b)) > 1e-2),
    radius=st.floats(0, 0.95),
    angle=st.floats(0, math.pi),
    real=st.floats(-0.9, 0.9),
    a0=st.floats(0.1, 10),
)
def test_from_transfer_function(b, radius, angle, real, a0):
    a = a0 * np.polymul([1, -2 * radius * math.cos(angle), radius**2], [1, -real])
    x = np.random.default_rng(2).normal(size=100)
    expected = signal.lfilter(b, a, x)
    y, _ = from_transfer_function(b, a).run(x)
    # Two poles that almost meet have roots with half of the digits.
    np.testing.assert_allclose(y, expected, atol=1e-6 * np.max(np.abs(expected)))


def test_without_feedback_it_is_a_fir():
    assert from_transfer_function([1, 2], [4]) == FIR([0.25, 0.5])
    assert from_transfer_function([1, 2], [4, 0, 0]) == FIR([0.25, 0.5])


def test_a_delay_is_kept():
    x = np.random.default_rng(3).normal(size=50)
    for b, a in (([0, 0, 1.0], [1, -0.5]), ([0, 0, 0, 0, 1.0, 2.0], [1, -0.5]), ([0, 1.0], [2, 1])):
        f = from_transfer_function(b, a)
        np.testing.assert_allclose(f.run(x)[0], signal.lfilter(b, a, x), atol=1e-12)
        assert f.order == max(len(a), len(b)) - 1


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: butterworth(2, 0.5), ValueError, ["cutoff", "[1e-12, 0.5) cycles per step"]),
        (lambda: butterworth(2, 1e-300), ValueError, ["cutoff", "1e-300", "[1e-12, 0.5)"]),
        (lambda: chebyshev(5, 0.01, 1e-20), ValueError, ["ripple", "1e-20", "[1e-06, 300]"]),
        (lambda: chebyshev(5, 0.01, 1e5), ValueError, ["ripple", "100000", "[1e-06, 300]"]),
        (lambda: chebyshev(5, 0.01, 1.0, kind=True), ValueError, ["kind", "True"]),
        (lambda: butterworth(2, 0.0), ValueError, ["cutoff", "[1e-12, 0.5) cycles per step"]),
        (lambda: butterworth(2, -1e-3), ValueError, ["-0.001", "[1e-12, 0.5)"]),
        (lambda: butterworth(2, np.nan), ValueError, ["cutoff", "finite", "nan"]),
        (lambda: butterworth(2, "x"), TypeError, ["cutoff", "x"]),
        (lambda: butterworth(2, schedules.PolynomialDecay(0.1, 9)), TypeError, ["cutoff"]),
        (
            lambda: butterworth(2, 60, steps_per_epoch=100),
            ValueError,
            ["60 cycles per epoch", "[1e-10, 50) cycles per epoch"],
        ),
        (lambda: butterworth(2, 1, steps_per_epoch=0), ValueError, ["steps_per_epoch", "(0, inf)"]),
        (lambda: butterworth(2, [0.1, 0.2]), ValueError, ["lowpass", "one number"]),
        (
            lambda: butterworth(2, 0.1, btype="bandpass"),
            ValueError,
            ["bandpass", "two ascending numbers", "0.1"],
        ),
        (
            lambda: butterworth(2, [0.2, 0.1], btype="bandstop"),
            ValueError,
            ["two ascending", "[0.2, 0.1]"],
        ),
        (lambda: butterworth(2, 0.1, btype="low"), ValueError, ["'low'", "lowpass", "bandstop"]),
        (lambda: butterworth(0, 0.1), ValueError, ["order", "0", "[1, 24]"]),
        (lambda: butterworth(25, 0.1), ValueError, ["order", "25", "[1, 24]"]),
        (lambda: butterworth(2.0, 0.1), TypeError, ["order", "2.0", "integer"]),
        (lambda: butterworth(2, 0.1, compensated="x"), TypeError, ["compensated", "x"]),
        (lambda: chebyshev(2, 0.1, 0), ValueError, ["ripple", "0", "[1e-06, 300]"]),
        (lambda: chebyshev(2, 0.1, "x"), TypeError, ["ripple", "x", "[1e-06, 300]"]),
        (lambda: chebyshev(2, 0.1, 1, kind=3), ValueError, ["kind", "3", "1", "2"]),
        (lambda: iir("gauss", 2, 0.1), ValueError, ["'gauss'", "butter", "ellip"]),
        (lambda: iir("cheby1", 2, 0.1), ValueError, ["cheby1 needs `ripple`", "dB"]),
        (lambda: iir("butter", 2, 0.1, ripple=1), ValueError, ["butter has no `ripple`", "1"]),
        (
            lambda: iir("ellip", 2, 0.1, ripple=3, attenuation=2),
            ValueError,
            ["3 dB", "2 dB", "less"],
        ),
        (lambda: from_transfer_function([1], [0, 1]), ValueError, ["begins with 0", "not causal"]),
        (lambda: from_transfer_function([0], [1, 0.5]), ValueError, ["`b`", "0", "no gradient"]),
        (lambda: from_transfer_function([1], [1, -1]), ValueError, ["radius 1;", "leak=0"]),
        (lambda: from_transfer_function([1], [1, -2.5, 1]), ValueError, ["radius 2;"]),
        (lambda: from_transfer_function([1], "x"), TypeError, ["`a`", "'x'"]),
        (lambda: from_transfer_function([np.inf], [1]), ValueError, ["`b`", "finite"]),
        (
            lambda: DeltaSections([[1, 0, 0, 0, 1, 0.5]]),
            ValueError,
            ["higher degree", "not causal", "later steps"],
        ),
        (lambda: DeltaSections([[0, 0, 1, 0, 0, 1]]), ValueError, ["no pole", "FIR"]),
        (lambda: DeltaSections([[0, 0, 1, 0, 1, 0]]), ValueError, ["radius 1;", "leak=0"]),
        (lambda: DeltaSections([[0, 0, 1, 0, 1, 3]]), ValueError, ["radius 2;"]),
        (lambda: DeltaSections([1, 2]), ValueError, ["(2,)", "(sections, 6)", "butterworth"]),
        (
            lambda: SecondOrderSections([[1, 0, 0, 0, 1, 0]]),
            ValueError,
            ["a0", "not 0", "not causal"],
        ),
    ],
)  # fmt: skip
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


def test_a_design_is_a_value():
    f = butterworth(2, 1e-5)
    assert f == butterworth(2, 1e-5) != butterworth(2, 2e-5)
    assert filters.DeltaSections.from_config(f.get_config()) == f
