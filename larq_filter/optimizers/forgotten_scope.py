"""Larq's quantized scope, which a layer call that raised, or was interrupted, leaves open.

Latent weights then read as their signs, for whoever asks: files, constraints, ``EarlyStopping``.
At a step nobody can want that, so the scope is closed for good. At saving somebody may: Larq's way
to save signs is that very scope. So there it is said only.
"""

import warnings

from larq_filter._keras import keras  # noqa: F401  Larq's own import needs what this makes sure of

import larq  # isort: skip


def close() -> None:
    """Before a step.

    Warns:
        UserWarning: the scope was open.
    """
    if larq.context.should_quantize():
        larq.context.quantized_scope(False).__enter__()  # and never left
        warnings.warn(
            "larq.context.quantized_scope was open, as a binary layer's call that raised or was "
            "interrupted leaves it. It is closed now. What was saved in between has signs in place "
            "of latent weights.",
            stacklevel=4,
        )


def warn_of_signs() -> None:
    """At saving.

    Warns:
        UserWarning: the scope is open.
    """
    if larq.context.should_quantize():
        warnings.warn(
            "larq.context.quantized_scope is open: the file gets signs in place of latent weights. "
            "If a binary layer's call raised or was interrupted before, close it by "
            "larq.context.quantized_scope(False).__enter__() and save again.",
            stacklevel=4,
        )
