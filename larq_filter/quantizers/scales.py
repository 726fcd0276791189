"""Scales: the size of -1 and +1. A batch normalisation right after the layer undoes them.

What is left of a scale then is what it does to the gradient (``Sign``'s ``gradient``).

| scale | s | used by |
|---|---|---|
| ``MeanAbs(per)`` | ``mean(abs(z))`` | XNOR-Net, Bi-Real, ReSTE, BNN-BN |
| ``MaxAbs(factor)`` | ``factor max(abs(z))`` | PokeBNN |
| ``PowerOfTwo()`` | the power of 2 next to ``mean(abs(z))`` | IR-Net |
| ``FanIn(factor)`` | ``factor / sqrt(n)`` | Equal-Bits |
| ``Curvature()`` | mean of ``abs(z)``, weighed by the root of Adam's second moment | LAB |
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from larq_filter._validation import POSITIVE, validate_choice, validate_constant
from larq_filter.quantizers.parts import Scale, axes_of, count_of, largest, log, mean


@dataclasses.dataclass(frozen=True, eq=False)
class MeanAbs(Scale):
    """``s = mean(abs(z))``.

    Args:
        per: "filter" or "kernel".

    Source: XNOR-Net, Rastegari et al., ECCV 2016, arXiv 1603.05279.
    """

    per: str = "filter"

    def __post_init__(self):
        validate_choice("per", self.per, ("filter", "kernel"))

    def of(self, z, given, xp):
        return mean(xp.abs(z), axes_of(z, self.per), xp)


@dataclasses.dataclass(frozen=True, eq=False)
class MaxAbs(Scale):
    """``s = factor max(abs(z))``, the maximum over a filter.

    Args:
        factor: positive.

    Source: PokeBNN, Zhang et al., CVPR 2022, arXiv 2112.00133 (1/2).
    """

    factor: float = 0.5

    def __post_init__(self):
        validate_constant("factor", self.factor, POSITIVE)

    def of(self, z, given, xp):
        return self.factor * largest(xp.abs(z), axes_of(z, "filter"), xp)


@dataclasses.dataclass(frozen=True, eq=False)
class PowerOfTwo(Scale):
    """``s = 2^round(log2(mean(abs(z))))``, the mean over a filter: a shift in hardware.

    Source: IR-Net, Qin et al., CVPR 2020, arXiv 1909.10788.
    """

    def of(self, z, given, xp):
        size = mean(xp.abs(z), axes_of(z, "filter"), xp)
        size = xp.maximum(size, 1e-30 * xp.ones_like(size))  # where all weights are alike
        return 2.0 ** xp.round(log(size, xp) / math.log(2))  # exact, which exp(k log 2) is not


@dataclasses.dataclass(frozen=True, eq=False)
class FanIn(Scale):
    """``s = factor / sqrt(n)``, n the weights of a filter.

    Args:
        factor: positive.

    Source: Equal-Bits, Li et al., AAAI 2022, arXiv 2112.03406 (``sqrt(2)``).
    """

    factor: float = math.sqrt(2)

    def __post_init__(self):
        validate_constant("factor", self.factor, POSITIVE)

    def of(self, z, given, xp):
        one = xp.ones_like(mean(z, axes_of(z, "filter"), xp))
        return self.factor / math.sqrt(count_of(z, "filter")) * one


@dataclasses.dataclass(frozen=True, eq=False)
class Curvature(Scale):
    """``s = sum(d abs(z)) / sum(d)`` over the kernel, with ``d = sqrt(v) + 1e-8``.

    v is Adam's second moment of the kernel after the last step, without bias correction: s and the
    signs minimise ``sum(d (s sign(z) - z)^2)``. Before the first step s is the mean magnitude. Only
    ``LatentOptimizer`` with an Adam for the kernels brings v here.

    Source: LAB, Hou et al., ICLR 2017, arXiv 1611.01600.
    """

    inputs: ClassVar = ("buffers",)

    def buffers_for(self, shape):
        return {"weighted_mean": np.zeros([])}  # 0: no step yet

    def of(self, z, given, xp):
        known = given["buffers"]["weighted_mean"]
        plain = mean(xp.abs(z), axes_of(z, "kernel"), xp)
        return xp.where(known > 0, known * xp.ones_like(plain), plain)

    def after_step(self, z, second_moment, xp) -> dict:
        """The new value of its buffer.

        Args:
            z: the weights after the step.
            second_moment: Adam's v, of their shape.
            xp: numpy or tensorflow.
        """
        d = xp.sqrt(second_moment) + 1e-8
        axes = axes_of(z, "kernel")
        weighted = mean(d * xp.abs(z), axes, xp) / mean(d, axes, xp)
        return {"weighted_mean": xp.reshape(weighted, ())}
