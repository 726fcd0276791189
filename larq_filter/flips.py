"""Flip rules: when the filtered gradient turns a binary weight over.

A positive signal says that the loss falls when the weight falls. So a weight of +1 with a positive
signal, or of -1 with a negative one, is wrong: ``weight * signal > 0``. A signal of zero says
nothing and never flips, but where ``Balanced`` brings a filter into balance.

| rule | flips where | published as |
|---|---|---|
| ``Sign()`` | ``w y > 0`` | Quist |
| ``Threshold(threshold)`` | ``w y > threshold`` | Bop, Bop2ndOrder |
| ``GrowingThreshold(threshold)`` | ``w y > threshold n``, n flips so far | SGDAT |
| ``Hysteresis(eta)`` | ``w y > sqrt(v)``, ``v += eta g^2`` | BOAT |
| ``Fire(level)`` | ``w y >= level`` | BOLD |
| ``Probabilistic(threshold, randomness)`` | surely or by chance, by strength | ProbBop |
| ``Stochastic(rate)`` | by chance, the likelier the larger ``w y`` | DQT |
| ``Balanced()`` | half of each filter is to be +1 | Equal-Bits |

Like a filter a flip rule is a frozen value with one pure function; what it remembers per weight
goes in and comes out as a tuple of arrays.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from larq_filter._validation import (
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    Rate,
    validate_flag,
    validate_seed,
)
from larq_filter.filters import Value
from larq_filter.order_statistics import value_of_rank


class FlipRule(Value):
    """Decides from a weight and its signal whether the weight flips.

    What a rule needs beyond these two it names in ``inputs``, and whoever steps it puts the arrays
    among the rates: ``"gradient"``, the gradient before the filter, and ``"uniform"``, random
    numbers in [0, 1), new at each step and shaped like the kernel. So ``flip`` stays a pure
    function even where it is random. A rule with ``"uniform"`` has a ``seed``, an integer: the
    numbers depend on seed, kernel and step only, and a resumed training draws the same.
    ``gains_from_xla`` says whether the optimizer compiles its updates; for most rules it should.
    """

    inputs: ClassVar[tuple[str, ...]] = ()
    gains_from_xla: ClassVar[bool] = True

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

    def swaps(self, weight, turned, xp):
        """Whose memory each weight goes on with, after somebody has turned some of them over.

        None: its own, that of the opposite gradients for those that were turned. A rule that
        compares weights with each other needs more, or the next step undoes what was set.

        Args:
            weight: -1 or +1 before, an array or tensor of any shape.
            turned: a boolean array, same shape.
            xp: ``numpy`` or ``tensorflow``.

        Returns:
            None, or an array of integers, same shape: the number of that weight in row-major order.
            One that was turned and keeps its own number is mirrored, as above.
        """
        return None


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

    intervals = {"threshold": NOT_NEGATIVE}

    def flip(self, weight, signal, state, rates, xp):
        return weight * signal > rates["threshold"], state


@dataclasses.dataclass(frozen=True, eq=False)
class GrowingThreshold(FlipRule):
    """Each flip of a weight raises the threshold of that weight.

        flipped = weight * signal > threshold * n
        n = n + 1 where flipped

    State: n, the flips of each weight so far, from 0: the first flip is free, as with ``Sign``.

    Args:
        threshold: growth per flip, in [0, inf), in units of the signal, or a schedule. 0 is
            ``Sign``.

    Raises:
        TypeError: threshold is neither a number nor a schedule.
        ValueError: threshold outside its interval.

    Source: SGDAT, Shan et al., "SGDAT: An Optimization Method for Binary Neural Networks", 2023.
    """

    threshold: Rate

    intervals = {"threshold": NOT_NEGATIVE}
    state_size = 1

    def flip(self, weight, signal, state, rates, xp):
        n = state[0]
        flipped = weight * signal > rates["threshold"] * n
        return flipped, (n + _as_numbers(flipped, n, xp),)


@dataclasses.dataclass(frozen=True, eq=False)
class Hysteresis(FlipRule):
    """The signal must exceed a band whose width grows with the energy of the gradients.

        v = v + eta * gradient^2
        flipped = weight * signal > sqrt(v)

    The gradient is the one before the filter, and that of this step counts. Since v only grows,
    training comes to rest by itself unless the signal grows as well.

    State: v, the width squared, from 0.

    Args:
        eta: growth, in [0, inf), in units of the signal squared per gradient squared, or a
            schedule. 0 is ``Sign``.

    Raises:
        TypeError: eta is neither a number nor a schedule.
        ValueError: eta outside its interval.

    Source: BOAT, Shan et al., "BOAT: Binary Optimizer with Adaptive Thresholds", 2025.
    """

    inputs: ClassVar[tuple[str, ...]] = ("gradient",)

    eta: Rate

    intervals = {"eta": NOT_NEGATIVE}
    state_size = 1

    def flip(self, weight, signal, state, rates, xp):
        v = state[0] + rates["eta"] * (rates["gradient"] * rates["gradient"])
        return weight * signal > xp.sqrt(v), (v,)


@dataclasses.dataclass(frozen=True, eq=False)
class Fire(FlipRule):
    """The weight flips when the signal against it has reached a level.

        flipped = weight * signal >= level and weight * signal > 0

    ``Threshold`` with the boundary included, for ``filters.ResettingIntegrator``, which starts
    again from 0 after each flip: a neuron that integrates and fires.

    Args:
        level: in (0, inf), in units of the signal, or a schedule.

    Raises:
        TypeError: level is neither a number nor a schedule.
        ValueError: level outside its interval.

    Source: BOLD, Nguyen et al., NeurIPS 2024, arXiv 2405.16339.
    """

    level: Rate = 1.0

    intervals = {"level": POSITIVE}

    def flip(self, weight, signal, state, rates, xp):
        against = weight * signal
        return (against >= rates["level"]) & (against > 0), state  # a schedule may end at level 0


@dataclasses.dataclass(frozen=True, eq=False)
class Probabilistic(FlipRule):
    """A threshold with a blurred edge: near it, chance decides.

        delta = abs(signal) / threshold
        certain = delta > 1 / (1 - randomness)
        chosen = uniform < 1 - exp(-delta)
        flipped = weight * signal > 0 and delta > 1 - randomness and (certain or chosen)

    With c = 1 - randomness: never up to and including c, with probability ``1 - exp(-delta)`` above
    c up to and including 1/c, surely above 1/c. With ``count_flips`` a weight that has flipped n
    times needs 1 + n times the strength:

        delta = abs(signal) / threshold / (1 + n)
        n = n + 1 where flipped

    State: none, or n with ``count_flips``.

    Args:
        threshold: in (0, inf), in units of the signal, or a schedule.
        randomness: half-width of the blur, in [0, 1), or a schedule; 0 is ``Threshold``.
        count_flips: harder to flip with each flip.
        seed: integer; the random numbers depend on it, the kernel and the step only.

    Raises:
        TypeError: a rate is neither a number nor a schedule, seed is no integer, count_flips is
            neither True nor False.
        ValueError: a rate outside its interval, a seed of more than 32 bits.

    Source: ProbBop, He et al., Neurocomputing, 2025.
    """

    inputs: ClassVar[tuple[str, ...]] = ("uniform",)

    threshold: Rate
    randomness: Rate = 0.0
    count_flips: bool = False
    seed: int = 0

    intervals = {"threshold": POSITIVE, "randomness": BELOW_ONE}

    def __post_init__(self):
        super().__post_init__()
        validate_flag("count_flips", self.count_flips)
        object.__setattr__(self, "seed", _repeatable(self.seed))

    @property
    def state_size(self) -> int:
        return 1 if self.count_flips else 0

    def flip(self, weight, signal, state, rates, xp):
        delta = xp.abs(signal) / rates["threshold"]
        if self.count_flips:
            delta = delta / (1 + state[0])
        c = 1 - rates["randomness"]
        certain = delta > 1 / c
        chosen = rates["uniform"] < 1 - xp.exp(-delta)
        flipped = (weight * signal > 0) & (delta > c) & (certain | chosen)
        return flipped, tuple(n + _as_numbers(flipped, n, xp) for n in state)


@dataclasses.dataclass(frozen=True, eq=False)
class Stochastic(FlipRule):
    """Stochastic rounding of a step that starts at -1 or +1: the step is right on average.

        flipped = uniform < rate * weight * signal

    So a weight flips with probability ``min(1, rate * abs(signal))`` where the signal speaks
    against it, and never where it does not. That is rounding ``weight - 2 * rate * signal`` up or
    down at random to one of the two values, which are 2 apart, in proportion to its distance from
    the other: inside, the weight after it is ``weight - 2 * rate * signal`` on average. Nothing is
    remembered between steps but what the filter remembers.

    Args:
        rate: flips per step and unit of the signal, in (0, inf), or a schedule: half of the
            learning rate of the step that is rounded.
        seed: integer; the random numbers depend on it, the kernel and the step only.

    Raises:
        TypeError: rate is neither a number nor a schedule, seed is no integer.
        ValueError: rate outside its interval, a seed of more than 32 bits.

    Source: the case of two values, derived here, of DQT, "Direct Quantized Training of Language
    Models with Stochastic Rounding", arXiv 2412.04787, whose code rounds to three values or more.
    """

    inputs: ClassVar[tuple[str, ...]] = ("uniform",)

    rate: Rate
    seed: int = 0

    intervals = {"rate": POSITIVE}

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "seed", _repeatable(self.seed))

    def flip(self, weight, signal, state, rates, xp):
        return rates["uniform"] < rates["rate"] * (weight * signal), state


def _repeatable(seed) -> int:
    """``seed`` as an integer of 32 bits."""
    if seed is None:
        raise TypeError("`seed` must be an integer, not None: training is to be repeatable.")
    return validate_seed("seed", seed)


@dataclasses.dataclass(frozen=True, eq=False)
class Balanced(FlipRule):
    """Ranks in place of signs: half of the weights of each filter are to be +1.

        flipped = weight != target
        target = +1 for the smaller half of the signals of a filter, -1 for the larger half

    A filter is everything with one index on the last axis (one output channel of a dense or
    convolutional kernel; a depthwise kernel of multiplier 1 is one filter altogether). An odd
    number of weights has a median, which says nothing: that weight stays as it is. Among equal
    signals as many weights as possible stay; between those alike in both the first in row-major
    order gets +1. So a filter in balance whose signals are all zero stays as it is, and one that is
    not is brought into balance.

    The signals are not sorted: ``order_statistics`` finds the one in the middle. Only where equal
    signals have to be told apart by their order, the filters of that kernel are sorted, thrice.

    Weights that somebody else sets are gone on from: of those of a filter that were turned, the
    first that was +1 and the first that was -1 exchange what the filter remembers of them, and so
    on. A filter out of balance, as averages may be, is brought into balance; in one of an odd
    number of weights, whose median nobody knows then, two weights may differ from what was set.

    Source: the bit ratio of Equal-Bits, Li, Pintea and van Gemert, AAAI 2022, arXiv 2112.03406, on
    filtered gradients in place of latent weights.
    """

    def flip(self, weight, signal, state, rates, xp):
        filters = weight.shape[-1]
        w, y = (xp.reshape(array, (-1, filters)) for array in (weight, signal))
        size, half = w.shape[0], w.shape[0] // 2
        middle = value_of_rank(y, half, xp)
        lower, equal = y < middle, y == middle
        plus = half - _count(lower, xp)  # so many of the equal ones are to be +1
        alike, positive = _count(equal, xp), _count(equal & (w > 0), xp)
        if size % 2:  # the median stays: it comes after all that are to be +1
            plus = plus + _whole(plus < positive, xp)
        one = xp.ones_like(w)
        of_equal = xp.where(plus == alike, one, xp.where(plus == 0, -one, w))
        target = xp.where(lower, one, xp.where(equal, of_equal, -one))
        is_told = (plus == alike) | (plus == positive) | (plus == 0)
        is_told = is_told & (plus >= 0) & (plus <= alike)  # else the search was lost in denormals
        target = _whichever(xp, is_told, lambda: target, lambda: _by_sorting(w, y, half, xp))
        return xp.reshape(target * w < 0, weight.shape), state

    def swaps(self, weight, turned, xp):
        filters = weight.shape[-1]
        w, turned = (xp.transpose(xp.reshape(a, (-1, filters))) for a in (weight, turned))
        own = _numbered(w == w, xp)
        groups = turned & (w > 0), turned & (w < 0)
        numbers = [_numbered(group, xp) for group in groups]
        places = [_sorting(xp.where(g, xp.zeros_like(w), xp.ones_like(w)), xp) for g in groups]
        pairs = xp.minimum(numbers[0][:, -1:], numbers[1][:, -1:]) + 1
        order = own
        for one, other in ((0, 1), (1, 0)):
            number = numbers[one]
            partner = _taken(places[other], xp.maximum(number, xp.zeros_like(number)), xp)
            order = xp.where(groups[one] & (number < pairs), partner, order)
        channel = xp.cumsum(xp.ones_like(order), axis=0) - 1
        return xp.reshape(xp.transpose(order * filters + channel), weight.shape)


def _by_sorting(w, y, half: int, xp):
    """The targets of ``Balanced`` for columns of weights and signals, whatever is equal."""
    w, y = xp.transpose(w), xp.transpose(y)
    y = xp.where(y == 0, xp.zeros_like(y), y)  # compiled sorting tells -0 from +0
    by_weight = _sorting(-w, xp)  # +1 first, so that among equal signals it stays
    order = _taken(by_weight, _sorting(_taken(y, by_weight, xp), xp), xp)
    rank = _sorting(order, xp)
    kept_or_minus = xp.where(rank >= w.shape[-1] - half, -xp.ones_like(w), w)
    return xp.transpose(xp.where(rank < half, xp.ones_like(w), kept_or_minus))


def _whichever(xp, condition, one, other):
    """``one()`` where ``condition`` holds everywhere, else ``other()``."""
    if xp is np:
        return one() if condition.all() else other()
    return xp.cond(xp.reduce_all(condition), one, other)


def _whole(condition, xp):
    return condition.astype(np.int32) if xp is np else xp.cast(condition, xp.int32)


def _numbered(condition, xp):
    """Of each entry of a row how many before it, and it, meet the condition, less 1."""
    return xp.cumsum(_whole(condition, xp), axis=-1) - 1


def _count(condition, xp):
    """How often it holds in each column."""
    numbers = _whole(condition, xp)
    return numbers.sum(axis=0) if xp is np else xp.reduce_sum(numbers, axis=0)


def _as_numbers(flipped, like, xp):
    """A boolean array as 0 and 1 in the dtype of ``like``."""
    return xp.where(flipped, xp.ones_like(like), xp.zeros_like(like))


def _sorting(x, xp):
    """The indices that sort the rows of ``x``, equal entries in the order they are in."""
    return np.argsort(x, axis=-1, kind="stable") if xp is np else xp.argsort(x, stable=True)


def _taken(x, indices, xp):
    """The rows of ``x`` in the order of ``indices``."""
    if xp is np:
        return np.take_along_axis(x, indices, axis=-1)
    return xp.gather(x, indices, batch_dims=1)
