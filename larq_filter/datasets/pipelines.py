"""The tf.data side of `larq_filter.datasets`: where batches come from and how they are augmented.

A source gives the batches of epoch `e` in an order that depends on `(seed, e)` alone. Every random
number is stateless, named by seed, epoch, purpose and step: there is no generator whose state a
resumed run would have to restore.
"""

import dataclasses

import numpy as np

from larq_filter._keras import tf

STATISTICS_EXAMPLES = 10_000  # training examples that give mean and deviation of a streamed set
SHUFFLE_WINDOW = 8192  # records that a streamed set shuffles at a time, after shuffling its files

ORDER, WINDOW, AUGMENT = range(3)  # the purposes of random numbers


def key(seed, epoch, purpose, number=0):
    """Two int64 that name one random stream; `number` counts steps or windows of an epoch."""
    number = tf.cast(number, tf.int64)
    return tf.stack([tf.constant(seed, tf.int64), (epoch * 4 + purpose) * 2**30 + number])


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random crop of the zero-padded image, then a mirror image of every second one on average.

    The padding is zero in the raw image (black), as in the usual CIFAR recipe, so after
    normalisation it is `-mean / std`.

    Attributes:
        pad: pixels added on each side before the crop back to the original size, >= 0.
        flip: whether to mirror left and right with probability 1/2.
    """

    pad: int
    flip: bool

    def __call__(self, images, seed):
        """Augments `images` (batch, height, width, channels); `seed` holds two int64."""
        batch, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
        shifts = 2 * self.pad + 1
        draws = tf.random.stateless_uniform([3, batch], seed, 0, 2**31 - 1, tf.int32)
        rows, columns, mirror = tf.unstack(draws % [[shifts], [shifts], [2]])
        rows = rows[:, None] + tf.range(height)
        columns = columns[:, None] + tf.range(width)
        if self.flip:
            columns = tf.where(mirror[:, None] == 1, columns[:, ::-1], columns)
        sides = [self.pad, self.pad]
        pixels = tf.reshape(tf.pad(images, [[0, 0], sides, sides, [0, 0]]), [-1, channels])
        rows += tf.range(batch)[:, None] * (height + 2 * self.pad)
        return tf.gather(pixels, rows[:, :, None] * (width + 2 * self.pad) + columns[:, None, :])


class Memory:
    """Decoded images on the CPU, picked by index.

    Args:
        parts: `train`, `validation` and `test`, each (images (n, height, width, channels), uint8 or
            float32, labels int32 (n,)).
    """

    def __init__(self, **parts):
        with tf.device("CPU:0"):
            self._parts = {
                name: tuple(tf.constant(array) for array in part) for name, part in parts.items()
            }
        self.sizes = {name: len(labels) for name, (_, labels) in parts.items()}
        self.shape = tuple(parts["train"][0].shape[1:])

    def first(self, part, count):
        """The same source with fewer images of a part: the first `count` of a fixed permutation."""
        return self._with(**{**self._parts, part: _chosen(self._parts[part], count)})

    def _with(self, **parts):
        return Memory(**parts)

    def statistics_images(self):
        """Batches of the training images that give mean and deviation."""
        return [self._parts["train"][0].numpy()]

    def batches(self, seed, epoch, batch_size):
        """The full batches of one epoch, as indices (batch_size,)."""
        size = self.sizes["train"]
        order = tf.random.experimental.stateless_shuffle(tf.range(size), key(seed, epoch, ORDER))
        steps = size // batch_size
        order = tf.reshape(order[: steps * batch_size], [steps, batch_size])
        return tf.data.Dataset.from_tensor_slices(order)

    def fetch(self, indices):
        """(images, labels) of what `batches` gives."""
        return tuple(tf.gather(array, indices) for array in self._parts["train"])

    def in_order(self, part):
        """Single (image, label) pairs of a part in fixed order."""
        return tf.data.Dataset.from_tensor_slices(self._parts[part])


def _chosen(arrays, count):
    """The first `count` rows of each array in the order of a fixed permutation."""
    order = np.random.RandomState(0).permutation(len(arrays[0]))[:count]
    return [np.asarray(array)[order] for array in arrays]


class Stream:
    """Records read from the files of a prepared set, decoded on the way.

    An epoch reads the files in a random order, 16 at a time, and shuffles `SHUFFLE_WINDOW` records
    at a time: stateless, where the buffer of `tf.data.Dataset.shuffle` depends on the global seed.

    Args:
        decode: function from a record to (uint8 image, int32 label).
        shape: (height, width, channels) of every decoded image.
        parts: `train`, `validation` and `test`, each (paths of TFRecord files, numbers of records
            to skip in each, numbers of records to read from each).
    """

    def __init__(self, decode, shape, **parts):
        self._parts, self._decode, self.shape = parts, decode, shape
        self.sizes = {name: sum(counts) for name, (_, _, counts) in parts.items()}

    def first(self, part, count):
        """The same source with fewer images of a part: the first `count` of its files."""
        fewer = {**self._parts, part: _head(self._parts[part], count)}
        return Stream(self._decode, self.shape, **fewer)

    def statistics_images(self):
        """Batches of the training images, uint8, that give mean and deviation."""
        data = self._read(*self._parts["train"]).take(STATISTICS_EXAMPLES)
        return (images.numpy() for images, _ in self._decoded(data).batch(64))

    def batches(self, seed, epoch, batch_size):
        """The full batches of one epoch, as (images, labels)."""
        files, skipped, counts = (tf.constant(part) for part in self._parts["train"])
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(files)), key(seed, epoch, ORDER)
        )
        windows = self._read(*(tf.gather(part, order) for part in (files, skipped, counts)))
        windows = windows.batch(SHUFFLE_WINDOW).enumerate()
        records = windows.map(
            lambda number, window: tf.random.experimental.stateless_shuffle(
                window, key(seed, epoch, WINDOW, number)
            )
        ).unbatch()
        return self._decoded(records).batch(batch_size, drop_remainder=True)

    def fetch(self, batch):
        """(images, labels) of what `batches` gives: that itself."""
        return batch

    def in_order(self, part):
        """Single (image, label) pairs of a part in fixed order."""
        return self._decoded(self._read(*self._parts[part]))

    def _decoded(self, records):
        return records.map(self._decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    @staticmethod
    def _read(files, skipped, counts):
        numbers = (tf.cast(part, tf.int64) for part in (skipped, counts))
        return tf.data.Dataset.from_tensor_slices(
            (tf.convert_to_tensor(files), *numbers)
        ).interleave(
            lambda file, skipped, count: tf.data.TFRecordDataset(file).skip(skipped).take(count),
            cycle_length=16,
            block_length=16,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def decoded(self):
        """All images of each part, as (images, labels) arrays by its name."""
        return decoded(self)


def decoded(source):
    """All images of each part of a source of uint8 images, as (images, labels) by its name."""
    return {part: _collect(source, part) for part in source.sizes}


def _collect(source, part):
    size = source.sizes[part]
    images, labels = np.empty((size, *source.shape), np.uint8), np.empty(size, np.int32)
    start = 0
    for image, label in source.in_order(part).batch(1024):
        images[start : start + len(label)], labels[start : start + len(label)] = image, label
        start += len(label)
    return images, labels


def resized(images, size):
    """`images` at `size`, (height, width) or one number, bilinear, antialiased; uint8 stays so."""
    images = tf.convert_to_tensor(images)
    found = tf.image.resize(images, np.broadcast_to(size, 2), antialias=True)
    if images.dtype != tf.uint8:
        return found
    return tf.cast(tf.clip_by_value(tf.round(found), 0, 255), tf.uint8)


def _head(records, count):
    """(paths, numbers to skip, numbers of records) of the first `count` records."""
    files, skipped, counts = records
    before = np.cumsum([0, *counts[:-1]])
    counts = [int(n) for n in np.clip(count - before, 0, counts)]
    rows = ((*row, n) for *row, n in zip(files, skipped, counts, strict=True) if n)
    return tuple(zip(*rows, strict=True))
