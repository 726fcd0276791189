"""Non-linear filters: normalised averages, limiters, integrators that start again.

They have no sections and no frequency response; ``analysis`` says so. Their state may hold scalars
beside arrays: numbers that all weights of a kernel share.
"""

import dataclasses

from larq_filter._validation import (
    POSITIVE,
    UNIT,
    UP_TO_ONE,
    Rate,
    validate_constant,
    validate_flag,
    validate_rate,
)
from larq_filter.filters._base import Filter
from larq_filter.filters.averages import EMA


@dataclasses.dataclass(frozen=True, eq=False)
class NormalizedEMA(Filter):
    """Moving average of the gradient, in units of the gradient's own root mean square.

        m = m + alpha * (x - m)
        v = v + sigma * (x * x - v)
        y = m / (sqrt(v) + epsilon)

    and with ``bias_correction``, where p and q are the shares of the two averages that gradients
    have filled, 1 minus the product of all (1 - rate) so far, whether or not a rate is scheduled:

        p = p + alpha * (1 - p)
        q = q + sigma * (1 - q)
        y = (m / p) / (sqrt(v / q) + epsilon)

    State: m and v, then the scalars p and q. A factor on all gradients changes nothing as long as
    sqrt(v) is far above epsilon, so a threshold on y has no unit. At constant rates the correction
    is one gain for all weights, which fades after ``1/alpha`` and ``1/sigma`` steps: it matters for
    a threshold and not for a sign. It can't be started from a given output (``warm_start``):
    an output leaves open how large the gradients were.

    Args:
        alpha: adaptation rate of m, in (0, 1], or a schedule; the ``gamma`` of Bop2ndOrder.
        sigma: adaptation rate of v, in (0, 1], or a schedule.
        epsilon: keeps the division finite, in (0, inf), in units of the gradient.
        bias_correction: the "unbiased" variant.
        compensated: as in ``EMA``, for both averages.

    Raises:
        TypeError: a rate is neither a number nor a schedule.
        ValueError: a number outside its interval.

    Example:
        >>> y, state = NormalizedEMA(alpha=0.5, sigma=0.25).run([2.0])
        >>> y.tolist()  # m = 1, v = 1
        [0.9999999999]

    Source: Suarez-Ramirez et al., 2021, arXiv 2104.05124.
    """

    _: dataclasses.KW_ONLY
    alpha: Rate
    sigma: Rate
    epsilon: float = 1e-10
    bias_correction: bool = False
    compensated: bool | None = None

    intervals = {"alpha": UP_TO_ONE, "sigma": UP_TO_ONE}
    order = 2

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "epsilon", validate_constant("epsilon", self.epsilon, POSITIVE))
        validate_flag("bias_correction", self.bias_correction)
        averages = EMA(self.alpha, self.compensated), EMA(self.sigma, self.compensated)
        object.__setattr__(self, "_averages", averages)

    @property
    def state_size(self) -> int:
        first, second = self._averages
        return first.state_size + second.state_size + 2 * self.bias_correction

    def zero_state(self, like, xp) -> tuple:
        first, second = self._averages
        shares = (xp.zeros((), like.dtype),) * (2 * self.bias_correction)
        return first.zero_state(like, xp) + second.zero_state(like, xp) + shares

    def step(self, x, state, rates, xp):
        first, second = self._averages
        split, end = first.state_size, first.state_size + second.state_size
        m, of_mean = first.step(x, state[:split], {"alpha": rates["alpha"]}, xp)
        v, of_power = second.step(x * x, state[split:end], {"alpha": rates["sigma"]}, xp)
        v = xp.maximum(v, xp.zeros_like(v))  # a compensated sum may end a rounding below 0
        shares = state[end:]
        if self.bias_correction:
            p, q = shares
            p = p + rates["alpha"] * (1 - p)
            q = q + rates["sigma"] * (1 - q)
            m, v, shares = m / _or_one(p, xp), v / _or_one(q, xp), (p, q)
        y = m / (xp.sqrt(v) + self.epsilon)
        return y, of_mean + of_power + shares


def _or_one(share, xp):
    """``share``; 1 while a schedule that starts at 0 has let no gradient in."""
    return xp.where(share > 0, share, xp.ones_like(share))


@dataclasses.dataclass(frozen=True, eq=False)
class Limiter(Filter):
    """Keeps the sign and throws the magnitude away: a hard limiter between two stages.

        y = level * sign(x)

    State: none. An outlier counts as one vote, like every other gradient. With level 1 the outputs
    are -1, 0 (only for an input of 0) and +1.

    Args:
        level: in (0, inf), or a schedule; what the next stage sees, in its units.

    Raises:
        TypeError: level is neither a number nor a schedule.
        ValueError: level outside its interval.

    Source: between the two averages of Diode, Guo et al., "Enhancing Optimization Robustness in
    1-bit Neural Networks through Stochastic Sign Descent", ECCV 2024.
    """

    level: Rate = 1.0

    intervals = {"level": POSITIVE}
    order = 0

    def step(self, x, state, rates, xp):
        return rates["level"] * xp.sign(x), state


@dataclasses.dataclass(frozen=True, eq=False)
class ResettingIntegrator(Filter):
    """A leaky integrator that starts again from 0 where the weight has flipped.

        y = y + (gain * x - leak * y)
        y = 0 where flipped

    With ``flips.Fire`` this is a leaky integrate-and-fire neuron. With ``leak=None`` the memory
    lengthens itself as training calms down: the leak is the share of the kernel's weights that
    flipped in the last step (0 before the first).

    State: the sum y, and for ``leak=None`` that share, a scalar.

    Args:
        gain: factor on the gradient, in (0, inf), or a schedule.
        leak: share forgotten per step, in [0, 1], or a schedule; 0 is a plain integrator, None the
            share that flipped in the last step.

    Raises:
        TypeError: a rate is neither a number nor a schedule.
        ValueError: a rate outside its interval.

    Source: the accumulator of BOLD, Nguyen et al., NeurIPS 2024, arXiv 2405.16339, whose beta is
    ``1 - leak`` and whose eta is the gain.
    """

    gain: Rate
    leak: Rate | None = None

    order = 1

    def __post_init__(self):
        object.__setattr__(self, "gain", validate_rate("gain", self.gain, POSITIVE))
        if self.leak is not None:
            object.__setattr__(self, "leak", validate_rate("leak", self.leak, UNIT))

    def rates(self) -> dict[str, Rate]:
        return {"gain": self.gain} if self.leak is None else {"gain": self.gain, "leak": self.leak}

    @property
    def state_size(self) -> int:
        return 2 if self.leak is None else 1

    def zero_state(self, like, xp) -> tuple:
        return self.state_from_output(xp.zeros_like(like), xp)

    def state_from_output(self, output, xp) -> tuple:
        return (output, xp.zeros((), output.dtype)) if self.leak is None else (output,)

    def step(self, x, state, rates, xp):
        y, *flipped_share = state
        leak = rates["leak"] if self.leak is not None else flipped_share[0]
        y = y + (rates["gain"] * x - leak * y)
        return y, (y, *flipped_share)

    def feedback(self, state, flipped, xp):
        y = xp.where(flipped, xp.zeros_like(state[0]), state[0])
        if self.leak is not None:
            return (y,)
        # Two sums and one division are the same bits in NumPy, in TensorFlow and compiled; a mean
        # is not.
        total = getattr(xp, "reduce_sum", None) or xp.sum
        ones = xp.ones_like(y)
        return y, total(xp.where(flipped, ones, xp.zeros_like(y))) / total(ones)
