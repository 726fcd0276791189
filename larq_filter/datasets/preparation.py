"""How images are made ready for a network: sizes, mean and deviation of what it was trained on.

A network that is in use has no data set any more. What it needs of it lies beside the model as
JSON: `model.images.json` for `model.keras` or `model.tflite`.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from larq_filter._keras import tf
from larq_filter._validation import first_line
from larq_filter.datasets import arrays, image_files

PIXELS = ("uint8", "float32")


@dataclasses.dataclass(frozen=True, eq=False)
class Preparation:
    """How images are made ready for a network.

    Attributes:
        input_shape: (height, width, channels).
        class_names: in the order of the outputs.
        mean, std: float32 arrays (channels,); the network sees `(pixel - mean) / std`.
        pixels: type of the raw images: `uint8`, in [0, 255], or `float32`, in units of their own.
    """

    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    pixels: str

    def __call__(self, images: Any) -> Any:
        """The raw `images` as the network takes them, float32."""
        return (tf.cast(images, tf.float32) - self.mean) / self.std

    def image(self, path: str | os.PathLike[str]) -> np.ndarray:
        """The raw image in a file, read as in training, at the size of the network.

        Raises:
            ValueError: it can't be read, or is no image for this network; the reason alone.
        """
        if self.pixels != "uint8":
            raise ValueError(
                "the network was trained on numbers of units that no image file has: put such "
                "images into an .npz file"
            )
        return image_files.image(path, self.input_shape)

    def images(self, raw: Any, name: str = "images") -> np.ndarray:
        """Raw images in an array, made sure of.

        Args:
            raw: (n, height, width) or (n, height, width, channels).
            name: of the array, for people.

        Raises:
            TypeError, ValueError: of another type, size or number of channels than in training.
        """
        if np.shape(raw) == self.input_shape:
            raise ValueError(f"{name} holds one image; the network takes several: {name}[None].")
        images = arrays.image_array(name, raw)
        found = str(images.dtype), images.shape[1:]
        if found != (self.pixels, self.input_shape):
            raise ValueError(
                f"{name} holds {found[0]} images of shape {found[1]}; the network was trained on "
                f"{self.pixels} images of shape {self.input_shape}."
            )
        return images

    def has_scale_of(self, other: "Preparation", tolerance: float = 1e-3) -> bool:
        """Whether both scale images alike.

        Args:
            other: of as many channels.
            tolerance: of means and deviations, in deviations. Default: the four digits in which
                people read the numbers.
        """
        shift, ratio = (self.mean - other.mean) / other.std, self.std / other.std
        return bool(np.all(np.abs(shift) < tolerance) and np.all(np.abs(ratio - 1) < tolerance))

    def scale(self) -> str:
        """Mean and deviation, for people."""
        numbers = (("mean", self.mean), ("std", self.std))
        return " and ".join(f"{name} {', '.join(f'{x:.4g}' for x in y)}" for name, y in numbers)

    def to_json(self) -> dict:
        """Everything, ready for a JSON file."""
        fields = dataclasses.asdict(self)
        return fields | {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Preparation":
        """The preparation that `to_json` made `content` of.

        Args:
            content: a file beside a model, or `images` of a model card
                (`models.model_card(name)["images"]`).

        Raises:
            ValueError: a value is missing, or the values don't fit together.
        """
        needed = [field.name for field in dataclasses.fields(cls)]
        given = content if isinstance(content, Mapping) else ()
        missing = [name for name in needed if name not in given]
        if missing:
            raise ValueError(f"a preparation has {', '.join(needed)}; there is no {missing[0]}")
        shape, names, pixels = (content[key] for key in ("input_shape", "class_names", "pixels"))
        if pixels not in PIXELS:
            raise ValueError(f"pixels are {' or '.join(PIXELS)}, not {pixels!r}")
        try:
            shape = tuple(int(side) for side in shape)
            names = tuple(str(name) for name in names)
            mean, std = (np.array(content[key], np.float32) for key in ("mean", "std"))
        except (TypeError, OverflowError) as error:
            raise ValueError(first_line(error)) from error
        if not (
            len(shape) == 3
            and min(shape) > 0
            and len(names) > 1
            and mean.shape == std.shape == shape[2:]
            and bool(np.all(np.isfinite(mean)) and np.all(std > 0) and np.all(np.isfinite(std)))
        ):
            raise ValueError("the values don't fit together")
        return cls(shape, names, mean, std, pixels)


def beside(model) -> pathlib.Path:
    """Where the preparation of the model in a file lies."""
    return pathlib.Path(model).with_suffix(".images.json")


def read(path) -> Preparation:
    """The preparation in a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = pathlib.Path(path)
    try:
        return Preparation.from_json(json.loads(path.read_bytes()))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({first_line(error)[:200]}), so nobody knows how the network takes "
            "its images. Put the file back from a copy, or name the data it was trained on."
        ) from error
