"""Training through real-valued weights: latent ones, and the real-valued stages before."""

import dataclasses
from collections.abc import Callable

from larq_filter import binary, conversion, quantizers
from larq_filter._keras import keras
from larq_filter.experiments.methods.knobs import Knobs, schedule
from larq_filter.experiments.methods.method import Stage
from larq_filter.optimizers.latent_optimizer import LatentOptimizer
from larq_filter.quantizers import ClipToUnit, TanhToUnit

import larq  # isort: skip


def optimizer_for(knobs: Knobs, steps: int, make: Callable, rules=()):
    """``make(learning_rate)`` for the latent kernels; for the rest Adam, or the same."""
    rates = {
        name: schedule(knobs.learning_rate_schedule, getattr(knobs, name), steps=steps)
        for name in ("kernel_learning_rate", "learning_rate")
    }
    kernel_optimizer = make(rates["kernel_learning_rate"])
    if knobs.rest == "same":
        # Only a LatentOptimizer tells quantizers of each step, and has rules.
        named = knobs.quantizer and quantizers.get(knobs.quantizer)
        if not rules and not (named and named.follows_kernel):
            return kernel_optimizer
        return LatentOptimizer(kernel_optimizer, make(rates["kernel_learning_rate"]), rules)
    return LatentOptimizer(kernel_optimizer, keras.optimizers.Adam(rates["learning_rate"]), rules)


def trained_by(make: Callable, rules: Callable = lambda steps: ()) -> Callable:
    """``prepare`` of ``make(knobs, learning_rate)`` on kernels with the knobs' options.

    ``rules(steps)`` are those of ``LatentOptimizer``.
    """

    def prepare(model, knobs, steps, earlier, seed):
        model = conversion.with_kernel_options(
            model, lambda layer, quantizer, prefix: _kernel_options(layer, prefix, knobs)
        )
        rate = lambda rate: make(knobs, rate)  # noqa: E731
        return model, optimizer_for(knobs, steps, rate, rules(steps))

    return prepare


def _kernel_options(layer, prefix: str, knobs: Knobs) -> dict:
    """What the knobs change in the configuration of a layer with a latent kernel."""
    options = {}
    if knobs.weight_clip is not None:
        # For inf too: Larq warns of kernels without a constraint.
        options[f"{prefix}_constraint"] = larq.constraints.WeightClip(knobs.weight_clip)
    if knobs.weight_decay is not None:
        options[f"{prefix}_regularizer"] = _l2(knobs.weight_decay)
    name = knobs.quantizer or knobs.standardization  # the older name of two quantizers
    if name not in (None, "none"):
        quantizer = quantizers.get(name, dtype=layer.dtype_policy.name)
        options[f"{prefix}_quantizer"] = quantizer
    return options


def _l2(weight_decay: float):
    """The penalty whose gradient is ``weight_decay * w``; None for 0."""
    return keras.regularizers.L2(weight_decay / 2) if weight_decay else None


def make_sgd(knobs, learning_rate):
    """Keras' SGD with the knobs ``momentum`` and ``nesterov``."""
    return keras.optimizers.SGD(learning_rate, knobs.momentum, knobs.nesterov == "yes")


def make_adam(knobs, learning_rate):
    """Keras' Adam."""
    return keras.optimizers.Adam(learning_rate)


sgd, adam = trained_by(make_sgd), trained_by(make_adam)


def sgdw(model, knobs, steps, earlier, seed):
    """``prepare`` of SGD with decoupled decay of the binary kernels, not of the rest."""
    own = dataclasses.replace(knobs, weight_decay=0.0)  # here the optimizer decays
    decay = knobs.weight_decay or None
    make = trained_by(lambda k, rate: keras.optimizers.SGD(rate, k.momentum, weight_decay=decay))
    model, optimizer = make(model, own, steps, earlier, seed)
    if decay and knobs.rest == "same":
        real = [v for v in model.trainable_variables if not binary.is_binary(v)]
        optimizer.exclude_from_weight_decay(var_list=real)
    return model, optimizer


