"""What would keep ``FilterOptimizer`` from training a model, layer by layer, and what to do.

Larq's mark promises nothing about what a quantizer does to a kernel that already is -1 or +1: it
may stop the gradient there (``approx_sign``), turn it round (``swish_sign``) or change the value
(``DoReFa(1)``). So nothing here goes by a list of classes: ``probe`` runs the kernel's own
quantizer, and ``probe_unmarked`` one without the mark. What would spoil an export is
``larq_filter.export.linting``'s.
"""

import dataclasses

import numpy as np

from larq_filter._keras import keras, tf
from larq_filter.binary.kernels import fresh, holds_signs, is_quantized, latent, name_of
from larq_filter.binary.layers import (
    binary_kernels,
    layers_of,
    quantized_kernels,
    require_built,
)


def probe(variable) -> str | None:
    """Runs the quantizer and the constraint of a binary kernel at random signs.

    Args:
        variable: a kernel for which ``is_binary`` holds.

    Returns:
        None if the quantizer gives the kernel back, passes the gradient on unchanged, and the
        constraint leaves it alone; else one sentence that says what goes wrong and what to do.
    """
    random = np.random.default_rng(0)
    shape = tuple(variable.shape)
    dtype = tf.as_dtype(getattr(variable, "true_dtype", variable.dtype))
    if dtype.size < 4:
        return (
            f"it is {dtype.name}, in which a filter loses what it should remember: build the model "
            f'under keras.mixed_precision.set_global_policy("mixed_{dtype.name}"), which keeps '
            "kernels in float32."
        )
    kernel = tf.constant(random.choice([-1.0, 1.0], size=shape), dtype)
    # Powers of two: exact in float16 and bfloat16, to which a mixed precision policy may cast.
    upstream = tf.constant(2.0 ** random.integers(-4, 5, size=shape), dtype)
    quantizer = fresh(variable.quantizer)
    output, gradient = _value_and_gradient(quantizer, kernel, upstream)
    name = name_of(quantizer)
    fix = "convert the model with larq_filter.to_latent_free, or use NoOp(precision=1) or ste_sign"
    if not bool(tf.reduce_all(tf.equal(output, kernel))):
        return f"its quantizer {name} changes a kernel of -1 and +1 to other values: {fix}."
    if gradient is None or not bool(tf.reduce_all(tf.equal(gradient, upstream))):
        seen = "none" if gradient is None else _describe(gradient / upstream)
        return f"its quantizer {name} passes {seen} of the gradient at -1 and +1, not all: {fix}."
    constraint = variable.constraint
    if constraint is not None:
        if not bool(tf.reduce_all(tf.equal(constraint(kernel), kernel))):
            return (
                f"its constraint {name_of(constraint)} changes a kernel of -1 and +1: remove the "
                "constraint, or convert the model with larq_filter.to_latent_free."
            )
    return None


def probe_unmarked(variable) -> str | None:
    """Looks for a kernel that is binary and is not marked as such, so that nobody would know.

    Args:
        variable: any variable.

    Returns:
        None if it is marked, or not binary; else one sentence that says what to do.
    """
    if not is_quantized(variable) or variable.precision is not None:
        return None
    values = np.random.default_rng(0).normal(size=tuple(variable.shape))
    dtype = getattr(variable, "true_dtype", variable.dtype)
    output = fresh(variable.quantizer)(tf.constant(values, dtype))
    # x + stop_gradient(sign(x) - x) rounds.
    if not np.allclose(np.abs(output), 1, rtol=0, atol=1e-3):
        return None
    name = name_of(variable.quantizer)
    return (
        f"its quantizer {name} gives -1 and +1, and has no `precision`, by which Larq tells a "
        f"binary kernel from others: give it one, {name}.precision = 1, before the layer is built."
    )


def _value_and_gradient(function, x, upstream):
    """``function(x)`` and the gradient it passes to ``x`` (None if there is none).

    Symbolic: ``tf.init_scope``, in which optimizers are built, stops every gradient tape.
    """

    def run(x, upstream):
        y = tf.cast(function(x), x.dtype)
        (gradient,) = tf.gradients(y, x, upstream)
        return (y,) if gradient is None else (y, gradient)

    # The concrete function: calling a new tf.function for each kernel warns of retracing.
    graph = tf.function(run, autograph=False).get_concrete_function(x, upstream)
    y, *gradient = graph(x, upstream)
    return y, gradient[0] if gradient else None


def _describe(factor) -> str:
    """The factor on the gradient as text: one number where it is one."""
    low, high = float(tf.reduce_min(factor)), float(tf.reduce_max(factor))
    return f"{low:.3g} times" if abs(high - low) < 1e-3 else f"{low:.3g} to {high:.3g} times"


ERROR = "error"
"""Severity: it keeps the layer from being trained."""
WARNING = "warning"
"""Severity: the layer can be trained, and reaches less than it could."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about training a layer latent-free, and what to do.

    Attributes:
        layer: its name.
        problem: in a sentence or two.
        severity: ``ERROR``: it keeps the layer from being trained. ``WARNING``: it can be trained,
            and reaches less than it could.
    """

    layer: str
    problem: str
    severity: str = ERROR

    def __str__(self) -> str:
        return f"{self.layer}: {self.problem}"


