"""Objects inside a config, to plain dicts and back, in every format that Keras has.

Inside of HDF5 files and SavedModels Keras reads an older form of config than it writes: it looks
registered classes up by another name and revives nested objects before anybody asks. What is
written here is one form everywhere, the one of ``.keras`` files, and it is read without Keras'
switch between the two.

A class is found by its registered name, or as a public schedule, initializer or optimizer of Keras.
Only then Keras' own search is asked, which imports the module that the config names: whoever reads
a config asks ``revive``, which looks at the names first.

**What files may name.** Keras finds the classes of a config by name: it imports the module that
the config names and takes what it finds there. Its ``safe_mode`` refuses marshalled lambdas in
``.keras`` files, and nothing else: an ``.h5`` file or a SavedModel may hold them, and in a
``.keras`` file a ``TFOpLambda`` can name ``tf.io.write_file``, which runs while the file is loaded.
So every class of a config is looked at before Keras sees it: one of Keras, Larq, larq-zoo or this
package, or one that the program has registered or imported itself. What else a config names is
refused, and its module not imported.

Rejected: ``.h5`` and SavedModel for teachers and exports, checked likewise. They have no config
that can be read in advance with certainty; whoever trusts one converts it in a line.
"""

import json
import pathlib
import re
import sys
import warnings
import zipfile

import numpy as np

from larq_filter._keras import keras
from larq_filter._validation import first_line


def register(kind: type) -> type:
    """Class decorator: Keras finds the class in every format, in HDF5 files by its bare name."""
    keras.utils.get_custom_objects()[kind.__name__] = kind
    return keras.utils.register_keras_serializable(package="larq_filter")(kind)


def serialize(item):
    """Plain dicts and lists in place of objects that have ``get_config``.

    Args:
        item: an object, a list of such, or a plain value.
    """
    if isinstance(item, list | tuple):
        return [serialize(entry) for entry in item]
    if isinstance(item, np.ndarray | np.generic):
        return item.tolist()
    if not hasattr(item, "get_config"):
        return item
    kind = type(item)
    if kind.__module__.startswith(("keras.", "tf_keras.")):
        return keras.utils.serialize_keras_object(item)
    return {
        "module": kind.__module__,
        "class_name": kind.__name__,
        "config": {name: serialize(value) for name, value in item.get_config().items()},
        "registered_name": keras.utils.get_registered_name(kind),
    }


def deserialize(config):
    """The object that ``serialize``, or Keras, made ``config`` of.

    Raises:
        TypeError, ValueError: no such class is known, or its arguments are refused.
    """
    name = config.get("registered_name", config["class_name"])
    kind = keras.utils.get_registered_object(name)
    if kind is None and (config.get("module") or "keras.").startswith("keras."):
        homes = (keras.optimizers.schedules, keras.initializers, keras.optimizers)
        found = [getattr(home, config["class_name"], None) for home in homes]
        kind = next((each for each in found if isinstance(each, type)), None)
    if kind is None:
        return keras.utils.deserialize_keras_object(config)
    return kind.from_config(dict(config["config"]))


def in_saved_model() -> bool:
    """Whether Keras is writing or reading a SavedModel now: its own objects get the older form."""
    return "module" not in keras.utils.serialize_keras_object(keras.initializers.Zeros())


# Files and configs that somebody else may have written --------------------------------------------

DEEPEST = 250
"""Containers within containers; 32 nested filters need 100, and Python recurses to 1,000."""

_HOMES = ("keras", "tf_keras", "larq", "larq_zoo", "larq_filter")
_CLASS = re.compile(r"[A-Z]\w*")  # `load_model` and `get_file` are functions of Keras
_DATA = ("__tensor__", "__numpy__", "__bytes__")
_FUNCTIONS = ("activations", "losses", "metrics")
# TensorFlow's functions by name, which Keras calls while it rebuilds a model: numbers only.
# Many call their older forms, `compat.v1`; of these with bare names some write files.
_OPERATIONS = re.compile(
    r"(compat\.v1\.)?(math|nn|image|linalg|signal|__operators__)\.\w+|[a-z]\w*|compat\.v1\."
    "(batch_gather|batch_to_space|boolean_mask|expand_dims|gather|gather_nd|norm|ones_like|pad|"
    "reverse_sequence|shape|size|squeeze|transpose|where|zeros_like)"
)
_NO_OPERATIONS = {
    "function",
    "load_library",
    "load_op_library",
    "numpy_function",
    "print",
    "py_function",
}
_LARGEST = 100 * 2**20  # bytes of a model's config; QuickNetLarge has 0.2 MB


def file_config(model) -> dict:
    """What a ``.keras`` file of ``model`` says of how it is built, as ``refuse_foreign`` reads it.

    Raises:
        ValueError: Keras can't write it.
    """
    try:
        with warnings.catch_warnings():  # of lambdas, which `refuse_foreign` speaks of
            warnings.filterwarnings("ignore", "The object being serialized includes a `lambda`")
            return json.loads(json.dumps(keras.utils.serialize_keras_object(model)))
    except (NotImplementedError, RecursionError, TypeError, ValueError) as error:
        reason = first_line(error)
        dots = " Write x[:, :, :, :4] in place of x[..., :4]." if "ellipsis" in reason else ""
        raise ValueError(
            f"Keras can't save the model {model.name} in a .keras file: {reason}{dots}"
        ) from error


