"""What becomes of a filter's memory when all gradients change sign."""

import functools

import numpy as np

from larq_filter.filters._base import Filter

_STEPS, _SIZE = 4, 8


@functools.lru_cache(maxsize=64)
def odd_states(gradient_filter: Filter) -> tuple[bool, ...] | None:
    """Which state arrays change sign, and nothing else, when all gradients do.

    Found by running the filter, as a filter of one's own has no list of what it remembers: averages
    and delays are odd, a mean square or a variance is even. The negative of the odd ones is the
    memory of the opposite gradients, which gives the opposite signal.

    Returns:
        A flag for each state array; None if there is no such answer: a filter that treats
        gradients of both signs differently, or one that all weights share an odd number of.
    """
    x = np.random.default_rng(0).normal(size=(_STEPS, _SIZE))
    try:
        (y, state), (other, mirrored) = (_run(gradient_filter, each) for each in (x, -x))
    except Exception:  # a filter of one's own may know TensorFlow only
        return None
    if not np.array_equal(y, -other):
        return None
    flags = []
    for one, two in zip(state, mirrored, strict=True):
        even, odd = np.array_equal(one, two), np.array_equal(one, -two)
        if not (even or (odd and np.shape(one) == (_SIZE,))):
            return None
        flags.append(odd and not even)
    return tuple(flags)


def _run(gradient_filter: Filter, x):
    rates = {name: rate or 0.5 for name, rate in gradient_filter.rates_at(0).items()}
    state, outputs = gradient_filter.zero_state(x[0], np), []
    for gradient in x:
        y, state = gradient_filter.step(gradient, state, rates, np)
        state = gradient_filter.feedback(state, np.zeros(_SIZE, bool), np)
        outputs.append(y)
    return np.stack(outputs), [np.asarray(array) for array in state]
