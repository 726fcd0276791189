"""Numbers from a transfer function: responses, samples and energies, with all their digits.

A gradient filter remembers thousands to millions of steps: its poles lie within 1e-3 to 1e-7 of
z = 1, where ``1 + a_1 z^-1 + ...`` loses as many digits. So everything is computed in ``d = z - 1``
(``larq_filter.filters.transfer``) instead of being handed to ``scipy.signal.sosfreqz``. What
remains is the rounding of the stored coefficients themselves: a rate ``alpha`` read from ``sos``
comes back with relative error ``2^-53 / alpha``.
"""

import numpy as np

from larq_filter import filters
from larq_filter._validation import NOT_NEGATIVE, validate_number
from larq_filter.filters.transfer import Section, Series, Transfer

BLOCK = 1024  # samples of an impulse response that are computed in one product
ZERO = 1e-14  # a sum below this share of its terms is all rounding


def transfer_of(f: filters.Filter, step: int) -> Transfer:
    """The transfer function of ``f`` with the rates of ``step``.

    Raises:
        TypeError: ``f`` is not a filter, or ``step`` no number.
        ValueError: it is not linear, or ``step`` is negative.
    """
    if not isinstance(f, filters.Filter):
        raise TypeError(
            f"`f` must be a filter from larq_filter.filters, not {f!r} ({type(f).__name__})."
        )
    validate_number("step", step, NOT_NEGATIVE)
    return f.transfer(step)


def responding(f: filters.Filter, step: int, quantity: str) -> Transfer:
    """The transfer function of a filter that has a frequency response: no pole outside the circle.

    An accumulator has one, infinite at frequency 0. What is left of rounding is no pole outside.
    """
    transfer = transfer_of(f, step)
    return forgetting(f, step, quantity) if transfer.distance < -1e-12 else transfer


def forgetting(f: filters.Filter, step: int, quantity: str) -> Transfer:
    """The transfer function of a filter whose impulse response dies out."""
    transfer = transfer_of(f, step)
    if not transfer.distance > 0:
        raise ValueError(
            f"{f!r} has no {quantity} at step {step}: it never forgets (a pole on or outside the "
            "unit circle, like an accumulator's). Give it a leak, or a rate above 0; a Kalman "
            "filter settles at a later step."
        )
    return transfer


def response(transfer: Transfer, d: np.ndarray) -> np.ndarray:
    """H at each d; inf at a pole."""
    with np.errstate(all="ignore"):
        return transfer.evaluate(d)[0]


def log_slope(transfer: Transfer, d: np.ndarray) -> np.ndarray:
    """Derivative of log H at each d; NaN where H is 0 or infinite."""
    with np.errstate(all="ignore"):
        value, slope, size = transfer.evaluate(d)
        defined = (np.abs(value) > ZERO * size) & np.isfinite(value)
        return np.where(defined, slope / np.where(defined, value, 1.0), np.nan)


def impulse_samples(transfer: Transfer, steps: int) -> np.ndarray:
    """``h_0, h_1, ...``, each from powers of ``I + F`` that squaring has kept exact."""
    increments, state, out, direct = transfer.realization()
    reads, length = out[None, :], 1  # row k reads the state k steps on
    with np.errstate(all="ignore"):  # an unstable filter may overflow
        while length < min(BLOCK, steps):
            reads = np.concatenate([reads, reads + reads @ increments])
            increments = 2 * increments + increments @ increments
            length *= 2
        samples = [np.array([direct])]
        for _ in range(0, steps - 1, length):
            samples.append(reads @ state)
            state = state + increments @ state
    return np.concatenate(samples)[:steps]


def summed(transfer: Transfer) -> Transfer:
    """The transfer function whose impulse response is the step response of ``transfer``."""
    return Series((transfer, Section(np.ones(2), np.array([0.0, 1.0]))))


def _covariance(increments: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Stationary covariance P of the state for white noise: ``P = A P A' + B B'``, A = I + F.

    Smith's doubling: from the covariance after n steps to that after 2n. It adds positive terms
    only, and squares ``I + F`` as ``I + (2 F + F^2)``, so poles at 1 - 1e-7 keep their digits;
    ``scipy.linalg.solve_discrete_lyapunov`` is off by 1e-4 for a double pole at 0.9999.
    """
    covariance = np.outer(inputs, inputs)
    for _ in range(100):  # 2^100 steps
        transition = np.eye(len(inputs)) + increments
        added = transition @ covariance @ transition.T
        covariance = covariance + added
        increments = 2 * increments + increments @ increments
        if np.all(np.diag(added) <= 1e-17 * np.diag(covariance)):
            break
    return covariance


def energies(transfer: Transfer) -> tuple[float, float, float]:
    """Sums over k of ``h_k^2``, ``(h_k - h_{k-1})^2`` and ``(h_k + h_{k-1})^2``."""
    increments, inputs, out, direct = transfer.realization()
    covariance = _covariance(increments, inputs)

    def energy(row, *samples):
        return max(float(row @ covariance @ row), 0.0) + sum(sample**2 for sample in samples)

    change = out @ increments
    first = float(out @ inputs)
    return (
        energy(out, direct),
        energy(change, direct, first - direct),
        energy(change + 2 * out, direct, first + direct),
    )
