"""Gradient filters: what a binary weight remembers of its gradients.

| filter | recursion | latent counterpart |
|---|---|---|
| ``EMA(alpha)`` | ``y += alpha (x - y)`` | weight decay; Bop |
| ``CascadedEMA(alpha=, gamma=)`` | two EMAs in series | weight decay and momentum; the default |
| ``LeakyIntegrator(gain, leak)`` | ``y += gain x - leak y`` | Keras' velocity, scheduled rates |
| ``Cascade([...])`` | any filters in series | |
"""

from larq_filter.filters._base import Filter, Interval, Rate, Value, is_schedule, validate_rate
from larq_filter.filters.averages import EMA, CascadedEMA
from larq_filter.filters.composition import Cascade
from larq_filter.filters.integrators import LeakyIntegrator

__all__ = [
    "EMA",
    "Cascade",
    "CascadedEMA",
    "Filter",
    "Interval",
    "LeakyIntegrator",
    "Rate",
    "Value",
    "is_schedule",
    "validate_rate",
]
