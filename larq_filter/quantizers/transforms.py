"""Transforms: what happens to latent weights before their sign is taken.

| transform | z | used by |
|---|---|---|
| ``Identity()`` | ``x`` | most |
| ``Standardize(...)`` | ``gain (x - mean) / std`` | IR-Net, ReCU, BNN-BN, EWGS, DAQ |
| ``Centre(per)`` | ``x - mean`` | XNOR-Net |
| ``Ranks(share)`` | ``x`` minus the value of a rank | Equal-Bits |
| ``Rotate(every)`` | ``x`` mixed with its rotation towards the signs | RBNN |
| ``Sine(frequency)`` | ``sin(frequency x)`` | BiPer |
| ``Dither()`` | ``x`` minus a random number in [-1, 1) | BinaryConnect |
| ``ImageScale(eps)`` | ``x`` in units of its deviation in the image | ReCU's activations |
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from larq_filter._validation import (
    NOT_NEGATIVE,
    POSITIVE,
    Interval,
    validate_choice,
    validate_constant,
    validate_flag,
    validate_integer,
)
from larq_filter.quantizers.parts import Transform, axes_of, constant, count_of, mean, signs

_INSIDE = Interval(0.0, 1.0, low_open=True, high_open=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Identity(Transform):
    """``z = x``."""


@dataclasses.dataclass(frozen=True, eq=False)
class Standardize(Transform):
    """Weights in units of their standard deviation, about their mean.

        z = gain (x - mean(x)) / sqrt(var(x) + eps)

    divided by ``sqrt(n)`` besides with ``fan_in``, n the weights of a filter. mean and var over a
    filter or the whole kernel; the variance is divided by n, not n - 1.

    Args:
        per: "filter" or "kernel".
        eps: added to the variance, >= 0.
        fan_in: divide by ``sqrt(n)``.
        gain: a positive factor, which changes no sign and multiplies the gradient.
        centre: subtract the mean; without, the variance still is that about the mean.
        fixed: take mean and variance for constants in the gradient.

    Source: IR-Net, Qin et al., CVPR 2020, arXiv 1909.10788 (eps 0); ReCU, Xu et al., ICCV 2021,
    arXiv 2103.12369 (eps 1e-5, gain ``2 sqrt(2)``); fan_in: BNN - BN = ?, Chen et al., CVPR
    Workshops 2021, arXiv 2104.08215.
    """

    per: str = "filter"
    eps: float = 1e-12  # where all weights are alike: 0 over almost 0, +1 everywhere
    fan_in: bool = False
    gain: float = 1.0
    centre: bool = True
    fixed: bool = False

    def __post_init__(self):
        validate_choice("per", self.per, ("filter", "kernel"))
        validate_constant("eps", self.eps, NOT_NEGATIVE)
        validate_constant("gain", self.gain, POSITIVE)
        for name in ("fan_in", "centre", "fixed"):
            validate_flag(name, getattr(self, name))

    def apply(self, x, given, xp):
        axes = axes_of(x, self.per)
        middle = mean(x, axes, xp)
        variance = mean((x - middle) ** 2, axes, xp)
        if self.fixed:
            middle, variance = constant(middle, xp), constant(variance, xp)
        z = self.gain * (x - middle if self.centre else x) / xp.sqrt(variance + self.eps)
        return z / math.sqrt(count_of(x, self.per)) if self.fan_in else z


@dataclasses.dataclass(frozen=True, eq=False)
class Centre(Transform):
    """``z = x - mean(x)``.

    Args:
        per: over what the mean is: "filter", "kernel", or "input", the input channels at each
            position of a filter.

    Source: "input": XNOR-Net, Rastegari et al., ECCV 2016, arXiv 1603.05279, whose code subtracts
    it from the stored weights before each pass.
    """

    per: str = "filter"

    def __post_init__(self):
        validate_choice("per", self.per, ("filter", "kernel", "input"))

    def apply(self, x, given, xp):
        return x - mean(x, axes_of(x, self.per), xp)


@dataclasses.dataclass(frozen=True, eq=False)
class Ranks(Transform):
    """A given share of the weights of each filter is +1, whatever their values.

        z = x - v,  v the weight that floor((1 - share) n) others come before in ascending order

    Weights equal to v all become +1. v is constant in the gradient.

    Args:
        share: of +1, in (0, 1).

    Source: Equal-Bits, Li et al., AAAI 2022, arXiv 2112.03406 (share 1/2).
    """

    share: float = 0.5

    def __post_init__(self):
        validate_constant("share", self.share, _INSIDE)

    def apply(self, x, given, xp):
        n = count_of(x, "filter")
        before = math.floor(round((1 - self.share) * n, 6))  # (1 - 0.9) 10 is 0.99999... in floats
        columns = xp.reshape(constant(x, xp), (n, -1))
        # Sorted, not searched for: converters fold a sort of constants, but no loop.
        return x - xp.sort(columns, axis=0)[min(before, n - 1)]


@dataclasses.dataclass(frozen=True, eq=False)
class Rotate(Transform):
    """Each filter as a matrix is turned towards its signs, and mixed with what it was.

        z0 = (x - mean) / std                 a filter's n weights as a matrix X of (a, b)
        Y  = R1' X R2                         a b = n, a the largest divisor of n up to sqrt(n)
        z  = z0 + |sin(theta)| (Y - z0)       Y without gradient

    R1 and R2, orthogonal and one for all filters, are set anew every ``every`` steps, three times
    in a row, to the best ones for the signs B of ``R1' X R2``: with the singular vectors U, V of
    ``sum B R2' X'`` and of ``sum X' R1 B``, ``R1 = V U'`` and ``R2 = U V'``. theta is learned, one
    a filter.

    The released code starts theta at pi/2, where z does not depend on x and its gradient is exactly
    0 until weight decay has moved theta. Here theta starts at pi/6, where half of Y is mixed in.

    Args:
        every: steps between two rotations, an integer >= 1. Published: once an epoch.

    Source: RBNN, Lin et al., NeurIPS 2020, arXiv 2009.13055, and the authors' code.
    """

    inputs: ClassVar = ("buffers",)
    trained: ClassVar = ("angle",)
    every: int = 200

    def __post_init__(self):
        validate_integer("every", self.every)

    @property
    def first(self) -> Transform:
        """What comes before the rotation."""
        return Standardize()

    def buffers_for(self, shape):
        n = math.prod(shape[:-1])
        rows = _largest_divisor(n)
        random = np.random.default_rng(0)
        turns = {
            name: np.linalg.qr(random.normal(size=(size, size)))[0]
            for name, size in (("left", rows), ("right", n // rows))
        }
        angle = np.full((1,) * (len(shape) - 1) + (shape[-1],), math.pi / 6)
        return {**turns, "angle": angle}

    def apply(self, x, given, xp):
        z = self.first.apply(x, given, xp)
        buffers = given["buffers"]
        turned = _turn(constant(z, xp), buffers["left"], buffers["right"], xp)
        return z + xp.abs(xp.sin(buffers["angle"])) * (turned - z)

    def after_step(self, x, buffers, xp):
        z = _matrices(self.first.apply(x, {}, xp), buffers["left"], xp)
        left, right = buffers["left"], buffers["right"]
        for _ in range(3):
            bits = signs(xp.einsum("pa,fpq,qb->fab", left, z, right), xp)
            left = _nearest(xp.einsum("fab,qb,fpq->ap", bits, right, z), xp, transposed=True)
            right = _nearest(xp.einsum("fpq,pa,fab->qb", z, left, bits), xp)
        return {"left": left, "right": right}


def _largest_divisor(n: int) -> int:
    return next(size for size in range(math.isqrt(n), 0, -1) if n % size == 0)


def _matrices(z, left, xp):
    """The filters of a kernel as matrices, shape (filters, a, b)."""
    rows = left.shape[0]
    columns = xp.reshape(z, (count_of(z, "filter"), -1))
    return xp.reshape(xp.transpose(columns), (-1, rows, columns.shape[0] // rows))


def _turn(z, left, right, xp):
    turned = xp.einsum("pa,fpq,qb->fab", left, _matrices(z, left, xp), right)
    columns = xp.transpose(xp.reshape(turned, (z.shape[-1], -1)))
    return xp.reshape(columns, z.shape)


def _nearest(matrix, xp, transposed: bool = False):
    """The orthogonal matrix U V' of ``matrix`` = U S V'; ``transposed``: V U'."""
    if xp is np:
        u, _, v = np.linalg.svd(matrix)
        nearest = u @ v
    else:
        _, u, v = xp.linalg.svd(matrix)
        nearest = xp.linalg.matmul(u, v, transpose_b=True)
    return xp.transpose(nearest) if transposed else nearest


