"""Filters in direct form: their numbers weigh past gradients (FIR, MA) or past signals (AR).

Kept as they are given. Second-order sections of them exist (``sos``), by the roots of a polynomial
of their whole length: of 256 taps a moving average comes back wrong by 6e-5, a Hamming low pass by
1e-3, and a Hann window by a factor of 1e22.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from larq_filter._validation import MOST_NUMBERS, validate_integer, validate_numbers
from larq_filter.filters._base import Filter
from larq_filter.filters.transfer import DirectForm, Transfer

LONGEST_FEEDBACK = 128
ZERO_GAIN = 1e-15
"""A sum of taps below this share of their sizes is all rounding."""


@dataclasses.dataclass(frozen=True, eq=False)
class FIR(Filter):
    """Finite impulse response: a weighted sum of the last gradients.

        y_t = sum_i taps[i] * x_{t-i}

    State: the last ``len(taps) - 1`` gradients, the newest first. That is its price: each is an
    array like the kernel, 4 bytes per weight and tap in float32, where an average of any memory has
    one. A kernel of a million weights with 256 taps needs 1 GB, and each step moves all of it.

    Its memory is ``len(taps)`` steps and then nothing is left. Transfer function
    ``sum_i taps[i] z^-i``, gain ``sum_i taps[i]`` at frequency zero. Any design of
    ``scipy.signal.firwin`` fits; it delays by half its length, since a gradient filter can't look
    ahead.

    Args:
        taps: finite numbers, the weight of the newest gradient first; not all 0, at most 4,096.

    Raises:
        TypeError: the taps are not a list of numbers.
        ValueError: no tap, a tap that is not finite, all taps 0.

    Example:
        >>> y, state = FIR([0.5, 0.25]).run([1.0, 0.0, 4.0])
        >>> y.tolist()
        [0.5, 0.25, 2.0]
    """

    taps: Sequence[float]

    def __post_init__(self):
        taps = validate_numbers("taps", self.taps, "[0.5, 0.25]")
        if not any(taps):
            raise ValueError(f"All {len(taps)} `taps` are 0: no gradient would reach the signal.")
        object.__setattr__(self, "taps", taps)

    def get_config(self) -> dict:
        return {"taps": list(self.taps)}

    @property
    def order(self) -> int:
        return len(self.taps) - 1

    def step(self, x, state, rates, xp):
        last = (x, *state)
        y = self.taps[0] * last[0]
        for tap, past in zip(self.taps[1:], last[1:], strict=True):
            y = y + tap * past
        return y, last[: self.order]

    def state_from_output(self, output, xp):
        """The state after a constant input that has held the output at ``output``.

        Raises:
            ValueError: the gain at frequency zero is 0: no constant input gives it.
        """
        gain = sum(self.taps)
        if abs(gain) <= ZERO_GAIN * sum(map(abs, self.taps)):
            raise ValueError(
                "The taps add up to 0, so no constant input holds a given output. "
                "Start the filter from zero."
            )
        return (output / gain,) * self.order

    def sos(self, step: int = 0) -> np.ndarray:
        """SciPy's sections by the roots of the taps.

        Their output is within 1e-10 of the largest up to 32 taps, within 1e-7 at 64, and useless at
        256: run the filter itself.
        """
        return self.transfer().sos()

    def transfer(self, step: int = 0) -> Transfer:
        taps = np.array(self.taps)
        return DirectForm(taps, np.eye(1, len(taps))[0])


@dataclasses.dataclass(frozen=True, eq=False)
class AR(Filter):
    """Autoregressive filter, the AR(p) of Filter Gradient Descent.

        y_t = x_t + sum_i coefficients[i] * y_{t-1-i}

    State: the last p signals, the newest first. Transfer function
    ``1 / (1 - sum_i coefficients[i] z^(-1-i))``, gain ``1 / (1 - sum_i coefficients[i])`` at
    frequency zero: 10 for either published setting.

    ``AR([b])`` is ``LeakyIntegrator(gain=1, leak=1-b)``, which takes schedules and keeps its digits
    for b near 1. Here float32 holds b with an error of 2^-25, and the memory ``1/(1 - b)`` is wrong
    by that times itself. Measured in float32 over the largest output, for a constant gradient: 7e-7
    at b = 0.9, 2e-5 at 0.999, 6e-4 at 0.9999.

    Args:
        coefficients: b_1, b_2, ..., finite, at most 128. Published: ``[0.9]`` and ``[0.8, 0.1]``.

    Raises:
        TypeError: the coefficients are not a list of numbers.
        ValueError: none, one that is not finite, or a pole not strictly inside the unit circle;
            names the largest radius.

    Source: Yang, "Filter gradient descent", 2020.
    """

    coefficients: Sequence[float]

    def __post_init__(self):
        coefficients = validate_numbers("coefficients", self.coefficients, "[0.8, 0.1]")
        if len(coefficients) > LONGEST_FEEDBACK:
            raise ValueError(
                f"`coefficients` has {len(coefficients)} numbers; at most {LONGEST_FEEDBACK} are "
                "allowed: the poles of more can't be told from each other."
            )
        object.__setattr__(self, "coefficients", coefficients)
        distance = self.transfer().distance
        if not distance > 0:
            raise ValueError(
                f"The largest pole of AR({list(coefficients)}) has radius {1 - distance:.9g}; all "
                "poles must lie strictly inside the unit circle, or the signal never forgets. "
                "Make the coefficients smaller; a plain sum is LeakyIntegrator(gain=1, leak=0)."
            )

    def get_config(self) -> dict:
        return {"coefficients": list(self.coefficients)}

    @property
    def order(self) -> int:
        return len(self.coefficients)

    def step(self, x, state, rates, xp):
        y = x
        for coefficient, past in zip(self.coefficients, state, strict=True):
            y = y + coefficient * past
        return y, (y, *state)[: self.order]

    def state_from_output(self, output, xp):
        """The state after a constant input that has held the output at ``output``."""
        return (output,) * self.order

    def sos(self, step: int = 0) -> np.ndarray:
        return self.transfer().sos()

    def transfer(self, step: int = 0) -> Transfer:
        b = np.eye(1, self.order + 1)[0]
        return DirectForm(b, np.array([1.0, *(-c for c in self.coefficients)]))


def MA(coefficients: Sequence[float]) -> FIR:  # noqa: N802
    """The MA(q) of Filter Gradient Descent: ``y_t = x_t + sum_i coefficients[i] * x_{t-1-i}``.

    Not an average but a sum: ``FIR([1, *coefficients])``, gain ``1 + sum_i coefficients[i]``. The
    mean of the last gradients is ``moving_average``.

    Source: Yang, "Filter gradient descent", 2020.
    """
    return FIR((1.0, *validate_numbers("coefficients", coefficients, "[0.5, 0.25]")))


def moving_average(length: int) -> FIR:
    """The mean of the last ``length`` gradients, ``FIR([1/length] * length)``.

    Args:
        length: an integer in [1, 4096]; one epoch of it is as many arrays as the epoch has steps.

    Raises:
        TypeError: not an integer.
        ValueError: less than 1, more than 4,096.
    """
    length = validate_integer("length", length, high=MOST_NUMBERS)
    return FIR((1.0 / length,) * length)
