"""Checks that the builders share."""


def image_shape(input_shape):
    """`input_shape` as a tuple (height, width, channels) of integers >= 1, or ValueError."""
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise ValueError(
            f"input_shape must be (height, width, channels), all integers >= 1, got {input_shape}"
        )
    return shape


def at_least(name, value, low=1):
    """`value` if it is an integer >= `low`, or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, got {value!r}")
    return value
