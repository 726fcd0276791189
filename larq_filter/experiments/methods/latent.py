"""Training through real-valued weights: latent ones, and the real-valued stages before."""

import dataclasses
from collections.abc import Callable

from larq_filter import binary, conversion
from larq_filter._keras import keras
from larq_filter.experiments.methods.knobs import Knobs, schedule
from larq_filter.optimizers.latent_optimizer import LatentOptimizer
from larq_filter.quantizers import ClipToUnit, StandardizedSign

import larq  # isort: skip


def _optimizer(knobs: Knobs, steps: int, make: Callable):
    """``make(learning_rate)`` for the latent kernels; for the rest Adam, or the same."""
    rates = {
        name: schedule(knobs.learning_rate_schedule, getattr(knobs, name), steps=steps)
        for name in ("kernel_learning_rate", "learning_rate")
    }
    kernel_optimizer = make(rates["kernel_learning_rate"])
    if knobs.rest == "same":
        return kernel_optimizer
    return LatentOptimizer(kernel_optimizer, keras.optimizers.Adam(rates["learning_rate"]))


def _latent(make: Callable) -> Callable:
    """``prepare`` of ``make(knobs, learning_rate)`` on kernels with the knobs' options."""

    def prepare(model, knobs, steps, earlier, seed):
        model = conversion.with_kernel_options(
            model, lambda layer, quantizer, prefix: _kernel_options(layer, prefix, knobs)
        )
        return model, _optimizer(knobs, steps, lambda rate: make(knobs, rate))

    return prepare


def _kernel_options(layer, prefix: str, knobs: Knobs) -> dict:
    """What the knobs change in the configuration of a layer with a latent kernel."""
    options = {}
    if knobs.weight_clip is not None:
        # For inf too: Larq warns of kernels without a constraint.
        options[f"{prefix}_constraint"] = larq.constraints.WeightClip(knobs.weight_clip)
    if knobs.weight_decay is not None:
        options[f"{prefix}_regularizer"] = _l2(knobs.weight_decay)
    if knobs.standardization in ("zscore", "scaled"):
        options[f"{prefix}_quantizer"] = StandardizedSign(
            scaled=knobs.standardization == "scaled", dtype=layer.dtype_policy.name
        )
    return options


def _l2(weight_decay: float):
    """The penalty whose gradient is ``weight_decay * w``; None for 0."""
    return keras.regularizers.L2(weight_decay / 2) if weight_decay else None


sgd = _latent(
    lambda knobs, learning_rate: keras.optimizers.SGD(
        learning_rate, knobs.momentum, nesterov=knobs.nesterov == "yes"
    )
)
adam = _latent(lambda knobs, learning_rate: keras.optimizers.Adam(learning_rate))


def sgdw(model, knobs, steps, earlier, seed):
    """``prepare`` of SGD with decoupled decay of the binary kernels, not of the rest."""
    own = dataclasses.replace(knobs, weight_decay=0.0)  # here the optimizer decays
    decay = knobs.weight_decay or None
    make = _latent(lambda k, rate: keras.optimizers.SGD(rate, k.momentum, weight_decay=decay))
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
    return model, _optimizer(knobs, steps, keras.optimizers.Adam)


def real(model, knobs, steps, earlier, seed):
    """``prepare`` of a network with real-valued weights and activations, trained by Adam."""

    def options(layer, quantizer, prefix):
        changed = {f"{prefix}_quantizer": None, f"{prefix}_constraint": None}
        if knobs.weight_decay is not None:
            changed[f"{prefix}_regularizer"] = _l2(knobs.weight_decay)
        if getattr(layer, "input_quantizer", None) is not None:
            changed["input_quantizer"] = ClipToUnit(dtype=layer.dtype_policy.name)
        return changed

    model = conversion.with_kernel_options(model, options)
    rate = schedule(knobs.learning_rate_schedule, knobs.learning_rate, steps=steps)
    return model, keras.optimizers.Adam(rate)


def two_step(model, knobs, steps, earlier, seed):
    """``prepare`` of Adam on the latent weights that the first step has trained."""
    if earlier is None:
        raise ValueError(
            "The method two_step starts from real-valued weights: train the method "
            "binary_activations first and pass its model as `earlier`."
        )
    own = dataclasses.replace(knobs, weight_decay=0.0)  # as published: none in the second step
    model, optimizer = adam(model, own, steps, earlier, seed)
    shapes = [[w.shape.as_list() for w in each.weights] for each in (earlier, model)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{earlier.name}, trained before, is another network than {model.name}.")
    for target, source in zip(model.weights, earlier.weights, strict=True):
        target.assign(binary.latent(source))
    return model, optimizer
