"""Sums that keep the digits float32 would drop (Kahan's compensated summation).

A filter with a long memory adds increments that are millions of times smaller than its state. The
state here is ``(sum,)`` or ``(sum, error)``; with the second array no increment is lost.
"""

from larq_filter._validation import shown

COMPENSATE_BELOW = 1e-5
"""Constant rates below this are compensated unless told otherwise: the step response of a plain
float32 average ends up to ``2^-24 / rate`` away from its true end value, 0.6 % at this rate.

A schedule is not: a memory that has grown is full by the time it is long. The default alpha, which
is 1e-5 after 100,000 steps and 1e-6 after a million, strays by 6e-6 and 2e-5 of the signal's
standard deviation on gradients of noise with a drift of 0 or 1e-3; not one sign of 256 differs from
float64. Say ``compensated=True`` for gradients without noise."""


def is_compensated(compensated: bool | None, slowest_rate) -> bool:
    """``compensated`` itself; for None whether a constant ``slowest_rate`` needs it.

    Raises:
        TypeError: neither True nor False nor None.
    """
    if not (compensated is None or isinstance(compensated, bool)):
        raise TypeError(f"`compensated` must be True, False or None, not {shown(compensated)}.")
    if compensated is None:
        return isinstance(slowest_rate, float) and slowest_rate < COMPENSATE_BELOW
    return bool(compensated)


def accumulate(state: tuple, increment) -> tuple:
    """Adds ``increment`` to the sum in ``state[0]``; returns the new state, shaped as before.

    With an error term e, the part of earlier increments that the sum could not hold:

        increment = increment - e
        total = sum + increment
        e = (total - sum) - increment
    """
    if len(state) == 1:
        return (state[0] + increment,)
    total, error = state
    increment = increment - error
    new_total = total + increment
    return (new_total, (new_total - total) - increment)


def state_of_sum(value, state_size: int, xp) -> tuple:
    """The state of a sum that is exactly ``value``."""
    return (value,) if state_size == 1 else (value, xp.zeros_like(value))
