"""What a filter does, in numbers: frequency and impulse response, memory, expected flip ratio.

Everything is computed from ``f.transfer(step)`` of the same filter that trains, with the rates held
as they are at that step of a schedule. Frequencies are in cycles per step, 0 to 0.5, or in cycles
per epoch where ``steps_per_epoch`` is given. Filters that are not linear have no transfer function
and raise its ValueError.

The numerics, polynomials in ``z - 1``, are in ``state_space``.
"""

import math
from typing import Any

import numpy as np
import scipy

from larq_filter import filters
from larq_filter._validation import validate_integer
from larq_filter.filters.state_space import (
    energies,
    forgetting,
    impulse_samples,
    log_slope,
    responding,
    response,
    summed,
    transfer_of,
)

DEFAULT_FREQUENCIES = 1001  # logarithmic, 115 a decade
LOWEST_FREQUENCY = 1e-9  # cycles per step; the cutoff of EMA(1e-6) is 1.6e-7
MOST_STEPS = 10**12  # a million times the longest run
LONGEST_RESPONSE = 10_000_000  # samples of a response that nobody gave a length


def frequency_response(
    f: filters.Filter, frequencies: Any = None, step: int = 0, steps_per_epoch: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The complex gain at each frequency, ``H(z)`` at ``z = exp(2 pi j frequency)``.

    Args:
        f: a linear filter.
        frequencies: array of any shape, in [0, 0.5] cycles per step, or in
            [0, steps_per_epoch/2] cycles per epoch. None: 1,001 logarithmic ones from 1e-9 cycles
            per step (far below the cutoff of any alpha above 1e-6) to the highest.
        step: the training step that schedules are read at, from 0.
        steps_per_epoch: None for cycles per step, a positive number for cycles per epoch.

    Returns:
        ``(frequencies, response)``, float64 and complex128 of the same shape. At frequency 0 an
        accumulator has response ``inf``.

    Raises:
        TypeError: ``f`` is not a filter.
        ValueError: the filter is not linear, a frequency lies outside its interval, ``step`` or
            ``steps_per_epoch`` is not positive.
    """
    transfer = responding(f, step, "frequency response")
    frequencies, d = _grid(frequencies, steps_per_epoch)
    return frequencies, response(transfer, d)


def gain(
    f: filters.Filter, frequencies: Any = None, step: int = 0, steps_per_epoch: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """``(frequencies, abs(response))``; arguments and errors as in ``frequency_response``."""
    frequencies, values = frequency_response(f, frequencies, step, steps_per_epoch)
    return frequencies, np.abs(values)


def phase(
    f: filters.Filter, frequencies: Any = None, step: int = 0, steps_per_epoch: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """``(frequencies, phase)`` in radians, negative where the signal lags behind the gradient.

    Unwrapped along the last axis, so ``frequencies`` should ascend. Arguments and errors as in
    ``frequency_response``.
    """
    frequencies, values = frequency_response(f, frequencies, step, steps_per_epoch)
    return frequencies, np.unwrap(np.angle(values))


def group_delay(
    f: filters.Filter, frequencies: Any = None, step: int = 0, steps_per_epoch: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """``(frequencies, delay)``, the delay in steps that each frequency suffers.

        delay = -d phase / d omega = -Re(z d/dz log H(z))

    At frequency 0 it is ``mean_delay``. NaN where the gain is 0 or infinite. Arguments and errors
    as in ``frequency_response``.
    """
    transfer = responding(f, step, "group delay")
    frequencies, d = _grid(frequencies, steps_per_epoch)
    return frequencies, -np.real((1 + d) * log_slope(transfer, d))


def impulse_response(f: filters.Filter, steps: int | None = None, step: int = 0) -> np.ndarray:
    """What one gradient of 1 leaves in the signal at each step after, ``h_0, h_1, ...``.

    Args:
        f: a linear filter.
        steps: number of samples; None: eight times the time constants of all poles together,
            where a section of two counts its slower one twice; a FIR filter its length, filters
            in parallel the longest of them.
        step: the training step that schedules are read at (and held), from 0.

    Returns:
        float64 array of shape ``(steps,)``.

    Raises:
        TypeError: ``f`` is not a filter.
        ValueError: the filter is not linear; ``steps`` is None and the filter never forgets, or
            only after more than 10 million steps.
    """
    return _samples(transfer_of(f, step), f, steps)


def step_response(f: filters.Filter, steps: int | None = None, step: int = 0) -> np.ndarray:
    """The signal when every gradient is 1; arguments and errors as in ``impulse_response``."""
    transfer = transfer_of(f, step)
    return _samples(summed(transfer), f, steps, transfer.settling)


def cutoff(f: filters.Filter, step: int = 0, steps_per_epoch: float | None = None) -> float:
    """The frequency at which the signal's power is half of that at frequency 0 (-3 dB).

    The lowest such frequency, searched on 4,001 logarithmic frequencies from 1e-12 cycles per step
    and refined to rounding. For ``EMA(alpha)``:

        cutoff = arccos(1 - alpha^2 / (2 (1 - alpha))) / (2 pi)

    about ``alpha / (2 pi)``, which exists for ``alpha <= 2 sqrt(2) - 2 = 0.8284`` only: a faster
    average lets the highest frequency, 0.5, pass with gain ``alpha / (2 - alpha)``, above 0.7071.

    Args:
        f: a linear filter.
        step: the training step that schedules are read at, from 0.
        steps_per_epoch: None for cycles per step, a positive number for cycles per epoch.

    Returns:
        The cutoff in cycles per step, in (0, 0.5], or in cycles per epoch.

    Raises:
        TypeError: ``f`` is not a filter.
        ValueError: there is none: the gain at frequency 0 is 0 or infinite, or no frequency is
            damped by 3 dB, the filter does not settle with the rates of this step (``Kalman`` at
            step 0). The filter is not linear.
    """
    transfer = responding(f, step, "cutoff")

    def gain_at(frequencies):
        return np.abs(response(transfer, _grid(frequencies, None)[1]))

    at_zero = float(gain_at(0.0))
    if not 0 < at_zero < math.inf:
        raise ValueError(
            f"{f!r} has no cutoff: it is relative to the gain at frequency 0, which is {at_zero:g} "
            "here. Read the gain itself from larq_filter.analysis.gain."
        )

    def excess(log_frequency):
        return (gain_at(np.exp(log_frequency)) / at_zero) ** 2 - 0.5

    grid = np.log(np.geomspace(1e-12, 0.5, 4001))
    grid[-1] = math.log(0.5)
    damped = np.flatnonzero(excess(grid) <= 0)
    if not len(damped):
        raise ValueError(
            f"{f!r} has no cutoff: it passes every frequency up to 0.5 cycles per step with more "
            "than 0.7071 (-3 dB) of the gain at frequency 0. An EMA has a cutoff for alpha up to "
            "2 sqrt(2) - 2 = 0.8284."
        )
    low, high = grid[max(damped[0] - 1, 0)], grid[damped[0]]
    frequency = np.exp(scipy.optimize.brentq(excess, low, high, xtol=1e-15))
    return float(frequency) * _scale(steps_per_epoch)


def time_constant(f: filters.Filter, step: int = 0) -> float:
    """The memory in steps, ``1 / (1 - abs(p))`` of the slowest pole p.

    ``1/alpha`` for ``EMA(alpha)``, ``1/min(alpha, gamma)`` for ``CascadedEMA``: the impulse
    response falls by the factor ``1 - 1/time_constant`` a step in the end. Not the continuous
    ``-1/log(abs(p))``, which is half a step shorter. Zeros don't enter: a FIR filter, whose poles
    are all 0, gets 1 (its memory is its length, see ``mean_delay``). Infinite for an accumulator
    and wherever a schedule has reached 0.

    Raises:
        TypeError: ``f`` is not a filter.
        ValueError: the filter is not linear, ``step`` is negative.
    """
    distance = transfer_of(f, step).distance
    return math.inf if distance <= 0 else 1 / distance


def mean_delay(f: filters.Filter, step: int = 0) -> float:
    """How many steps the signal lags behind slow gradients.

        mean_delay = sum_k k h_k / sum_k h_k

    ``(1 - alpha)/alpha + (1 - gamma)/gamma`` for ``CascadedEMA``. Relative error 1e-15 and what the
    stored coefficients carry.

    Raises:
        TypeError: ``f`` is not a filter.
        ValueError: not linear; the filter never forgets; its gain at frequency 0 is 0.
    """
    delay = -log_slope(forgetting(f, step, "mean delay"), np.zeros(1))[0]
    if math.isnan(delay):
        raise ValueError(f"{f!r} has no mean delay: its impulse response adds up to 0.")
    return float(delay)


def noise_gain(f: filters.Filter, step: int = 0) -> float:
    """Standard deviation of the signal for independent gradients of standard deviation 1.

        noise_gain = sqrt(sum_k h_k^2)

    ``sqrt(alpha / (2 - alpha))`` for ``EMA(alpha)``. From the covariance of the filter's state, not
    from a sum of samples; see ``expected_flip_ratio`` for its accuracy.

    Raises:
        TypeError: ``f`` is not a filter.
        ValueError: not linear; the filter never forgets, so that its signal grows without end.
    """
    return math.sqrt(energies(forgetting(f, step, "noise gain"))[0])


def expected_flip_ratio(f: filters.Filter, step: int = 0) -> float:
    """Share of the weights that flip in a step if gradients were independent Gaussian noise.

    With the rule ``Sign`` a flip is a zero crossing of the signal:

        flip_ratio = arccos(rho) / pi,   rho = sum_k h_k h_{k+1} / sum_k h_k^2

    For ``CascadedEMA`` rho is ``(a + b) / (1 + a b)`` with ``a = 1 - alpha, b = 1 - gamma``. A rho
    near 1 has lost the digits that matter, so the angle comes from the energies of difference and
    sum of neighbouring samples (both are sums of squares, nothing cancels):

        flip_ratio = 2/pi arctan(sqrt(sum_k (h_k - h_{k-1})^2) / sqrt(sum_k (h_k + h_{k-1})^2))

    Relative error below 1e-13, measured against 60 digits for averages and SciPy's designs of up to
    5 sections, and what the stored coefficients carry (alpha 1e-7: 1e-9); 1e-15 for ``FIR``, but
    seven digits where 64 taps are given as 32 sections. Gradients of training are not white:
    docs/figures.md has 3 % less to 41 % more flips on digits, docs/results.md on CIFAR-10 0.35 to
    1.04 of this, in the median 0.73.

    Args:
        f: a linear filter.
        step: the training step that schedules are read at, from 0.

    Returns:
        The share, in [0, 1] per step. 0 where a schedule has reached 0 and nothing moves any more.

    Raises:
        TypeError: ``f`` is not a filter.
        ValueError: not linear; the filter never forgets, so that its flips never settle.

    Source: Kedem, "Spectral analysis and discrimination by zero-crossings", Proceedings of the IEEE
    74 (1986), the cosine formula.
    """
    if transfer_of(f, step).is_silent:
        return 0.0
    _, difference, total = energies(forgetting(f, step, "expected flip ratio"))
    return 2 / math.pi * math.atan2(math.sqrt(difference), math.sqrt(total))


def _scale(steps_per_epoch) -> float:
    """Factor from cycles per step to the unit of the caller."""
    if steps_per_epoch is None:
        return 1.0
    if not filters.is_number(steps_per_epoch) or not 0 < steps_per_epoch < 1e300:
        raise ValueError(
            f"`steps_per_epoch` is {filters.shown(steps_per_epoch)}; it must lie in (0, inf), "
            "or be None for cycles per step."
        )
    return float(steps_per_epoch)


def _grid(frequencies, steps_per_epoch) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in the caller's unit, and ``d = z - 1`` on the unit circle there."""
    scale = _scale(steps_per_epoch)
    if frequencies is None:
        frequencies = np.geomspace(LOWEST_FREQUENCY, 0.5, DEFAULT_FREQUENCIES) * scale
    frequencies = np.asarray(frequencies, np.float64)
    cycles = frequencies / scale
    outside = ~((cycles >= 0) & (cycles <= 0.5 * (1 + 1e-12)))
    if np.any(outside):
        unit = "cycles per step" if steps_per_epoch is None else "cycles per epoch"
        raise ValueError(
            f"`frequencies` contains {frequencies[outside].flat[0]}; they must lie in "
            f"[0, {0.5 * scale:g}] {unit}: a faster one can't be told from a slower one."
        )
    half = np.pi * np.minimum(cycles, 0.5)
    return frequencies, 2j * np.sin(half) * np.exp(1j * half)


def _samples(transfer, f: filters.Filter, steps, settling: float | None = None) -> np.ndarray:
    """Impulse response of ``transfer``, made of ``f``; None: as long as that settles."""
    if steps is None:
        settling = transfer.settling if settling is None else settling
        if settling > LONGEST_RESPONSE:
            raise ValueError(
                f"{f!r} remembers {settling / 8:.3g} steps, too many for a default length; "
                "give `steps`."
            )
        steps = math.ceil(settling)
    return impulse_samples(transfer, validate_integer("steps", steps, high=MOST_STEPS))
