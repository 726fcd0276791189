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
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from larq_filter._validation import (
    Interval,
    Probe,
    Rate,
    as_numbers,
    is_schedule,
    shown,
    validate_integer,
    validate_rate,
)
from larq_filter.filters.transfer import Transfer, from_sos


class Value:
    """A frozen dataclass that is its config: round trip, equality and hash go through it."""

    intervals: ClassVar[Mapping[str, Interval]] = {}
    """The fields that are rates, and the interval that each must lie in."""

    def __post_init__(self):
        for name, interval in self.intervals.items():
            object.__setattr__(self, name, validate_rate(name, getattr(self, name), interval))

    def rates(self) -> dict[str, Rate]:
        """The numbers that may change during training: name to number or schedule."""
        return {name: getattr(self, name) for name in self.intervals}

    def rates_at(self, step: int) -> dict[str, float]:
        """The rates at ``step`` (counted from 0), schedules evaluated, as Python floats."""
        return {
            name: float(rate(step)) if is_schedule(rate) else rate
            for name, rate in self.rates().items()
        }

    def with_rate(self, name: str, rate: Rate) -> "Value":
        """Returns a copy with one rate replaced, validated like a new one.

        Raises:
            ValueError: there is no such rate.
        """
        self._require_rate(name)
        return self.replace(**{name: rate})

    def _require_rate(self, name: str) -> None:
        if name not in self.rates():
            raise ValueError(
                f"{type(self).__name__} has no rate {shown(name)}; it has "
                f"{', '.join(self.rates()) or 'none'}."
            )

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

    def replace(self, **changes: Any) -> "Value":
        """Returns a copy with other arguments, validated like a new one."""
        return type(self)(**{**self.get_config(), **changes})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _plain(self) == _plain(other)

    def __hash__(self) -> int:
        return hash(repr(_plain(self)))


def described(item) -> str:
    """A value as one line of Python, schedules by name and where they start."""
    if is_schedule(item):
        return f"{type(item).__name__}({float(item(0)):.3g}..)"
    if isinstance(item, list | tuple):
        return f"[{', '.join(map(described, item))}]"
    if not isinstance(item, Value):
        return shown(item)
    given = {name: entry for name, entry in item.get_config().items() if entry is not None}
    fields = ", ".join(f"{name}={described(entry)}" for name, entry in given.items())
    return f"{type(item).__name__}({fields})"


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
        from larq_filter.serialization import revive  # only a saved schedule or stage needs Keras

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

    A subclass is a frozen dataclass (``eq=False``) that gives ``intervals`` (or ``rates`` and
    checks of its own), ``order``, ``step`` and, if it is linear, ``sos``. See
    ``larq_filter/filters/averages.py`` for the shortest example.
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

    def run(
        self, x: Any, state: tuple | None = None, first_step: int = 0
    ) -> tuple[np.ndarray, tuple]:
        """Filters a recorded sequence in NumPy, like ``scipy.signal.sosfilt`` with schedules.

        Args:
            x: gradients of shape ``(steps, ...)``; floats keep their dtype, integers become
                float64.
            state: where an earlier call stopped, or None for zeros.
            first_step: the step that ``x[0]`` belongs to; schedules count from it.

        Returns:
            The signal, shaped like ``x``, and the state to go on from.

        Raises:
            TypeError, ValueError: ``x`` holds no numbers or has no steps, ``state`` has another
                number of arrays.
        """
        x = np.asarray(x)
        if x.dtype.kind not in "iufV":  # V: bfloat16
            as_numbers(x, "`x` must hold gradients, one or an array for each step")
        if not x.ndim:
            raise ValueError(f"`x` is {shown(x[()])}; it must have a gradient for each step.")
        validate_integer("first_step", first_step, 0)
        if state is not None and len(state) != self.state_size:
            raise ValueError(
                f"`state` has {len(state)} arrays; that of {type(self).__name__} has "
                f"{self.state_size}."
            )
        x = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64)
        if state is None:
            state = self.zero_state(x[0] if len(x) else np.zeros(x.shape[1:], x.dtype), np)
        y = np.empty_like(x)
        for index, gradient in enumerate(x):
            rates = {k: x.dtype.type(v) for k, v in self.rates_at(first_step + index).items()}
            y[index], state = self.step(gradient, state, rates, np)
        return y, state
