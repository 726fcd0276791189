"""What a quantizer of the family ``Sign`` is made of: frozen values with one pure function each.

    z = transform.apply(x)
    q = scale.of(z) * sign(z)
    dq/dz = surrogate.slope(z)

As for filters, ``xp`` is ``numpy`` or ``tensorflow``, whichever the arrays belong to, so the same
object is compared with NumPy in float64 and trains a network. What a part needs beyond its array it
names in ``inputs``, and the quantizer puts it into ``given``:

| name | is | for |
|---|---|---|
| ``progress`` | share of the training that is over, in [0, 1] | all parts |
| ``training`` | whether this is a training step, a bool or a tensor | transforms |
| ``uniform`` | numbers in [0, 1), shaped like ``x``, new at each step; else 1/2 | transforms |
| ``buffers`` | the part's own variables by name (``buffers_for``) | transforms and scales |
| ``gradient`` | dL/dq, shaped like ``z`` | surrogates |
| ``scale`` | what ``scale.of(z)`` gave; 1 without a scale | surrogates |

Rejected: functions with ``tf.custom_gradient``, one a method, as the publications' code has them.
Each would mix what is new in it with what all share, and none could be run outside of TensorFlow.
"""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from larq_filter.filters import Value


@dataclasses.dataclass(frozen=True, eq=False)
class Part(Value):
    """What transforms, surrogates and scales have in common.

    ``trained`` names those of its buffers that are trained with the model, by gradients.
    """

    inputs: ClassVar[tuple[str, ...]] = ()
    trained: ClassVar[tuple[str, ...]] = ()

    def buffers_for(self, shape) -> dict[str, np.ndarray]:
        """First values of the variables it needs for an array of ``shape``."""
        return {}


@dataclasses.dataclass(frozen=True, eq=False)
class Transform(Part):
    """What happens to latent weights, or to activations, before their sign is taken."""

    every: ClassVar[int] = 1

    def apply(self, x, given: dict[str, Any], xp):
        """Returns z, shaped like ``x``. TensorFlow differentiates it."""
        return x

    def after_step(self, x, buffers: dict, xp) -> dict:
        """New values of those of its buffers that follow ``x``, which an optimizer has changed.

        It is called every ``every`` steps, a field or class attribute.
        """
        return {}


@dataclasses.dataclass(frozen=True, eq=False)
class Surrogate(Part):
    """What stands in for the derivative of the sign, which is 0."""

    def slope(self, z, given: dict[str, Any], xp):
        """Returns dq/dz for ``q = sign(z)``, an array that broadcasts to ``z``."""
        raise NotImplementedError(f"{type(self).__name__} must define `slope`.")


@dataclasses.dataclass(frozen=True, eq=False)
class Scale(Part):
    """The size of -1 and +1, positive, one for all weights of a filter."""

    def of(self, z, given: dict[str, Any], xp):
        """Returns the scale, an array that broadcasts to ``z``."""
        raise NotImplementedError(f"{type(self).__name__} must define `of`.")

    def after_step(self, z, second_moment, xp) -> dict:
        """New values of its buffers after a step of Adam, whose v is ``second_moment``."""
        return {}


def axes_of(x, per: str) -> tuple[int, ...]:
    """The axes over which ``x`` is averaged: a filter's weights, a kernel's, or its inputs.

    ``"filter"``: all axes but the last. ``"kernel"``: all. ``"input"``: the last but one, which are
    the input channels of a kernel. ``"image"``: all but the first.
    """
    rank = len(x.shape)
    chosen = {
        "filter": range(rank - 1),
        "kernel": range(rank),
        "input": range(max(rank - 2, 0), rank - 1),
        "image": range(1, rank),
    }
    return tuple(chosen[per])


def count_of(x, per: str) -> int:
    """How many numbers of ``x`` one average over ``axes_of`` has. Static shapes only."""
    return math.prod(int(x.shape[axis]) for axis in axes_of(x, per))


def mean(x, axes, xp):
    """The average over ``axes``, which stay as axes of length 1."""
    return x.mean(axis=axes, keepdims=True) if xp is np else xp.reduce_mean(x, axes, True)


def largest(x, axes, xp):
    """The largest number over ``axes``, which stay as axes of length 1."""
    return x.max(axis=axes, keepdims=True) if xp is np else xp.reduce_max(x, axes, True)


def log(x, xp):
    """The natural logarithm."""
    return np.log(x) if xp is np else xp.math.log(x)


def constant(x, xp):
    """``x`` without a gradient."""
    return x if xp is np else xp.stop_gradient(x)


def signs(x, xp):
    """-1 where ``x`` is negative, else +1."""
    return xp.where(x < 0, -xp.ones_like(x), xp.ones_like(x))
