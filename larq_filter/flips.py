"""Flip rules: when the filtered gradient turns a binary weight over.

A positive signal says that the loss falls when the weight falls. So a weight of +1 with a positive
signal, or of -1 with a negative one, is wrong: ``weight * signal > 0``. A signal of zero says
nothing and never flips.

Like a filter a flip rule is a frozen value with one pure function; what it remembers per weight
goes in and comes out as a tuple of arrays.
"""

import dataclasses
import math
from typing import Any

from larq_filter.filters import Interval, Rate, Value, validate_rate


class FlipRule(Value):
    """Decides from a weight and its signal whether the weight flips."""

    @property
    def state_size(self) -> int:
        """State arrays per weight."""
        return 0

    def flip(self, weight, signal, state: tuple, rates: dict, xp) -> tuple[Any, tuple]:
        """``flipped, state = flip(weight, signal, state, rates, xp)``.

        Args:
            weight: -1 or +1, an array or tensor of any shape.
            signal: the filter's output, same shape.
            state: ``state_size`` arrays of that shape.
            rates: this step's number for every name in ``rates()``.
            xp: ``numpy`` or ``tensorflow``, whichever ``weight`` belongs to.

        Returns:
            A boolean array, true where the weight flips, and the new state.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `flip`.")


@dataclasses.dataclass(frozen=True, eq=False)
class Sign(FlipRule):
    """The weight follows the sign of the signal.

        flipped = weight * signal > 0

    Any positive factor on the signal is irrelevant. Source: Quist et al., arXiv 2303.02452.
    """

    def flip(self, weight, signal, state, rates, xp):
        return weight * signal > 0, state


@dataclasses.dataclass(frozen=True, eq=False)
class Threshold(FlipRule):
    """The weight flips where the signal against it is strong enough.

        flipped = weight * signal > threshold

    With ``filters.EMA`` this is Bop (Helwegen et al., 2019, arXiv 1906.02107), except that at an
    exact tie Larq's own Bop sends the weight to +1 and this rule leaves it alone.

    Args:
        threshold: in [0, inf), in units of the gradient, or a schedule. 0 is ``Sign``.

    Raises:
        TypeError: threshold is neither a number nor a schedule.
        ValueError: threshold outside its interval.
    """

    threshold: Rate

    def __post_init__(self):
        interval = Interval(0.0, math.inf, high_open=True)
        object.__setattr__(self, "threshold", validate_rate("threshold", self.threshold, interval))

    def rates(self) -> dict[str, Rate]:
        return {"threshold": self.threshold}

    def flip(self, weight, signal, state, rates, xp):
        return weight * signal > rates["threshold"], state
