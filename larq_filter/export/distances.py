"""How far outputs are from each other, in units of what they vary by over the inputs."""

import numpy as np

_ROUNDING = 1e-5  # of a column's largest value: a smaller range says nothing of the inputs
_SMALLEST = 1e-3  # of a column's largest value, and of the spread of all: less counts as so much
_LEFT_OUT = 0.05  # share of the inputs that a column's spread is taken without


def is_constant(outputs: np.ndarray) -> bool:
    """Whether no output column varies over the inputs by more than rounding."""
    columns = _columns(outputs)
    return bool(np.all(np.ptp(columns, axis=0) <= _ROUNDING * np.abs(columns).max(axis=0)))


def spread(outputs: np.ndarray) -> np.ndarray:
    """The unit of each output: the standard deviation of its column over the inputs.

    Without the twentieth of the inputs that is farthest from the column's median, since one input
    of a thousand times the usual size would hide a wrong file behind it. Those far ones have the
    deviation of all as their unit: they are rounded accordingly.

    Args:
        outputs: shape (inputs, ...).

    Returns:
        Shape (inputs, columns), all above 0.
    """
    columns = _columns(outputs)
    distance = np.abs(columns - np.median(columns, axis=0))
    order = np.argsort(distance, axis=0, kind="stable")
    left_out = max(1, round(_LEFT_OUT * len(columns))) if len(columns) > 2 else 0
    near, far = np.split(order, [len(columns) - left_out])
    usual, all_of_them = np.take_along_axis(columns, near, 0), columns.std(axis=0)
    smallest = _SMALLEST * np.maximum(np.abs(usual).max(axis=0), all_of_them)
    smallest = np.maximum(smallest, np.finfo(np.float32).tiny)
    unit = np.tile(np.maximum(usual.std(axis=0), smallest), (len(columns), 1))
    np.put_along_axis(unit, far, np.maximum(all_of_them, smallest)[None], 0)
    return unit


def differences(expected: np.ndarray, given: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """For each input and column the difference, in the unit that ``spread`` gives."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return np.abs(_columns(expected) - _columns(given)) / unit


def distances(expected: np.ndarray, given: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """For each input the largest difference of a column."""
    return differences(expected, given, unit).max(axis=1)


def _columns(outputs: np.ndarray) -> np.ndarray:
    return outputs.reshape(len(outputs), -1).astype(np.float64)
