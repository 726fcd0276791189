"""Flip rules: when the filtered gradient turns a binary weight over.

A positive signal says that the loss falls when the weight falls. So a weight of +1 with a positive
signal, or of -1 with a negative one, is wrong: ``weight * signal > 0``. A signal of zero says
nothing and never flips.

Like a filter a flip rule is a frozen value with one pure function; what it remembers per weight
goes in and comes out as a tuple of arrays.
"""

import dataclasses
import math
from typing import Any, ClassVar

from larq_filter.filters import Interval, Rate, Value, validate_rate


class FlipRule(Value):
    """Decides from a weight and its signal whether the weight flips.

    What a rule needs beyond these two it names in ``inputs``, and whoever steps it puts the arrays
    among the rates: ``"gradient"``, the gradient before the filter, and ``"uniform"``, random
    numbers in [0, 1), new at each step and shaped like the kernel. So ``flip`` stays a pure
    function even where it is random. A rule with ``"uniform"`` has a ``seed``, an integer: the
    numbers depend on seed, kernel and step only, and a resumed training draws the same.
    """

    inputs: ClassVar[tuple[str, ...]] = ()

    @property
    def state_size(self) -> int:
        """State arrays per weight."""
        return 0

    def zero_state(self, like, xp) -> tuple:
        """The state of a rule that has seen nothing: zeros shaped like ``like`` by default."""
        return tuple(xp.zeros_like(like) for _ in range(self.state_size))

    def flip(self, weight, signal, state: tuple, rates: dict, xp) -> tuple[Any, tuple]:
        """``flipped, state = flip(weight, signal, state, rates, xp)``.

        Args:
            weight: -1 or +1, an array or tensor of any shape.
            signal: the filter's output, same shape.
            state: ``state_size`` arrays, as ``zero_state`` gave them or an earlier step.
            rates: this step's number for every name in ``rates()``, and the array for every name
                in ``inputs``.
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
