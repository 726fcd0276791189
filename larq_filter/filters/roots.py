"""Sections from poles and zeros, in ``d = z - 1``.

A slow filter has all its poles within its cutoff of z = 1. Written in z they agree in their first
digits and the products of ``(z - pole)`` lose these; written in ``d = z - 1`` they are small
numbers with all their digits, and so are the products.

A section is a row of six numbers, the coefficients of ``d^2, d, 1`` in the numerator and then in
the denominator. A section of first order begins both with 0.
"""

import numpy as np

REAL = 1e-12
"""An imaginary part below this share of a root is rounding."""


def sections_from_roots(zeros, poles, gain: float, reference: complex = 0.0) -> np.ndarray:
    """``gain * prod(d - zeros) / prod(d - poles)`` as sections, the fastest poles first.

    Every section but the last has gain 1 at ``reference``, the ``d`` of a frequency that passes.
    SciPy puts all of the gain into the first section, where it is ``(pi cutoff)^order``: at order 8
    and cutoff 1e-6 a number that float32 can't hold.

    Args:
        zeros: complex numbers in d, in conjugate pairs.
        poles: as many or more.
        gain: real factor in front.
        reference: where the sections are scaled; a zero or pole there is left as it is.

    Returns:
        float64 array of shape (sections, 6).
    """
    if not len(poles):
        return np.array([[0.0, 0.0, gain, 0.0, 0.0, 1.0]])
    denominators = sorted(_polynomials(poles), key=_slowness)
    numerators = _assign(_polynomials(zeros), denominators)
    rows = np.zeros((len(denominators), 6))
    for row, numerator, denominator in zip(rows, numerators, denominators, strict=True):
        row[3 - len(numerator) : 3] = numerator
        row[6 - len(denominator) :] = denominator
        above, below = (abs(np.polyval(p, reference)) for p in (numerator, denominator))
        if above > 0 and below > 0:
            row[:3] /= above / below
            gain = gain * (above / below)
    rows[-1, :3] *= gain
    return rows


def _polynomials(roots) -> list[np.ndarray]:
    """Real polynomials of degree 2 for conjugate pairs and pairs of real roots, and a last of 1."""
    roots = np.asarray(roots, complex)
    real = np.abs(roots.imag) <= REAL * np.abs(roots)
    pairs = roots[~real & (roots.imag > 0)]
    polynomials = [np.array([1.0, -2 * root.real, abs(root) ** 2]) for root in pairs]
    rest = np.sort(roots[real].real)
    # Smallest with largest, so that a band pass has a zero at each end in every section.
    for low, high in zip(rest, rest[::-1][: len(rest) // 2], strict=False):
        polynomials.append(np.array([1.0, -(low + high), low * high]))
    if len(rest) % 2:
        polynomials.append(np.array([1.0, -rest[len(rest) // 2]]))
    return polynomials


def _slowness(polynomial: np.ndarray) -> float:
    """Largest radius of a pole around z = 0, as minus its distance from the unit circle."""
    return -distance_of(polynomial[::-1])


def _assign(numerators: list, denominators: list) -> list[np.ndarray]:
    """A numerator for each denominator: the slowest poles choose the nearest zeros first."""
    chosen = [np.ones(1)] * len(denominators)
    pool = list(numerators)
    by_degree = sorted(range(len(chosen)), key=lambda i: (len(denominators[i]), i), reverse=True)
    for index in by_degree:
        degree = len(denominators[index])
        fitting = [i for i, numerator in enumerate(pool) if len(numerator) <= degree]
        if not fitting:
            continue
        pole = np.roots(denominators[index])[0]
        # Two zeros before one: what is left for a section of first order must fit it.
        nearest = min(
            fitting, key=lambda i: (-len(pool[i]), np.min(np.abs(np.roots(pool[i]) - pole)))
        )
        chosen[index] = pool.pop(nearest)
    return chosen


def distance_of(denominator) -> float:
    """``1 - abs(p)`` of the slowest pole p of degree 1 or 2; 0 or less on and outside the circle.

    Args:
        denominator: coefficients in d, constant term first, the last of them 1.
    """
    constant, *linear, _ = denominator
    if not linear:  # d + constant
        roots = [-constant]
    elif (discriminant := linear[0] ** 2 - 4 * constant) < 0:  # abs(p)^2 = a_2
        square = 1 - linear[0] + constant
        return (linear[0] - constant) / (1 + np.sqrt(square))
    else:
        larger = -(linear[0] + np.copysign(np.sqrt(discriminant), linear[0])) / 2
        roots = [larger, constant / larger if larger else 0.0]
    return float(min(-root if root >= -1 else 2 + root for root in roots))


def to_delta(sos) -> np.ndarray:
    """SciPy's sections, a0 = 1, as sections in d; exact near z = 1. No z^-2: of first order."""
    rows = np.zeros((len(sos), 6))
    for row, (b0, b1, b2, _, a1, a2) in zip(rows, sos, strict=True):
        if b2 == 0 and a2 == 0:
            row[:] = 0.0, b0, b0 + b1, 0.0, 1.0, 1 + a1
        else:
            row[:] = b0, 2 * b0 + b1, (b0 + b1) + b2, 1.0, 2 + a1, (2 + a1) + (a2 - 1)
    return rows


def to_sos(rows) -> np.ndarray:
    """Sections in d as SciPy's; a slow filter loses digits in it (``2^-53 / cutoff^2``)."""
    sos = np.zeros((len(rows), 6))
    for row, (b0, e1, e0, leading, c1, c0) in zip(sos, rows, strict=True):
        if leading:
            row[:] = b0, e1 - 2 * b0, b0 - e1 + e0, 1.0, c1 - 2, 1 - c1 + c0
        elif c1:
            row[:] = e1, e0 - e1, 0.0, 1.0, c0 - 1, 0.0
        else:
            row[:] = e0, 0.0, 0.0, 1.0, 0.0, 0.0
    return sos
