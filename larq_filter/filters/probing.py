"""What is found out about a filter by running it.

A filter of one's own is a function and no list of properties, so no class is asked: this holds for
those of this package and for all others.
"""

import functools

import numpy as np

from larq_filter.filters._base import Filter

_STEPS, _SIZE = 64, 32
_SIZES = (0.0, 1e-38, 1e-3, 1.0, 1.8e19)  # of gradients; of more the guard takes no step


@functools.lru_cache(maxsize=64)
def odd_states(gradient_filter: Filter) -> tuple[bool, ...] | None:
    """Which state arrays change sign, and nothing else, when all gradients do.

    Averages and delays are odd, a mean square or a variance is even. The negative of the odd ones
    is the memory of the opposite gradients, which gives the opposite signal.

    Returns:
        A flag for each state array; None if there is no such answer: a filter that treats
        gradients of both signs differently, or one that all weights share an odd number of.
    """
    x = np.random.default_rng(0).normal(size=(4, _SIZE))
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


@functools.lru_cache(maxsize=64)
def stays_finite(gradient_filter: Filter) -> bool:
    """Whether signals and states were finite in 64 steps of gradients of every size from 0 on.

    False too for a filter that knows TensorFlow only.
    """
    random = np.random.default_rng(0)
    x = random.choice(_SIZES, (_STEPS, _SIZE)) * random.choice([-1, 1], (_STEPS, _SIZE))
    x[: _STEPS // 2, : len(_SIZES)] = _SIZES  # without a change of sign for long
    try:
        y, state = _run(gradient_filter, x.astype(np.float32))
    except Exception:  # a filter of one's own may know TensorFlow only
        return False
    return all(bool(np.all(np.isfinite(array))) for array in (y, *state))


def _run(gradient_filter: Filter, x):
    rates = {n: x.dtype.type(rate or 0.5) for n, rate in gradient_filter.rates_at(0).items()}
    state, outputs = gradient_filter.zero_state(x[0], np), []
    with np.errstate(all="ignore"):
        for gradient in x:
            y, state = gradient_filter.step(gradient, state, rates, np)
            state = gradient_filter.feedback(state, np.zeros(_SIZE, bool), np)
            outputs.append(y)
    return np.stack(outputs), [np.asarray(array) for array in state]
