"""Images that a program has already: NumPy arrays, or any `tf.data.Dataset` of (image, label).

A run is continued bit for bit, so its batches depend on seed and epoch alone. A `tf.data.Dataset`
promises nothing of the kind: it may shuffle itself anew whenever it is read. Therefore its images
are read once and sorted by their content; in whatever order they came, the set is the same one.
Sets too large for `sources.MEMORY_LIMIT` are streamed. Those must come in the same order each time,
which is tried, and bring their own validation and test images.

Rejected: to pass the dataset on to `fit` as it is. A run that is continued after epoch 7 would see
the images of epoch 1 again, or others, and nobody would notice.
"""

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from larq_filter._keras import tf
from larq_filter._validation import first_line, shown, validate_integer, validate_text
from larq_filter.datasets import arrays, pipelines, sources
from larq_filter.datasets.image_data import ImageData

TRIED = 64  # images by which the order of a streamed set is tried
WINDOW_BYTES = 2**28  # that a streamed set shuffles at a time


def from_arrays(
    train: Any,
    validation: Any = None,
    test: Any = None,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    name: str = "arrays",
) -> ImageData:
    """`ImageData` of images and labels in arrays.

    A part that is None is held out of the training images, as `load` does it.

    Args:
        train: (images, labels): images uint8 or float of shape (n, height, width) or (n, height,
            width, channels), labels integers from 0 on of shape (n,) or (n, 1).
        validation: the same, of the images that choices are made on.
        test: the same, of those that are read once after the last epoch.
        num_classes: number of classes; default: the highest label plus 1.
        class_names: their names in the order of the labels.
        image_size: resize to (image_size, image_size).
        name: of the set, for people.

    Returns:
        `ImageData`, for `training.run(data=)`, or for a loop of your own.

    Raises:
        TypeError, ValueError: arrays of another type or shape, labels that fit no class.
    """
    _validate(name, image_size)
    given = {"train": train, "validation": validation, "test": test}
    parts = {}
    for part, pair in given.items():
        if pair is None and part != "train":
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"`{part}` must be a pair (images, labels), not {shown(pair)}.")
        parts[part] = arrays.part(*pair, f"{part} images", f"{part} labels")
    return _in_memory(name, parts, num_classes, class_names, image_size)


def from_datasets(
    train: Any,
    validation: Any = None,
    test: Any = None,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    name: str = "datasets",
) -> ImageData:
    """`ImageData` of any `tf.data.Dataset`, as `tf.keras.utils.image_dataset_from_directory` gives.

    Order, shuffling and batches of the dataset don't matter: the run makes its own by its seed.
    A part that is None is held out of the training images, as `load` does it.

    Args:
        train: a finite `tf.data.Dataset` of (image, label), single or in batches: images uint8 or
            float of shape (height, width) or (height, width, channels), labels integers from 0 on.
        validation: the same, of the images that choices are made on.
        test: the same, of those that are read once after the last epoch.
        num_classes: number of classes; default: that of `class_names`, else the highest label
            plus 1.
        class_names: their names in the order of the labels; default: `train.class_names`, if
            there is such.
        image_size: resize to (image_size, image_size); needed where images differ in size.
        name: of the set, for people.

    Returns:
        `ImageData`, for `training.run(data=)`, or for a loop of your own.

    Raises:
        TypeError, ValueError: no such dataset, images of several sizes and no `image_size`, labels
            that fit no class; too large for memory without validation or test.
    """
    _validate(name, image_size)
    if class_names is None:
        class_names = getattr(train, "class_names", None)
    given = {"train": train, "validation": validation, "test": test}
    single = {
        part: _single(part, data, image_size)
        for part, data in given.items()
        if data is not None or part == "train"
    }
    reader = _Reader(sources.MEMORY_LIMIT)
    parts = {part: reader.read(part, data) for part, data in single.items()}
    if not reader.too_large:
        return _in_memory(name, parts, num_classes, class_names)
    missing = [f"{part}=" for part in arrays.PARTS if part not in parts]
    if missing:
        raise ValueError(
            f"`train` is larger than {sources.MEMORY_LIMIT} bytes, too large to hold images out of "
            f"it. Pass {' and '.join(missing)} too; train.take(n) and train.skip(n) make them of "
            "a dataset that comes in the same order each time."
        )
    for part, data in single.items():
        _refuse_changing_order(part, data, reader.beginnings[part])
    names = arrays.names_of(parts, num_classes, class_names)
    source = Streamed(single, {part: len(labels) for part, (_, labels) in parts.items()})
    return sources.image_data(name, source, names, reader.fingerprint())


