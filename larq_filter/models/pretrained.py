"""Networks that come trained with the package: `build("birealnet20", weights="cifar10")`.

Each is three files in the folder `weights`, of one name: `.npz` by `pack`, with the model card;
`.tflite`, its proven export; `.images.json`, how both take images. `paper/cifar10_ship.py` makes
them.

Rejected: a download, as larq-zoo has it. 130 kB are less than a page of many a web site, and there
without a network.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from larq_filter._validation import validate_choice
from larq_filter.models import packed

FOLDER = pathlib.Path(__file__).parent / "weights"


def pretrained_names() -> tuple[str, ...]:
    """The networks that come trained: `birealnet20-cifar10`, a model and what it was trained on."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.npz")))


def pretrained_file(name: str, suffix: str = ".npz") -> pathlib.Path:
    """A file of a network that comes trained.

    Args:
        name: one of `pretrained_names()`.
        suffix: `.npz`, the weights as `unpack` reads them, or `.tflite`, for Larq Compute Engine.

    Raises:
        ValueError: no such network, or another suffix.
    """
    validate_choice("name", name, pretrained_names())
    validate_choice("suffix", suffix, (".npz", ".tflite"))
    return FOLDER / f"{name}{suffix}"


def model_card(name: str) -> Mapping[str, Any]:
    """The model card of a network that comes trained: data, recipe, seed, accuracies, versions.

    `datasets.Preparation.from_json(model_card(name)["images"])` makes images ready for it.

    Args:
        name: one of `pretrained_names()`.

    Raises:
        ValueError: no such network.
    """
    return packed.unpack(pretrained_file(name)).about


def found(
    model: str, weights: str | os.PathLike[str], given: Mapping[str, Any]
) -> tuple[pathlib.Path, dict[str, Any]]:
    """Where the weights of a model are, and the arguments to build it with.

    Args:
        model: name of a model of this package.
        weights: what it was trained on, if it comes trained, or the path of a file.
        given: arguments by name, `None` where they are to be found.

    Raises:
        FileNotFoundError: there is no such file, and the model does not come trained so.
        ValueError: an argument that does not fit.
    """
    name = f"{model}-{weights}"
    if name not in pretrained_names():
        path = pathlib.Path(weights)
        if not path.exists():
            names = [each.split("-", 1) for each in pretrained_names()]
            here = ", ".join(repr(data) for network, data in names if network == model)
            raise FileNotFoundError(
                f"there is no file {path}, and {model} comes trained with weights={here or None}. "
                "models.pack makes files of weights."
            )
        return path, dict(given)
    fixed = {key: model_card(name)[key] for key in given}
    for key, value in given.items():
        if value is not None and not np.array_equal(value, fixed[key]):
            raise ValueError(
                f"{key}={value} does not fit weights={weights!r}, trained with "
                f"{key}={fixed[key]}: leave it out."
            )
    return pretrained_file(name), fixed
