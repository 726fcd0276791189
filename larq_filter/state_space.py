"""Linear filters as polynomials in ``d = z - 1`` and as state spaces of increments.

A gradient filter remembers thousands to millions of steps: its poles lie within 1e-3 to 1e-7 of
z = 1, where ``1 + a_1 z^-1 + ...`` loses as many digits. So polynomials are written in
``d = z - 1`` here, whose coefficients are exact differences of the stored ones, instead of being
handed to ``scipy.signal.sosfreqz``. What remains is the rounding of the stored coefficients
themselves: a rate ``alpha`` comes back with relative error ``2^-53 / alpha``.
"""

import math

import numpy as np

from larq_filter import filters


def sections_of(f: filters.Filter, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Numerator and denominator of each section as polynomials in ``d``, constant term first.

    A section without z^-2 has degree 1. The subtractions below are exact near z = 1.
    """
    if not isinstance(f, filters.Filter):
        raise TypeError(
            f"`f` must be a filter from larq_filter.filters, not {f!r} ({type(f).__name__})."
        )
    if step < 0:
        raise ValueError(f"`step` is {step}; training steps are counted from 0.")
    sections = []
    for b0, b1, b2, _, a1, a2 in f.sos(step):
        if a2 == 0 and b2 == 0:
            section = ([b0 + b1, b0], [1 + a1, 1.0])
        else:
            constant = (2 + a1) + (a2 - 1)
            section = ([(b0 + b1) + b2, 2 * b0 + b1, b0], [constant, 2 + a1, 1.0])
        sections.append(tuple(np.array(polynomial, np.float64) for polynomial in section))
    return sections


def is_silent(sections) -> bool:
    """Whether no gradient reaches the signal: a rate that has fallen to 0."""
    return any(not np.any(numerator) for numerator, _ in sections)


def distances_of(sections) -> list[float]:
    """``1 - abs(p)`` of each section's slowest pole p; 0 or less on and outside the unit circle."""
    distances = []
    for _, (constant, *linear, _) in sections:
        if not linear:  # d + constant
            roots = [-constant]
        elif (discriminant := linear[0] ** 2 - 4 * constant) < 0:  # abs(p)^2 = a_2
            square = 1 - linear[0] + constant
            distances.append((linear[0] - constant) / (1 + math.sqrt(square)))
            continue
        else:
            larger = -(linear[0] + math.copysign(math.sqrt(discriminant), linear[0])) / 2
            roots = [larger, constant / larger if larger else 0.0]
        distances.append(min(-root if root >= -1 else 2 + root for root in roots))
    return distances


def forgetting_sections(f: filters.Filter, step: int, quantity: str) -> list:
    """The sections, fastest first, of a filter whose impulse response dies out."""
    sections = sections_of(f, step)
    distances = distances_of(sections)
    if min(distances) <= 0:
        raise ValueError(
            f"{f!r} has no {quantity} at step {step}: it never forgets (a pole on the unit circle, "
            "like an accumulator's). Give it a leak, or a rate above 0."
        )
    return [sections[index] for index in np.argsort(distances)[::-1]]


def _state_space(sections) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The cascade as ``s' = s + F s + B x, y = out s + direct x``, with the sections' states in s.

    The state of a section with input u is w, d w, ...; its highest derivative is
    ``top = u - sum_i denominator_i d^i w``, and its output ``sum_i numerator_i d^i w``.
    """
    n = sum(len(denominator) - 1 for _, denominator in sections)
    increments, inputs = np.zeros((n, n)), np.zeros(n)
    out, direct = np.zeros(n), 1.0
    start = 0
    for numerator, denominator in sections:
        own = slice(start, start + len(denominator) - 1)
        start = own.stop
        top = out.copy()
        top[own] -= denominator[:-1]
        increments[own, own] = np.eye(len(denominator) - 1, k=1)
        increments[start - 1], inputs[start - 1] = top, direct
        out = numerator[-1] * top
        out[own] += numerator[:-1]
        direct *= numerator[-1]
    return increments, inputs, out, direct


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


def energies(sections) -> tuple[float, float, float]:
    """Sums over k of ``h_k^2``, ``(h_k - h_{k-1})^2`` and ``(h_k + h_{k-1})^2``."""
    increments, inputs, out, direct = _state_space(sections)
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
