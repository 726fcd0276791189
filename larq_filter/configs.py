"""Objects inside a config, to plain dicts and back, in every format that Keras has.

Inside of HDF5 files and SavedModels Keras reads an older form of config than it writes: it looks
registered classes up by another name and revives nested objects before anybody asks. What is
written here is one form everywhere, the one of ``.keras`` files, and it is read without Keras'
switch between the two.

A class is found by its registered name, or as a public schedule, initializer or optimizer of Keras.
Only then Keras' own search is asked, which imports the module that the config names: whoever reads
a config asks ``saved_models.revive``, which looks at the names first.
"""

import numpy as np

from larq_filter._keras import keras


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
