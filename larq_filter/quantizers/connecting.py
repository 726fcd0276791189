"""A model's quantizers follow its training: ``connect``."""

import weakref

from larq_filter._keras import keras
from larq_filter._validation import shown, validate_integer
from larq_filter.quantizers.sign import SignQuantizer

import larq


def of_model(model) -> list[SignQuantizer]:
    """The quantizers of the family in ``model``, each once, nested models opened."""
    found = {}
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, SignQuantizer):
            found[id(layer)] = layer
    return list(found.values())


def refuse_shared(variables) -> None:
    """Raises if two of ``variables`` have one quantizer that must be of one kernel.

    Raises:
        ValueError: with the names of both.
    """
    kernels = {}
    for variable in variables:
        quantizer = getattr(variable, "quantizer", None)
        if not isinstance(quantizer, SignQuantizer) or not quantizer.is_for_one_kernel:
            continue
        first = kernels.setdefault(id(quantizer), variable)
        if first is not variable:
            raise ValueError(
                f"{first.name} and {variable.name} have one quantizer object, {quantizer.name}, "
                "whose variables or random numbers belong to one kernel: give each layer its own, "
                "such as larq_filter.quantizers.get(name)."
            )


def counter_of(optimizer):
    """The variable in which an optimizer counts its steps; None for none."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(optimizer, larq.optimizers.CaseOptimizer):  # its own counter stays 0
        optimizer = optimizer.optimizers[-1]
    return getattr(optimizer, "iterations", None)


def connect(model, steps: int) -> None:
    """Tells the quantizers of ``model`` how far its training is, now and from now on.

    Quantizers whose surrogate changes over the training, or whose signs are random, need it; for
    others it does nothing. They read the optimizer's counter of steps, so a training that is
    resumed goes on where it was. Call it after each ``model.compile``, and again after loading.

    Args:
        model: compiled, and built.
        steps: of the whole training, an integer >= 1.

    Raises:
        TypeError: no Keras model, or steps that are no integer.
        ValueError: the model is not compiled; a quantizer whose variables follow the kernel (RBNN,
            LAB) and another optimizer than ``LatentOptimizer``; one such quantizer, or one with
            random signs, for two kernels.
    """
    validate_integer("steps", steps)
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a tf.keras.Model, not {shown(model)}.")
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ValueError(f"The model {model.name} is not compiled: call model.compile(...) first.")
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    quantizers = of_model(model)
    for quantizer in quantizers:
        if quantizer.follows_kernel and not getattr(optimizer, "tells_quantizers", False):
            raise ValueError(
                f"{quantizer.name} has variables that follow the kernel, which only "
                "larq_filter.LatentOptimizer brings up to date; the model was compiled with "
                f"{type(optimizer).__name__}."
            )
    refuse_shared(model.weights)
    count, model_now = counter_of(optimizer), weakref.ref(model)

    def counter():
        now = model_now()  # None where somebody keeps its layers alone: nothing is known then
        return count if now is None or now.optimizer is None else counter_of(now.optimizer)

    for position, quantizer in enumerate(quantizers):
        quantizer.connect(count, steps, position, counter)
    model.train_function = None  # one traced before knows another counter
