"""Arrays of images and labels, of Python or of an `.npz` file, made sure of.

Images are uint8 of any size, or floats in whatever units; of shape (n, height, width) or (n,
height, width, channels). Labels are integers that count from 0, of shape (n,) or (n, 1), as Keras'
own data sets have them. Everything else is refused with what was found and what to type.

An `.npz` file is read without pickle: numbers and text only, no object of a file is ever made.
"""

import hashlib
import pathlib
import zipfile

import numpy as np

from larq_filter._validation import first_line, shown, validate_integer

PARTS = ("train", "validation", "test")
KEYS = {part: (f"x_{part}", f"y_{part}") for part in PARTS}


def read_npz(path) -> tuple[dict, tuple]:
    """The parts in an `.npz` file, each (images, labels) as `part` gives them, and class names.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no `.npz` file, Python objects in it, keys missing, wrong arrays.
        TypeError: arrays of a type that is taken for no images or no labels.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise ValueError("it is a single array")
        with opened as file:
            pairs = _pairs(path, list(file.files))
            parts = {part: tuple(_array(path, file, key) for key in p) for part, p in pairs.items()}
            names = _array(path, file, "class_names") if "class_names" in file.files else None
    except _Wrong as error:
        raise ValueError(str(error)) from None
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} can't be read as an .npz file ({first_line(error)[:200]}). "
            "numpy.savez_compressed(path, x_train=..., y_train=...) writes one."
        ) from error
    parts = {
        name: part(*arrays, *(f"{path.name}, {key}" for key in pairs[name]))
        for name, arrays in parts.items()
    }
    return parts, names_of(parts, class_names=names)


class _Wrong(ValueError):
    """What is in the file is not what is needed; the file itself can be read."""


def _pairs(path, keys: list) -> dict:
    """The keys of images and labels, by part."""
    pairs = {part: pair for part, pair in KEYS.items() if set(pair) & set(keys)}
    if not pairs and {"images", "labels"} <= set(keys):
        return {"train": ("images", "labels")}
    missing = [key for pair in ({"train": KEYS["train"]} | pairs).values() for key in pair]
    missing = [key for key in missing if key not in keys]
    known = {"class_names", *(key for pair in KEYS.values() for key in pair)}
    strange = [key for key in keys if key.lower().startswith(("x_", "y_")) and key not in known]
    if missing or strange:
        lacks = (
            f"lacks {', '.join(missing)}"
            if missing
            else f"of these {', '.join(strange)} would not be read"
        )
        raise _Wrong(
            f"{path} holds {', '.join(keys) or 'nothing'}, and {lacks}. Needed "
            "are x_train and y_train, besides x_validation, y_validation, x_test and y_test as "
            "far as you have them; or images and labels."
        )
    return pairs


def _array(path, file, key: str):
    try:
        return file[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise _Wrong(
            f"{path}: {key} holds Python objects, which only pickle reads, and pickle runs code. "
            "Save an array of numbers; images of several sizes belong into a folder of image files."
        ) from error


def part(images, labels, images_name="images", labels_name="labels") -> tuple:
    """(uint8 or float32 images of four dimensions, int32 labels of one), checked.

    Raises:
        TypeError, ValueError: of another type or shape, not finite, not as many labels as images.
    """
    images, labels = image_array(images_name, images), _labels(labels_name, labels)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_name} has {len(images)} images and {labels_name} {len(labels)} labels."
        )
    if not len(images):
        raise ValueError(f"{images_name} holds no image.")
    return images, labels


def image_array(name: str, images) -> np.ndarray:
    """Uint8 or float32 images of four dimensions, checked; `name`: for people.

    Raises:
        TypeError, ValueError: of another type or shape, not finite.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise TypeError(
            f"{name} is of type {images.dtype}; images are uint8 or floats. Pixels of 0 to 255 in "
            'another type: images.astype("uint8").'
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or not all(images.shape[1:]):
        raise ValueError(
            f"{name} has the shape {images.shape}; it must be (images, height, width) or (images, "
            "height, width, channels)."
        )
    if images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise ValueError(
            f"{name} has the shape {images.shape}, the channels first; they must be last: "
            "images.transpose(0, 2, 3, 1)."
        )
    if images.dtype.kind == "f":
        with np.errstate(over="ignore"):
            images = images.astype(np.float32)
        if not np.all(np.isfinite(images)):
            raise ValueError(f"{name} holds numbers that are not finite in float32 (NaN or Inf).")
    return np.ascontiguousarray(images)


def _labels(name: str, labels) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        raise ValueError(
            f"{name} has the shape {labels.shape}; labels are integers, one an image. One-hot "
            "rows: labels.argmax(axis=1)."
        )
    if labels.ndim != 1:
        raise ValueError(f"{name} has the shape {labels.shape}; it must be (images,).")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name} is of type {labels.dtype}; labels are integers from 0 on.")
    if len(labels) and (labels.min() < 0 or labels.max() > 10**6):
        raise ValueError(
            f"{name} goes from {labels.min()} to {labels.max()}; labels count the classes from 0."
        )
    return labels.astype(np.int32)


def names_of(parts: dict, num_classes=None, class_names=None) -> tuple:
    """The names of the classes, numbers where there are none, for parts that fit together.

    Raises:
        TypeError, ValueError: parts of several shapes or types, labels without a class, classes
            without a training image, less than two classes.
    """
    kinds = {name: (images.shape[1:], str(images.dtype)) for name, (images, _) in parts.items()}
    for name, kind in kinds.items():
        if kind != kinds["train"]:
            raise ValueError(
                f"the {name} images are {kind[1]} of shape {kind[0]}, and those for training "
                f"{kinds['train'][1]} of shape {kinds['train'][0]}; they must be alike."
            )
    highest = max(int(labels.max()) for _, labels in parts.values())
    names = None if class_names is None else tuple(str(name) for name in np.ravel(class_names))
    told = num_classes if names is None else len(names)
    if None not in (names, num_classes) and len(names) != num_classes:
        raise ValueError(f"num_classes is {shown(num_classes)}, but there are {len(names)} names.")
    count = highest + 1 if told is None else validate_integer("num_classes", told, 2)
    if count < 2:
        raise ValueError("all labels are 0: at least two classes are needed.")
    if highest >= count:
        raise ValueError(
            f"there is a label {highest}; {count} classes have labels 0 to {count - 1}."
        )
    unused = sorted({*range(count)} - {*np.unique(parts["train"][1]).tolist()})
    if unused and told is None:
        few = ", ".join(map(str, unused[:10])) + (" ..." if len(unused) > 10 else "")
        raise ValueError(
            f"labels go up to {highest}, but no training image has the label {few}. Labels count "
            "from 0 without gaps; if these classes are to come, say how many there are: "
            "num_classes= or class_names= (in an .npz file the key class_names)."
        )
    return names or tuple(map(str, range(count)))


def fingerprint(parts: dict) -> str:
    """By which the same arrays are known again."""
    found = hashlib.sha256()
    for name in sorted(parts):
        for array in parts[name]:
            found.update(f"{name} {array.dtype} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
