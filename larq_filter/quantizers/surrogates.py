"""Surrogates: what stands in for the derivative of the sign.

| surrogate | dq/dz | used by |
|---|---|---|
| ``Straight(clip)`` | 1 where ``abs(z) <= clip`` | BinaryConnect, Bi-Real's kernels, PokeBNN |
| ``Approx()`` | ``2 - 2 abs(z)`` where positive | Bi-Real's activations, ReActNet, ReCU |
| ``Swish(beta)`` | derivative of the sign-swish | BNN+ |
| ``Quantile(start, end)`` | 1 up to a quantile of ``abs(z)`` | ReCU |
| ``Tanh(start, end)`` | ``k t (1 - tanh(t z)^2)`` | IR-Net |
| ``Tent(start, end)`` | ``k (sqrt(2) t - t^2 abs(z))`` where positive | RBNN |
| ``Power(end)`` | derivative of ``abs(z)^(1/o)`` | ReSTE |
| ``ElementWise(delta)`` | more where the step leads towards the sign | EWGS |
| ``Distance(temperature, sigma)`` | by the distances to both levels | DAQ |
| ``StateAware(plus, minus)`` | one number for +1, one for -1 | SA-BNN |
| ``Fading()`` | ``Straight(1)`` that never closes wholly | XNOR-Net |

Those with ``start`` and ``end`` change over the training; p is the share of it that is over.
"""

import dataclasses
import math
from typing import ClassVar

from larq_filter._validation import NOT_NEGATIVE, POSITIVE, Interval, validate_constant
from larq_filter.quantizers.parts import Surrogate, axes_of, constant, count_of, log, mean, signs

_AT_LEAST_ONE = Interval(1.0, math.inf, high_open=True)
_SHARE = Interval(0.5, 1.0, high_open=True)


def _where(condition, z, xp):
    """1 where ``condition`` holds, else 0."""
    return xp.where(condition, xp.ones_like(z), xp.zeros_like(z))


@dataclasses.dataclass(frozen=True, eq=False)
class Straight(Surrogate):
    """``dq/dz = 1`` where ``abs(z) <= clip``, else 0; 1 everywhere for None.

    Args:
        clip: positive, or None.

    Source: Courbariaux et al., "Binarized neural networks", 2016, arXiv 1602.02830 (clip 1);
    PokeBNN, Zhang et al., CVPR 2022, arXiv 2112.00133 (clip 3, activations).
    """

    clip: float | None = 1.0

    def __post_init__(self):
        if self.clip is not None:
            validate_constant("clip", self.clip, POSITIVE)

    def slope(self, z, given, xp):
        return xp.ones_like(z) if self.clip is None else _where(xp.abs(z) <= self.clip, z, xp)


@dataclasses.dataclass(frozen=True, eq=False)
class Approx(Surrogate):
    """``dq/dz = max(2 - 2 abs(z), 0)``, of a parabola on each side of 0.

    Source: Bi-Real net, Liu et al., ECCV 2018, arXiv 1808.00278.
    """

    def slope(self, z, given, xp):
        return xp.maximum(2 - 2 * xp.abs(z), xp.zeros_like(z))


@dataclasses.dataclass(frozen=True, eq=False)
class Swish(Surrogate):
    """The derivative of ``2 s(beta z) (1 + beta z (1 - s(beta z))) - 1``, s the logistic function.

        dq/dz = beta (2 - beta z tanh(beta z / 2)) / (1 + cosh(beta z))

    It is negative where ``beta abs(z) > 2.4``.

    Args:
        beta: positive.

    Source: BNN+, Darabi et al., 2018, arXiv 1812.11800; Larq's ``swish_sign``.
    """

    beta: float = 5.0

    def __post_init__(self):
        validate_constant("beta", self.beta, POSITIVE)

    def slope(self, z, given, xp):
        x = self.beta * z
        x = xp.minimum(xp.maximum(x, -60 + xp.zeros_like(x)), 60 + xp.zeros_like(x))  # cosh
        return self.beta * (2 - x * xp.tanh(x / 2)) / (1 + xp.cosh(x))


