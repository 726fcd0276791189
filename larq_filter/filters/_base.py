"""What every gradient filter is: a frozen value with one pure step.

A filter turns the gradients of one binary weight into a signal; a flip rule (``larq_filter.flips``)
reads the signal. The filter itself holds no arrays: its memory, a tuple of arrays shaped like the
kernel, goes into ``step`` and comes out of it. So the same object runs on float64 NumPy arrays, is
analysed by SciPy, and trains a network inside a TensorFlow graph.

The numbers of a filter that may change during training are its *rates* (``EMA.alpha``). A rate is a
number or a Keras schedule; whoever steps the filter evaluates it and passes the number of this
step, so ``step`` itself never knows what time it is.

Chosen over the obvious alternative, classes that create and assign ``tf.Variable``s: such a class
can't be run in float64, drawn, or compared with SciPy without a second copy of its formula.
"""

import dataclasses
import math
import numbers
import reprlib
from typing import Any

import numpy as np

from larq_filter.filters.transfer import Transfer, from_sos

Rate = Any
"""A number, or a schedule: an object called with the step that has ``get_config`` (as Keras')."""


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


class Value:
    """A frozen dataclass that is its config: round trip, equality and hash go through it."""

    def rates(self) -> dict[str, Rate]:
        """The numbers that may change during training: name to number or schedule."""
        return {}

    def rates_at(self, step: int) -> dict[str, float]:
        """The rates at ``step`` (counted from 0), schedules evaluated, as Python floats."""
        return {
            name: float(rate(step)) if is_schedule(rate) else rate
            for name, rate in self.rates().items()
        }

    def with_rate(self, name: str, rate: Rate) -> "Value":
        """Returns a copy with one rate replaced, validated like a new one."""
        return self.replace(**{name: rate})

    def intervals_of(self, name: str) -> list["Interval"]:
        """What a rate is checked by in the constructor, found by checking one."""
        probe = Probe(self.rates_at(0)[name])
        try:
            self.with_rate(name, probe)
        except (TypeError, ValueError):  # a filter of one's own may take no schedule
            return []
        return probe.intervals

    def get_config(self) -> dict:
        """Returns the constructor's arguments, as objects; Keras serialises nested ones."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict) -> "Value":
        """Rebuilds the value from ``get_config`` or from what Keras' serialisation made of it."""
        _require_config(cls, config)
        return cls(**{name: _revive(item) for name, item in config.items()})

    def replace(self, **changes) -> "Value":
        """Returns a copy with other arguments, validated like a new one."""
        return type(self)(**{**self.get_config(), **changes})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _plain(self) == _plain(other)

    def __hash__(self) -> int:
        return hash(repr(_plain(self)))


