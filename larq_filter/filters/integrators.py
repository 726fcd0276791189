"""Leaky integrators: momentum and weight decay as Keras and PyTorch write them.

Not an average (``averages.EMA``): the gain is separate from the leak. With constant rates both give
the same signs; with scheduled rates only the integrator follows Keras' velocity, in which the
learning rate of each step stays inside the sum.
"""

import dataclasses

import numpy as np

from larq_filter._validation import POSITIVE, UNIT, Rate
from larq_filter.filters._base import Filter
from larq_filter.filters.compensation import accumulate, is_compensated, state_of_sum


@dataclasses.dataclass(frozen=True, eq=False)
class LeakyIntegrator(Filter):
    """A running sum that forgets a share of itself at each step.

        y = y + (gain * x - leak * y)

    State: the sum y. Transfer function ``gain / (1 - (1 - leak) z^-1)``, gain ``gain/leak`` at
    frequency zero, time constant ``1/leak`` steps. ``leak = 0`` is a plain accumulator: nothing is
    ever forgotten (latent SGD without weight decay). ``gain = leak = alpha`` is ``EMA(alpha)``.

    Args:
        gain: factor on the gradient, in (0, inf), or a schedule.
        leak: share forgotten per step, in [0, 1], or a schedule.
        compensated: as in ``EMA``: None compensates a constant leak below 1e-5.

    Raises:
        TypeError: a rate is neither a number nor a schedule.
        ValueError: a rate outside its interval.
    """

    gain: Rate
    leak: Rate
    compensated: bool | None = None

    intervals = {"gain": POSITIVE, "leak": UNIT}
    order = 1

    def __post_init__(self):
        super().__post_init__()
        is_compensated(self.compensated, self.leak)  # raises what is neither True, False nor None

    @property
    def state_size(self) -> int:
        return 1 + is_compensated(self.compensated, self.leak)

    def step(self, x, state, rates, xp):
        y = state[0]
        state = accumulate(state, rates["gain"] * x - rates["leak"] * y)
        return state[0], state

    def state_from_output(self, output, xp):
        return state_of_sum(output, self.state_size, xp)

    def sos(self, step: int = 0) -> np.ndarray:
        rates = self.rates_at(step)
        return np.array([[rates["gain"], 0.0, 0.0, 1.0, rates["leak"] - 1.0, 0.0]])
