"""Checks of numbers and flags, and the words of their errors: received, allowed, how to mend it.

validate_rate        a number or a schedule
validate_constant    a number that no schedule may stand for, of a size that float32 holds
validate_number, validate_integer, validate_seed, validate_text, validate_flag, validate_choice
validate_numbers
"""

import dataclasses
import math
import numbers
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np


class Schedule(Protocol):
    """What gives a rate at each step, as ``tf.keras.optimizers.schedules`` have it."""

    def __call__(self, step: Any) -> Any: ...

    def get_config(self) -> dict[str, Any]: ...


Rate = float | Schedule
"""A number, or a schedule."""


SMALLEST, LARGEST = 1.2e-38, 3.4e38
"""Sizes of the numbers that float32 holds with all their digits."""

_SHOWN = reprlib.Repr()
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = _SHOWN.maxset = 12
_SHOWN.maxstring = _SHOWN.maxother = 200


def shown(value) -> str:
    """``repr`` of what was received, no longer than people read: for the text of an error."""
    try:
        return _SHOWN.repr(value)
    except Exception:  # Python prints no integer of 5,000 digits, and a class may print nothing
        return f"a {type(value).__name__} that can't be printed"


def first_line(error: Exception) -> str:
    """What an error says in its first line; the name of its class if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def last_line(error: Exception) -> str:
    """What an error says in its last line, where errors of several lines have their reason."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def is_number(value) -> bool:
    """Whether ``value`` is a real number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def as_float(number: numbers.Real) -> float:
    """``float(number)``; inf for what is beyond all floats, which no interval of rates holds."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def is_schedule(rate: Rate) -> bool:
    """Whether ``rate`` is a schedule, as ``tf.keras.optimizers.schedules`` has them."""
    return callable(rate) and hasattr(rate, "get_config") and not isinstance(rate, type)


def validate_rate(name: str, rate: Rate, interval: "Interval") -> Rate:
    """Returns ``rate`` as a float, or unchanged if it is a schedule that starts in ``interval``.

    Raises:
        TypeError: neither a real number nor a schedule.
        ValueError: a number, or the value of a schedule at step 0, outside ``interval`` or of a
            size that float32, in which filters train, does not hold.
    """
    if is_schedule(rate):
        try:
            rate.get_config()
        except NotImplementedError as error:
            raise TypeError(
                f"The schedule {type(rate).__name__} of `{name}` has no get_config of its own, so "
                "it can't be saved with the model: write one, which returns the arguments of its "
                "constructor."
            ) from error
        # A schedule may touch zero, where a constant may not: linear decay ends there.
        try:
            start = float(rate(0))
        except Exception as error:  # whatever a schedule of wrong arguments runs into
            raise ValueError(
                f"The schedule {type(rate).__name__} of `{name}` gives no number at step 0 "
                f"({type(error).__name__}: {error}); it must be one in {interval}."
            ) from error
        if start != 0 and not interval.contains(start):
            raise ValueError(
                f"The schedule {type(rate).__name__} of `{name}` is {start} at step 0; "
                f"it must lie in {interval} (or be 0)."
            )
        if isinstance(rate, Probe):
            rate.intervals.append(interval)
        return rate
    if not is_number(rate):
        raise TypeError(
            f"`{name}` must be a number in {interval} or a schedule from "
            f"tf.keras.optimizers.schedules, not {shown(rate)} ({type(rate).__name__}). "
            "A plain function can't be saved with the model: subclass LearningRateSchedule."
        )
    rate = as_float(rate)
    if not interval.contains(rate):
        raise ValueError(f"`{name}` is {rate}; it must lie in {interval}.")
    too_small = abs(rate) < SMALLEST and not interval.contains(0.0)
    if too_small or LARGEST < abs(rate) < math.inf:
        raise ValueError(
            f"`{name}` is {rate}; filters train in float32, where that is "
            f"{'0' if too_small else 'infinite'}: it holds {SMALLEST:g} to {LARGEST:g}."
        )
    return rate


class Probe:
    """A constant in the clothes of a schedule, which is told by what intervals it is checked."""

    def __init__(self, value: float):
        self.value, self.intervals = value, []

    def __call__(self, step):
        return self.value

    def get_config(self) -> dict:
        return {"value": self.value}


