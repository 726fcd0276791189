"""A model's quantizers follow its training: ``connect``."""

from larq_filter._validation import validate_integer
from larq_filter.quantizers.sign import SignQuantizer

import larq


def of_model(model) -> list[SignQuantizer]:
    """The quantizers of the family in ``model``, each once, nested models opened."""
    found = {}
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, SignQuantizer):
            found[id(layer)] = layer
    return list(found.values())


def connect(model, steps: int) -> None:
    """Tells the quantizers of ``model`` how far its training is, now and from now on.

    Quantizers whose surrogate changes over the training, or whose signs are random, need it; for
    others it does nothing. They read the optimizer's counter of steps, so a training that is
    resumed goes on where it was. Call it after ``model.compile``, and again after loading.

    Args:
        model: compiled, and built.
        steps: of the whole training, an integer >= 1.

    Raises:
        ValueError: the model is not compiled; a quantizer whose variables follow the kernel (RBNN,
            LAB) and another optimizer than ``LatentOptimizer``.
    """
    validate_integer("steps", steps)
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
    if isinstance(optimizer, larq.optimizers.CaseOptimizer):  # its own counter stays 0
        optimizer = optimizer.optimizers[-1]
    for position, quantizer in enumerate(quantizers):
        quantizer.connect(optimizer.iterations, steps, position)
    model.train_function = None  # one traced before knows another counter