def binary_activations(model, knobs, steps, earlier, seed):
    """``prepare`` of real-valued weights under binary activations.

    The kernels go through a quantizer that changes nothing: so they are still those that latent
    methods train apart from the rest.
    """

    def options(layer, quantizer, prefix):
        identity = larq.quantizers.NoOp(precision=32, dtype=layer.dtype_policy.name)
        changed = {f"{prefix}_quantizer": identity, f"{prefix}_constraint": None}
        if knobs.weight_decay is not None:
            changed[f"{prefix}_regularizer"] = _l2(knobs.weight_decay)
        return changed

    model = conversion.with_kernel_options(model, options)
    return model, optimizer_for(knobs, steps, keras.optimizers.Adam)


def _real(activation: Callable) -> Callable:
    """``prepare`` of a network with real-valued weights and activations, trained by Adam."""

    def prepare(model, knobs, steps, earlier, seed):
        def options(layer, quantizer, prefix):
            changed = {f"{prefix}_quantizer": None, f"{prefix}_constraint": None}
            if knobs.weight_decay is not None:
                changed[f"{prefix}_regularizer"] = _l2(knobs.weight_decay)
            if getattr(layer, "input_quantizer", None) is not None:
                changed["input_quantizer"] = activation(dtype=layer.dtype_policy.name)
            return changed

        model = conversion.with_kernel_options(model, options)
        rate = schedule(knobs.learning_rate_schedule, knobs.learning_rate, steps=steps)
        return model, keras.optimizers.Adam(rate)

    return prepare


real, real_tanh = _real(ClipToUnit), _real(TanhToUnit)


BINARY_ACTIVATIONS = {
    "kernel_learning_rate": 1e-3,
    "learning_rate": 1e-3,
    "learning_rate_schedule": "linear",
    "rest": "adam",
    "weight_decay": 1e-5,
    "input_quantizer": None,
}
"""Knobs of the first of two steps, and ReActNet's numbers for them."""


REAL = {"learning_rate": 1e-3, "learning_rate_schedule": "linear", "weight_decay": None}
"""Knobs of a real-valued teacher, and ReActNet's numbers for them."""


def teacher_first(knobs: Knobs, epochs: int) -> Stage | None:
    """``first_stage`` of methods that learn from a real-valued teacher; None if one is given."""
    if knobs.teacher is not None:
        return None
    return Stage("teacher", "real", knobs.only(REAL), epochs, epochs)


def binary_activations_first(knobs: Knobs, epochs: int) -> Stage:
    """``first_stage`` of methods of two steps: half of the epochs."""
    own = knobs.only(BINARY_ACTIVATIONS)
    return Stage("step1", "binary_activations", own, epochs // 2, epochs - epochs // 2)


def on_weights_of(stage: str):
    """``prepare`` of Adam on the latent weights that the stage before has trained."""

    def prepare(model, knobs, steps, earlier, seed):
        own = dataclasses.replace(knobs, weight_decay=0.0)  # as published: none in the last step
        model, optimizer = adam(model, own, steps, earlier, seed)
        copy_weights(earlier, model, stage)
        return model, optimizer

    return prepare


two_step = on_weights_of("binary_activations")
"""``prepare`` of the second of two steps."""


def copy_weights(earlier, model, stage: str) -> None:
    """Starts ``model`` from the real-valued weights of the stage before.

    Raises:
        ValueError: no such model, or another network.
    """
    if earlier is None:
        raise ValueError(
            f"This method starts from real-valued weights: train the method {stage} first and "
            "pass its model as `earlier`."
        )
    shapes = [[w.shape.as_list() for w in each.weights] for each in (earlier, model)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{earlier.name}, trained before, is another network than {model.name}.")
    for target, source in zip(model.weights, earlier.weights, strict=True):
        target.assign(binary.latent(source))
