"""Latent rules that change the weight after the step."""

import dataclasses
import math

import numpy as np

from larq_filter._validation import NOT_NEGATIVE, POSITIVE, Rate
from larq_filter.latent_rules._base import Rule


@dataclasses.dataclass(frozen=True, eq=False)
class Clip(Rule):
    """Keeps latent weights within bounds.

        w = min(max(new, -limit), limit)

    As Larq's constraint ``weight_clip``, with a limit that may be scheduled. NaN stays NaN.

    Args:
        limit: largest size of a weight, in (0, inf), or a schedule.

    Raises:
        TypeError: limit is neither a number nor a schedule.
        ValueError: limit outside its interval.

    Source: Courbariaux et al., "BinaryConnect", NeurIPS 2015, arXiv 1511.00363, with limit 1.
    """

    limit: Rate = 1.0

    intervals = {"limit": POSITIVE}

    def after(self, old, new, state, rates, xp):
        return xp.minimum(xp.maximum(new, -rates["limit"]), rates["limit"]), state


@dataclasses.dataclass(frozen=True, eq=False)
class GlorotScale(Rule):
    """BinaryConnect's scale of the learning rate, one number for each kernel.

        c = 1 / sqrt(1.5 / (fan_in + fan_out))
        w = old + c * (new - old)

    The fans are those of Keras' initializers: for a kernel of shape ``(*window, in, out)`` the
    window's size times ``in``, and times ``out``. A depthwise kernel has ``in`` channels by that
    count, though each of its filters sees one. c is 11 for ``(64, 128)`` and 28 for
    ``(3, 3, 64, 64)``: divide the learning rate of another recipe by it. BinaryConnect clips after
    the scale: put ``Clip(1.0)`` after this rule.

    Source: Courbariaux et al., "BinaryConnect", NeurIPS 2015, arXiv 1511.00363; the formula from
    its code (``W_LR_scale = "Glorot"``).
    """

    def after(self, old, new, state, rates, xp):
        fan_in, fan_out = _fans(tuple(new.shape))
        c = 1 / math.sqrt(1.5 / (fan_in + fan_out))
        return old + c * (new - old), state


@dataclasses.dataclass(frozen=True, eq=False)
class Prox(Rule):
    """Brings each weight nearer to -1 or +1, whichever has its sign, by a fixed distance.

        d = abs(new) - 1
        w = sign(new) * (1 + sign(d) * max(abs(d) - rate, 0))

    For real-valued weights that become binary by and by. A weight of exactly 0 stays 0. It is the
    proximal map of ``rate * sum(abs(abs(w) - 1))``.

    Args:
        rate: distance per step, in [0, inf), in units of the weight, or a schedule.

    Raises:
        TypeError: rate is neither a number nor a schedule.
        ValueError: rate outside its interval.

    Source: Bai, Wang and Liberty, "ProxQuant", ICLR 2019, arXiv 1810.00861. There ``rate`` is
    ``learning_rate * 1e-4 * epoch``, epochs counted from 0; with Adam at 0.01, over ``epochs`` that
    are to come and ``n`` steps each:

        schedules.PolynomialDecay(0.0, epochs * n, 0.01 * 1e-4 * epochs)

    which grows at each step where theirs does at each epoch. ``Clip(1.0)`` follows. At a later
    epoch (200 of 300) they set the weights to their signs and freeze them, which no rule does.
    """

    rate: Rate

    intervals = {"rate": NOT_NEGATIVE}

    def after(self, old, new, state, rates, xp):
        d = xp.abs(new) - 1
        left = xp.maximum(xp.abs(d) - rates["rate"], xp.zeros_like(d))
        return xp.sign(new) * (1 + xp.sign(d) * left), state


