"""Trained weights in a small file: a bit for each binary weight, 32 for every other number.

A file is an `.npz` archive of three arrays:

    bits       uint8: the arrays whose numbers are all -1 or +1, one after the other, +1 is 1
    numbers    float32: all others, one after the other
    header     uint8, JSON in UTF-8: the format, the shape of each array of `Model.get_weights`,
               whether it is in bits, and what is said about the network

Nothing is rounded: what is no sign is kept as it is.

Rejected: a compressed `.keras` or `.h5` file. It takes half as much again for `birealnet20`, keeps
the optimizer too if one was compiled, and has no place for what is said about the network.
"""

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from larq_filter._keras import keras
from larq_filter._validation import first_line, shown

FORMAT = 1
ARRAYS = ("bits", "numbers", "header")


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """What a file of `pack` holds.

    Attributes:
        weights: float32 arrays as `Model.set_weights` takes them.
        about: what is said about the network, ready for JSON.
    """

    weights: list[np.ndarray]
    about: Mapping[str, Any]


def pack(model: Any, about: Mapping[str, Any] | None = None) -> bytes:
    """The weights of a model as the content of a small file, which `build` takes as `weights`.

    The binary kernels of latent-free training take a bit a weight. Latent weights are real numbers
    and take 32: pack `conversion.to_latent_free(model)` if they are not to be trained on.

    Args:
        model: `tf.keras.Model`, built; its optimizer is not kept.
        about: what to say about the network, as JSON has it: names to texts, numbers, lists, dicts.
            `load` and `build` find in it the `network` and the arguments that it was built with.

    Returns:
        The content of an `.npz` file.

    Raises:
        TypeError: no Keras model; `about` has no names, or can't be written as JSON.
        ValueError: weights that are not float32, or not finite.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a tf.keras.Model, not {shown(model)}.")
    if not isinstance(about or {}, Mapping) or not all(isinstance(k, str) for k in about or {}):
        raise TypeError(
            f"`about` must be a dict whose keys are texts, or None, not {shown(about)}."
        )
    header: dict[str, Any] = {"format": FORMAT, "about": dict(about or {}), "weights": []}
    bits: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    for variable, values in zip(model.weights, model.get_weights(), strict=True):
        if values.dtype != np.float32:
            raise ValueError(
                f"{variable.name} is {values.dtype}; weights are packed from float32. A .keras "
                "file takes any: model.save(path)."
            )
        if not np.all(np.isfinite(values)):
            raise ValueError(
                f"{variable.name} holds numbers that are not finite: its training has failed, pack "
                "the weights of an earlier epoch."
            )
        in_bits = bool(np.all(np.abs(values) == 1))
        header["weights"].append({"shape": values.shape, "bits": in_bits})
        (bits if in_bits else numbers).append(values.reshape(-1))
    content = io.BytesIO()
    np.savez(
        content,
        bits=np.packbits(_joined(bits) > 0),
        numbers=_joined(numbers).astype("<f4"),
        header=np.frombuffer(json.dumps(header).encode(), np.uint8),
    )
    return content.getvalue()


def _joined(arrays):
    return np.concatenate([np.zeros(0, np.float32), *arrays])


def unpack(path: str | os.PathLike[str]) -> Packed:
    """What a file of `pack` holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, or damaged.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"there is no file {os.fspath(path)!r} of packed weights. A network that comes trained "
            'is built by name: models.build("birealnet20", weights="cifar10").'
        )
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz archive")
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in ARRAYS if name not in archive.files]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            arrays = {name: archive[name] for name in ARRAYS}
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']}, this version reads {FORMAT}")
        return Packed(_split(header["weights"], arrays["bits"], arrays["numbers"]), header["about"])
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)[:200]
        raise ValueError(
            f"{os.fspath(path)} is no file of packed weights, or damaged ({reason}). "
            "larq_filter.models.pack makes such files."
        ) from error


def _split(entries, bits, numbers) -> list[np.ndarray]:
    """The arrays of a file, in their order."""
    shapes = [tuple(entry["shape"]) for entry in entries]
    in_bits = np.array([entry["bits"] for entry in entries], bool)
    sizes = np.array([np.prod(shape, dtype=np.int64) for shape in shapes], np.int64)
    signs = int(sizes[in_bits].sum())
    if len(bits) != -(-signs // 8) or len(numbers) != sizes[~in_bits].sum():
        raise ValueError("its numbers don't fill its shapes")
    values = np.empty(sizes.sum(), np.float32)
    is_sign = np.repeat(in_bits, sizes)
    values[is_sign] = 2.0 * np.unpackbits(bits, count=signs) - 1.0
    values[~is_sign] = numbers
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def set_weights(model: Any, found: Packed, path: str | os.PathLike[str]) -> None:
    """Sets the weights of a model to those that a file holds.

    Args:
        model: `tf.keras.Model`, built.
        found: what the file holds.
        path: of the file, for people.

    Raises:
        ValueError: they are those of a network of other shapes; the model is as it was.
    """
    there, here = ([tuple(w.shape) for w in weights] for weights in (found.weights, model.weights))
    if there != here:
        count = f"{len(there)} arrays, not {len(here)}"
        pairs = zip(model.weights, there, strict=False)
        other = next(((v, s) for v, s in pairs if tuple(v.shape) != s), None)
        which = f"{other[0].name} is {other[1]}, not {tuple(other[0].shape)}" if other else count
        raise ValueError(
            f"{os.fspath(path)} holds the weights of another network than this {model.name}: "
            f"{which}. Build the model that was packed, with all arguments that it was built with."
        )
    model.set_weights(found.weights)