def _require_config(cls, config) -> None:
    """Raises unless ``config`` is a dict of the arguments of ``cls``."""
    kind = f"The config of {cls.__name__}"
    if not isinstance(config, dict):
        raise TypeError(f"{kind} must be a dict as get_config gives it, not {shown(config)}.")
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    unknown = [name for name in config if name not in known]
    missing = [
        field.name
        for field in dataclasses.fields(cls)
        if field.name in known
        and field.name not in config
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if unknown or missing:
        raise ValueError(
            f"{kind} takes {', '.join(known) or 'nothing'}; "
            + (f"received {', '.join(map(shown, unknown))}." if unknown else "")
            + (f" without {', '.join(missing)}." if missing else "")
        )


def _revive(item, depth: int = 0):
    """Turns a dict that Keras' serialisation made into its object, lists item by item."""
    if isinstance(item, list | tuple):
        if depth > 8:  # sections are lists in a list
            raise ValueError(f"Lists in a config are nested more than 8 deep: {shown(item)}.")
        return tuple(_revive(entry, depth + 1) for entry in item)
    if isinstance(item, dict) and "class_name" in item:
        from larq_filter.saved_models import revive  # only a saved schedule or stage needs Keras

        return revive(item, "The config")
    return item


def _plain(item):
    """A value or schedule as nested tuples of class and config, which compare by content."""
    if hasattr(item, "get_config"):
        config = sorted(item.get_config().items())
        return (type(item), tuple((name, _plain(entry)) for name, entry in config))
    if isinstance(item, list | tuple):
        return tuple(_plain(entry) for entry in item)
    if isinstance(item, dict):
        return tuple((name, _plain(entry)) for name, entry in sorted(item.items()))
    if isinstance(item, np.ndarray):
        return (item.shape, tuple(item.ravel().tolist()))
    return item


class Filter(Value):
    """A gradient filter: gradients in, signal out, one value per weight and step.

    A subclass is a frozen dataclass (``eq=False``) that gives ``rates``, ``order``, ``step`` and,
    if it is linear, ``sos``. See ``larq_filter/filters/averages.py`` for the shortest example.
    """

    @property
    def order(self) -> int:
        """Number of poles: how many past values the recursion remembers."""
        raise NotImplementedError(f"{type(self).__name__} must define `order`.")

    @property
    def state_size(self) -> int:
        """State arrays per weight: the order, plus one for each compensated stage."""
        return self.order

    def step(self, x, state: tuple, rates: dict, xp) -> tuple[Any, tuple]:
        """One step: ``y, state = step(x, state, rates, xp)``.

        Args:
            x: gradients, an array or tensor of any shape.
            state: ``state_size`` arrays, as ``zero_state`` gave them or an earlier step.
            rates: this step's number for every name in ``rates()``.
            xp: ``numpy`` or ``tensorflow``, whichever ``x`` belongs to.

        Returns:
            The signal, shaped like ``x``, and the new state. Nothing is changed in place.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `step`.")

    def zero_state(self, like, xp) -> tuple:
        """The state of a filter that has seen nothing.

        Zeros shaped like ``like``, unless a filter says otherwise: a memory that all weights of a
        kernel share is a scalar, and a variance may start above zero.
        """
        return tuple(xp.zeros_like(like) for _ in range(self.state_size))

    def state_from_output(self, output, xp) -> tuple:
        """A state whose last output was ``output`` (warm start); inner stages start at zero."""
        raise ValueError(
            f"{type(self).__name__} can't be started from a given output. "
            "Start it from zero, or use a linear filter such as CascadedEMA."
        )

    def feedback(self, state: tuple, flipped, xp) -> tuple:
        """The state after the flip rule decided; ``flipped`` is a boolean array. Default: same."""
        return state

    def sos(self, step: int = 0) -> np.ndarray:
        """SciPy's second-order sections, float64 of shape ``(sections, 6)``, rates as at ``step``.

        Raises:
            ValueError: the filter is not linear.
        """
        raise ValueError(
            f"{type(self).__name__} is not linear, so it has no second-order sections "
            "and no frequency response."
        )

    def transfer(self, step: int = 0) -> Transfer:
        """The transfer function that ``analysis`` reads; from ``sos`` unless a filter knows better.

        Raises:
            ValueError: the filter is not linear.
        """
        return from_sos(self.sos(step))

    @property
    def is_linear(self) -> bool:
        """Whether the filter has second-order sections."""
        return type(self).sos is not Filter.sos

    def run(self, x, state: tuple | None = None, first_step: int = 0) -> tuple[np.ndarray, tuple]:
        """Filters a recorded sequence in NumPy, like ``scipy.signal.sosfilt`` with schedules.

        Args:
            x: gradients of shape ``(steps, ...)``; floats keep their dtype, integers become
                float64.
            state: where an earlier call stopped, or None for zeros.
            first_step: the step that ``x[0]`` belongs to; schedules count from it.

        Returns:
            The signal, shaped like ``x``, and the state to go on from.
        """
        x = np.asarray(x)
        x = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64)
        if state is None:
            state = self.zero_state(x[0] if len(x) else np.zeros(x.shape[1:], x.dtype), np)
        y = np.empty_like(x)
        for index, gradient in enumerate(x):
            rates = {k: x.dtype.type(v) for k, v in self.rates_at(first_step + index).items()}
            y[index], state = self.step(gradient, state, rates, np)
        return y, state


POSITIVE = Interval(0.0, math.inf, low_open=True, high_open=True)
UP_TO_ONE = Interval(0.0, 1.0, low_open=True)
UNIT = Interval(0.0, 1.0)
