"""Sections in the delta operator: fixed filters whose coefficients keep their digits.

The recursion is that of ``SecondOrderSections``, which takes SciPy's coefficients; here they are
given in ``d = z - 1`` themselves, as the designs of ``larq_filter.filters.designs`` compute them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from larq_filter._validation import LARGEST_COEFFICIENT, as_numbers, is_schedule, shown
from larq_filter.filters._base import Filter
from larq_filter.filters.compensation import accumulate, is_compensated, state_of_sum
from larq_filter.filters.roots import distance_of, to_sos
from larq_filter.filters.transfer import Section, Series, Transfer

MOST_SECTIONS = 256
ZERO_GAIN = 1e-15
"""A gain at frequency zero below this share of the taps it is the sum of is all rounding."""


@dataclasses.dataclass(frozen=True, eq=False)
class DeltaSections(Filter):
    """Any fixed linear filter, as sections in ``d = z - 1``.

    Each row ``b0, e1, e0, 1, c1, c0`` is one section, and the signal of one is the input of the
    next:

        y = b0 * x + s1
        s1 = s1 + (e1 * x - c1 * y + s2)
        s2 = s2 + (e0 * x - c0 * y)

    A row ``0, b0, e0, 0, 1, c0`` is a section of first order, without s2:

        y = b0 * x + s1
        s1 = s1 + (e0 * x - c0 * y)

    State: s1 and s2 of each section, in order. Transfer function
    ``(b0 d^2 + e1 d + e0) / (d^2 + c1 d + c0)``, gain ``e0/c0`` at frequency zero (d = 0).

    Why not SciPy's coefficients ``a1 = c1 - 2, a2 = 1 - c1 + c0``: c0 is of the size of the squared
    cutoff, and what is left of it in a1 and a2 is wrong by ``2^-52 / (2 pi cutoff)^2``. Largest
    error of the gain up to twice the cutoff, Butterworth of order 4, in float64:

    | cutoff, cycles per step | 1e-2 | 1e-4 | 1e-6 | 1e-8 |
    |---|---|---|---|---|
    | SciPy's sections | 1e-14 | 4e-10 | 3e-6 | 3e-2 |
    | these | 7e-16 | 7e-16 | 9e-16 | 8e-16 |

    Args:
        coefficients: sections in d, shape (sections, 6), the highest power first, numerator before
            denominator. Each row is divided by the first number of its denominator that is not 0.
        compensated: carry the rounding errors along (``EMA``), as many arrays again. None: only if
            a pole is closer than 1e-5 to the unit circle.

    Raises:
        TypeError: the coefficients are not numbers.
        ValueError: another shape, numbers that are not finite, a numerator of higher degree than
            its denominator, a section without a pole, or a pole not strictly inside the unit
            circle; names the largest radius.

    Source: Middleton and Goodwin, "Improved finite word length characteristics in digital control
    using delta operators", IEEE Transactions on Automatic Control 31 (1986).
    """

    coefficients: Sequence[Sequence[float]]
    compensated: bool | None = None

    def __post_init__(self):
        rows = _validate_rows(self.coefficients)
        object.__setattr__(self, "coefficients", tuple(tuple(row) for row in rows.tolist()))
        compensate = is_compensated(self.compensated, slowest(rows))
        object.__setattr__(self, "_size", 2 if compensate else 1)

    def get_config(self) -> dict:
        rows = [list(row) for row in self.coefficients]
        return {"coefficients": rows, "compensated": self.compensated}

    @property
    def order(self) -> int:
        return sum(2 if row[3] else 1 for row in self.coefficients)

    @property
    def state_size(self) -> int:
        return self.order * self._size

    def step(self, x, state, rates, xp):
        size, new_state = self._size, ()
        for b0, e1, e0, second_order, c1, c0 in self.coefficients:
            first, state = state[:size], state[size:]
            if second_order:
                second, state = state[:size], state[size:]
                y = b0 * x + first[0]
                new_state += accumulate(first, e1 * x - c1 * y + second[0])
                new_state += accumulate(second, e0 * x - c0 * y)
            else:
                y = e1 * x + first[0]  # the coefficient of the highest power
                new_state += accumulate(first, e0 * x - c0 * y)
            x = y
        return x, new_state

    def state_from_output(self, output, xp):
        """The state after a constant input that has held the output at ``output`` for ever.

        As ``scipy.signal.sosfilt_zi``; the input was ``output`` over the gain at frequency zero.

        Raises:
            ValueError: the gain at frequency zero is 0 (a high pass): no constant input gives it.
        """
        state, y = (), output
        for row in reversed(self.coefficients):
            b0, e1, e0, second_order, c1, c0 = row
            taps = (b0, e1 - 2 * b0, b0 - e1 + e0)
            if abs(e0) <= ZERO_GAIN * sum(map(abs, taps)):
                raise ValueError(
                    f"The section {list(row)} has gain 0 at frequency zero, so no constant input "
                    "holds a given output. Start the filter from zero."
                )
            x = c0 / e0 * y
            if second_order:
                sums = (y - b0 * x, c1 * y - e1 * x)
            else:
                sums = (y - e1 * x,)
            state = sum((state_of_sum(value, self._size, xp) for value in sums), ()) + state
            y = x
        return state

    def sos(self, step: int = 0) -> np.ndarray:
        return to_sos(self.coefficients)

    def transfer(self, step: int = 0) -> Transfer:
        return Series(tuple(map(Section.from_row, self.coefficients)))


def refuse_unstable(rows, advice: str) -> None:
    """Raises unless all poles are inside the unit circle."""
    distance = slowest(rows)
    if not distance > 0:
        raise ValueError(
            f"The largest pole has radius {1 - distance:.9g}; all poles must lie "
            f"strictly inside the unit circle, or the signal never forgets. {advice}"
        )


def slowest(rows) -> float:
    """Distance of the slowest pole from the unit circle, inside positive."""
    return min(distance_of(Section.from_row(row).denominator) for row in rows)


def _validate_rows(coefficients) -> np.ndarray:
    """``coefficients`` as float64 of shape (sections, 6), causal, all poles inside."""
    rows = validate_shape(coefficients, "as from larq_filter.filters.butterworth(2, 1e-3)")
    leading = []
    for row in rows:
        numerator, denominator = (np.trim_zeros(part, "f") for part in (row[:3], row[3:]))
        if len(numerator) > len(denominator):
            raise ValueError(
                f"The section {row.tolist()} has a numerator of higher degree than its "
                "denominator: it is not causal, its signal would need gradients of later steps."
            )
        if len(denominator) < 2:
            raise ValueError(
                f"The section {row.tolist()} has no pole. Multiply another section's numerator "
                "by it, or use FIR([gain])."
            )
        leading.append(denominator[0])
    rows = normalized(rows, np.array(leading))
    refuse_unstable(rows, "An accumulator, a pole on the circle, is LeakyIntegrator(gain, leak=0).")
    return rows


def validate_shape(coefficients, example: str) -> np.ndarray:
    """``coefficients`` as finite float64 of shape (sections, 6)."""
    if is_schedule(coefficients):
        raise TypeError(
            "Fixed sections take no schedule: their coefficients are constants. For a rate "
            "that decays use EMA, CascadedEMA or a Cascade of them."
        )
    rows = as_numbers(
        coefficients, f"`coefficients` must be numbers of shape (sections, 6), {example}"
    )
    if rows.ndim != 2 or rows.shape[1] != 6 or not len(rows):
        raise ValueError(
            f"`coefficients` has shape {rows.shape}; it must be (sections, 6), {example}, "
            "or from scipy.signal.tf2sos(b, a)."
        )
    if len(rows) > MOST_SECTIONS:
        raise ValueError(
            f"`coefficients` has {len(rows):,} sections; at most {MOST_SECTIONS} are allowed, each "
            "has two state arrays as large as the kernel."
        )
    if not np.all(np.abs(rows) <= LARGEST_COEFFICIENT):
        raise ValueError(
            f"`coefficients` must be finite and at most {LARGEST_COEFFICIENT:g} in size; received "
            f"{shown(rows.tolist())}."
        )
    return rows


def normalized(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Each row over its number of ``by``, which is not 0.

    Raises:
        ValueError: a number of more than 1e30.
    """
    with np.errstate(over="ignore"):
        quotients = rows / by[:, None]
    if not np.all(np.abs(quotients) <= LARGEST_COEFFICIENT):
        raise ValueError(
            f"`coefficients` must be at most {LARGEST_COEFFICIENT:g} in size once each row is "
            f"divided by the first number of its denominator; received {shown(rows.tolist())}."
        )
    return quotients