@dataclasses.dataclass(frozen=True, eq=False)
class Mirror(Rule):
    """Takes the step by ``atanh(w)``, so that weights approach -1 and +1 and never pass them.

        edge = 1 - the spacing of numbers above 1
        w = tanh(atanh(clip(old, -edge, edge)) + beta * (new - old))

    Without the edge a weight that has been rounded to 1 stays there for good, as atanh(1) is
    infinite. With it float32 reads 1 as ``tanh(8.3)``, and -1 likewise. The authors' code adds
    1e-20 to ``1 - w``: by that a weight comes back from +1, from ``tanh(23)``, but never from -1.
    Kernels should start within (-1, 1); the authors start at the tanh of a usual initial value.

    Args:
        beta: gain of the step, in (0, inf), without unit, or a schedule.

    Raises:
        TypeError: beta is neither a number nor a schedule.
        ValueError: beta outside its interval.

    Source: Ajanthan et al., "Mirror Descent View for Neural Network Quantization", AISTATS 2021,
    arXiv 1910.08237, MD-tanh in its form without a second copy of the weights. There beta grows by
    1 % every 100 steps, from 1:

        schedules.ExponentialDecay(1.0, 100, 1.01, staircase=True)

    which float32 can't hold beyond 890,000 steps.
    """

    beta: Rate

    intervals = {"beta": POSITIVE}

    def after(self, old, new, state, rates, xp):
        edge = 1 - _spacing(old)
        inside = xp.minimum(xp.maximum(old, -edge), edge)
        return xp.tanh(_atanh(inside, xp) + rates["beta"] * (new - old)), state


@dataclasses.dataclass(frozen=True, eq=False)
class Concave(Rule):
    """Weights grow by a share of themselves: the step of a concave penalty, ``-rate sum(w^2)``.

        w = new + 2 * rate * new

    It has no end of its own: ``Clip(1.0)`` follows.

    Args:
        rate: per step, in [0, inf), without unit, or a schedule. Not multiplied by the learning
            rate.

    Raises:
        TypeError: rate is neither a number nor a schedule.
        ValueError: rate outside its interval.

    Source: BNEW, Paren and Poudel, "Training Binarized Neural Networks the Easy Way", BMVC 2022,
    formula from its code. There ``rate`` is
    ``r * (l0 - l) / l0`` with the learning rate l, l0 at the start; with one that falls linearly to
    0 over ``steps`` that is ``schedules.PolynomialDecay(0.0, steps, r)``. The size of r depends on
    the script.
    """

    rate: Rate

    intervals = {"rate": NOT_NEGATIVE}

    def after(self, old, new, state, rates, xp):
        return new + 2 * rates["rate"] * new, state


@dataclasses.dataclass(frozen=True, eq=False)
class Metaplastic(Rule):
    """The larger a weight, the slower it shrinks, so that what was learned is not forgotten.

        step = new - old
        w = old + step * (1 - tanh(m * abs(old))^2) where old * step < 0, else new

    Decay that the optimizer applies itself (AdamW) is part of the step.

    Args:
        m: metaplasticity, in [0, inf), per unit of the weight, or a schedule; 0 changes nothing.

    Raises:
        TypeError: m is neither a number nor a schedule.
        ValueError: m outside its interval.

    Source: Laborieux et al., "Synaptic metaplasticity in binarized neural networks", Nature
    Communications 2021, arXiv 2003.03533, m 1.35 with Adam at 5e-3, formula from its code.
    """

    m: Rate = 1.35

    intervals = {"m": NOT_NEGATIVE}

    def after(self, old, new, state, rates, xp):
        step = new - old
        held = xp.tanh(rates["m"] * xp.abs(old))
        return xp.where(old * step < 0, old + step * (1 - held * held), new), state


def _fans(shape: tuple) -> tuple[int, int]:
    """``fan_in, fan_out`` of a kernel, as Keras' initializers count them."""
    *window, fan_in, fan_out = shape if len(shape) > 1 else (math.prod(shape),) * 2
    return math.prod(window) * fan_in, math.prod(window) * fan_out


def _spacing(x) -> float:
    """Of the floating point numbers above 1; of 16 bits those of bfloat16."""
    size = np.dtype(getattr(x.dtype, "as_numpy_dtype", x.dtype)).itemsize
    return {2: 2.0**-7, 4: 2.0**-23, 8: 2.0**-52}[size]


def _atanh(x, xp):
    return np.arctanh(x) if xp is np else xp.atanh(x)
