"""Checks of constants: numbers that no schedule may stand for."""

import numbers

import numpy as np

from larq_filter.filters._base import Interval, is_schedule


def validate_number(name: str, value, interval: Interval) -> float:
    """``value`` as a float in ``interval``.

    Raises:
        TypeError: not a real number; a schedule.
        ValueError: outside the interval.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be a number in {interval}, a constant, not {value!r} "
            f"({type(value).__name__})."
        )
    if not interval.contains(float(value)):
        raise ValueError(f"`{name}` is {value}; it must lie in {interval}.")
    return float(value)


def validate_count(name: str, value, highest: int | None = None) -> int:
    """``value`` as an int of at least 1.

    Raises:
        TypeError: not an integer.
        ValueError: below 1 or above ``highest``.
    """
    interval = "[1, inf)" if highest is None else f"[1, {highest}]"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer in {interval}, not {value!r}.")
    if value < 1 or (highest is not None and value > highest):
        raise ValueError(f"`{name}` is {value}; it must lie in {interval}.")
    return int(value)


def validate_numbers(name: str, values, example: str) -> tuple[float, ...]:
    """``values`` as a tuple of one or more finite floats.

    Raises:
        TypeError: not a list of real numbers.
        ValueError: empty, not one-dimensional, or not finite.
    """
    if isinstance(values, dict):
        raise TypeError(
            f"`{name}` must be a list such as {example}, in which position i belongs to the value "
            f"i steps ago, not the dict {values!r}. There are no negative positions: a filter of "
            "gradients is causal."
        )
    kind = f"`{name}` must be a list of finite numbers such as {example}"
    if is_schedule(values):
        raise TypeError(f"{kind}, constants, not a schedule. EMA and CascadedEMA take schedules.")
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{kind}, not {values!r}.") from error
    if array.ndim != 1 or not array.size or not np.all(np.isfinite(array)):
        raise ValueError(f"{kind}; received {values!r}.")
    return tuple(array.tolist())
