"""By what a model is known again that has no file: how it is built, not what its weights are.

Its structure: the configs of its layers, how they are connected, the shapes of their weights. What
Keras numbers, the names, and seeds don't count. And the user's own code in it (``own_code``).

Rejected: the source of the module that the function stands in. A comment in it would make another
model, and so would an edit while a long comparison runs. Rejected too: what the model computes of a
fixed image. It differs between machines in the last digits, and a sign makes much of these.
"""

import hashlib
import json
import sys
import warnings
from collections.abc import Iterable

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.experiments import own_code

_PYTHON = ".".join(map(str, sys.version_info[:2]))


def fingerprint(models: Iterable[keras.Model]) -> dict:
    """``{"layers", "weights", "structure"}``: two counts and a hash; of own code another hash.

    Bytecode is of one version of Python, so that the key of that hash names it: another version
    compares the structure only.

    Args:
        models: one, or two that a function made one after the other, best of a generator: what its
            layers count, and names that Keras numbers, differ then, and do not count.
    """
    found = [
        {
            "layers": len(list(model._flatten_layers())),
            "weights": model.count_params(),
            "structure": _structure(model),
            f"code (Python {_PYTHON})": own_code.of(_things(model)),
        }
        for model in models
    ]
    alike = _agreed([json.loads(json.dumps(each, default=_as_json)) for each in found])
    return {name: _hash(v) if isinstance(v, list) else v for name, v in alike.items() if v != []}


def _things(model):
    return (part for layer in model._flatten_layers() for part in (layer, *vars(layer).values()))


def _structure(model) -> list:
    layers = list(model._flatten_layers())
    names = {layer.name: number for number, layer in enumerate(layers)}
    parts = [
        (type(layer).__name__, _config(layer), [w.shape.as_list() for w in layer.weights])
        for layer in layers
    ]
    wiring = [_calls(each, names) for each in layers if getattr(each, "_nodes_by_depth", None)]
    return [_without_names(parts, names), wiring]


def _agreed(contents: list):
    """The first of them, with None for what is not the same in all."""
    first = contents[0]
    if all(isinstance(each, dict) and each.keys() == first.keys() for each in contents):
        return {key: _agreed([each[key] for each in contents]) for key in first}
    if all(isinstance(each, list) and len(each) == len(first) for each in contents):
        return [_agreed(list(parts)) for parts in zip(*contents, strict=True)]
    return first if all(each == first for each in contents) else None


def _hash(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _as_json(value):
    """Arrays as lists; of other objects the class, since their text may hold an address."""
    if isinstance(value, tf.DType):
        return value.name
    if hasattr(value, "numpy"):
        value = value.numpy()
    return value.tolist() if hasattr(value, "tolist") else type(value).__name__


def _config(layer):
    """The config of a layer, without what is listed besides: a model's layers, the code of lambdas.

    Of a lambda Keras writes the bytes, with its file and line.
    """
    if isinstance(layer, keras.Model):
        return None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The object being serialized includes a `lambda`")
            config = layer.get_config()
    except Exception:  # whatever a class of the user's makes of it
        return None
    if config.get("output_shape_type") == "lambda":
        del config["output_shape"]
    return {k: v for k, v in config.items() if not _is_listed(getattr(layer, k, None))}


def _is_listed(value) -> bool:
    return isinstance(value, keras.layers.Layer) or getattr(value, "__name__", "") == "<lambda>"


def _without_names(value, names: dict):
    """``value`` with a number for each layer's name, and without seeds."""
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if key != "seed"}
        if value.get("name") in names:
            value["name"] = names[value["name"]]
        return {key: _without_names(part, names) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_names(each, names) for each in value]
    return value


def _calls(model, names: dict) -> list:
    """Which layer is called, with which outputs of which calls and which constants; the outputs."""
    nodes = binary.nodes_of(model)
    order = {id(node): number for number, node in enumerate(nodes)}

    def source(tensor):
        layer, node, output = tensor._keras_history
        return names[layer.name], order.get(id(layer._inbound_nodes[node])), output

    calls = [
        (names[node.layer.name], [source(each) for each in node.keras_inputs], _constants(node))
        for node in nodes
    ]
    return [calls, [source(each) for each in model.outputs]]


def _constants(node) -> list:
    given = [*node.call_args, *sorted(node.call_kwargs.items())]
    return [each for each in tf.nest.flatten(given) if not tf.is_symbolic_tensor(each)]
