"""From latent weights to none, and back: ``to_latent_free`` and ``to_latent``.

A Larq model keeps a real-valued *latent* copy of every binary kernel and binarises it in each
forward pass. A latent-free model keeps the signs alone: the kernel holds -1 and +1, and
``NoOp(precision=1)`` marks it as binary. Both compute the same, and a filter needs no more.

Some quantizers do more than take signs and scale the kernel; ``folding`` finds their scales a new
home in the batch normalisation that follows. This module makes the copy.
"""

from typing import Any

import numpy as np

from larq_filter import binary
from larq_filter._keras import tf
from larq_filter._validation import POSITIVE, validate_number
from larq_filter.binary import RandomSign, binary_kernels_of, describe
from larq_filter.conversion.folding import Folding, analyse
from larq_filter.conversion.rebuild import copy_variables, rebuild, require_graph

import larq


def to_latent_free(model: Any, scales: str = "fold") -> Any:
    """The same network without latent weights, ready for ``FilterOptimizer``.

    Every 1-bit kernel quantizer (``kernel_quantizer``, ``depthwise_quantizer``,
    ``pointwise_quantizer``) becomes ``NoOp(precision=1)``, its constraint and regularizer go, its
    initializer becomes ``RandomSign``. The kernels hold -1 and +1: the signs of what the quantizer
    gave. All other variables are copied; input quantizers and kernels of more than 1 bit stay as
    they are. Nested models, shared layers and ``TimeDistributed`` are followed. ``model`` itself is
    not touched.

    Predictions stay the same: bit for bit for quantizers that give -1 and +1, up to rounding where
    a scale is folded into a batch normalisation (see the module's text); in a deep network that
    rounding can turn the sign of an activation that is almost zero, as another machine can. In
    training, a folded normalisation with a gamma gives the old outputs too while batch and moving
    statistics agree; one without weighs ``epsilon`` differently. A kernel that is marked by
    ``NoOp(precision=1)`` but not binary yet (an ordinary initializer, never trained) is set to its
    signs.

    Args:
        model: a built functional or sequential Keras model with Larq layers.
        scales: what to do with a quantizer's scale per output channel. "fold" keeps the predictions
            and refuses if it can't; "drop" forgets the scales, and the predictions change: for a
            model that is to be trained from the start.

    Returns:
        A new, uncompiled model: optimizer, loss and metrics are not carried over. ``trainable``
        flags are.

    Raises:
        TypeError: a subclassed model, or Larq layers hidden inside a custom layer.
        ValueError: the model is not built or has no binary kernel; a quantizer gives something
            else than a scale per channel times -1 and +1, or -1 and +1 without a ``precision``; a
            scale can't be folded.

    Example:
        >>> free = lf.to_latent_free(larq_zoo.literature.BiRealNet(weights=None))
        >>> free.compile(optimizer=lf.FilterOptimizer(), loss="categorical_crossentropy")
    """
    if scales not in ("fold", "drop"):
        raise ValueError(f'`scales` is {scales!r}; it must be "fold" or "drop".')
    require_graph(model)
    signs, factors = {}, {}
    for layer in binary.layers_of(model):
        analyse(layer, signs, factors)
    if not signs:
        raise ValueError(f"The model {model.name} has {binary.NO_BINARY_KERNEL}")
    folding = Folding(factors if scales == "fold" else {})
    folding.run(model)
    free, clones = rebuild(model, _latent_free_options)
    copy_variables(clones, signs)
    for layer, clone in clones:
        for name, value in folding.new_variables(layer).items():
            getattr(clone, name).assign(value)
    findings = [
        finding
        for finding in binary.check(free)
        if finding.severity == binary.ERROR and finding.problem != binary.NO_BINARY_KERNEL
    ]
    if findings:
        raise ValueError("Converted, but not trainable:\n" + "\n".join(map(str, findings)))
    return free


