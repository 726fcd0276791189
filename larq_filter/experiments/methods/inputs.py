"""Quantizers of activations by the knob ``input_quantizer``, for all methods."""

from larq_filter import conversion, quantizers


def quantized(model, name: str | None):
    """``model`` with another quantizer before its layers with binary kernels.

    Args:
        model: a latent model.
        name: of ``quantizers.INPUTS``; None leaves the model as it is.

    Returns:
        A copy with the same values of all variables, or ``model`` itself.

    Raises:
        ValueError: no layer of the model has a quantizer of 1 bit before it.
    """
    if name is None:
        return model
    changed = []

    def options(layer, quantizer, prefix):
        if getattr(getattr(layer, "input_quantizer", None), "precision", None) != 1:
            return {}
        changed.append(layer)
        policy = layer.dtype_policy.name
        return {"input_quantizer": quantizers.get(name, inputs=True, dtype=policy)}

    model = conversion.with_kernel_options(model, options)
    if not changed:
        raise ValueError(
            f"input_quantizer is {name}, but no layer of {model.name} binarises its inputs. Leave "
            "it out, or choose a model with binary activations."
        )
    return model