def _validate(name, image_size) -> None:
    validate_text("name", name)
    if image_size is not None:
        validate_integer("image_size", image_size)


def _in_memory(name, parts, num_classes, class_names, image_size=None):
    names = arrays.names_of(parts, num_classes, class_names)
    source = sources.from_parts(parts, image_size)
    return sources.image_data(name, source, names, arrays.fingerprint(parts))


def _single(part, data, image_size):
    """The dataset as one of single (image (height, width, channels), int32 label)."""
    if not isinstance(data, tf.data.Dataset):
        raise TypeError(f"`{part}` must be a tf.data.Dataset, not {shown(data)}.")
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"`{part}` never ends: leave out .repeat(), the run makes its epochs.")
    spec = data.element_spec
    if not (
        isinstance(spec, tuple)
        and len(spec) == 2
        and all(isinstance(each, tf.TensorSpec) and each.shape.rank is not None for each in spec)
    ):
        raise TypeError(f"`{part}` must give pairs (image, label) of known rank; it gives {spec}.")
    image, label = spec
    if not label.dtype.is_integer:
        raise TypeError(
            f"`{part}` gives labels of type {label.dtype.name}; they must be integers from 0 on "
            '(label_mode="int" in image_dataset_from_directory, tf.argmax for one-hot rows).'
        )
    if image.dtype != tf.uint8 and not image.dtype.is_floating:
        raise TypeError(
            f"`{part}` gives images of type {image.dtype.name}; they must be uint8 or floats."
        )
    if label.shape.rank == 1 and image.shape.rank == 3 and _are_one_hot(data):
        raise ValueError(
            f"`{part}` gives images of shape {image.shape} with one-hot labels; labels must be "
            "integers, one an image: data.map(lambda x, y: (x, tf.argmax(y)))."
        )
    batched = label.shape.rank > 0
    column = label.shape.rank == 2 and label.shape[-1] == 1
    if not (label.shape.rank <= 1 or column) or image.shape.rank - batched not in (2, 3):
        raise ValueError(
            f"`{part}` gives images of shape {image.shape} and labels of shape {label.shape}; they "
            "must be (height, width, channels) and (), or batches of these."
        )

    def plain(image, label):
        image = image if image.shape.rank == 3 else image[..., None]
        image = image if image.dtype == tf.uint8 else tf.cast(image, tf.float32)
        image = image if image_size is None else pipelines.resized(image, image_size)
        return image, tf.cast(tf.reshape(label, ()), tf.int32)

    return (data.unbatch() if batched else data).map(plain)


def _are_one_hot(data) -> bool:
    """Whether the first labels of rank 1 are rows of a single 1: no batch of 8 in a row is so."""
    _, label = data.element_spec
    if label.shape[0] is None:
        return False
    rows = [row for _, row in data.take(8).as_numpy_iterator()]
    return bool(rows) and all(row.max() == 1 and np.count_nonzero(row) == 1 for row in rows)


