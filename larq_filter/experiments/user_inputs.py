"""Data and models that have no name here: what a config says of them, and who may make them.

    --model=mymodels:build      a function of a module; stands so in config.json
    --model=model.keras         a file, held to the list of SECURITY.md; stands so in config.json
    training.run(model=build)   a function or a model of Python; "from Python: build" there
    training.run(data=data)     images of Python; "from Python: arrays" there

A config is text, and text never becomes code here. Whoever has a function hands it over beside the
config: a program of its own accord, a command only for a module that stands on its own command
line. A run of such a model wants it again to be continued. By what they are known again, a file by
its hash, images and what a function makes by their fingerprints, config.json holds under "own".

Rejected: to import the module that a config names, in ``models.build``. To continue, export or
compare a folder from somebody else would then run code of their choice.
"""

import dataclasses
import hashlib
import inspect
import pathlib
import re
import weakref

import numpy as np

from larq_filter import conversion, datasets, models, serialization
from larq_filter._keras import keras, tf
from larq_filter._validation import first_line, shown
from larq_filter.datasets import preparation
from larq_filter.experiments import model_fingerprints

FROM_PYTHON = "from Python: "
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_ALIKE = 0.2  # deviations that means and deviations of two sets of like images may differ by
_MADE = weakref.WeakSet()  # by functions
_OF_DATA = ("data_dir", "download", "train_examples", "validation_examples", "image_size")


def is_function(text) -> bool:
    """Whether the text of a config names a function of a module: ``module:function``."""
    return isinstance(text, str) and _FUNCTION.fullmatch(text) is not None


def is_file(text) -> bool:
    """Whether it names a saved model."""
    return isinstance(text, str) and text.endswith(".keras")


def named(config, data=None, model=None):
    """``config`` with the text that stands for ``data`` and ``model``.

    Args:
        config: a ``run_folder.Config``.
        data: ``datasets.ImageData``, in place of the data that the config names.
        model: a Keras model, or a function that makes one, in place of the one that it names.

    Raises:
        TypeError: ``data`` or ``model`` of another type.
        ValueError: the config names others besides, or names what was not handed over.
    """
    changes = {}
    if data is not None:
        changes["dataset"] = _text_of_data(config, data)
    elif config.dataset.startswith(FROM_PYTHON):
        raise ValueError(
            f"The data are {config.dataset!r}, images that a program had in its variables. Hand "
            "them over again: training.run(config, output_dir, data=...)."
        )
    if model is not None:
        changes["model"] = _text_of_model(config, model)
    elif config.model.startswith(FROM_PYTHON):
        raise ValueError(
            f"The model is {config.model!r}, one that a program had in its variables. Hand it over "
            "again: training.run(config, output_dir, model=...)."
        )
    elif is_function(config.model):
        raise ValueError(
            f"The model {config.model} is code, which no config has imported. Type --model="
            f"{config.model} on the command line, or in Python hand the function over: "
            "training.run(config, output_dir, model=...)."
        )
    return dataclasses.replace(config, **changes)


def _text_of_data(config, data) -> str:
    if not isinstance(data, datasets.ImageData):
        raise TypeError(
            "`data` must be what larq_filter.datasets.from_arrays, from_datasets or load gives, "
            f"not {shown(data)}."
        )
    _refuse_two(config, "dataset", "data", FROM_PYTHON + data.name)
    given = [name for name in _OF_DATA if getattr(config, name) not in (None, False)]
    if given:
        raise ValueError(
            f"`data` is given, so {', '.join(given)} of the config would mean nothing. Give it to "
            "the function that makes the data."
        )
    return FROM_PYTHON + data.name


def _text_of_model(config, model) -> str:
    if not isinstance(model, keras.Model) and (isinstance(model, type) or not callable(model)):
        raise TypeError(
            "`model` must be a Keras model, or a function of input_shape and num_classes that "
            f"makes one, not {shown(model)}."
        )
    if is_function(config.model):
        return config.model
    kind = type(model) if isinstance(model, keras.Model) else model
    text = FROM_PYTHON + getattr(kind, "__name__", type(kind).__name__)
    _refuse_two(config, "model", "model", text)
    return text


def _refuse_two(config, name: str, argument: str, text: str) -> None:
    """Raises if the config names one besides the one that was handed over."""
    found = getattr(config, name)
    default = next(f.default for f in dataclasses.fields(config) if f.name == name)
    if found not in (default, text):
        raise ValueError(
            f"`{argument}` is given, {text!r}, and the config names {found!r}: leave one out."
        )


def to_type_again(config: dict) -> str:
    """What a run of this config, as its file has it, wants beside its flags; one sentence or none.

    Args:
        config: as read from config.json.
    """
    wanted = [
        f"{argument}= ({text})"
        for argument, name in (("data", "dataset"), ("model", "model"))
        if str(text := config.get(name)).startswith(FROM_PYTHON)
    ]
    if wanted:
        return f" That run was begun in Python: hand its {' and '.join(wanted)} over again."
    if is_function(config.get("model")):
        return f" That run wants --model={config['model']} on the command line."
    return ""


def has_code(model) -> bool:
    """Whether a function was handed over: only with the data can be told what it makes."""
    return model is not None and not isinstance(model, keras.Model)


