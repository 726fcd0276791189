"""Gradient filters: what a binary weight remembers of its gradients.

| filter | recursion | latent counterpart |
|---|---|---|
| ``EMA(alpha)`` | ``y += alpha (x - y)`` | weight decay; Bop |
| ``CascadedEMA(alpha=, gamma=)`` | two EMAs in series | weight decay and momentum; the default |
| ``LeakyIntegrator(gain, leak)`` | ``y += gain x - leak y`` | Keras' velocity, scheduled rates |
| ``HeavyBall(gain=, leak=)`` | ``u += gain (x - y) - leak u``, ``y += u`` | L2 and momentum |
| ``SecondOrderSections(sos)`` | any design of ``scipy.signal``, fixed | |
| ``Cascade([...])`` | any filters in series | |
"""

from larq_filter.filters._base import (
    UP_TO_ONE,
    Filter,
    Interval,
    Rate,
    Value,
    is_schedule,
    validate_rate,
)
from larq_filter.filters.averages import EMA, CascadedEMA
from larq_filter.filters.composition import Cascade
from larq_filter.filters.integrators import LeakyIntegrator
from larq_filter.filters.sections import HeavyBall, SecondOrderSections

__all__ = [
    "UP_TO_ONE",
    "EMA",
    "Cascade",
    "CascadedEMA",
    "Filter",
    "HeavyBall",
    "Interval",
    "LeakyIntegrator",
    "Rate",
    "SecondOrderSections",
    "Value",
    "is_schedule",
    "validate_rate",
]
