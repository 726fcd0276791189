"""Image files: all of them looked at before training, decoded when they are needed.

Every file is decoded once before anything is trained. So what can't be read is named at the start,
all of it, and not after hours. That look also gives the sizes, the channels and a hash of each
file, by which a continued run knows its data again.

An image is grey if its file has one channel. If all are, they stay so; else all get three. The
alpha channel of a PNG is left out, and the orientation that a camera noted (EXIF) is not followed.
Of 16 bits a channel the upper 8 are read, as TensorFlow's decoder does, and a warning says so.

Of a BMP with a palette TensorFlow gives the numbers of the colours, and calls them grey. So such
a file counts as one that can't be read, unless its palette is black to white in order.
"""

import collections
import hashlib
import logging
import pathlib

import numpy as np

from larq_filter._keras import tf
from larq_filter._validation import first_line
from larq_filter.datasets.folders import Listing
from larq_filter.datasets.pipelines import STATISTICS_EXAMPLES, Memory, resized

logger = logging.getLogger(__name__)

MOST_NAMED = 20  # unreadable files, and sizes, in the text of an error


class Files(Memory):
    """Images that lie in files, decoded on the way and picked by index.

    Args:
        decode: function from a path to a uint8 image.
        shape: (height, width, channels) of every decoded image.
        parts: `train`, `validation` and `test`, each (paths (n,), labels int32 (n,)).
    """

    def __init__(self, decode, shape, **parts):
        super().__init__(**parts)
        self._decode, self.shape = decode, tuple(shape)

    def _with(self, **parts):
        return Files(self._decode, self.shape, **parts)

    def statistics_images(self):
        """Batches of the training images, uint8, that give mean and deviation."""
        few = self.first("train", min(self.sizes["train"], STATISTICS_EXAMPLES))
        return (images.numpy() for images, _ in few.in_order("train").batch(64))

    def fetch(self, indices):
        """(images, labels) of what `batches` gives."""
        paths, labels = super().fetch(indices)
        kind = tf.TensorSpec(self.shape, tf.uint8)
        return tf.map_fn(self._decode, paths, fn_output_signature=kind), labels

    def in_order(self, part):
        """Single (image, label) pairs of a part in fixed order."""

        def decoded(path, label):
            return self._decode(path), label

        files = super().in_order(part)
        return files.map(decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def source(listing: Listing, image_size: int | None):
    """The `Files` of a folder, and the fingerprint of its images.

    Raises:
        ValueError: files that can't be read; images of several sizes and no `image_size`.
    """
    names = [path for paths, _ in listing.parts.values() for path in paths]
    paths = [str(listing.root / name) for name in names]
    shapes, hashes = _look(listing.root, names, paths)
    _warn_of_copies(listing, dict(zip(names, hashes, strict=True)))
    channels = 1 if set(shapes[:, 2].tolist()) <= {1, 2} else 3
    size = _only_size(listing.root, shapes) if image_size is None else (image_size, image_size)

    def decode(path):
        image = _decoded(path, channels)
        if image_size is not None:
            image = resized(image, size)
        return tf.ensure_shape(image, (*size, channels))

    parts = {
        part: (np.array([str(listing.root / name) for name in names]), np.array(labels, np.int32))
        for part, (names, labels) in listing.parts.items()
    }
    rows = sorted(f"{name}\n{number}\n" for name, number in zip(names, hashes, strict=True))
    fingerprint = hashlib.sha256("".join(rows).encode("utf-8", "surrogateescape")).hexdigest()
    return Files(decode, (*size, channels), **parts), fingerprint


def _decoded(path, channels: int):
    """The uint8 image in a file, without its alpha; grey ones get three channels if need be."""
    image = tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    image = tf.cond(tf.shape(image)[-1] % 2 == 0, lambda: image[..., :-1], lambda: image)
    if channels == 3:  # a file of one channel gives it three times
        image = tf.broadcast_to(image, [*tf.unstack(tf.shape(image)[:2]), 3])
    return image


def image(path, shape: tuple[int, int, int]) -> np.ndarray:
    """One file as a `source` of images of that shape gives it, at that size whatever its own is.

    Raises:
        ValueError: it can't be read, or has other channels; the reason alone.
    """
    try:
        found = _decoded(str(path), shape[2])
        unread = _has_palette(str(path))
    except (OSError, tf.errors.OpError):
        unread = True
    if unread:
        raise ValueError(_reason(str(path)))
    if found.shape[2] != shape[2]:
        raise ValueError(f"it has {found.shape[2]} channels, the network takes {shape[2]}")
    return resized(found, shape[:2]).numpy()


def _look(root: pathlib.Path, names: list, paths: list):
    """(height, width, channels) and a hash of every file; raises for those that can't be read."""

    def look(index, path):
        content = tf.io.read_file(path)
        image = tf.io.decode_image(content, expand_animations=False)
        is_bmp = tf.strings.substr(content, 0, 2) == "BM"
        is_png = tf.strings.substr(content, 1, 3) == "PNG"
        is_deep = is_png & (tf.strings.substr(content, 24, 1) == b"\x10")  # bits a channel
        number = tf.strings.to_hash_bucket_fast(content, 2**63 - 1)
        return index, tf.shape(image), number, is_bmp, is_deep

    data = tf.data.Dataset.from_tensor_slices((np.arange(len(paths)), paths))
    data = data.map(look, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    rows = list(data.ignore_errors().as_numpy_iterator())
    good = {int(i) for i, *_, is_bmp, _ in rows if not (is_bmp and _has_palette(paths[i]))}
    unreadable = sorted({*range(len(paths))} - good)
    if unreadable:
        named = [f"{names[i]} ({_reason(paths[i])})" for i in unreadable[:MOST_NAMED]]
        more = len(unreadable) - len(named)
        raise ValueError(
            f"{len(unreadable)} of {len(paths)} images in {root} can't be read; mend or remove "
            "them:\n  " + "\n  ".join(named) + (f"\n  and {more} more" if more else "")
        )
    _, shapes, numbers, _, are_deep = zip(*rows, strict=True)
    if any(are_deep):
        logger.warning(
            "%s: PNG files of 16 bits a channel: %d, the first is %s. Their upper 8 bits are read: "
            "values below 256 become black, and shades in between are lost. Scale them to 8 bits, "
            "or put the numbers into an .npz file as float32.",
            *(root, sum(map(bool, are_deep)), names[are_deep.index(True)]),
        )
    return np.stack(shapes), list(map(int, numbers))


def _has_palette(path: str) -> bool:
    """Whether a file is a BMP with a palette of other colours than black to white in order."""
    with open(path, "rb") as file:
        content = file.read(2048)  # more than the longest header and palette

    def number(place, size):
        return int.from_bytes(content[place : place + size], "little")

    if content[:2] != b"BM" or number(28, 2) > 8:
        return False
    begin, count = 14 + number(14, 4), min(number(46, 4) or 256, 256)
    grey = [bytes([shade] * 3) for shade in range(count)]
    colours = [content[begin + 4 * i : begin + 4 * i + 3] for i in range(count)]
    return number(28, 2) < 8 or number(30, 4) != 0 or colours != grey  # or compressed


def _reason(path: str) -> str:
    """Why a file can't be read."""
    try:
        content = pathlib.Path(path).read_bytes()
        if not content:
            return "empty"
        if _has_palette(path):
            return "a BMP with a palette, or compressed, which is not read: save it as PNG"
        tf.io.decode_image(content, expand_animations=False)
    except OSError as error:
        return error.strerror or type(error).__name__
    except tf.errors.OpError as error:
        text = first_line(error).split("}} ")[-1].split(" [Op:")[0].strip()  # without who says so
        return "no PNG, JPEG, GIF or BMP" if "Unknown image file format" in text else text[:120]
    return "not a file that stays the same"


def _only_size(root: pathlib.Path, shapes: np.ndarray) -> tuple[int, int]:
    sizes = collections.Counter(map(tuple, shapes[:, :2].tolist()))
    if len(sizes) > 1:
        shown = [f"{w}x{h} ({n})" for (h, w), n in sizes.most_common(5)]
        more = f" and {len(sizes) - 5} more sizes" if len(sizes) > 5 else ""
        raise ValueError(
            f"the images in {root} differ in size, width x height (images): {', '.join(shown)}"
            f"{more}. Pass image_size= (--image_size in the commands) to resize all of them, for "
            f"example image_size={_usual(shapes)}."
        )
    return next(iter(sizes))


def _usual(shapes: np.ndarray) -> int:
    """A size to suggest: the power of two below the median side, 16 to 224."""
    side = int(np.median(shapes[:, :2]))
    return max(size for size in (16, 32, 64, 128, 224) if size <= max(side, 16))


def _warn_of_copies(listing: Listing, hashes: dict) -> None:
    """Says which images of training are also, byte for byte, among those it is judged by."""
    trained = {hashes[name] for name in listing.parts["train"][0]}
    for part in ("validation", "test"):
        copies = [name for name in listing.parts[part][0] if hashes[name] in trained]
        if copies:
            logger.warning(
                "%s: copies of training images for %s: %d, the first is %s. Accuracy there tells "
                "less than it seems.",
                *(listing.root, part, len(copies), copies[0]),
            )
