"""Gradient filters: what a binary weight remembers of its gradients.

| filter | recursion | latent counterpart |
|---|---|---|
| ``EMA(alpha)`` | ``y += alpha (x - y)`` | weight decay; Bop |
| ``CascadedEMA(alpha=, gamma=)`` | two EMAs in series | weight decay and momentum; the default |
| ``LeakyIntegrator(gain, leak)`` | ``y += gain x - leak y`` | Keras' velocity, scheduled rates |
| ``HeavyBall(gain=, leak=)`` | ``u += gain (x - y) - leak u``, ``y += u`` | L2 and momentum |
| ``SecondOrderSections(sos)`` | any design of ``scipy.signal``, fixed | |
| ``butterworth``, ``chebyshev``, ``bessel``, ``iir`` | designs by cutoff, as ``DeltaSections`` | |
| ``FIR(taps)``, ``moving_average(length)``, ``MA`` | ``y = sum_i taps[i] x_{t-i}`` | |
| ``AR(coefficients)`` | ``y = x + sum_i b_i y_{t-i}`` | momentum, as Keras' velocity, for one b |
| ``Kalman(...)`` | ``y += K (x - y)``, K by the step | |
| ``Cascade([...])`` | any filters in series | |
| ``Parallel([...], gains)``, ``ademamix`` | any filters side by side | |
| ``NormalizedEMA(alpha=, sigma=)`` | ``EMA(x) / sqrt(EMA(x^2))``, not linear | Adam; Bop2ndOrder |
| ``Limiter(level)`` | ``level sign(x)``, not linear | |
| ``ResettingIntegrator(gain, leak)`` | a sum, 0 again at each flip, not linear | |

A new filter is a class beside its kin: ``averages``, ``integrators``, ``direct`` (FIR, MA, AR),
``sections``, ``kalman``, ``composition``, ``nonlinear``. ``Filter`` in ``_base`` says what it is.
A new design by cutoff is a function in ``designs``.
Then it is exported here and added to ``tests/helpers/examples_of_rules.py``. ``designs`` compute
coefficients for ``delta``; all other modules are numerics.
"""

from larq_filter._validation import (
    POSITIVE,
    UNIT,
    UP_TO_ONE,
    Interval,
    Rate,
    is_number,
    is_schedule,
    shown,
    validate_rate,
)
from larq_filter.filters._base import Filter, Value, described
from larq_filter.filters.averages import EMA, CascadedEMA
from larq_filter.filters.composition import Cascade, Parallel, ademamix
from larq_filter.filters.delta import DeltaSections
from larq_filter.filters.designs import (
    bessel,
    butterworth,
    chebyshev,
    from_transfer_function,
    iir,
)
from larq_filter.filters.direct import AR, FIR, MA, moving_average
from larq_filter.filters.integrators import LeakyIntegrator
from larq_filter.filters.kalman import Kalman
from larq_filter.filters.nonlinear import Limiter, NormalizedEMA, ResettingIntegrator
from larq_filter.filters.probing import odd_states, stays_finite
from larq_filter.filters.sections import HeavyBall, SecondOrderSections

__all__ = [
    "AR",
    "EMA",
    "FIR",
    "MA",
    "POSITIVE",
    "UNIT",
    "UP_TO_ONE",
    "Cascade",
    "CascadedEMA",
    "DeltaSections",
    "Filter",
    "HeavyBall",
    "Interval",
    "Kalman",
    "LeakyIntegrator",
    "Limiter",
    "NormalizedEMA",
    "Parallel",
    "Rate",
    "ResettingIntegrator",
    "SecondOrderSections",
    "Value",
    "described",
    "ademamix",
    "bessel",
    "butterworth",
    "chebyshev",
    "from_transfer_function",
    "iir",
    "is_number",
    "is_schedule",
    "moving_average",
    "odd_states",
    "shown",
    "stays_finite",
    "validate_rate",
]
