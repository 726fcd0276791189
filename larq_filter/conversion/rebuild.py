"""A copy of a model, some of whose layers have other options."""

from collections.abc import Callable

from larq_filter import binary
from larq_filter._keras import keras
from larq_filter.binary import binary_kernels_of, copies, nodes_of


def with_kernel_options(model, options: Callable):
    """A copy of ``model`` whose layers with 1-bit kernels are configured differently.

    Args:
        model: a functional or sequential model.
        options: ``options(layer, quantizer, prefix)`` gives the changes in the layer's
            configuration, for the kernel that ``prefix`` names: ``kernel``, ``depthwise`` or
            ``pointwise``. ``{"kernel_constraint": None}`` removes a constraint.

    Returns:
        A new, uncompiled model with the same values of all variables, latent ones included.

    Raises:
        TypeError: a subclassed model, or Larq layers hidden inside a custom layer.
    """
    require_graph(model)
    copy, pairs = rebuild(model, options)
    copy_variables(pairs, {})
    return copy


def require_graph(model) -> None:
    """Raises unless the model says how its layers are connected.

    Raises:
        TypeError: no Keras model, or a subclassed one.
        ValueError: not built, or a sequential model that calls a layer twice.
    """
    binary.require_built(model)
    if not model._is_graph_network:
        raise TypeError(
            f"{model.name} ({type(model).__name__}) is a subclassed model: its layers are known, "
            "but not how they are connected, so it can't be rebuilt. Write it with the functional "
            "API, or give its layers NoOp(precision=1) and RandomSign where it is defined."
        )
    called = [id(node.layer) for node in nodes_of(model)]
    if isinstance(model, keras.Sequential) and len(called) > len(set(called)):
        raise ValueError(
            f"The sequential model {model.name} calls a layer twice, and Keras forgets the second "
            "call when it copies or saves the model: write it with the functional API."
        )


def rebuild(model, options: Callable) -> tuple:
    """A copy of ``model`` with fresh variables, and all pairs ``(layer, its copy)``.

    Args:
        model: a functional or sequential model.
        options: ``options(layer, quantizer, prefix)`` gives what changes in the configuration of
            a layer with a 1-bit kernel.
    """
    pairs = {}

    def copy(layer):
        if id(layer) not in pairs:
            pairs[id(layer)] = layer, _copy_layer(layer, copy, options)
        return pairs[id(layer)][1]

    new = copy(model)
    if not new.built:
        new.build(model.input_shape)
    copies.freeze_alike(list(pairs.values()))
    return new, list(pairs.values())


def _copy_layer(layer, copy: Callable, options: Callable):
    if isinstance(layer, keras.Model):
        require_graph(layer)
        return keras.models.clone_model(layer, clone_function=copy)
    config = copies.config_of(layer)
    if isinstance(layer, keras.layers.TimeDistributed):
        del config["layer"]
        return type(layer)(copy(layer.layer), **config)
    known = set()
    for prefix, quantizer, kernel in binary_kernels_of(layer):
        if f"{prefix}_quantizer" in config:
            new = options(layer, quantizer, prefix)
            config.update({key: value for key, value in new.items() if key in config})
            known.add(id(kernel))
    if any(binary.is_binary(v) and id(v) not in known for v in layer.weights):
        raise TypeError(
            f"{layer.name} ({type(layer).__name__}) holds Larq layers inside, which can't be "
            "exchanged from outside: connect them with the functional API instead."
        )
    clone = copies.remake(layer, config)
    if getattr(layer, "synchronized", False):  # of a batch normalisation; its config forgets it
        clone.synchronized, clone.fused = True, False
    return clone


def copy_variables(pairs: list, values: dict) -> None:
    """Copies the variables of each layer by position; ``values`` by ``id`` come first."""
    for old, new in pairs:
        if isinstance(old, (keras.Model, keras.layers.TimeDistributed)):
            continue  # their layers have pairs of their own
        for source, target in zip(_own_variables(old), _own_variables(new), strict=True):
            target.assign(values.get(id(source), binary.latent(source)))
        _copy_quantizers(old, new)
        copies.settle(new)


def _copy_quantizers(old, new) -> None:
    """Copies the variables of kernel quantizers that are the same in both."""
    quantizers = {prefix: quantizer for prefix, quantizer, _ in binary_kernels_of(new)}
    for prefix, source, _ in binary_kernels_of(old):
        target = quantizers.get(prefix)
        if type(target) is type(source) and getattr(source, "weights", ()):
            if target.get_config() == {**source.get_config(), "name": target.name}:
                target.set_weights(source.get_weights())


def _own_variables(layer) -> list:
    """All variables of ``layer`` but those of its kernel quantizers, which may be exchanged."""
    quantizers = [quantizer for _, quantizer, _ in binary_kernels_of(layer)]
    hidden = {id(v) for q in quantizers for v in getattr(q, "weights", [])}
    return [variable for variable in layer.weights if id(variable) not in hidden]
