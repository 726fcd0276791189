"""A Keras model as the list of its calls of layers, nested models opened.

``calls_of`` is for looking: which layer's output goes where. ``replay`` is for running: the same
walk with tensors, so that a caller sees what goes into each layer and what comes out of it.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.binary import nodes_of


@dataclasses.dataclass(eq=False)
class Call:
    """One call of a layer.

    Attributes:
        name: of the layer, after the names of the models that it is nested in.
        layer: the layer; of a TimeDistributed the one inside, and the shapes are that one's.
        sources: the calls whose outputs it takes; None for an input of the model.
        targets: the calls that take its output.
        input_shape, output_shape: of the first input and output, batch included.
        is_output: whether its output is one of the model.
        trains: whether it, or a model around it, is called with ``training=True``, and the layer
            goes by that.
        holder: the call of the custom layer that ``layer`` is inside of, if it is; then all but
            name and layer are that one's.
    """

    name: str
    layer: keras.layers.Layer
    sources: list
    targets: list
    input_shape: tuple
    output_shape: tuple
    is_output: bool = False
    trains: bool = False
    holder: "Call | None" = None


def require(model) -> None:
    """Raises unless ``model`` is one that can be exported.

    Raises:
        TypeError: no Keras model, or a subclassed one.
        ValueError: not built, more than one input or output, sizes that are not known, or
            a layer that counts on a number of inputs other than 1.
    """
    binary.require_built(model)
    if not model._is_graph_network:
        raise TypeError(
            f"{model.name} ({type(model).__name__}) is a subclassed model, and how its layers are "
            "connected is not known: write it with the functional API."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"{model.name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "one of each can be exported: build a model with one for each output."
        )
    if None in input_size(model):
        raise ValueError(
            f"{model.name} takes inputs of shape {(None, *input_size(model))}; a converted model "
            "has one size: build the model with the size that the device will give it."
        )
    if model.inputs[0].shape[0] is not None and not _takes_one(model):
        raise ValueError(
            f"{model.name} was built for batches of {model.inputs[0].shape[0]}, and a layer counts "
            "on that number; a converted model takes one input: build the model without it."
        )


def _takes_one(model) -> bool:
    try:
        return output_of(model, tf.zeros((1, *input_size(model)))).shape[0] == 1
    except Exception:  # whatever a layer makes of another number
        return False


def input_size(model) -> tuple:
    """The shape of one input, without the batch; the model may have its input in a dict."""
    return tuple(model.inputs[0].shape[1:])


def output_of(model, inputs):
    """The output for a batch of ``inputs``, out of the list or dict that the model may give."""
    (output,) = tf.nest.flatten(model(inputs, training=False))
    return output


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call of a layer while a model is replayed.

    Attributes:
        name: as in ``Call``.
        layer: the layer; of a TimeDistributed the outer one.
        inputs: the tensors that it takes, a list.
        outputs: the tensors that it gives, a list.
        compute: gives such a list of outputs for other inputs.
    """

    name: str
    layer: keras.layers.Layer
    inputs: list
    outputs: list
    compute: Callable


def calls_of(model) -> list[Call]:
    """The calls of layers, each after those whose outputs it takes."""
    calls = []
    for call in _enter(model, [None] * len(model.inputs), "", calls):
        if call is not None:
            call.is_output = True
    return calls


def _enter(model, sources: list, prefix: str, calls: list, training: bool = False) -> list:
    """Appends the calls in ``model``; returns those that give its outputs."""
    values = dict(zip(map(id, model.inputs), sources, strict=True))
    for node in nodes_of(model):
        taken = [values[id(tensor)] for tensor in node.keras_inputs]
        outputs = tf.nest.flatten(node.outputs)
        if isinstance(node.layer, keras.Model):
            inside = f"{prefix}{node.layer.name}/"
            given = _enter(node.layer, taken, inside, calls, _trains(node, training))
        else:
            shapes = [tuple(t.shape.as_list()) for t in (node.keras_inputs[0], outputs[0])]
            layer = node.layer
            if isinstance(layer, keras.layers.TimeDistributed):  # the steps become a larger batch
                layer, shapes = layer.layer, [(None, *shape[2:]) for shape in shapes]
            call = Call(prefix + node.layer.name, layer, taken, [], *shapes)
            call.trains = _trains(node, training) and layer._expects_training_arg
            for source in taken:
                if source is not None:
                    source.targets.append(call)
            calls.append(call)
            given = [call] * len(outputs)
        values.update(zip(map(id, outputs), given, strict=True))
    return [values[id(tensor)] for tensor in model.outputs]


def _trains(node, around: bool) -> bool:
    """Whether a call trains, in a model that is called with ``training=around``."""
    own = node.call_kwargs.get("training")
    return around if own is None else bool(own)


def replay(model, inputs, visit: Callable, prefix: str = "", training: bool = False) -> list:
    """Computes the outputs of ``model`` layer by layer.

    Layers are called on tensors, so that nothing is added to the graph of the model, and as in
    ``model(inputs, training=False)``.

    Args:
        model: a functional or sequential model.
        inputs: one tensor, or a list of them.
        visit: called with a ``Step`` after each call of a layer.
        prefix: of the names.
        training: how the model is called, if not as said above.

    Returns:
        The outputs, a list.
    """
    values = dict(zip(_keys(model.inputs), tf.nest.flatten(inputs), strict=True))
    for node in nodes_of(model):
        taken = [values[key] for key in _keys(node.keras_inputs)]
        if isinstance(node.layer, keras.Model):
            inside = f"{prefix}{node.layer.name}/"
            given = replay(node.layer, taken, visit, inside, _trains(node, training))
        else:
            compute = functools.partial(_compute, node, training)
            given = compute(taken)
            visit(Step(prefix + node.layer.name, node.layer, taken, given, compute))
        values.update(zip(_keys(tf.nest.flatten(node.outputs)), given, strict=True))
    return [values[key] for key in _keys(model.outputs)]


def _compute(node, training: bool, inputs: list) -> list:
    keys = _keys(node.keras_inputs)
    # Keras takes a tensor away for each place where it stands.
    supply = {key: [tensor] * len(keys) for key, tensor in zip(keys, inputs, strict=True)}
    arguments, options = node.map_arguments(supply)
    call = functools.partial(node.layer, *arguments, **options)
    return tf.nest.flatten(_Context(autocast=False)(inputs, call, training=training))


class _Context(keras.layers.Layer):
    """Layers called inside it, and those in them, train if it does, unless told otherwise.

    Called by itself, a layer goes by its default, and that of ``RandomFlip`` is to train.
    """

    def call(self, inputs, function: Callable, training=None):
        return function()


def predict(function: Callable, inputs, batch_size: int = 32) -> np.ndarray:
    """``function`` of one batch after another, eagerly; ``Model.predict`` would trace anew."""
    batches = range(0, len(inputs), batch_size)
    return np.concatenate([np.asarray(function(inputs[i : i + batch_size])) for i in batches])


def _keys(tensors: list) -> list[str]:
    return [str(id(tensor)) for tensor in tensors]  # as Keras names them in `map_arguments`