@dataclasses.dataclass(frozen=True, eq=False)
class Sine(Transform):
    """``z = sin(frequency x)``: the sign turns over again and again as a weight grows.

    Args:
        frequency: positive; published 20.

    Source: BiPer, Vargas et al., CVPR 2024, arXiv 2404.01278.
    """

    frequency: float = 20.0

    def __post_init__(self):
        validate_constant("frequency", self.frequency, POSITIVE)

    def apply(self, x, given, xp):
        return xp.sin(self.frequency * x)


@dataclasses.dataclass(frozen=True, eq=False)
class Dither(Transform):
    """In training the sign is random: +1 with probability ``clip((x + 1) / 2, 0, 1)``.

        z = x - (2 u - 1),  u uniform in [0, 1);  without training z = x

    Args:
        seed: of the random numbers, an integer.

    Source: BinaryConnect, Courbariaux et al., NeurIPS 2015, arXiv 1511.00363. There networks that
    were trained so are tested with real-valued weights; here with their signs.
    """

    inputs: ClassVar = ("training", "uniform")
    seed: int = 0

    def __post_init__(self):
        validate_integer("seed", self.seed, 0)

    def apply(self, x, given, xp):
        return xp.where(given["training"], x - (2 * given["uniform"] - 1), x)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageScale(Transform):
    """In training activations in units of their deviation in each image; the sign is the same.

        z = x / sqrt(var(x) + eps);  without training z = x

    Args:
        eps: added to the variance, > 0.

    Source: ReCU, Xu et al., ICCV 2021, arXiv 2103.12369, and the authors' code.
    """

    inputs: ClassVar = ("training",)
    eps: float = 1e-5

    def __post_init__(self):
        validate_constant("eps", self.eps, POSITIVE)

    def apply(self, x, given, xp):
        axes = axes_of(x, "image")
        variance = mean((x - mean(x, axes, xp)) ** 2, axes, xp)
        return xp.where(given["training"], x / xp.sqrt(variance + self.eps), x)