def check(model: keras.Model) -> list[Finding]:
    """What keeps ``FilterOptimizer`` from training ``model``, or from training it well.

    Sees what the optimizer can't, since it is only given variables: regularizers (on -1 and +1 an
    L2 penalty is a constant pressure to flip), and quantizers that scale the kernel by its
    magnitudes after the batch normalisations have learned from them. One finding is a warning:
    batch normalisations whose moving statistics lag behind weights that flip.

    Args:
        model: a built Keras model.

    Returns:
        The findings; empty if the model can be trained as it stands.

    Raises:
        TypeError: no Keras model.
        ValueError: the model has not been built.
    """
    require_built(model)
    kernels = binary_kernels(model)
    findings = _unmarked(model)
    if not kernels:
        return findings or [Finding(model.name, NO_BINARY_KERNEL)]
    trained = _has_trained_statistics(model)
    for layer, variable in kernels:
        problems = [probe(variable), _regularizer_problem(layer, variable)]
        if trained:
            problems.append(_scale_problem(variable))
        findings += [Finding(layer.name, problem) for problem in problems if problem]
    return findings + _slow_statistics(model)


def _unmarked(model) -> list[Finding]:
    """An error for each trainable kernel that is binary and not marked."""
    return [
        Finding(layer.name, problem)
        for layer, variable in quantized_kernels(model)
        if (problem := probe_unmarked(variable))
    ]


NO_BINARY_KERNEL = (
    "no trainable kernel with a 1-bit quantizer. Give a Larq layer "
    '`kernel_quantizer="ste_sign"` or `larq.quantizers.NoOp(precision=1)`; '
    "a network without binary kernels is trained by a Keras optimizer, not by a filter."
)
"""What is said of a model that has nothing to train here, and what to do."""


def _regularizer_problem(layer, variable) -> str | None:
    for attribute, regularizer in vars(layer).items():
        if attribute.endswith("_regularizer") and regularizer is not None:
            name = attribute.removesuffix("_regularizer")
            if variable is getattr(layer, name, None) or variable is getattr(
                layer, f"{name}_kernel", None
            ):
                return (
                    f"its {attribute} ({type(regularizer).__name__}) presses on -1 and +1 at every "
                    "step: remove it, or convert the model with larq_filter.to_latent_free."
                )
    return None


def _has_trained_statistics(model) -> bool:
    """Whether some batch normalisation has left its initial moving mean of zero."""
    return any(
        isinstance(layer, keras.layers.BatchNormalization)
        and bool(tf.reduce_any(tf.not_equal(layer.moving_mean, 0)))
        for layer in layers_of(model)
    )


def is_trained(model) -> bool:
    """Whether a bias, a scale or a moving mean has left the 0 or 1 at which its layer starts it.

    A layer says so by an attribute ``NAME_initializer`` beside the variable ``NAME``. A model that
    has no such variable counts as new.
    """
    return any(_has_left_its_start(layer) for layer in layers_of(model))


_STARTS = {keras.initializers.Zeros: 0, keras.initializers.Ones: 1}


def _has_left_its_start(layer) -> bool:
    for attribute, initializer in vars(layer).items():
        start = _STARTS.get(type(initializer))
        variable = getattr(layer, attribute.removesuffix("_initializer"), None)
        if attribute.endswith("_initializer") and start is not None and variable is not None:
            if np.any(variable.numpy() != start):
                return True
    return False


def _slow_statistics(model) -> list[Finding]:
    """A warning of batch normalisations with Keras' default momentum, one for all of them."""
    slow = [
        layer
        for layer in layers_of(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and SLOW <= layer.momentum < 1  # at 1 they are constants
    ]
    if not slow:
        return []
    others = f", and those of {len(slow) - 1} more layers," if len(slow) > 1 else ""
    steps = f"about {1 / (1 - slow[0].momentum):.0f}"
    return [
        Finding(
            slow[0].name,
            f"its moving statistics{others} are means over {steps} steps (momentum "
            f"{slow[0].momentum:g}). Weights that flip change what "
            "they are to describe faster than that, and validation is worse than the network is: "
            "BatchNormalization(momentum=0.9).",
            WARNING,
        )
    ]


SLOW = 0.99
"""Keras' default momentum of a batch normalisation, and all beyond it."""


def _scale_problem(variable) -> str | None:
    """A trained scale that binarising the kernel in place would lose."""
    if holds_signs(variable):
        return None
    values = latent(variable)
    output = fresh(variable.quantizer)(values)
    if bool(tf.reduce_all(tf.equal(tf.abs(output), 1))):
        return None
    if bool(tf.reduce_all(tf.equal(output, values))):
        return (
            "it holds other values than -1 and +1, an average of kernels perhaps, and the network "
            "computes with them as they are until the next step: assign their signs."
        )
    return (
        "its quantizer scales the kernel by its magnitudes, and the batch normalisation after it "
        "has learned that scale: fold it first with larq_filter.to_latent_free."
    )
