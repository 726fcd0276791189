"""Networks that come trained with the package: `build("birealnet20", weights="cifar10")`.

Each is three files in the folder `weights`, of one name: `.npz` by `pack`, with the model card;
`.tflite`, its proven export; `.images.json`, how both take images. `paper/cifar10_ship.py` makes
them.

Rejected: a download, as larq-zoo has it. 130 kB have room in the package, and need no network.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from larq_filter._validation import shown, validate_choice
from larq_filter.models import packed

FOLDER = pathlib.Path(__file__).parent / "weights"


def pretrained_names() -> tuple[str, ...]:
    """The networks that come trained: `birealnet20-cifar10`, a model and what it was trained on."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.npz")))


def pretrained_file(name: str, suffix: str = ".npz") -> pathlib.Path:
    """A file of a network that comes trained.

    Args:
        name: one of `pretrained_names()`.
        suffix: `.npz`, the weights as `unpack` reads them; `.tflite`, for Larq Compute Engine; or
            `.images.json`, how both take images.

    Raises:
        ValueError: no such network, or another suffix.
    """
    validate_choice("name", name, pretrained_names())
    validate_choice("suffix", suffix, (".npz", ".tflite", ".images.json"))
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


def find(model: str, weights: str | os.PathLike[str]) -> pathlib.Path:
    """The file of the weights of a model of this package.

    Args:
        model: its name.
        weights: what the model was trained on, if it comes trained so, or the path of a file.

    Raises:
        FileNotFoundError: there is no such file, and the model does not come trained so.
        TypeError: neither text nor a path.
    """
    if not isinstance(weights, str | os.PathLike):
        raise TypeError(f"`weights` must be a text or a path, or None, not {shown(weights)}.")
    if f"{model}-{weights}" in pretrained_names():
        return pretrained_file(f"{model}-{weights}")
    path = pathlib.Path(weights)
    if not path.is_file():
        pairs = [each.split("-", 1) for each in pretrained_names()]
        known = [repr(data) for network, data in pairs if network == model]
        comes = f"comes trained with weights={', '.join(known)}" if known else "is not among them"
        raise FileNotFoundError(
            f"there is no file {os.fspath(weights)!r}. Weights are a file of models.pack, or those "
            f"of a network that comes trained: {model} {comes}."
        )
    return path


def is_own(path: pathlib.Path) -> bool:
    """Whether it is a file of this package."""
    return path.parent == FOLDER


def refuse_others(weights: Any, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises ValueError if an argument is given that a network was not trained with.

    Args:
        weights: as they were given, for people.
        known: the arguments that it was trained with, by name; the others had their defaults.
        given: name to value.
    """
    for key, value in given.items():
        if key in known and not np.array_equal(value, known[key]):
            raise ValueError(
                f"{key}={value!r} does not fit weights={weights!r}, trained with "
                f"{key}={known[key]!r}: leave it out."
            )
