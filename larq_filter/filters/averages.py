"""Exponential moving averages: the filters that stand behind latent SGD.

``EMA`` is what weight decay does to the gradients, ``CascadedEMA`` what weight decay and momentum
do together (Quist, Li and van Gemert, ICLR 2023, arXiv 2303.02452).

Do not mix up an average and an integrator: ``EMA`` weighs the newest gradient with ``alpha`` and
has gain 1 at frequency zero, momentum as in ``SGD(momentum=...)`` adds the newest gradient whole
(``LeakyIntegrator``). Their signs agree while the rates are constant, and only then.
"""

import dataclasses

import numpy as np

from larq_filter._validation import UP_TO_ONE, Rate
from larq_filter.filters._base import Filter
from larq_filter.filters.compensation import accumulate, is_compensated, state_of_sum


@dataclasses.dataclass(frozen=True, eq=False)
class EMA(Filter):
    """Exponential moving average, the first-order filter.

        y = y + alpha * (x - y)

    State: the average y. Transfer function ``alpha / (1 - (1 - alpha) z^-1)``, gain 1 at frequency
    zero, time constant ``1/alpha`` steps. With ``flips.Threshold`` this is Bop, whose ``gamma`` is
    this ``alpha``.

    In float32 a constant input stops moving the average once ``alpha * (x - y)`` is less than half
    of y's last digit: at alpha 1e-7 the step response stops near 0.7. ``compensated=True`` keeps
    the rounding error of the sum in a second state array (Kahan), so that it does not; without it
    the step response ends within ``2^-24 / alpha`` of 1.

    Args:
        alpha: adaptation rate, in (0, 1], or a schedule.
        compensated: carry the rounding error along (4 more bytes per weight). None: only for a
            constant alpha below 1e-5, where it is needed.

    Raises:
        TypeError: alpha is neither a number nor a schedule.
        ValueError: alpha outside its interval.

    Example:
        >>> y, state = EMA(0.5).run([1.0, 1.0, 1.0])
        >>> y.tolist()
        [0.5, 0.75, 0.875]
    """

    alpha: Rate
    compensated: bool | None = None

    intervals = {"alpha": UP_TO_ONE}
    order = 1

    def __post_init__(self):
        super().__post_init__()
        is_compensated(self.compensated, self.alpha)  # raises what is neither True, False nor None

    @property
    def state_size(self) -> int:
        return 1 + is_compensated(self.compensated, self.alpha)

    def step(self, x, state, rates, xp):
        y = state[0]
        state = accumulate(state, rates["alpha"] * (x - y))
        return state[0], state

    def state_from_output(self, output, xp):
        return state_of_sum(output, self.state_size, xp)

    def sos(self, step: int = 0) -> np.ndarray:
        alpha = self.rates_at(step)["alpha"]
        return np.array([[alpha, 0.0, 0.0, 1.0, alpha - 1.0, 0.0]])


@dataclasses.dataclass(frozen=True, eq=False)
class CascadedEMA(Filter):
    """Two moving averages in series, the second-order filter of the paper.

        m = m + gamma * (x - m)
        y = y + alpha * (m - y)

    State: m and y. Transfer function
    ``alpha gamma / ((1 - (1 - alpha) z^-1) (1 - (1 - gamma) z^-1))``, gain 1 at frequency zero.
    ``gamma = 1`` is ``EMA(alpha)``. In the language of latent weights gamma is ``1 - momentum`` and
    alpha is ``learning rate * weight decay`` (decoupled decay). Keyword-only, since the ``gamma``
    of Bop is the ``alpha`` here.

    Args:
        alpha: adaptation rate, in (0, 1], or a schedule; ``1/alpha`` is the memory in steps.
        gamma: smoothing of the gradient before it, in (0, 1], or a schedule.
        compensated: as in ``EMA``, for both stages.

    Raises:
        TypeError: a rate is neither a number nor a schedule.
        ValueError: a rate outside its interval.

    Source: Quist, Li and van Gemert, ICLR 2023, arXiv 2303.02452, section 3.
    """

    _: dataclasses.KW_ONLY
    alpha: Rate
    gamma: Rate
    compensated: bool | None = None

    intervals = {"alpha": UP_TO_ONE, "gamma": UP_TO_ONE}
    order = 2

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "_stages", (self._stage(self.gamma), self._stage(self.alpha)))

    def _stage(self, rate: Rate) -> EMA:
        return EMA(rate, self.compensated)

    @property
    def state_size(self) -> int:
        return sum(stage.state_size for stage in self._stages)

    def step(self, x, state, rates, xp):
        smoothing, memory = self._stages
        split = smoothing.state_size
        m, first = smoothing.step(x, state[:split], {"alpha": rates["gamma"]}, xp)
        y, second = memory.step(m, state[split:], {"alpha": rates["alpha"]}, xp)
        return y, first + second

    def state_from_output(self, output, xp):
        smoothing, memory = self._stages
        return smoothing.zero_state(output, xp) + memory.state_from_output(output, xp)

    def sos(self, step: int = 0) -> np.ndarray:
        return np.concatenate([stage.sos(step) for stage in self._stages])
