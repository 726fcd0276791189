"""By what a model is known again that has no file: how it is built, not what its weights are.

The configs of its layers, how they are connected, the shapes of their weights, and the code of
layers, quantizers and functions of the user's own. What Keras numbers, the names, and seeds don't
count, nor do comments.

Rejected: the source of the module that the function stands in. It misses what that imports, and a
comment in it would make another model. Rejected too: what the model computes of a fixed image. It
differs between machines in the last digits, and a sign makes much of these.
"""

import hashlib
import inspect
import json
import sys
import types
import warnings

from larq_filter import binary
from larq_filter._keras import keras, tf

_LIBRARIES = {"keras", "tf_keras", "tensorflow", "larq", "larq_filter", "larq_zoo", "numpy"}
_PLAIN = (bool, int, float, str, type(None))


def fingerprint(model: keras.Model) -> dict:
    """``{"layers", "weights", "built"}``: two counts for people, and a hash of all.

    Args:
        model: built. Code that its own code calls is not seen, nor are values that it reads.
    """
    layers = list(model._flatten_layers())
    names = {layer.name: number for number, layer in enumerate(layers)}
    parts = [
        (type(layer).__name__, _config(layer), [w.shape.as_list() for w in layer.weights])
        for layer in layers
    ]
    wiring = [_calls(each, names) for each in layers if getattr(each, "_nodes_by_depth", None)]
    own = [_own_code(part) for layer in layers for part in (layer, *vars(layer).values())]
    known = [_without_names(parts, names), wiring, own]
    text = json.dumps(known, sort_keys=True, default=_as_json)
    return {
        "layers": len(layers),
        "weights": model.count_params(),
        "built": hashlib.sha256(text.encode()).hexdigest(),
    }


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
        return _plain(layer)
    return {k: v for k, v in config.items() if not _is_listed(getattr(layer, k, None))}


def _is_listed(value) -> bool:
    return isinstance(value, keras.layers.Layer) or getattr(value, "__name__", "") == "<lambda>"


def _calls(model, names: dict) -> list:
    """Which layer is called, with the outputs of which and with which constants."""
    return [
        (names[node.layer.name], [names[p.layer.name] for p in node.parent_nodes], _constants(node))
        for node in binary.nodes_of(model)
    ]


def _constants(node) -> list:
    given = [*node.call_args, *sorted(node.call_kwargs.items())]
    return [each for each in tf.nest.flatten(given) if not tf.is_symbolic_tensor(each)]


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


def _as_json(value):
    """Arrays as lists; of other objects the class, since their text may hold an address."""
    if hasattr(value, "numpy"):
        value = value.numpy()
    return value.tolist() if hasattr(value, "tolist") else type(value).__name__


def _plain(thing) -> dict:
    """The numbers and texts among the public attributes of an object."""
    found = vars(thing).items() if hasattr(thing, "__dict__") else ()
    return {k: v for k, v in found if not k.startswith("_") and isinstance(v, _PLAIN)}


def _own_code(thing) -> list:
    """The code of a function, or of the class of an object, if it is no library's."""
    thing = inspect.unwrap(thing)  # of tf.custom_gradient
    if isinstance(thing, types.FunctionType):
        return _code(thing) if _is_own(thing) else []
    methods = [
        inspect.unwrap(getattr(entry, "__func__", getattr(entry, "fget", entry)))
        for kind in type(thing).__mro__
        if _is_own(kind)
        for entry in vars(kind).values()
    ]
    code = [_code(method) for method in methods if isinstance(method, types.FunctionType)]
    return [_plain(thing), *code] if code else []


def _is_own(thing) -> bool:
    root = str(thing.__module__).partition(".")[0]
    return root not in _LIBRARIES and (root == "__main__" or root not in sys.stdlib_module_names)


def _code(function: types.FunctionType) -> list:
    """What a function does and with which numbers, without the lines it stands on."""
    cells = inspect.getclosurevars(function).nonlocals.values()
    given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *cells]
    plain = [each if isinstance(each, _PLAIN) else type(each).__name__ for each in given]
    return [plain, *_of_code_object(function.__code__, function.__doc__)]


def _of_code_object(code: types.CodeType, doc: str | None = None) -> list:
    found = [code.co_code.hex(), list(code.co_names)]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.append(_of_code_object(constant))
        elif isinstance(constant, frozenset):  # in another order in each process
            found.append(sorted(map(repr, constant)))
        elif doc is None or constant != doc:
            found.append(repr(constant))
    return found
