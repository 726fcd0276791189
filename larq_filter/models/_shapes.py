"""Checks that the builders share."""


def image_shape(input_shape):
    """`input_shape` as a tuple (height, width, channels) of integers >= 1, or ValueError."""
    shape = tuple(input_shape) if hasattr(input_shape, "__iter__") else ()
    if len(shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise ValueError(
            f"input_shape must be (height, width, channels), all integers >= 1, got {input_shape}"
        )
    return shape


def divisible(name, input_shape, factor, low):
    """`image_shape`, height and width multiples of `factor` and >= `low`, or ValueError."""
    shape = image_shape(input_shape)
    if any(size % factor or size < low for size in shape[:2]):
        nearest = max(low, -(-max(shape[:2]) // factor) * factor)
        raise ValueError(
            f"{name} takes images whose height and width are multiples of {factor}, >= {low}, "
            f"got {shape[0]}x{shape[1]}: load the data with image_size={nearest}"
        )
    return shape