@dataclasses.dataclass(frozen=True)
class Interval:
    """A set of allowed numbers, open or closed at each end; prints as in mathematics."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def contains(self, value: float) -> bool:
        """Whether ``value`` is allowed; NaN never is."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = "(" if self.low_open else "["
        high = ")" if self.high_open else "]"
        return f"{low}{self.low:g}, {self.high:g}{high}"


POSITIVE = Interval(0.0, math.inf, low_open=True, high_open=True)
"""(0, inf)."""
NOT_NEGATIVE = Interval(0.0, math.inf, high_open=True)
"""[0, inf)."""
UP_TO_ONE = Interval(0.0, 1.0, low_open=True)
"""(0, 1], where adaptation rates lie."""
BELOW_ONE = Interval(0.0, 1.0, high_open=True)
"""[0, 1), where momentum lies."""
UNIT = Interval(0.0, 1.0)
"""[0, 1]."""


MOST_NUMBERS = 4096
"""Taps of a filter: each is a state array as large as the kernel."""
LARGEST_COEFFICIENT = 1e30
"""In size; float32 holds it and its products with gradients of usual size."""


def validate_number(name: str, value, interval: Interval) -> float:
    """``value`` as a float in ``interval``.

    Raises:
        TypeError: not a real number; a schedule.
        ValueError: outside the interval.
    """
    if not is_number(value):
        raise TypeError(
            f"`{name}` must be a number in {interval}, a constant, not {shown(value)} "
            f"({type(value).__name__})."
        )
    if not interval.contains(as_float(value)):
        raise ValueError(f"`{name}` is {shown(value)}; it must lie in {interval}.")
    return as_float(value)


def validate_constant(name: str, value, interval: Interval) -> float:
    """As ``validate_number``, and of a size that float32 holds, as ``validate_rate`` asks for."""
    return validate_rate(name, validate_number(name, value, interval), interval)


def validate_integer(
    name: str, value, low: int = 1, high: int | None = None, hint: str = ""
) -> int:
    """``value`` as an int in [low, high]; ``hint`` ends the error's text.

    Raises:
        TypeError: not an integer.
        ValueError: outside the interval.
    """
    interval = f"[{low}, inf)" if high is None else f"[{low}, {high}]"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer in {interval}, not {shown(value)}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"`{name}` is {shown(value)}; it must lie in {interval}{hint}.")
    return int(value)


def validate_seed(name: str, value) -> int | None:
    """``value`` as an integer of 32 bits; None stays None.

    Raises:
        TypeError: neither an integer nor None.
        ValueError: more than 32 bits.
    """
    if value is None:
        return None
    return validate_integer(name, value, -(2**31), 2**31 - 1, ", the integers of 32 bits")


def validate_text(name: str, value) -> str:
    """``value`` if it is text.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(value, str):
        raise TypeError(f"`{name}` must be text, not {shown(value)}.")
    return value


def validate_flag(name: str, value) -> bool:
    """``value`` as True or False.

    Raises:
        TypeError: anything else, 0 and 1 included.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, not {shown(value)}.")
    return bool(value)


def validate_choice(name: str, value, choices: Iterable[str]) -> str:
    """``value`` if it is one of the strings ``choices``.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` is {shown(value)}; it must be one of {', '.join(choices)}.")
    return value


def validate_numbers(name: str, values, example: str) -> tuple[float, ...]:
    """``values`` as a tuple of 1 to 4,096 finite floats of at most 1e30 in size.

    Raises:
        TypeError: not a list of real numbers.
        ValueError: empty, too long, not one-dimensional, not finite or too large.
    """
    if isinstance(values, Mapping):
        raise TypeError(
            f"`{name}` must be a list such as {example}, in which position i belongs to the value "
            f"i steps ago, not the dict {shown(values)}. There are no negative positions: a filter "
            "of gradients is causal."
        )
    kind = f"`{name}` must be a list of finite numbers such as {example}"
    if is_schedule(values):
        raise TypeError(f"{kind}, constants, not a schedule. EMA and CascadedEMA take schedules.")
    array = as_numbers(values, kind)
    if array.ndim != 1 or not array.size or not np.all(np.isfinite(array)):
        raise ValueError(f"{kind}; received {shown(values)}.")
    if array.size > MOST_NUMBERS:
        raise ValueError(
            f"`{name}` has {array.size:,} numbers; at most {MOST_NUMBERS:,} are allowed: each is "
            "an array as large as the kernel. An average of any memory is EMA(1/length)."
        )
    if np.any(np.abs(array) > LARGEST_COEFFICIENT):
        raise ValueError(f"{kind} of at most {LARGEST_COEFFICIENT:g}; received {shown(values)}.")
    return tuple(array.tolist())


def as_numbers(values, kind: str) -> np.ndarray:
    """``values`` as a float64 array of any shape.

    Args:
        values: nested lists of numbers, or an array.
        kind: the beginning of the error's text.

    Raises:
        TypeError: strings, truth values, complex numbers, anything else that is no number.
    """
    try:
        array = np.asarray(values)
        if array.dtype == object:  # Python integers beyond 2^63, fractions, None, and much else
            if not all(map(is_number, array.ravel())):
                raise TypeError("not all of it are numbers")
            flat = [as_float(value) for value in array.ravel()]
            return np.array(flat, np.float64).reshape(array.shape)
        if array.dtype.kind not in "iuf" and array.size:
            raise TypeError(f"it is of type {array.dtype}")
        if not isinstance(values, np.ndarray) and array.size and _holds_flags(values):
            raise TypeError("True and False are no numbers")
        return np.array(array, np.float64)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{kind}, not {shown(values)}.") from error


def _holds_flags(values) -> bool:
    """Whether there is a truth value in nested lists of numbers, which NumPy takes for 0 or 1."""
    if isinstance(values, list | tuple):
        return any(_holds_flags(value) for value in values)
    return isinstance(values, bool | np.bool_)


def one_minus(x: float) -> float:
    """``1 - x`` to 15 decimals: 0.1 for 0.9, where floats give 0.09999999999999998."""
    return round(1 - x, 15) or 1 - x