@dataclasses.dataclass(frozen=True, eq=False)
class Quantile(Surrogate):
    """``dq/dz = 1`` where ``abs(z) <= Q``, else 0: the largest weights get no gradient.

        Q   = -mean(abs(z)) ln(2 - 2 tau), the mean over the whole kernel
        tau = start + (end - start) (e^p - 1) / (e - 1)

    Q is the tau-quantile of a Laplace distribution of that mean magnitude. Of Gaussian weights 34 %
    are beyond it at tau 0.85, 0.2 % at 0.99.

    Args:
        start: tau at the beginning, in [0.5, 1).
        end: tau at the end, in [0.5, 1).

    Source: ReCU, Xu et al., ICCV 2021, arXiv 2103.12369 (0.85 to 0.99).
    """

    inputs: ClassVar = ("progress",)
    start: float = 0.85
    end: float = 0.99

    def __post_init__(self):
        validate_constant("start", self.start, _SHARE)
        validate_constant("end", self.end, _SHARE)

    def slope(self, z, given, xp):
        risen = (xp.exp(given["progress"]) - 1) / (math.e - 1)
        tau = self.start + (self.end - self.start) * risen
        size = xp.abs(z)
        limit = -mean(size, axes_of(z, "kernel"), xp) * log(2 - 2 * tau, xp)
        return _where(size <= limit, z, xp)


def _sharpness(start: float, end: float, given, xp):
    """``t``, from ``start`` to ``end`` in equal steps of its logarithm."""
    return xp.exp(math.log(start) + math.log(end / start) * given["progress"])


@dataclasses.dataclass(frozen=True, eq=False)
class _Sharpening(Surrogate):
    """A surrogate that becomes a narrow peak.

    t = start (end / start)^p
    k = max(1/t, 1)
    """

    inputs: ClassVar = ("progress",)
    start: float = 1e-3
    end: float = 10.0

    def __post_init__(self):
        validate_constant("start", self.start, POSITIVE)
        validate_constant("end", self.end, POSITIVE)

    def _both(self, given, xp):
        t = _sharpness(self.start, self.end, given, xp)
        return t, xp.maximum(1 / t, xp.ones_like(t))


@dataclasses.dataclass(frozen=True, eq=False)
class Tanh(_Sharpening):
    """``dq/dz = k t (1 - tanh(t z)^2)``, with ``t = start (end / start)^p``, ``k = max(1/t, 1)``.

    For three quarters of the published training k t is 1: at its middle the slope still is 1 within
    4 % for ``abs(z) <= 2``. Then it narrows to a peak of height ``end``.

    Args:
        start: t at the beginning, positive.
        end: t at the end, positive.

    Source: IR-Net's error decay estimator, Qin et al., CVPR 2020, arXiv 1909.10788 (1e-3 to 10),
    there set once an epoch.
    """

    def slope(self, z, given, xp):
        t, k = self._both(given, xp)
        return k * t * (1 - xp.tanh(t * z) ** 2)


@dataclasses.dataclass(frozen=True, eq=False)
class Tent(_Sharpening):
    """``dq/dz = max(k (sqrt(2) t - t^2 abs(z)), 0)``, with t and k as for ``Tanh``.

    Args:
        start: t at the beginning, positive.
        end: t at the end, positive.
        least: t is no smaller than this; 1 for activations, where k then is 1 too.

    Source: RBNN, Lin et al., NeurIPS 2020, arXiv 2009.13055 (1e-2 to 10).
    """

    start: float = 1e-2
    least: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        validate_constant("least", self.least, NOT_NEGATIVE)

    def slope(self, z, given, xp):
        t = _sharpness(self.start, self.end, given, xp)
        t = xp.maximum(t, self.least * xp.ones_like(t))
        k = xp.maximum(1 / t, xp.ones_like(t))
        return xp.maximum(k * (math.sqrt(2) * t - t**2 * xp.abs(z)), xp.zeros_like(z))


@dataclasses.dataclass(frozen=True, eq=False)
class Power(Surrogate):
    """The derivative of ``sign(z) abs(z)^(1/o)``, which goes from z to its sign as o grows.

        o     = 1 + (1 - cos(pi p / 2)) (end - 1)
        dq/dz = abs(z)^(1/o - 1) / o     where 0.1 < abs(z) <= 1.5
              = 0.1^(1/o) / 0.1          where abs(z) <= 0.1
              = 0                        beyond 1.5

    Args:
        end: o at the end, >= 1.

    Source: ReSTE, Wu et al., ICCV 2023, arXiv 2308.06689 (end 3), and the authors' code.
    """

    inputs: ClassVar = ("progress",)
    end: float = 3.0

    def __post_init__(self):
        validate_constant("end", self.end, _AT_LEAST_ONE)

    def slope(self, z, given, xp):
        o = 1 + (1 - xp.cos(math.pi / 2 * given["progress"])) * (self.end - 1)
        size = xp.maximum(xp.abs(z), 0.1 * xp.ones_like(z))
        inner = xp.exp(log(0.1 * xp.ones_like(o), xp) / o) / 0.1
        slope = xp.where(xp.abs(z) <= 0.1, inner * xp.ones_like(z), size ** (1 / o - 1) / o)
        return xp.where(xp.abs(z) <= 1.5, slope, xp.zeros_like(z))


