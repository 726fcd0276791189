"""Second-order filters whose poles may be complex: any fixed design, and momentum with a spring.

``SecondOrderSections`` takes whatever ``scipy.signal`` designs (``butter(..., output="sos")``) and
keeps it fixed. What changes during training is a cascade of averages (``averages``), or this:

``HeavyBall`` is latent SGD with momentum and an L2 penalty, seen from the gradient. There the
weight decay acts through the velocity, so the two stages are not in series but in a loop. It can be
forced into ``CascadedEMA`` with rates that remember each other, ``alpha_t = eps_t lambda +
mu alpha_{t-1} / (1 - alpha_{t-1})`` and ``gamma_t = eps_t lambda / alpha_t``. Rejected: a schedule
with memory has no value at a given step but by running through all steps before it, and when the
poles are complex it has no real value at all. The loop itself needs no memory in its rates, is
exact for every schedule, and its sections are known at each step.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from larq_filter._validation import (
    POSITIVE,
    UP_TO_ONE,
    Rate,
    is_schedule,
    shown,
    validate_flag,
)
from larq_filter.filters._base import Filter
from larq_filter.filters.compensation import accumulate, is_compensated, state_of_sum
from larq_filter.filters.delta import (
    DeltaSections,
    normalized,
    refuse_unstable,
    slowest,
    validate_shape,
)
from larq_filter.filters.roots import to_delta


@dataclasses.dataclass(frozen=True, eq=False)
class SecondOrderSections(Filter):
    """Any fixed linear filter, as SciPy's second-order sections.

    Each row ``b0, b1, b2, 1, a1, a2`` is one section, and the signal of one is the input of the
    next. Run as ``DeltaSections``, with ``c1 = 2 + a1``, ``c0 = 1 + a1 + a2``, ``e1 = 2 b0 + b1``
    and ``e0 = b0 + b1 + b2``:

        y = b0 * x + s1
        s1 = s1 + (e1 * x - c1 * y + s2)
        s2 = s2 + (e0 * x - c0 * y)

    State: s1 and s2 of each section, in order; a section with ``b2 = a2 = 0`` is of first order and
    has no s2. Transfer function ``(b0 + b1 z^-1 + b2 z^-2) / (1 + a1 z^-1 + a2 z^-2)``, as
    ``scipy.signal.sosfilt``.

    Why not SciPy's own recursion (direct form II transposed): slow filters have poles close to 1,
    ``1 + a1 + a2`` is of the size of the squared cutoff, and float32 can't hold it as a difference
    of numbers near 2. Largest error in float32 against float64, over the largest output, of a
    Butterworth filter of order 2 (at most 300,000 steps):

    | cutoff, cycles per step | 1e-1 | 1e-2 | 1e-3 | 1e-4 | 1e-5 | 1e-6 |
    |---|---|---|---|---|---|---|
    | direct form, noise | 2e-7 | 5e-6 | 8e-4 | 4e-2 | diverges | 1 |
    | direct form, step | 2e-7 | 2e-5 | 6e-3 | 0.1 | diverges | 1 |
    | increments, noise | 2e-7 | 2e-7 | 4e-7 | 2e-6 | 5e-6 | 9e-6 |
    | increments, step | 1e-7 | 4e-7 | 5e-6 | 6e-5 | 6e-4 | 1e-4 |
    | increments, compensated, both | 2e-7 | 1e-7 | 2e-7 | 1e-7 | 1e-7 | 1e-7 |

    In float64 the increments are the more exact as well: at cutoff 1e-4 7e-14 for the step, SciPy's
    recursion 1e-9. The coefficients themselves are rounded; ``butterworth`` and the other designs
    give them to ``DeltaSections`` before they are.

    The coefficients are constants: what a section with moving poles does depends on its
    realisation. For a rate that decays during training use ``EMA``, ``CascadedEMA`` or a
    ``Cascade`` of them, which take schedules.

    Args:
        coefficients: second-order sections, shape (sections, 6). Each row is divided by its a0.
        compensated: as in ``DeltaSections``.

    Raises:
        TypeError: the coefficients are not numbers.
        ValueError: another shape, numbers that are not finite, a0 of 0, or a pole not strictly
            inside the unit circle; names the largest radius.

    Example:
        >>> SecondOrderSections(scipy.signal.butter(2, 1e-3, fs=1.0, output="sos")).order
        2
    """

    coefficients: Sequence[Sequence[float]]
    compensated: bool | None = None

    def __post_init__(self):
        rows = _validate_sections(self.coefficients)
        object.__setattr__(self, "coefficients", tuple(tuple(row) for row in rows.tolist()))
        object.__setattr__(self, "_delta", DeltaSections(to_delta(rows), self.compensated))

    def get_config(self) -> dict:
        rows = [list(row) for row in self.coefficients]
        return {"coefficients": rows, "compensated": self.compensated}

    @property
    def order(self) -> int:
        return self._delta.order

    @property
    def state_size(self) -> int:
        return self._delta.state_size

    def step(self, x, state, rates, xp):
        return self._delta.step(x, state, rates, xp)

    def state_from_output(self, output, xp):
        """As ``DeltaSections.state_from_output``."""
        return self._delta.state_from_output(output, xp)

    def sos(self, step: int = 0) -> np.ndarray:
        return np.array(self.coefficients)


@dataclasses.dataclass(frozen=True, eq=False)
class HeavyBall(Filter):
    """Momentum with a spring: latent SGD with an L2 penalty inside the gradient.

        pull = gain * (x - y)
        u = u + (pull - leak * u)
        y = y + rate * u

    A ball y with velocity u is pulled towards the gradient x and slowed down by friction. With
    ``nesterov`` the last line is ``y = y + rate * (pull + (1 - leak) * u)``.

    State: u and y. Gain 1 at frequency zero. Transfer function, with ``k = gain * rate``:
    ``k / (1 + (k + leak - 2) z^-1 + (1 - leak) z^-2)``. Its poles are complex, and the answer to a
    step overshoots, when ``(leak + k)^2 < 4 k``; else, at constant rates, it is a ``CascadedEMA``
    with ``alpha gamma = k`` and ``alpha + gamma = leak + k``.

    The latent weight is ``w = -y / lambda``, with leak = 1 - momentum and a_t = eps_t lambda:

    | velocity of latent SGD | gain | rate |
    |---|---|---|
    | Keras, ``u = mu u + eps_t g`` | a_t | 1 |
    | PyTorch, ``u = mu u + g`` | 1 | a_t |
    | normalised, ``u = mu u + (1 - mu) g`` | 1 - mu | a_t |

    Args:
        gain: of the velocity, in (0, inf), or a schedule.
        leak: share of the velocity lost per step, in (0, 1], or a schedule.
        rate: how far the velocity moves the output, in (0, inf), or a schedule.
        nesterov: look one step ahead, as ``SGD(nesterov=True)`` does.
        compensated: carry the rounding errors along (``EMA``), one more array for each of u and y.
            None: only for constant rates with a pole closer than 1e-5 to the unit circle.

    Raises:
        TypeError: a rate is neither a number nor a schedule.
        ValueError: a rate outside its interval, or a pole not strictly inside the unit circle
            (schedules: at step 0).
    """

    _: dataclasses.KW_ONLY
    gain: Rate
    leak: Rate
    rate: Rate = 1.0
    nesterov: bool = False
    compensated: bool | None = None

    intervals = {"gain": POSITIVE, "leak": UP_TO_ONE, "rate": POSITIVE}
    order = 2

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "nesterov", validate_flag("nesterov", self.nesterov))
        rows = to_delta(self.sos())
        if 0 not in self.rates_at(0).values():  # where a schedule warms up
            refuse_unstable(rows, "Lower gain * rate: learning rate times weight decay.")
        constant = not any(is_schedule(rate) for rate in self.rates().values())
        compensate = is_compensated(self.compensated, slowest(rows) if constant else None)
        object.__setattr__(self, "_compensate", compensate)

    @property
    def state_size(self) -> int:
        return 4 if self._compensate else 2

    def step(self, x, state, rates, xp):
        half = self.state_size // 2
        velocity, output = state[:half], state[half:]
        pull = rates["gain"] * (x - output[0])
        velocity = accumulate(velocity, pull - rates["leak"] * velocity[0])
        u = velocity[0]
        move = pull + (1 - rates["leak"]) * u if self.nesterov else u
        output = accumulate(output, rates["rate"] * move)
        return output[0], velocity + output

    def state_from_output(self, output, xp):
        half = self.state_size // 2
        still = state_of_sum(xp.zeros_like(output), half, xp)
        return still + state_of_sum(output, half, xp)

    def sos(self, step: int = 0) -> np.ndarray:
        gain, leak, rate = self.rates_at(step).values()
        k, mu = gain * rate, 1 - leak
        if self.nesterov:
            return np.array([[k * (1 + mu), -k * mu, 0.0, 1.0, (k - 1) * (1 + mu), mu * (1 - k)]])
        return np.array([[k, 0.0, 0.0, 1.0, k - 1 - mu, mu]])


def _validate_sections(coefficients) -> np.ndarray:
    """``coefficients`` as float64 of shape (sections, 6) with a0 = 1."""
    design = 'as from scipy.signal.butter(2, 1e-3, fs=1.0, output="sos")'
    rows = validate_shape(coefficients, design)
    if np.any(rows[:, 3] == 0):
        raise ValueError(
            "a0, the fourth number of each row of `coefficients`, must be finite and not 0: "
            "without it the filter is not causal, its signal would need gradients of later steps. "
            f"Received {shown(rows.tolist())}."
        )
    return normalized(rows, rows[:, 3])
