"""The scalar Kalman filter of Filter Gradient Descent."""

import dataclasses

import numpy as np

from larq_filter._validation import Interval, validate_number
from larq_filter.filters._base import Filter

VARIANCE = Interval(1e-30, 1e30)  # float32 holds these, and their products with a transition^2
INITIAL_VARIANCE = Interval(0.0, 1e30)
TRANSITION = Interval(-1e3, 1e3)


@dataclasses.dataclass(frozen=True, eq=False)
class Kalman(Filter):
    """Kalman filter of one number per weight: how much a gradient is worth depends on the step.

        y = transition * y
        P = transition^2 * P + process_variance
        K = P / (measurement_variance + P)
        y = y + K * (x - y)
        P = (1 - K) * P

    The model behind it: the true gradient is multiplied by ``transition`` at each step and
    disturbed with ``process_variance``; what is measured is that, disturbed with
    ``measurement_variance``.

    State: y, and the variance P of its error, one scalar for all weights of a kernel, since neither
    P nor the gain K depends on the gradients. So the filter is linear, and an ``EMA`` whose alpha
    is K when ``transition`` is 1. Transfer function with the gain of a step held:
    ``K / (1 - transition (1 - K) z^-1)``, gain ``K / (1 - transition (1 - K))`` at frequency zero,
    which is not 1 unless ``transition`` is.

    K falls or rises to a limit, at which ``abs(transition) (1 - K) < 1`` whatever the variances. On
    the way it may be above 1: with the published numbers K is 0.12, 0.74, 0.95, 0.96, ... and the
    pole 4.4, 1.3, 0.26, 0.20, ... So ask ``analysis`` for a later step than 0, as
    ``analysis.cutoff(f, step=1000)``; what never settles has no flip ratio. A small K, where
    process_variance is much less than measurement_variance, makes a long memory, and float32 then
    holds K to about ``2e-8 / K`` of itself.

    Args:
        process_variance: sQ of the source, in [1e-30, 1e30], in squared units of the gradient.
        measurement_variance: sR, in the same interval and unit. Only ratios of the three variances
            matter.
        transition: c, in [-1000, 1000]. 0 forgets everything at each step.
        initial_variance: P_0, in [0, 1e30].

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument outside its interval.

    Source: Yang, "Filter gradient descent", 2020; the defaults are its numbers.
    """

    process_variance: float = 0.01
    measurement_variance: float = 2.0
    transition: float = 5.0
    initial_variance: float = 0.01

    order = 1
    state_size = 2

    def __post_init__(self):
        intervals = {
            "process_variance": VARIANCE,
            "measurement_variance": VARIANCE,
            "transition": TRANSITION,
            "initial_variance": INITIAL_VARIANCE,
        }
        for name, interval in intervals.items():
            value = validate_number(name, getattr(self, name), interval)
            object.__setattr__(self, name, value)

    def zero_state(self, like, xp):
        return (xp.zeros_like(like), self._initial_variance(like, xp))

    def _initial_variance(self, like, xp):
        # By way of one dimension: NumPy before 2.0 makes float64 of a float32 scalar and a float.
        return xp.reshape(xp.zeros([1], like.dtype) + self.initial_variance, [])

    def _gain(self, variance):
        """``(K, P)`` of this step from the P of the step before; numbers, arrays or tensors."""
        variance = self.transition**2 * variance + self.process_variance
        gain = variance / (self.measurement_variance + variance)
        return gain, (1 - gain) * variance

    def _variance_before(self, step: int) -> float:
        """P when ``step`` begins, without going through all steps before.

        In units of measurement_variance a step takes P to
        ``(c^2 P + q) / (c^2 P + q + 1)``, a quotient of two sums; steps in a row are a product of
        2 x 2 matrices, and ``step`` of them a power. Nothing cancels, all numbers are positive.
        """
        c2, q = self.transition**2, self.process_variance / self.measurement_variance
        power = np.array([[c2, q], [c2, q + 1]])
        variance = np.array([self.initial_variance / self.measurement_variance, 1.0])
        while step:
            if step % 2:
                variance = power @ variance
                variance /= np.sum(variance)
            power = power @ power
            power /= np.sum(power)
            step //= 2
        return float(variance[0] / variance[1]) * self.measurement_variance

    def step(self, x, state, rates, xp):
        y, variance = state
        gain, variance = self._gain(variance)
        y = self.transition * y
        y = y + gain * (x - y)
        return y, (y, variance)

    def state_from_output(self, output, xp):
        """The state whose last output was ``output``, P as at the beginning."""
        return (output, self._initial_variance(output, xp))

    def sos(self, step: int = 0) -> np.ndarray:
        if step < 0:
            raise ValueError(f"`step` is {step}; training steps are counted from 0.")
        gain, _ = self._gain(self._variance_before(int(step)))
        return np.array([[gain, 0.0, 0.0, 1.0, -self.transition * (1 - gain), 0.0]])
