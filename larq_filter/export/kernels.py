"""Whether binary kernels hold what Larq Compute Engine takes for binary.

It goes by values: in a kernel, each output channel holds -a and +a for one a > 0, within 0.5 %,
and no zero. One zero, and the layer silently stays a float convolution of 32 times the size. So
the kernels are looked at before the conversion; "within 0.5 %" here means "but for rounding".
"""

import numpy as np

from larq_filter import binary
from larq_filter._keras import keras
from larq_filter.binary import binary_kernels_of, describe

import larq

_ROUNDING = 1e-5


def values_of(quantizer, kernel) -> np.ndarray:
    """What the forward pass uses: the kernel as its quantizer gives it."""
    stored = binary.latent(kernel)
    if isinstance(quantizer, larq.quantizers.NoOp):
        return stored.numpy()
    return np.asarray(binary.fresh(quantizer)(stored))


def problem(layer, quantizer, values: np.ndarray) -> tuple[str, str] | None:
    """What keeps ``values`` from being a binary kernel, and what to do; None if nothing does."""
    sizes = np.abs(_per_channel(layer, values.astype(np.float64)))
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    if np.all(low > 0) and np.all(high - low <= _ROUNDING * high):  # NaN compares as False
        return None
    zeros = np.argwhere(values == 0)
    latent_free = isinstance(quantizer, larq.quantizers.NoOp)
    nonzero = np.unique(np.abs(values[values != 0]))
    if len(zeros) and len(nonzero) <= 1 and values.min() < 0:
        where = tuple(int(i) for i in zeros[0])
        count = f"{len(zeros)} zero{'s' * (len(zeros) > 1)} (the first at {where})"
        found = f"its kernel holds {count} among {values.size} weights, and a bit has no zero"
    elif latent_free:
        found = (
            f"its kernel under NoOp(precision=1) holds {describe(values)}, not -1 and +1: it has "
            "its initial values still, or was trained by an optimizer for real weights"
        )
    else:
        found = (
            f"its quantizer {binary.name_of(quantizer)} gives {describe(values)}, not one positive "
            "scale per output channel times -1 and +1"
        )
    if latent_free:
        fix = (
            "train it with larq_filter.FilterOptimizer, or take the signs of the kernels with "
            "larq_filter.to_latent_free(model), which makes zeros +1, and check the accuracy again"
        )
    else:
        fix = 'use a quantizer of -1 and +1, "ste_sign" for one, and train the model with it'
    return found, fix


def problems(model) -> list[tuple[str, str]]:
    """The layers whose kernels can't be exported, and for each what it is and the fix."""
    found = []
    for layer in binary.layers_of(model):
        for _, quantizer, kernel in binary_kernels_of(layer):
            what = problem(layer, quantizer, values_of(quantizer, kernel))
            if what:
                found.append((layer.name, f"{what[0]}. Fix: {what[1]}."))
    return found


def unmarked(model) -> list[tuple[str, str]]:
    """The layers whose kernels are binary without Larq's mark, and for each the fix."""
    return [
        (layer.name, what)
        for layer, kernel in binary.quantized_kernels(model, trainable_only=False)
        if (what := binary.probe_unmarked(kernel))
    ]


def signs_in_file(layer, quantizer, kernel) -> np.ndarray:
    """The sign bits of a convolution's kernel in the file's order (outputs, height, width, in)."""
    return np.moveaxis(values_of(quantizer, kernel) < 0, -1, 0)


def equal_but_for_negation(bits: np.ndarray, other: np.ndarray) -> bool:
    """Whether two kernels are equal up to the negation of whole output channels (axis 0)."""
    if bits.shape != other.shape:
        return False
    differs = (bits != other).reshape(len(bits), -1)
    return bool(np.all(differs.all(axis=1) | ~differs.any(axis=1)))


def _per_channel(layer, values: np.ndarray) -> np.ndarray:
    """``values`` of a kernel as (weights, output channels)."""
    transposed = (keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
    if isinstance(layer, transposed):
        values = np.swapaxes(values, -1, -2)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        values = values.reshape(*values.shape[:-2], -1)
    return values.reshape(-1, values.shape[-1])
