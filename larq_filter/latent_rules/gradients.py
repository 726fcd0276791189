"""Latent rules that change the gradient before the step."""

import dataclasses

from larq_filter._validation import (
    BELOW_ONE,
    NOT_NEGATIVE,
    UNIT,
    Rate,
    validate_constant,
    validate_number,
)
from larq_filter.latent_rules._base import Rule

_SMALLEST = 1e-6  # norm of a gradient, in a division by it


@dataclasses.dataclass(frozen=True, eq=False)
class AdaptiveClipping(Rule):
    """Limits the gradient of each unit to a share of the unit's weights (AGC).

        most = share * max(norm(w), floor)
        g = g where norm(g) < most, else g * most / max(norm(g), 1e-6)

    Args:
        share: largest norm of the gradient per norm of the weights, in [0, inf), or a schedule.
        floor: smallest norm of weights that counts, in [0, inf), so that weights of zero can move.

    Raises:
        TypeError: share is neither a number nor a schedule, floor is no number.
        ValueError: a number outside its interval.

    Source: Chen et al., "BNN - BN = ?", CVPR workshops 2021, arXiv 2104.08215, with the constants
    0.02 and 1e-3; after Brock et al., arXiv 2102.06171. The authors limit other variables too, and
    a rule is for latent kernels only.
    """

    share: Rate = 0.02
    floor: float = 1e-3

    intervals = {"share": NOT_NEGATIVE}

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "floor", validate_number("floor", self.floor, NOT_NEGATIVE))

    def before(self, gradient, weight, state, rates, xp):
        most = rates["share"] * xp.maximum(_norm(weight, xp), self.floor)
        size = _norm(gradient, xp)
        factor = most / xp.maximum(size, _SMALLEST)
        return gradient * xp.where(size < most, xp.ones_like(factor), factor), state


@dataclasses.dataclass(frozen=True, eq=False)
class SilentWeights(Rule):
    """Wakes weights that never flip: larger gradients, and decay where nothing has happened.

        norm_w, norm_g = max(norm(w), 1e-3), max(norm(g), 1e-6)
        g = g * share * norm_w / norm_g where norm_g / norm_w < share      (of each unit)
        T = momentum * T + (1 - momentum) * (w has changed sign since the last step)
        g = g + decay * w where T < threshold

    With the published constants a weight that has flipped once is silent again after 2,302 steps,
    one that flipped at every step after 9,206. The decay is in the gradient, as that of an L2
    penalty: Adam divides it by the size of gradients.

    State: T, from ``start``, and the sign of w at the last step. A weight of exactly 0 has none, so
    it has not changed it; nor has any weight at the first step.

    Args:
        share: smallest norm of the gradient per norm of the weights, in [0, inf), or a schedule; 0
            leaves gradients alone. Published: 0.04 (CIFAR), 0.01 (ImageNet).
        decay: of silent weights, in [0, inf), in units of gradient per weight, or a schedule.
            Published: 9e-4 (CIFAR), 2e-5 (ImageNet).
        momentum: of T, in [0, 1).
        threshold: of T, in [0, 1].
        start: T before the first step, in [0, 1]. With 0 all weights are silent until they flip,
            with 1 none is in the first 9,205 steps.

    Raises:
        TypeError: a rate is neither a number nor a schedule, another argument is no number.
        ValueError: a number outside its interval.

    Source: Xiang et al., "OvSW: Overcoming Silent Weights for Accurate Binary Neural Networks",
    ECCV 2024, arXiv 2407.05257; formulas, order and floors of the norms from its code.
    """

    share: Rate = 0.04
    decay: Rate = 9e-4
    _: dataclasses.KW_ONLY
    momentum: float = 0.999
    threshold: float = 1e-4
    start: float = 0.0

    intervals = {"share": NOT_NEGATIVE, "decay": NOT_NEGATIVE}
    state_size = 2

    def __post_init__(self):
        super().__post_init__()
        for name, interval in (("momentum", BELOW_ONE), ("threshold", UNIT), ("start", UNIT)):
            object.__setattr__(self, name, validate_constant(name, getattr(self, name), interval))

    def zero_state(self, like, xp) -> tuple:
        return self.start * xp.ones_like(like), xp.zeros_like(like)

    def before(self, gradient, weight, state, rates, xp):
        t, sign = state
        norm_w = xp.maximum(_norm(weight, xp), 1e-3)
        norm_g = xp.maximum(_norm(gradient, xp), _SMALLEST)
        factor = rates["share"] * norm_w / norm_g
        gradient = gradient * xp.where(
            norm_g / norm_w < rates["share"], factor, xp.ones_like(factor)
        )
        zero = xp.zeros_like(weight)
        changed = xp.where(weight * sign < 0, xp.ones_like(weight), zero)
        t = self.momentum * t + (1 - self.momentum) * changed
        gradient = gradient + rates["decay"] * xp.where(t < self.threshold, weight, zero)
        return gradient, (t, xp.sign(weight))


@dataclasses.dataclass(frozen=True, eq=False)
class Bipolar(Rule):
    """Drives weights apart: the gradient of a penalty on weights that are not -1 or +1.

        g = g - 2 * strength * w

    This is the gradient of ``strength * sum(1 - w^2)``, a decay of negative sign, which has no end
    of its own: it needs ``Clip(1.0)`` or a constraint.

    Args:
        strength: in [0, inf), in units of the loss per weight squared, or a schedule.

    Raises:
        TypeError: strength is neither a number nor a schedule.
        ValueError: strength outside its interval.

    Source: Tang, Hua and Wang, "How to Train a Compact Binary Neural Network with High Accuracy?",
    AAAI 2017. Not verified: formula and 5e-7 are from memory, and no code was found.
    """

    strength: Rate = 5e-7

    intervals = {"strength": NOT_NEGATIVE}

    def before(self, gradient, weight, state, rates, xp):
        return gradient - 2 * rates["strength"] * weight, state


def _norm(x, xp):
    """The Euclidean norm of each unit; the last axis stays, the others become 1."""
    total = getattr(xp, "reduce_sum", None) or xp.sum
    rank = len(x.shape)
    return xp.sqrt(total(x * x, axis=tuple(range(max(rank - 1, min(rank, 1)))), keepdims=True))