class _Reader:
    """Reads datasets once: arrays of what fits into memory, else labels alone.

    Args:
        limit: bytes of images, all parts together.
    """

    def __init__(self, limit: int):
        self.left, self.too_large, self._sum = limit, False, 0
        self.beginnings = {}  # by part, hashes of its first images

    def read(self, part: str, data) -> tuple:
        """(images, labels), sorted by content; one image and all labels once it is too large."""
        kept, labels, hashes = [], [], []
        try:
            for batch in data.batch(256).as_numpy_iterator():
                images, numbers = arrays.part(*batch, f"{part} images", f"{part} labels")
                hashes += list(map(_hash, images, numbers))
                labels.append(numbers)
                self.left -= images.nbytes
                self.too_large |= self.left < 0
                kept = [images[:1]] if self.too_large else [*kept, images]
        except tf.errors.InvalidArgumentError as error:
            reason = first_line(error).split("}} ")[-1]  # without the node that says so
            if "shape" not in reason.lower():
                raise
            raise ValueError(
                f"the images of `{part}` differ in size ({reason[:200]}); pass image_size=, for "
                "example image_size=64."
            ) from error
        if not hashes:
            raise ValueError(f"`{part}` holds no image.")
        self.beginnings[part] = hashes[:TRIED]
        salted = (hashlib.sha256(part.encode() + each).digest() for each in hashes)
        self._sum = (self._sum + sum(int.from_bytes(each, "big") for each in salted)) % 2**256
        if self.too_large:
            return kept[0], np.concatenate(labels)
        order = sorted(range(len(hashes)), key=hashes.__getitem__)
        return np.concatenate(kept)[order], np.concatenate(labels)[order]

    def fingerprint(self) -> str:
        """Of all that was read, in whatever order."""
        return f"{self._sum:064x}"


def _hash(image, label) -> bytes:
    return hashlib.sha256(image.tobytes() + bytes(str(int(label)), "ascii")).digest()


def _refuse_changing_order(part, data, beginning) -> None:
    again = [_hash(*pair) for pair in itertools.islice(data.as_numpy_iterator(), TRIED)]
    if again != beginning:
        raise ValueError(
            f"`{part}` comes in another order each time it is read, and the set is too large for "
            "memory: a run could not be continued. Leave out .shuffle() (shuffle=False in "
            "image_dataset_from_directory); the run shuffles by its seed."
        )


class Streamed:
    """Datasets too large for memory, read anew in each epoch and shuffled window by window.

    Args:
        parts: `train`, `validation` and `test`, each a dataset of single (image, label).
        sizes: numbers of images, by part.
    """

    def __init__(self, parts: dict, sizes: dict):
        self._parts, self.sizes = parts, sizes
        image, _ = next(parts["train"].as_numpy_iterator())
        self.shape, self._bytes = tuple(image.shape), image.nbytes

    def first(self, part, count):
        """The same source with fewer images of a part: the first `count`."""
        fewer = {**self._parts, part: self._parts[part].take(count)}
        return Streamed(fewer, {**self.sizes, part: count})

    def statistics_images(self):
        """Batches of the training images that give mean and deviation."""
        few = self.in_order("train").take(pipelines.STATISTICS_EXAMPLES).batch(64)
        return (images for images, _ in few.as_numpy_iterator())

    def batches(self, seed, epoch, batch_size):
        """The full batches of one epoch, as (images, labels)."""

        def shuffled(number, window):
            key = pipelines.key(seed, epoch, pipelines.WINDOW, number)
            size = tf.shape(window[1])[0]
            order = tf.random.experimental.stateless_shuffle(tf.range(size), key)
            return tuple(tf.gather(each, order) for each in window)

        window = max(1, min(pipelines.SHUFFLE_WINDOW, WINDOW_BYTES // self._bytes))
        windows = self.in_order("train").batch(window).enumerate()
        return windows.map(shuffled).unbatch().batch(batch_size, drop_remainder=True)

    def fetch(self, batch):
        """(images, labels) of what `batches` gives: that itself."""
        return batch

    def in_order(self, part):
        """Single (image, label) pairs of a part in fixed order."""
        return self._parts[part].map(
            lambda image, label: (tf.ensure_shape(image, self.shape), label)
        )
