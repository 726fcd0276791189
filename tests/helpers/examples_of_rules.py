"""Filters and flip rules of every kind, for tests that run over all of them."""

import numpy as np
from scipy import signal

from larq_filter import filters, flips
from larq_filter._keras import keras
from larq_filter.filters import (
    AR,
    EMA,
    FIR,
    MA,
    Cascade,
    Kalman,
    Limiter,
    NormalizedEMA,
    Parallel,
    ResettingIntegrator,
)

schedules = keras.optimizers.schedules
TAPS = signal.firwin(17, 0.1, fs=1.0)


def parallel_of(pairs, gains):
    """Numerator and denominator of a weighted sum of ``(b, a)``."""
    below = np.ones(1)
    for _, a in pairs:
        below = np.polymul(below, a)
    above = np.zeros(1)
    for index, ((b, _), gain) in enumerate(zip(pairs, gains, strict=True)):
        for other, (_, a) in enumerate(pairs):
            b = np.polymul(b, a) if other != index else b
        above = np.pad(above, (0, max(0, len(b) - len(above))))
        above[: len(b)] += gain * np.asarray(b)  # powers of z^-1: aligned at the newest
    return above, below


# The filter, and b and a of the same as scipy.signal.lfilter takes them.
FIXED = {
    "fir 1": (FIR([0.5]), [0.5], [1]),
    "fir 2": (FIR([0.25, -1.0]), [0.25, -1.0], [1]),
    "fir delay": (FIR([0, 0, 0, 2.0]), [0, 0, 0, 2.0], [1]),
    "firwin": (FIR(TAPS), TAPS, [1]),
    "moving average": (filters.moving_average(12), np.full(12, 1 / 12), [1]),
    "ma": (MA([0.5, 0.25]), [1, 0.5, 0.25], [1]),
    "ar 1": (AR([0.9]), [1], [1, -0.9]),
    "ar 2": (AR([0.8, 0.1]), [1], [1, -0.8, -0.1]),
    "ar 3": (AR([0.5, -0.3, 0.2]), [1], [1, -0.5, 0.3, -0.2]),
    "delta": (
        filters.DeltaSections([[0, 0.2, 0.1, 0, 1, 0.1], [0.5, 0.5, 0.25, 1, 0.5, 0.125]]),
        np.polymul([0.2, -0.1], [0.5, -0.5, 0.25]),
        np.polymul([1, -0.9], [1, -1.5, 0.625]),
    ),
    "butterworth": (
        filters.butterworth(3, 0.05, compensated=True),
        *signal.butter(3, 0.05, fs=1.0),
    ),
    "chebyshev": (filters.chebyshev(2, 0.1, 1.0), *signal.cheby1(2, 1.0, 0.1, fs=1.0)),
    "from tf": (filters.from_transfer_function([0, 1, 2], [2, -1]), [0, 0.5, 1], [1, -0.5]),
    "parallel": (filters.ademamix(0.2, 0.01), *parallel_of(
        [([0.2], [1, -0.8]), ([0.01], [1, -0.99])], [1, 5]
    )),
    "parallel of kinds": (
        Parallel([AR([0.5]), FIR([1, 2, 3]), Cascade([EMA(0.5), EMA(0.25)])], [0.5, -1.0, 2.0]),
        *parallel_of(
            [([1], [1, -0.5]), ([1, 2, 3], [1]), ([0.125], np.polymul([1, -0.5], [1, -0.75]))],
            [0.5, -1.0, 2.0],
        ),
    ),
    "cascade": (
        Cascade([FIR([0.5, 0.5]), Parallel([EMA(0.1), AR([0.5])], [1, 0.5]), AR([0.3])]),
        *(
            np.polymul(first, second)
            for first, second in zip(
                parallel_of([([0.1], [1, -0.9]), ([1], [1, -0.5])], [1, 0.5]),
                ([0.5, 0.5], [1, -0.3]),
                strict=True,
            )
        ),
    ),
}  # fmt: skip
LINEAR = {name: f for name, (f, _, _) in FIXED.items()} | {
    "kalman": Kalman(),
    "kalman walk": Kalman(0.01, 1.0, 1.0, 1.0),
    "kalman in a cascade": Cascade([EMA(0.5), Kalman(0.1, 1.0, 0.9)]),
    "kalman in parallel": Parallel([EMA(0.5), Kalman(0.1, 1.0, 0.9)], [1, 2]),
}

NONLINEAR = [
    NormalizedEMA(alpha=0.1, sigma=0.3),
    NormalizedEMA(alpha=1.0, sigma=1.0),
    NormalizedEMA(alpha=1e-7, sigma=0.1),
    NormalizedEMA(alpha=1e-2, sigma=1e-3, bias_correction=True),
    NormalizedEMA(
        alpha=schedules.PolynomialDecay(0.1, 40, 0.0),
        sigma=schedules.PolynomialDecay(0.0, 40, 0.1),
        bias_correction=True,
        compensated=True,
    ),
    Limiter(),
    Limiter(schedules.PolynomialDecay(0.5, 40, 0.1)),
    ResettingIntegrator(2.0),
    ResettingIntegrator(0.5, leak=0.0),
    ResettingIntegrator(0.5, leak=schedules.PolynomialDecay(0.5, 40, 0.0)),
    Cascade([EMA(0.1), Limiter(1e-4), ResettingIntegrator(1.0), NormalizedEMA(alpha=0.1, sigma=1)]),
]

RULES = [
    flips.Sign(),
    flips.Threshold(1e-8),
    flips.Threshold(schedules.PolynomialDecay(0.5, 40, 0.1)),
    flips.GrowingThreshold(0.1),
    flips.Hysteresis(0.1),
    flips.Fire(0.5),
    flips.Probabilistic(0.7, 0.5),
    flips.Probabilistic(
        0.1, schedules.ExponentialDecay(0.5, 9, 0.5, staircase=True), count_flips=True, seed=4
    ),
    flips.Stochastic(0.2),
    flips.Stochastic(schedules.PolynomialDecay(0.5, 40, 0.1), seed=4),
    flips.Balanced(),
]