def to_latent(
    model: Any,
    kernel_quantizer: Any = "ste_sign",
    kernel_constraint: Any = "weight_clip",
    magnitude: float = 1.0,
) -> Any:
    """The way back: every ``NoOp(precision=1)`` kernel becomes a latent kernel.

    The latent weights are ``magnitude`` times the signs; the predictions stay the same. They start
    all alike: an optimizer that is to flip few of them soon wants a smaller ``magnitude`` than 1.

    Args:
        model: a latent-free model, functional or sequential.
        kernel_quantizer: what Larq takes there; ``precision`` 1. Used for depthwise and pointwise
            kernels too.
        kernel_constraint: what Keras takes there, or None.
        magnitude: of the latent weights, positive. Quantizers that scale by the mean magnitude
            (``magnitude_aware_sign``) need 1.

    Returns:
        A new, uncompiled model.

    Raises:
        TypeError: a subclassed model, or Larq layers hidden inside a custom layer.
        ValueError: no latent-free kernel; a quantizer that is none for 1-bit kernels, or that gives
            other values than the signs or no gradient for weights of this magnitude.

    Example:
        >>> model = lf.to_latent(free, kernel_quantizer="approx_sign", magnitude=0.1)
    """
    validate_number("magnitude", magnitude, POSITIVE)
    quantizer = larq.quantizers.get(kernel_quantizer)
    if getattr(quantizer, "precision", None) != 1 or isinstance(quantizer, larq.quantizers.NoOp):
        raise ValueError(
            f"`kernel_quantizer` is {kernel_quantizer!r}; it must binarise latent weights and say "
            'so by `precision` 1, as "ste_sign" or larq.quantizers.SteSign(clip_value=1.25) do.'
        )
    require_graph(model)
    values = _latent_values(model, quantizer, magnitude)

    def options(layer, old, prefix):
        if not isinstance(old, larq.quantizers.NoOp):
            return {}
        return {
            f"{prefix}_quantizer": binary.fresh(quantizer, dtype=layer.dtype_policy.name),
            f"{prefix}_constraint": kernel_constraint,
            f"{prefix}_initializer": "glorot_uniform",
        }

    latent, clones = rebuild(model, options)
    copy_variables(clones, values)
    return latent


def _latent_values(model, quantizer, magnitude: float) -> dict:
    """The id of each latent-free kernel to its latent weights, which ``quantizer`` must take."""
    values = {}
    for layer in binary.layers_of(model):
        for _, old, kernel in binary_kernels_of(layer):
            if isinstance(old, larq.quantizers.NoOp):
                values[id(kernel)] = magnitude * binary.sign(binary.latent(kernel))
                _require_signs(layer, quantizer, values[id(kernel)], magnitude)
    if not values:
        raise ValueError(f"The model {model.name} has no kernel under NoOp(precision=1).")
    return values


def _latent_free_options(layer, quantizer, prefix: str) -> dict:
    metrics = getattr(quantizer, "_custom_metrics", None)
    # A quantizer casts to its own dtype policy, and the one of this moment may be another.
    noop = larq.quantizers.NoOp(precision=1, metrics=metrics, dtype=layer.dtype_policy.name)
    return {
        f"{prefix}_quantizer": noop,
        f"{prefix}_constraint": None,
        f"{prefix}_regularizer": None,
        f"{prefix}_initializer": RandomSign(),
    }


def _require_signs(layer, quantizer, values, magnitude: float) -> None:
    """Raises unless ``quantizer`` gives the signs of ``values`` and lets gradients through."""
    with tf.GradientTape() as tape:
        tape.watch(values)
        output = binary.fresh(quantizer)(values)
    gradient = tape.gradient(output, values)
    name = binary.name_of(quantizer)
    if not np.array_equal(output, binary.sign(values)):
        raise ValueError(
            f"{layer.name}: {name} gives {describe(output.numpy())} for latent weights of "
            f"+-{magnitude}, not -1 and +1, and the predictions would change: choose another "
            "quantizer, or magnitude=1."
        )
    if gradient is None or bool(tf.reduce_all(tf.equal(gradient, 0))):
        raise ValueError(
            f"{layer.name}: {name} has gradient 0 for latent weights of +-{magnitude}, so they "
            "could never be trained: choose a smaller `magnitude`, 0.1 say."
        )
