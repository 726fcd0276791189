"""What the flags of ``network_flags`` say: the file of a network, and how its images are scaled."""

import dataclasses
import pathlib

import numpy as np
from absl import flags

# First: it makes sure that tf.keras is Keras 2.
from larq_filter import datasets
from larq_filter.datasets import preparation

FLAGS = flags.FLAGS


def source() -> pathlib.Path:
    """The file of the model.

    Raises:
        FileNotFoundError: says what is missing, and of an unfinished run how to go on.
    """
    if FLAGS.run is None:
        path = pathlib.Path(FLAGS.model_file)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}.")
        return path
    run = pathlib.Path(FLAGS.run)
    path = run / "model.keras"
    if not run.is_dir():
        raise FileNotFoundError(f"there is no folder {run}.")
    if not path.is_file() and (run / "config.json").is_file():
        finished = (run / "result.json").is_file()
        raise FileNotFoundError(
            f"the model.keras in {run} is lost: the larq-filter train that began it, given again, "
            "makes it from the last checkpoint."
            if finished
            else f"the training in {run} is not finished: the larq-filter train that began it, "
            "given again, continues it."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{run} is no run folder of larq-filter train: no model.keras.")
    return path


def is_scale_given() -> bool:
    """Whether the command line says how images are scaled."""
    return FLAGS.mean is not None or FLAGS.std is not None


def scaled(prepared):
    """``ImageData`` or a ``Preparation`` whose images are scaled as --mean and --std say."""
    if not is_scale_given():
        return prepared
    channels = prepared.input_shape[-1]
    mean, std = (_numbers(name, default, channels) for name, default in (("mean", 0), ("std", 1)))
    if not np.all(std > 0):
        raise ValueError(f"--std={','.join(FLAGS.std)} must be above 0.")
    return dataclasses.replace(prepared, mean=mean, std=std)


def recorded(path: pathlib.Path, data: datasets.ImageData) -> datasets.Preparation:
    """The preparation in a file beside a model, for data of its training.

    Raises:
        ValueError: the data have other classes or units, or --mean and --std say another scale.
    """
    known, here = preparation.read(path), data.preparation()
    wrong = _if_wrong(path)
    if not _are_alike(known.class_names, data.class_names):
        raise ValueError(
            f"{path.name} beside the model says that it was trained on the "
            f"{len(known.class_names)} classes {_listed(known.class_names)}; {data.name} has the "
            f"{data.num_classes} classes {_listed(data.class_names)}. Give the data that it was "
            f"trained on: --dataset. {wrong}"
        )
    if known.pixels != here.pixels:
        units = {"uint8": "pixels in [0, 255]", "float32": "numbers of units of their own"}
        unit, said = (255, " / 255") if np.max(known.mean) <= 1 else (1, " as floats")
        typed = (f"--{name}={_joined(unit * getattr(known, name))}" for name in ("mean", "std"))
        divided = (
            f" If they were pixels{said}, move {path} away and add {' '.join(typed)}."
            if here.pixels == "uint8"
            else ""
        )
        raise ValueError(
            f"{path.name} beside the model says that it was trained on {units[known.pixels]}; "
            f"{data.name} has {units[here.pixels]}. Give the images as the training had them, "
            f"those from Python in an .npz file.{divided}"
        )
    return at_its_scale(path)


def at_its_scale(path: pathlib.Path) -> datasets.Preparation:
    """The preparation in a file beside a model.

    Raises:
        ValueError: --mean and --std say another scale.
    """
    known = preparation.read(path)
    given = scaled(known)
    if not given.has_scale_of(known):
        raise ValueError(
            f"{path.name} beside the model says that its images are scaled by {known.scale()}; "
            f"--mean and --std say {given.scale()}. Leave them out. {_if_wrong(path)}"
        )
    return known


def refuse_other_classes(model, data: datasets.ImageData) -> None:
    """Raises ValueError if a classifier has not as many outputs as there are classes in the data.

    One output, a probability, is for two classes.
    """
    shapes = [output.shape for output in model.outputs or ()]
    if len(shapes) == 1 and len(shapes[0]) == 2 and max(shapes[0][1], 2) != data.num_classes:
        raise ValueError(
            f"{model.name} has {shapes[0][1]} outputs; {data.name} has {data.num_classes} classes, "
            f"{_listed(data.class_names)}. Give the data that it was trained on: --dataset."
        )


def refuse_other_images(model, data: datasets.ImageData) -> None:
    """Raises ValueError if the model takes images of another size, or with other channels."""
    if len(model.inputs or ()) != 1:
        return
    takes, given = tuple(model.inputs[0].shape[1:]), tuple(data.input_shape)
    if len(takes) != 3 or all(a in (b, None) for a, b in zip(takes, given, strict=True)):
        return
    if takes[2] not in (given[2], None):
        colours = {1: "grey images (1 channel)", 3: "colour images (3 channels)"}
        needed = colours.get(takes[2], f"images of {takes[2]} channels")
        fix = f"It needs {needed}: save the files so, or give other data by --dataset."
    elif takes[0] == takes[1]:
        fix = f"Have them resized, as in training: --image_size={takes[0]}."
    else:
        fix = "Give the data that it was trained on: --dataset."
    raise ValueError(
        f"{model.name} takes images of {takes}; those of {data.name} are {given}. {fix}"
    )


def _if_wrong(path: pathlib.Path) -> str:
    return f"If the file is wrong, move it away: {path}."


def _are_alike(known: tuple, names: tuple) -> bool:
    """Whether class names agree; those of a training without names are numbers."""
    numbers = tuple(map(str, range(len(names))))
    return known in (names, numbers)


def _joined(numbers) -> str:
    return ",".join(f"{number:.6g}" for number in numbers)


def _listed(names) -> str:
    return ", ".join(names if len(names) <= 12 else [*names[:10], "..."])


def _numbers(name: str, default: float, channels: int) -> np.ndarray:
    given = FLAGS[name].value
    try:
        found = np.array([default] if given is None else given, np.float32)
    except ValueError:
        found = np.array([np.nan])
    if len(found) not in (1, channels) or not np.all(np.isfinite(found)):
        count = "one number" if channels == 1 else f"one number, or {channels}, one a channel,"
        raise ValueError(f"--{name}={','.join(given)}: {count} is needed.")
    return np.broadcast_to(found, channels).copy()
