"""Transfer functions as trees, in float64: what ``larq_filter.analysis`` reads of a linear filter.

A filter that is built of others has a transfer function that is built of theirs: ``Series`` and
``Sum`` of ``Section`` and ``DirectForm``. Each part keeps the form in which its own digits are
safe, polynomials in ``d = z - 1`` for slow poles and the taps themselves for a finite response.

Rejected: SciPy's second-order sections as the only form. They need the roots of the whole: useless
for a finite response of 256 taps (``direct``), and a sum of slow filters loses as many digits again
as each of them. Also rejected: one state space for everything. The energies need it
(``realization``), but the response at 4,001 frequencies would solve as many systems of 255 unknowns
for those taps, and its zeros drown in rounding where the parts know them exactly.
"""

import dataclasses

import numpy as np

from larq_filter.filters.roots import distance_of, sections_from_roots, to_delta, to_sos


class Transfer:
    """A transfer function H(d) with ``d = z - 1``.

    Attributes:
        distance: ``1 - abs(p)`` of the slowest pole p; 1 if there is none.
        settling: steps after which the impulse response has died out; inf if it never does.
        is_silent: whether no gradient reaches the signal: a rate that has fallen to 0.
    """

    distance: float
    settling: float
    is_silent: bool

    def evaluate(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value, derivative by d, and the sum of the sizes of the terms that make up the value.

        A value below 1e-14 of the last is a zero, all rounding. At a pole the value is inf.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `evaluate`.")

    def realization(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """State space of increments: ``s' = s + F s + B x, y = C s + D x``."""
        raise NotImplementedError(f"{type(self).__name__} must define `realization`.")

    def polynomials(self) -> tuple[np.ndarray, np.ndarray]:
        """Numerator and denominator over one fraction bar, highest power of d first."""
        raise NotImplementedError(f"{type(self).__name__} must define `polynomials`.")

    def roots(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Zeros and poles in d, and the factor in front of them."""
        numerator, denominator = self.polynomials()
        numerator = np.trim_zeros(numerator, "f")
        if not len(numerator):
            return np.zeros(0), np.roots(denominator), 0.0
        return np.roots(numerator), np.roots(denominator), numerator[0] / denominator[0]

    def sos(self) -> np.ndarray:
        """SciPy's second-order sections, by the roots: few digits are left of a long filter."""
        return to_sos(sections_from_roots(*self.roots()))


@dataclasses.dataclass(frozen=True, eq=False)
class Section(Transfer):
    """A quotient of two polynomials of degree 1 or 2 in d, constant term first.

    Attributes:
        numerator, denominator: float64 arrays of one length; the denominator ends with 1.
    """

    numerator: np.ndarray
    denominator: np.ndarray

    @classmethod
    def from_row(cls, row) -> "Section":
        """From six numbers as ``roots`` has them."""
        degree = 2 if row[3] else 1
        return cls(np.array(row[2 - degree : 3])[::-1], np.array(row[5 - degree :])[::-1])

    @property
    def distance(self) -> float:
        return distance_of(self.denominator)

    @property
    def settling(self) -> float:
        # Eight time constants leave e^-8; the slower of two poles is counted twice.
        poles, distance = len(self.denominator) - 1, self.distance
        return 8 * poles / distance if distance > 0 else np.inf

    @property
    def is_silent(self) -> bool:
        return not np.any(self.numerator)

    def evaluate(self, d):
        numerator, denominator = self.numerator[::-1], self.denominator[::-1]
        below = np.polyval(denominator, d)
        value = _without_nan(np.polyval(numerator, d) / below, self.is_silent)
        slope = np.polyval(np.polyder(numerator), d)
        slope = slope - value * np.polyval(np.polyder(denominator), d)
        size = np.polyval(np.abs(numerator), np.abs(d)) / np.abs(below)
        return value, slope / below, size

    def realization(self):
        # The state for an input u is w, d w, ...; the highest derivative is
        # u - sum_i denominator_i d^i w, the output sum_i numerator_i d^i w.
        n = len(self.denominator) - 1
        increments, inputs = np.eye(n, k=1), np.zeros(n)
        increments[-1] -= self.denominator[:-1]
        inputs[-1] = 1.0
        direct = self.numerator[-1]
        return increments, inputs, self.numerator[:-1] - direct * self.denominator[:-1], direct

    def polynomials(self):
        return self.numerator[::-1], self.denominator[::-1]


@dataclasses.dataclass(frozen=True, eq=False)
class DirectForm(Transfer):
    """``sum_i b_i z^-i / sum_i a_i z^-i`` with a_0 = 1, of any order: finite and autoregressive.

    Attributes:
        b, a: float64 arrays of one length.
    """

    b: np.ndarray
    a: np.ndarray

    is_silent = False

    @property
    def distance(self) -> float:
        return 1 - float(np.max(np.abs(np.roots(self.a)), initial=0.0))

    @property
    def settling(self) -> float:
        if not np.any(self.a[1:]):
            return float(len(self.b))
        return 8 * (len(self.a) - 1) / self.distance if self.distance > 0 else np.inf

    def evaluate(self, d):
        delay = 1 / (1 + d)  # z^-1; its derivative by d is -z^-2
        below = np.polyval(self.a[::-1], delay)
        value = _without_nan(np.polyval(self.b[::-1], delay) / below, False)
        slope = np.polyval(np.polyder(self.b[::-1]), delay)
        slope = slope - value * np.polyval(np.polyder(self.a[::-1]), delay)
        size = np.polyval(np.abs(self.b[::-1]), np.abs(delay)) / np.abs(below)
        return value, -(delay**2) * slope / below, size

    def realization(self):
        # The state is w of the last steps: w = x - sum_i a_i w_{t-i}, y = sum_i b_i w_{t-i}.
        n = len(self.a) - 1
        increments, inputs = np.eye(n, k=-1) - np.eye(n), np.zeros(n)
        increments[:1] -= self.a[1:]
        inputs[:1] = 1.0
        return increments, inputs, self.b[1:] - self.b[0] * self.a[1:], self.b[0]

    def polynomials(self):
        return _in_d(self.b), _in_d(self.a)

    def roots(self):
        b = np.trim_zeros(self.b, "f")
        return np.roots(b) - 1, np.roots(self.a) - 1, b[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Series(Transfer):
    """The product of transfer functions."""

    parts: tuple[Transfer, ...]

    @property
    def distance(self) -> float:
        return min(part.distance for part in self.parts)

    @property
    def settling(self) -> float:
        return sum(part.settling for part in self.parts)

    @property
    def is_silent(self) -> bool:
        return any(part.is_silent for part in self.parts)

    def evaluate(self, d):
        value, slope, size = self.parts[0].evaluate(d)
        for part in self.parts[1:]:
            factor, change, extent = part.evaluate(d)
            value, slope, size = value * factor, slope * factor + value * change, size * extent
        return _without_nan(value, self.is_silent), slope, size

    def realization(self):
        # Fastest first: the product is the same, and the energies keep more digits.
        first, *rest = sorted(self.parts, key=lambda part: -part.distance)
        increments, inputs, out, direct = first.realization()
        for part in rest:
            own, entry, read, through = part.realization()
            n = len(inputs)
            increments = np.block(
                [[increments, np.zeros((n, len(entry)))], [np.outer(entry, out), own]]
            )
            inputs = np.concatenate([inputs, entry * direct])
            out, direct = np.concatenate([through * out, read]), through * direct
        return increments, inputs, out, direct

    def polynomials(self):
        numerator, denominator = np.ones(1), np.ones(1)
        for part in self.parts:
            above, below = part.polynomials()
            numerator, denominator = np.polymul(numerator, above), np.polymul(denominator, below)
        return numerator, denominator


@dataclasses.dataclass(frozen=True, eq=False)
class Sum(Transfer):
    """A weighted sum of transfer functions."""

    parts: tuple[Transfer, ...]
    gains: tuple[float, ...]

    @property
    def distance(self) -> float:
        return min(part.distance for part in self.parts)

    @property
    def settling(self) -> float:
        return max(part.settling for part in self.parts)

    @property
    def is_silent(self) -> bool:
        return all(part.is_silent for part in self.parts)

    def evaluate(self, d):
        terms = [part.evaluate(d) for part in self.parts]
        value, slope = (
            sum(gain * term[i] for gain, term in zip(self.gains, terms, strict=True))
            for i in range(2)
        )
        size = sum(abs(gain) * term[2] for gain, term in zip(self.gains, terms, strict=True))
        return _without_nan(value, self.is_silent), slope, size

    def realization(self):
        parts = [part.realization() for part in self.parts]
        n = sum(len(inputs) for _, inputs, _, _ in parts)
        increments, start = np.zeros((n, n)), 0
        for own, inputs, _, _ in parts:
            end = start + len(inputs)
            increments[start:end, start:end] = own
            start = end
        return (
            increments,
            np.concatenate([inputs for _, inputs, _, _ in parts]),
            np.concatenate([g * out for g, (_, _, out, _) in zip(self.gains, parts, strict=True)]),
            sum(g * direct for g, (*_, direct) in zip(self.gains, parts, strict=True)),
        )

    def polynomials(self):
        numerator, denominator = np.zeros(1), np.ones(1)
        for gain, part in zip(self.gains, self.parts, strict=True):
            above, below = part.polynomials()
            numerator = np.polyadd(
                np.polymul(numerator, below), gain * np.polymul(denominator, above)
            )
            denominator = np.polymul(denominator, below)
        return numerator, denominator


def from_sos(sos) -> Series:
    """The product of SciPy's sections; what their rounding has left of a slow pole is kept."""
    return Series(tuple(Section.from_row(row) for row in to_delta(sos)))


def _without_nan(value, is_silent: bool):
    """Infinity for 1/0, a pole at this very frequency; 0 if nothing comes in anyway."""
    return np.where(np.isnan(value), 0.0 if is_silent else np.inf, value)


def _in_d(coefficients) -> np.ndarray:
    """A polynomial in z, highest power first, as one in d: ``z = 1 + d``."""
    polynomial = np.zeros(1)
    for coefficient in coefficients:
        polynomial = np.polyadd(np.polymul(polynomial, [1.0, 1.0]), [coefficient])
    return polynomial
