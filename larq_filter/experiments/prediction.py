"""A trained network in use: from a ``.keras``, ``.tflite`` or packed file to classes."""

import dataclasses
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import numpy as np

from larq_filter import datasets, export, models, serialization
from larq_filter._validation import first_line, last_line
from larq_filter.datasets import folders, preparation

FORMATS = (".keras", ".tflite", ".npz")
ARRAYS = ("images", "x", "x_test", "x_validation", "x_train")  # in an .npz file; the first of them


@dataclasses.dataclass(frozen=True)
class Network:
    """What gives classes to images.

    Attributes:
        prepare: how it takes images.
        outputs: function from prepared images (n, height, width, channels) to probabilities
            (n, classes).
    """

    prepare: datasets.Preparation
    outputs: Callable[[np.ndarray], np.ndarray]

    def probabilities(self, raw) -> np.ndarray:
        """Of each class for each raw image, float32 (n, classes).

        Raises:
            ValueError: the network takes other images, or its outputs are none over the classes.
        """
        try:
            found = np.asarray(self.outputs(self.prepare(raw).numpy()))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the model can't take images of shape {self.prepare.input_shape}: "
                f"{last_line(error)[:300]}"
            ) from error
        expected = (len(raw), len(self.prepare.class_names))
        if found.shape != expected or not np.allclose(found.sum(axis=1), 1, atol=0.02):
            raise ValueError(
                f"the model gives outputs of shape {found.shape} for {len(raw)} images of "
                f"{expected[1]} classes; needed is {expected}, in each row numbers that add up to "
                "1: a model that ends in a softmax."
            )
        return found


def load(model: pathlib.Path, prepare: datasets.Preparation | None = None) -> Network:
    """The network in a file.

    Args:
        model: a ``.keras`` or ``.tflite`` file, or an ``.npz`` file of ``models.pack``.
        prepare: how it takes images. Default: what lies beside the file.

    Raises:
        FileNotFoundError: no such file, or nothing beside it.
        ImportError: a ``.tflite`` file without Larq Compute Engine.
        ValueError: another kind of file, or a damaged one.
    """
    if model.suffix not in FORMATS:
        raise ValueError(f"{model} must end in {', '.join(FORMATS)}.")
    if not model.is_file():
        raise FileNotFoundError(f"there is no file {model}.")
    outputs = _of_engine(model) if model.suffix == ".tflite" else _of_keras(model)
    return Network(prepare or _beside(model), outputs)


def load_network(model: pathlib.Path):
    """The Keras model in a ``.keras`` file, or in one of ``models.pack`` that says which it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, or a damaged one.
    """
    return models.load(model) if model.suffix == ".npz" else serialization.load_model(model)


def _of_keras(model: pathlib.Path):
    network = load_network(model)
    return lambda images: network.predict(images, verbose=0)


def _of_engine(model: pathlib.Path):
    try:
        interpreter = export.Interpreter(model.read_bytes())
    except ValueError as error:
        raise ValueError(f"{model}: {first_line(error)}") from error
    return lambda images: interpreter.predict(images)[0]


def _beside(model: pathlib.Path) -> datasets.Preparation:
    path = preparation.beside(model)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}, which says how the network takes its images; a training and an "
            "export write it beside the model. Put it there, or name the data that the network was "
            "trained on: --dataset, and what else of data the training was given."
        )
    return preparation.read(path)


def images_of(places: Sequence[str], prepare: datasets.Preparation):
    """Each image that is named: its name, and the raw image or what is wrong with it.

    Args:
        places: image files, folders of them, ``.npz`` files.
        prepare: how the network takes images.

    Yields:
        (name, uint8 or float32 array (height, width, channels)), or (name, ValueError).
    """
    for place in places:
        path = pathlib.Path(place)
        if path.suffix.lower() == ".npz":
            yield from _in_arrays(path, prepare)
            continue
        files = [path]
        if path.is_dir():
            files = folders.images_in(path)
            if not files:
                yield place, ValueError(f"holds no image: {', '.join(folders.EXTENSIONS)}")
        for file in files:
            try:
                yield str(file), prepare.image(file)
            except ValueError as error:
                yield str(file), error


def _in_arrays(path: pathlib.Path, prepare: datasets.Preparation):
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise ValueError("holds one array without a name, as an .npy file does: np.savez")
        with content:
            keys = [key for key in ARRAYS if key in content]
            if not keys:
                raise ValueError(f"holds none of the arrays {', '.join(ARRAYS)}")
            images = prepare.images(content[keys[0]], keys[0])
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        yield str(path), ValueError(first_line(error)[:300])
        return
    for number, image in enumerate(images):
        yield f"{path}:{keys[0]}[{number}]", image
