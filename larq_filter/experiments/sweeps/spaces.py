"""Search spaces: for each knob an interval or a list of choices.

The grammar of a space on the command line, items separated by commas:

    alpha=1e-4:1e-1:log                an interval on a logarithmic scale
    momentum=0.5:0.99:linear           an interval on a linear scale
    alpha_schedule=linear|cosine       choices

Without ``:log`` or ``:linear`` an interval is logarithmic if it begins above 0. Whole-number knobs
give whole numbers.

Where the user gives no interval, a knob is searched around the default of the method, which is the
published value, by the factor in ``FACTORS`` to both sides. So each method is searched around its
own recipe, and equally far.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from larq_filter.experiments import methods
from larq_filter.experiments.methods.knobs import SCHEDULES, Knobs
from larq_filter.filters import shown

# How far a knob is searched from its default to both sides, on a logarithmic scale.
FACTORS = {
    "alpha": 30.0,
    "alpha_halving_steps": 10.0,
    "gamma": 10.0,
    "sigma": 30.0,
    "threshold": 100.0,
    "gain": 30.0,
    "leak": 30.0,
    "hysteresis": 30.0,
    "learning_rate": 10.0,
    "kernel_learning_rate": 10.0,
    "weight_decay": 30.0,
    "weight_clip": 4.0,
}
# The centre for methods whose default is None or 0: memory of FilterOptimizer's own schedule,
# Helwegen et al. 2019, weight decay of common recipes, Larq's clip.
CENTRES = {"alpha_halving_steps": 100, "threshold": 1e-8, "weight_decay": 1e-4, "weight_clip": 1.0}
# Knobs for which a factor says nothing.
INTERVALS = {"momentum": (0.0, 0.99), "probability_decay": (0.01, 1.0)}

GRAMMAR = (
    "A space is a list KNOB=LOW:HIGH, KNOB=LOW:HIGH:log, KNOB=LOW:HIGH:linear or "
    "KNOB=CHOICE|CHOICE, separated by commas: alpha=1e-4:1e-1:log,alpha_schedule=linear|cosine"
)


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included."""

    low: float
    high: float
    log: bool = True
    whole: bool = False

    def __str__(self):
        return f"{self.low:g}:{self.high:g}:{'log' if self.log else 'linear'}"

    def legible(self, value: float) -> float | int:
        """The value with four significant digits, within the interval: one that people can type."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.4g}"), self.low), self.high)


@dataclasses.dataclass(frozen=True)
class Choices:
    """One of several values."""

    values: tuple

    def __str__(self):
        return "|".join(map(str, self.values))


def build(
    method: str,
    knobs: Iterable[str] | None = None,
    space: str = "",
    fixed: Knobs | None = None,
) -> dict[str, Range | Choices]:
    """The search space of a method, knob by knob.

    Args:
        method: a name from ``methods.METHODS``.
        knobs: the knobs to search. None: ``searchable(method)`` and those of ``space``, without
            those of ``fixed``.
        space: intervals and choices in place of the default ones, in the grammar of this module.
        fixed: knobs that are not searched.

    Raises:
        ValueError: unknown method, a knob that it does not read or that is both searched and
            fixed, an interval that leaves the knob's own, nothing to search.
    """
    fixed = Knobs() if fixed is None else fixed
    methods.resolve(method, fixed)
    known = _fields(method)
    given = _parse(space, method, known)
    if knobs is None:
        left_out = [*fixed.given(), *(["learning_rate"] if fixed.rest == "same" else [])]
        names = [n for n in dict.fromkeys([*searchable(method), *given]) if n not in left_out]
    else:
        names = list(dict.fromkeys(knobs))
        for name in names:
            _require(name, method, known)
        for name in given:
            if name not in names:
                raise ValueError(f"The space names {name}, which is not among the knobs to search.")
    both = sorted({*names, *given} & set(fixed.given()))
    if both:
        raise ValueError(
            f"{', '.join(both)} can't be both searched and fixed; drop one of the two."
        )
    if not names:
        raise ValueError(
            f"There is nothing to search for {method}; name some of {', '.join(known)}."
        )
    return {name: given.get(name) or _default(method, name, known[name]) for name in names}


def searchable(method: str) -> list[str]:
    """The knobs searched by default: the numbers the method's recipe uses, and a schedule.

    A number that is 0 or absent in the recipe is left so: what it switches off stays off. The
    schedule is that of the binary kernels' rate: of alpha, without alpha of the learning rate.
    """
    defaults = methods.METHODS[method].knobs
    fields = _fields(method)
    numbers = [name for name in fields if fields[name]["kind"] is float and defaults[name]]
    schedules = [n for n in ("alpha_schedule", "learning_rate_schedule") if n in fields]
    return numbers + schedules[:1]


def parse_fixed(text: str, method: str) -> Knobs:
    """Knobs from ``alpha=0.01,alpha_schedule=cosine``.

    Raises:
        ValueError: not of that form, or a knob or value that the method does not take.
    """
    known, values = _fields(method), {}
    for name, value in _items(text, "Fixed knobs are a list KNOB=VALUE: learning_rate=0.01"):
        _require(name, method, known)
        values[name] = _value(name, value, known[name]["kind"])
    knobs = Knobs(**values)
    methods.resolve(method, knobs)
    return knobs


def _fields(method: str) -> dict[str, dict]:
    """Metadata of the knobs that a method reads."""
    methods.resolve(method, Knobs())  # it says which methods there are
    reads = methods.METHODS[method].knobs
    return {f.name: f.metadata for f in dataclasses.fields(Knobs) if f.name in reads}


def _require(name: str, method: str, known: dict) -> None:
    if name not in known:
        raise ValueError(
            f"The method {method} has no knob {shown(name)} to search; it reads {', '.join(known)}."
        )


def _items(text: str, grammar: str):
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not (name and equals and value):
            raise ValueError(f"{shown(item)} can't be read. {grammar}")
        yield name, value


def _parse(text: str, method: str, known: dict) -> dict[str, Range | Choices]:
    space = {}
    for name, value in _items(text, GRAMMAR):
        _require(name, method, known)
        if name in space:
            raise ValueError(f"The space names {name} twice.")
        kind = known[name]["kind"]
        if ":" in value and kind is not str:
            space[name] = _range(name, value, kind)
        else:
            values = tuple(_value(name, v.strip(), kind) for v in value.split("|"))
            if len(set(values)) < 2:
                raise ValueError(f"{name}={value} leaves nothing to search: fix it. {GRAMMAR}")
            space[name] = Choices(values)
            for each in values:
                Knobs(**{name: each})
    return space


def _range(name: str, text: str, kind: type) -> Range:
    low, high, *scale = (part.strip() for part in text.split(":"))
    low, high = _value(name, low, kind), _value(name, high, kind)
    if scale not in ([], ["log"], ["linear"]):
        raise ValueError(f"{name}={text} can't be read. {GRAMMAR}")
    log = scale == ["log"] or (not scale and low > 0)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name}={text} is no interval: LOW must be below HIGH, both finite.")
    if log and low <= 0:
        raise ValueError(f"{name}={text} is logarithmic, so it must begin above 0, not at {low:g}.")
    for end in (low, high):
        Knobs(**{name: end})
    return Range(low, high, log, kind is int)


def _value(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        noun = {int: "whole number", float: "number"}[kind]
        raise ValueError(f"{name} takes a {noun}, not {shown(text)}. {GRAMMAR}") from None


def _default(method: str, name: str, metadata: dict) -> Range | Choices:
    """What is searched for a knob that the user gave no interval for."""
    if name in INTERVALS:
        return Range(*INTERVALS[name], log=False)
    if metadata["choices"]:
        return Choices(SCHEDULES if name.endswith("_schedule") else metadata["choices"])
    if name not in FACTORS:
        raise ValueError(f"{name} has no search space of its own; give one. {GRAMMAR}")
    centre = methods.METHODS[method].knobs[name] or CENTRES.get(name)
    if centre is None:
        raise ValueError(f"{name} is off in {method}, so it has no centre; give a space. {GRAMMAR}")
    interval, factor = metadata["interval"], FACTORS[name]
    high = min(centre * factor, interval.high * (0.99 if interval.high_open else 1.0))
    low, high = (float(f"{end:.3g}") for end in (max(centre / factor, interval.low), high))
    return Range(metadata["kind"](low), metadata["kind"](high), True, metadata["kind"] is int)
