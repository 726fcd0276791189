"""What a Keras optimizer remembers of one variable."""


def second_moment(optimizer, variable):
    """The running mean of squared gradients that ``optimizer`` keeps of ``variable``.

    As Adam, AdamW, Nadam and RMSprop have it: without Adam's correction for its start at zero.

    Args:
        optimizer: a Keras optimizer.
        variable: a variable that it may train.

    Returns:
        A variable shaped like ``variable``; None for one that the optimizer was not built with, and
        for an optimizer that keeps no such mean.
    """
    means = getattr(optimizer, "_velocities", None)
    positions = getattr(optimizer, "_index_dict", {})
    position = positions.get(optimizer._var_key(variable)) if means else None
    return None if position is None else means[position]