def describe(config, data=None, model=None) -> dict:
    """What config.json says of them besides their text: enough to know them again.

    Args:
        config: as ``named`` gives it.
        data: loaded or handed over; None if they are not loaded yet.
        model: that was handed over; a function is called twice if there are data, after Keras'
            random seed was set to 0: what it draws must be the same, whatever the run's seed.

    Raises:
        TypeError, ValueError: what a function makes does not fit the data.
    """
    found = {}
    if data is not None and (data.fingerprint or config.dataset.startswith(FROM_PYTHON)):
        found["data"] = data.describe()
    if isinstance(model, keras.Model):
        found["model"] = model_fingerprints.fingerprint([model])
    elif has_code(model) and data is not None:
        found["model"] = model_fingerprints.fingerprint(_twice(config, data, model))
    elif model is None and is_file(config.model) and pathlib.Path(config.model).is_file():
        content = pathlib.Path(config.model).read_bytes()
        found["model"] = {"sha256": hashlib.sha256(content).hexdigest()}
    path = _path_of_teacher(config)
    if path is not None and path.is_file():
        found["teacher"] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return found


def _twice(config, data, function):
    """A function's model, and another that draws the same."""
    for _ in range(2):
        keras.utils.set_random_seed(0)
        yield build(config, data, function)


# Models -------------------------------------------------------------------------------------------


def build(config, data, model=None):
    """The latent model that every method starts from.

    Args:
        config: as ``named`` gives it.
        data: the model is to take its images and tell its classes.
        model: that was handed over.

    Raises:
        TypeError, ValueError, FileNotFoundError: it can't be had, or does not fit the data.
    """
    arguments = {"input_shape": data.input_shape, "num_classes": data.num_classes}
    if config.width is not None:
        arguments["width"] = config.width
    if model is None and not is_file(config.model):
        return models.build(config.model, **arguments)
    if has_code(model):
        made = _made(config.model, model, arguments)
    elif config.width is not None:
        raise ValueError(
            f"width is {config.width}, but {config.model} is a model of a fixed width."
        )
    else:
        made = serialization.load_model(config.model) if model is None else _copy(model)
    _refuse_misfit(config.model, made, data)
    return made


def _made(text: str, function, arguments: dict):
    """What a function of its author makes; it may take fewer arguments than there are."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of C, which does not tell
        parameters = []
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
    names = [each.name for each in parameters]
    required = [
        each.name
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    strange = [name for name in required if name not in arguments]
    if strange or ("width" in arguments and "width" not in names and not open_ended):
        raise ValueError(
            f"{text} takes ({', '.join(names)}); it is called with "
            f"{', '.join(arguments)} by name. A function for --model is written as "
            "def build(input_shape, num_classes), with width=None besides if --width is to count."
        )
    taken = {k: value for k, value in arguments.items() if open_ended or k in names}
    made = function(**taken)
    if not isinstance(made, keras.Model):
        raise TypeError(f"{text} gave {shown(made)}; a tf.keras.Model is needed, not compiled.")
    if made in _MADE:
        raise ValueError(
            f"{text} gave the same model twice. Each run begins with a new one: have the function "
            "make it inside, or hand over the model itself, which is copied."
        )
    _MADE.add(made)
    return made


def _copy(model):
    """The same model with the same weights: the one that was handed over stays as it is."""
    try:
        return conversion.with_kernel_options(model, lambda *_: {})
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The model {model.name} can't be copied ({first_line(error)[:200]}). Hand over the "
            "function that makes it."
        ) from error


def _path_of_teacher(config) -> pathlib.Path | None:
    if config.knobs.teacher is None:
        return None
    path = pathlib.Path(config.knobs.teacher)
    inside = path / "model.keras"  # a run folder stands for its model
    return inside if inside.exists() else path


def teacher(config, data):
    """The saved model, or that of the run folder, which the knob ``teacher`` names; or None.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it can't be read, does not end in a softmax over the classes, or the file beside
            it says that it knows other classes, or images that are scaled otherwise.
    """
    path = _path_of_teacher(config)
    if path is None:
        return None
    model, known, here = (
        serialization.load_model(path),
        preparation.beside(path),
        data.preparation(),
    )
    _refuse_misfit(f"teacher {path}", model, data)
    if known.is_file():
        taught = preparation.read(known)
        if taught.class_names != here.class_names:
            raise ValueError(
                f"The teacher {path} knows the classes {', '.join(taught.class_names)}; the data "
                f"have {', '.join(here.class_names)}. Outputs and classes must be in one order."
            )
        if not taught.has_scale_of(here, _ALIKE):
            raise ValueError(
                f"The teacher {path} takes images scaled by {taught.scale()}; this run scales by "
                f"{here.scale()}, and both see the same. Train the teacher on this data, or put a "
                "layer before it that brings the images to its scale."
            )
    return model


def _refuse_misfit(text: str, model, data) -> None:
    """Raises unless the model makes of images a distribution over the classes."""
    shape, classes = tuple(data.input_shape), data.num_classes
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    try:
        outputs = model(tf.constant(images), training=False)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"The model {text} can't take images of shape {shape}: {first_line(error)[:300]}"
        ) from error
    found = getattr(outputs, "shape", None)
    if found is None or tuple(found) != (2, classes):
        raise ValueError(
            f"The model {text} gives outputs of shape {found} for 2 images; the data have "
            f"{classes} classes, so that (2, {classes}) is needed."
        )
    outputs = np.asarray(outputs, np.float64)
    if outputs.min() < 0 or not np.allclose(outputs.sum(axis=1), 1, atol=0.02):
        raise ValueError(
            f"The outputs of the model {text} don't add up to 1: it must end in a softmax, best in "
            'float32: tf.keras.layers.Activation("softmax", dtype="float32").'
        )
