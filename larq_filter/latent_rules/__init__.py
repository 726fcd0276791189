"""Latent rules: what happens to a latent weight beside the step of an ordinary optimizer.

Many methods for binary networks are an ordinary optimizer and one line more. The line changes the
gradient before the step, or the weight after it:

    gradient, state = rule.before(gradient, weight, state, rates, xp)
    new = the optimizer's step from old, with that gradient
    weight, state = rule.after(old, new, state, rates, xp)

| rule | changes | published as |
|---|---|---|
| ``AdaptiveClipping(0.02)`` | gradient: at most a share of the weights' norm | BNN-BN |
| ``SilentWeights()`` | gradient: at least a share; decay where nothing flips | OvSW |
| ``Bipolar(5e-7)`` | gradient: decay of negative sign | Tang |
| ``Clip(1.0)`` | weight: at most this size | BinaryConnect and most others |
| ``GlorotScale()`` | weight: the step times a number from the shape | BinaryConnect |
| ``Prox(rate)`` | weight: towards -1 or +1 by ``rate`` | ProxQuant |
| ``Mirror(beta)`` | weight: the step is taken by atanh(weight) | MD-tanh |
| ``Concave(rate)`` | weight: grows by a share of itself | BNEW |
| ``Metaplastic(1.35)`` | weight: large ones shrink slowly | metaplastic networks |

The published methods, as ``rules`` of a ``LatentOptimizer``:

    BinaryConnect    [GlorotScale(), Clip(1.0)]
    BNN-BN           [AdaptiveClipping(0.02)]
    OvSW             [SilentWeights(0.04, 9e-4)]
    ProxQuant        [Prox(schedule), Clip(1.0)]
    MD-tanh          [Mirror(schedule)]
    BNEW             [Concave(schedule), Clip(1.0)]
    Tang             [Bipolar(5e-7), Clip(1.0)]

Like a filter a rule is a frozen value with pure functions; what it remembers per weight goes in and
comes out as a tuple of arrays. A rate is the number of one step: where a paper makes it depend on
the learning rate or the epoch, the rule says which schedule that is. A "unit" is everything with
one index on the last axis, one output channel; a vector is one unit, and so is a depthwise kernel
of multiplier 1.

Rejected: a subclass of each Keras optimizer for each method, which would be Adam written nine
times. Rejected too: a Keras constraint for what comes after the step. It is not told where the
weight was, has no state and no rates.

Left out: the pull of ReBNN and RBONN towards their levels, ``g + gamma (w - 0.02 abs(s) sign(w))``.
Its target is a scale s of the quantizer, one number a unit, that is trained together with the
weights and through this very term. With a fixed s it would be another method.
"""

from larq_filter.latent_rules._base import Chain, Rule, validate_rules
from larq_filter.latent_rules.gradients import AdaptiveClipping, Bipolar, SilentWeights
from larq_filter.latent_rules.weights import (
    Clip,
    Concave,
    GlorotScale,
    Metaplastic,
    Mirror,
    Prox,
)

__all__ = [
    "AdaptiveClipping",
    "Bipolar",
    "Chain",
    "Clip",
    "Concave",
    "GlorotScale",
    "Metaplastic",
    "Mirror",
    "Prox",
    "Rule",
    "SilentWeights",
    "validate_rules",
]