@dataclasses.dataclass(frozen=True, eq=False)
class ElementWise(Surrogate):
    """A weight whose step leads towards its sign gets a larger gradient, another a smaller one.

        dq/dz = 1 + delta sign(G) (z - sign(z)) / 2     where abs(z) < 1, else 0;  G = dL/dq

    Args:
        delta: in [0, 2], so that the slope keeps its sign.

    Source: EWGS, Lee et al., CVPR 2021, arXiv 2104.00903 (delta 1e-3 for one bit), and the authors'
    code, whose levels 0 and 1 are -1 and +1 here.
    """

    inputs: ClassVar = ("gradient",)
    delta: float = 1e-3

    def __post_init__(self):
        validate_constant("delta", self.delta, Interval(0.0, 2.0))

    def slope(self, z, given, xp):
        gain = 1 + self.delta * xp.sign(given["gradient"]) * (z - signs(z, xp)) / 2
        return xp.where(xp.abs(z) < 1, gain, xp.zeros_like(z))


@dataclasses.dataclass(frozen=True, eq=False)
class Distance(Surrogate):
    """The slope of a soft assignment to the two levels, by the distance to each.

        v     = (z + 1) / 2                  the levels -1 and +1 at 0 and 1
        s0    = k0 exp(-v),  s1 = k1 exp(v - 1)
        k     = 1 for the nearer level, exp(-1 / sigma^2) for the other
        dq/dz = T / (2 sinh(T)) (s0 + s1) / abs(s0 - s1)     where abs(z) < 1, else 0

    Args:
        temperature: T, positive.
        sigma: positive.

    Source: DAQ, Kim et al., ICCV 2021, arXiv 2108.06983 (kernels 2 and 1, activations 2 and 2), and
    the authors' code. At one bit its adaptive temperature gives the closed form used here.
    """

    temperature: float = 2.0
    sigma: float = 1.0

    def __post_init__(self):
        validate_constant("temperature", self.temperature, POSITIVE)
        validate_constant("sigma", self.sigma, POSITIVE)

    def slope(self, z, given, xp):
        v = (z + 1) / 2
        far = math.exp(-1 / self.sigma**2)
        low = _where(v < 0.5, v, xp)  # 1 where the lower level is nearer
        s0 = xp.exp(-v) * (low + far * (1 - low))
        s1 = xp.exp(v - 1) * (far * low + 1 - low)
        gain = self.temperature / (2 * math.sinh(self.temperature)) * (s0 + s1) / xp.abs(s0 - s1)
        return xp.where(xp.abs(z) < 1, gain, xp.zeros_like(z))


@dataclasses.dataclass(frozen=True, eq=False)
class StateAware(Surrogate):
    """``dq/dz = plus`` where the sign is +1, ``minus`` where it is -1.

    The publication learns both numbers; its formula was not to be verified, and here they are
    fixed.

    Args:
        plus: positive.
        minus: positive.

    Source: SA-BNN, Liu et al., AAAI 2021.
    """

    plus: float = 1.0
    minus: float = 1.0

    def __post_init__(self):
        validate_constant("plus", self.plus, POSITIVE)
        validate_constant("minus", self.minus, POSITIVE)

    def slope(self, z, given, xp):
        return xp.where(z < 0, self.minus * xp.ones_like(z), self.plus * xp.ones_like(z))


@dataclasses.dataclass(frozen=True, eq=False)
class Fading(Surrogate):
    """``dq/dz = 1[abs(z) < 1] + 1 / (n s)``: beyond 1 a weight still gets a little.

    n is the number of weights of a filter, s the scale of ``Sign``.

    Source: XNOR-Net, Rastegari et al., ECCV 2016, arXiv 1603.05279, equation 9, with
    ``gradient="scaled"``.
    """

    inputs: ClassVar = ("scale",)

    def slope(self, z, given, xp):
        rest = 1 / (count_of(z, "filter") * constant(given["scale"], xp))
        return _where(xp.abs(z) < 1, z, xp) + rest * xp.ones_like(z)
