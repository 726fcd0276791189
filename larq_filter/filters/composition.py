"""Filters made of filters: in series (``Cascade``) and side by side (``Parallel``)."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from larq_filter._validation import Rate, shown, validate_numbers
from larq_filter.filters._base import Filter
from larq_filter.filters.averages import EMA
from larq_filter.filters.transfer import Series, Sum, Transfer

MOST_FILTERS = 256
"""Filters within a filter, at all levels together."""
DEEPEST = 16
"""Filters within a filter within a filter ..."""


class _Composition(Filter):
    """What holds for any filter made of ``parts``; the rates of part i end with ``_i``."""

    _field: str  # the argument that holds the parts

    @property
    def _parts(self) -> tuple[Filter, ...]:
        return getattr(self, self._field)

    def _validate_parts(self) -> None:
        parts, name = self._parts, self._field
        try:
            parts = tuple(itertools.islice(iter(parts), MOST_FILTERS + 1))
        except TypeError as error:
            kind = f"`{name}` must be a list of filters"
            raise TypeError(f"{kind}, not {shown(parts)}.") from error
        for part in parts:
            if not isinstance(part, Filter):
                raise TypeError(
                    f"Every one of `{name}` must be a filter from larq_filter.filters, "
                    f"not {shown(part)}."
                )
        # Known of each part, and not counted again: one filter may stand in several places.
        count = sum(getattr(part, "_count", 1) for part in parts)
        depth = 1 + max((getattr(part, "_depth", 0) for part in parts), default=0)
        if count > MOST_FILTERS or depth > DEEPEST:
            raise ValueError(
                f"`{name}` holds {count} filters, nested {depth} deep; at most {MOST_FILTERS} are "
                f"allowed, at most {DEEPEST} deep. Filters in series need no nesting."
            )
        object.__setattr__(self, "_count", count)
        object.__setattr__(self, "_depth", depth)
        if not parts:
            kind = type(self).__name__
            raise ValueError(f"{kind} needs at least one filter in `{name}`; received none.")
        object.__setattr__(self, name, parts)

    def rates(self) -> dict[str, Rate]:
        return {
            f"{name}_{index}": rate
            for index, part in enumerate(self._parts)
            for name, rate in part.rates().items()
        }

    def with_rate(self, name: str, rate: Rate) -> "Filter":
        self._require_rate(name)
        own, _, index = name.rpartition("_")
        parts = list(self._parts)
        parts[int(index)] = parts[int(index)].with_rate(own, rate)
        return self.replace(**{self._field: parts})

    @property
    def order(self) -> int:
        return sum(part.order for part in self._parts)

    @property
    def state_size(self) -> int:
        return sum(part.state_size for part in self._parts)

    @property
    def is_linear(self) -> bool:
        return all(part.is_linear for part in self._parts)

    def _split(self, state: tuple) -> list[tuple]:
        """The flat state, cut into that of each part."""
        ends = np.cumsum([part.state_size for part in self._parts])
        return [
            state[end - part.state_size : end] for part, end in zip(self._parts, ends, strict=True)
        ]

    def _own(self, index: int, rates: dict) -> dict:
        """The rates of one part, by its own names."""
        return {name: rates[f"{name}_{index}"] for name in self._parts[index].rates()}

    def zero_state(self, like, xp):
        return sum((part.zero_state(like, xp) for part in self._parts), ())

    def feedback(self, state, flipped, xp):
        parts = zip(self._parts, self._split(state), strict=True)
        return sum((part.feedback(own, flipped, xp) for part, own in parts), ())


@dataclasses.dataclass(frozen=True, eq=False)
class Cascade(_Composition):
    """Filters in series: the gradient meets the first one first.

        y = stages[-1](... stages[1](stages[0](x)))

    The rates of stage i are named with its position: ``alpha_0``, ``alpha_1``, ...
    ``Cascade([EMA(gamma), EMA(alpha)])`` is ``CascadedEMA(alpha=alpha, gamma=gamma)``.

    Args:
        stages: one or more filters; at most 256 with those within them, nested at most 16 deep.

    Raises:
        TypeError: something in ``stages`` is not a filter.
        ValueError: no stage, or more than that.
    """

    stages: Sequence[Filter]

    _field = "stages"

    def __post_init__(self):
        self._validate_parts()

    def get_config(self) -> dict:
        return {"stages": list(self.stages)}

    def step(self, x, state, rates, xp):
        new_state = ()
        for index, (stage, part) in enumerate(zip(self.stages, self._split(state), strict=True)):
            x, part = stage.step(x, part, self._own(index, rates), xp)
            new_state += part
        return x, new_state

    def state_from_output(self, output, xp):
        *inner, last = self.stages
        state = sum((stage.zero_state(output, xp) for stage in inner), ())
        return state + last.state_from_output(output, xp)

    def sos(self, step: int = 0) -> np.ndarray:
        return np.concatenate([stage.sos(step) for stage in self.stages])

    def transfer(self, step: int = 0) -> Transfer:
        return Series(tuple(stage.transfer(step) for stage in self.stages))


@dataclasses.dataclass(frozen=True, eq=False)
class Parallel(_Composition):
    """Filters side by side: each meets the gradient, and their signals are added.

        y = sum_i gains[i] * filters[i](x)

    The rates of filter i are named with its position, as in ``Cascade``. What flipped is told to
    all of them. ``ademamix`` is the published example: a fast and a slow memory.

    ``sos`` puts everything over one fraction bar, whose zeros and poles are roots of polynomials of
    all orders together: ten digits for ``ademamix``, none for a ``FIR`` of hundreds of taps. So
    ``analysis`` adds the responses of the filters instead.

    Args:
        filters: one or more filters, as many as in ``Cascade``.
        gains: a finite number for each.

    Raises:
        TypeError: something in ``filters`` is not a filter, ``gains`` are not numbers.
        ValueError: no filter, another number of gains, a gain that is not finite.
    """

    filters: Sequence[Filter]
    gains: Sequence[float]

    _field = "filters"

    def __post_init__(self):
        self._validate_parts()
        gains = validate_numbers("gains", self.gains, "[1.0, 5.0]")
        object.__setattr__(self, "gains", gains)
        if len(gains) != len(self.filters):
            raise ValueError(
                f"`gains` has {len(gains)} numbers for {len(self.filters)} filters; give one each."
            )
        # Now, not when training starts: a schedule has no number inside a TensorFlow graph.
        object.__setattr__(self, "_outputs", self._steady_outputs() if self.is_linear else None)

    def get_config(self) -> dict:
        return {"filters": list(self.filters), "gains": list(self.gains)}

    def step(self, x, state, rates, xp):
        y, new_state = 0.0, ()
        for index, (part, own) in enumerate(zip(self.filters, self._split(state), strict=True)):
            output, own = part.step(x, own, self._own(index, rates), xp)
            y = y + self.gains[index] * output
            new_state += own
        return y, new_state

    def _steady_outputs(self):
        """What each filter gives while the sum is 1 under a constant input; else why there is none.

        Rates as at step 0.
        """
        parts = [part.transfer(0) for part in self.filters]
        endless = [f for f, part in zip(self.filters, parts, strict=True) if part.distance <= 0]
        if endless:
            return f"{endless[0]!r} does not settle under a constant input (rates as at step 0)"
        values = [part.evaluate(np.zeros(1)) for part in parts]
        total = sum(c * value[0] for c, (value, _, _) in zip(self.gains, values, strict=True))
        size = sum(abs(c) * size[0] for c, (_, _, size) in zip(self.gains, values, strict=True))
        if abs(total) <= 1e-14 * size:
            return "its gain at frequency zero is 0, so no constant input gives that output"
        return [float(value[0] / total) for value, _, _ in values]

    def state_from_output(self, output, xp):
        """The state after a constant input that has held the sum at ``output``.

            output of filter i = output * gain_i(0) / sum_j gains[j] * gain_j(0)

        with the gains of the filters at frequency zero, rates as at step 0; each is then started
        from that output in its own way, and from zero if its gain there is 0.

        Raises:
            ValueError: a filter is not linear or does not settle (an accumulator); the gain of the
                sum at frequency zero is 0.
        """
        shares = self._outputs if self.is_linear else "a filter in it is not linear"
        if isinstance(shares, str):
            raise ValueError(
                f"This Parallel can't be started from a given output: {shares}. "
                "Start it from zero, or give that part of it a leak."
            )
        state = ()
        for part, share in zip(self.filters, shares, strict=True):
            started = part.state_from_output(share * output, xp) if share else None
            state += started or part.zero_state(output, xp)
        return state

    def sos(self, step: int = 0) -> np.ndarray:
        return self.transfer(step).sos()

    def transfer(self, step: int = 0) -> Transfer:
        return Sum(tuple(part.transfer(step) for part in self.filters), self.gains)


def ademamix(fast: Rate = 0.1, slow: Rate = 1e-4, gain: float = 5.0) -> Parallel:
    """A fast and a slow average: ``Parallel([EMA(fast), EMA(slow)], [1, gain])``.

    Args:
        fast: alpha of the first average, in (0, 1], or a schedule; 1 - beta_1 of the source.
        slow: alpha of the second, in (0, 1], or a schedule; 1 - beta_3.
        gain: factor on the second, finite; the source's alpha.

    Source: Pagliardini, Ablin and Grangier, "The AdEMAMix optimizer: better, faster, older",
    arXiv 2409.03137, without its division by the root of the squared gradients.
    """
    return Parallel([EMA(fast), EMA(slow)], [1.0, gain])