def load_model(path):
    """The model of a ``.keras`` file, not compiled.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no ``.keras`` file, it can't be read, or it names what is not a part of
            Keras, Larq or this package and has been neither registered nor imported.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no saved model at {path}.")
    if path.suffix != ".keras":
        raise ValueError(
            f"{path} is no .keras file. Other formats may hold code, which runs when they are "
            "loaded: if you trust its author, convert it with "
            'tf.keras.models.load_model(path, compile=False).save("model.keras").'
        )
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _LARGEST:
                raise ValueError("its config is larger than 100 MB")
            content = json.loads(archive.read("config.json"))
        if isinstance(content, dict):  # Keras leaves out what it does not compile the model with
            content.pop("compile_config", None)
        refuse_foreign(content, str(path))
        return keras.models.load_model(path, compile=False)
    except _Foreign:
        raise
    except (OSError, KeyError, RecursionError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} can't be read as a Keras model: {first_line(error)}") from error


def refuse_foreign(config, place: str) -> None:
    """Raises unless ``config``, nested dicts and lists, names only what is safe to make.

    Args:
        config: as ``keras.utils.serialize_keras_object`` gives it.
        place: where it is from, for people.

    Raises:
        ValueError: more than 250 containers within each other; a name that is refused.
    """
    queue = [(config, 1)]
    while queue:
        item, depth = queue.pop()
        if not isinstance(item, dict | list | tuple):
            continue
        if depth > DEEPEST:
            raise _Foreign(f"{place} is nested more than {DEEPEST} deep; no filter or model is.")
        if isinstance(item, dict):
            if "class_name" in item and (problem := _problem(item)):
                raise _Foreign(f"{place} {problem}")
            queue += [(each, depth + 1) for each in item.values()]
        else:
            queue += [(each, depth + 1) for each in item]


def revive(config: dict, place: str):
    """The object of a config, as ``keras.utils.serialize_keras_object`` gave it.

    Args:
        config: of a filter, a flip rule, a schedule, an initializer or an optimizer.
        place: where it is from, for people.

    Raises:
        TypeError, ValueError: what its class raises; a name that is refused.
    """
    refuse_foreign(config, place)
    try:
        return deserialize(config)
    except (AttributeError, KeyError, RuntimeError) as error:  # too deep, or what Keras trips over
        raise ValueError(f"{place}, {_short(config)}, gives no object: {error!r:.200}") from error
    except (TypeError, ValueError) as error:
        reason = str(error).split("Full object config")[0].strip()
        if reason == str(error) and len(reason) < 2000:
            raise  # else it holds the config, which may be a megabyte
        raise type(error)(f"{place} gives no object: {reason[:500]}") from error


class _Foreign(ValueError):
    """What ``refuse_foreign`` raises."""


def _problem(item: dict) -> str | None:
    """Why the object of this config must not be made; None if it may."""
    name, module, inner = (item.get(key) for key in ("class_name", "module", "config"))
    registered = item.get("registered_name", name)
    for each in (name, module, registered):
        if not isinstance(each, str) and (each is not None or name is None):
            return f"names a class or its module by {_short(each)}, which must be a string."
    if name == "function":
        known = isinstance(inner, str) and (
            any(hasattr(getattr(keras, home), inner) for home in _FUNCTIONS)
            or _is_registered(inner)
        )
        return None if known else _refused(f"the function {_short(inner)}", module)
    if "config" in item and not isinstance(inner, dict):
        return f"gives {_short(name)} the config {_short(inner)}, which must be a dict."
    if name == "Lambda" and isinstance(inner, dict) and inner.get("function_type") == "lambda":
        name = "Lambda layer"
    if name in ("__lambda__", "__typespec__", "Lambda layer"):
        return (
            f"holds a {name}, which may run code. Write a layer class of your own, and register it."
        )
    if name in _DATA or _is_registered(registered):
        return None
    at_home = (module or "keras").split(".")[0] in _HOMES
    if not _CLASS.fullmatch(name) or not (at_home or _is_imported(module, name)):
        return _refused(f"the class {_short(name)}", module)
    if name in ("TFOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"):
        operation = inner.get("function", "") if isinstance(inner, dict) else ""
        if name != "TFOpLambda" or not _is_operation(operation):
            return (
                f"calls {_short(operation)} of TensorFlow, which may be more than a computation. "
                "Write a layer class of your own that calls it, and register it."
            )
    return None


def _is_registered(name) -> bool:
    return isinstance(name, str) and keras.utils.get_registered_object(name) is not None


def _is_imported(module: str, name: str) -> bool:
    """Whether the program has the class already, with a way to make it from a config."""
    found = vars(sys.modules.get(module, object)).get(name)
    return isinstance(found, type) and found.__name__ == name and hasattr(found, "from_config")


def _is_operation(name) -> bool:
    return (
        isinstance(name, str)
        and _OPERATIONS.fullmatch(name) is not None
        and name not in _NO_OPERATIONS
    )


def _refused(what: str, module) -> str:
    return (
        f"names {what} of the module {_short(module)}, which is neither a part of Keras, Larq or "
        "larq_filter nor known to this program: if it is yours, import the file that holds it and "
        "registers it (tf.keras.utils.register_keras_serializable) first; in commands --import="
        "MODULE, as you know the module, not as the file names it."
    )


def _short(value) -> str:
    try:
        text = repr(value)
    except Exception:  # nested too deep; an integer too long to be printed
        return f"a {type(value).__name__} that can't be printed"
    return text if len(text) <= 60 else f"{text[:57]}..."
