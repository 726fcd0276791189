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
        """Augments uint8 `images` (batch, height, width, channels); `seed` holds two int64."""
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
    """Decoded uint8 images on the CPU, picked by index.

    Args:
        train, validation: (images uint8 (n, height, width, channels), labels int32 (n,)).
    """

    def __init__(self, train, validation):
        with tf.device("CPU:0"):
            self._train = tuple(tf.constant(part) for part in train)
            self._validation = tuple(tf.constant(part) for part in validation)
        self.size, self.validation_size = len(train[1]), len(validation[1])
        self.shape = tuple(train[0].shape[1:])

    def first(self, count):
        """The same source with fewer training images: the first `count` of a fixed permutation."""
        return Memory(_chosen(self._train, count), self._validation)

    def first_of_validation(self, count):
        """The same source with fewer validation images: the first of a fixed permutation."""
        return Memory(self._train, _chosen(self._validation, count))

    def statistics_images(self):
        """Batches of the training images, uint8, that give mean and deviation."""
        return [self._train[0].numpy()]

    def batches(self, seed, epoch, batch_size):
        """The full batches of one epoch, as indices (batch_size,)."""
        order = tf.random.experimental.stateless_shuffle(
            tf.range(self.size), key(seed, epoch, ORDER)
        )
        steps = self.size // batch_size
        order = tf.reshape(order[: steps * batch_size], [steps, batch_size])
        return tf.data.Dataset.from_tensor_slices(order)

    def fetch(self, indices):
        """(images, labels) of what `batches` gives."""
        return tuple(tf.gather(part, indices) for part in self._train)

    def validation(self):
        """Single (image, label) pairs in fixed order."""
        return tf.data.Dataset.from_tensor_slices(self._validation)


def _chosen(arrays, count):
    """The first `count` rows of each array in the order of a fixed permutation."""
    order = np.random.RandomState(0).permutation(len(arrays[0]))[:count]
    return [np.asarray(array)[order] for array in arrays]


class Stream:
    """Records read from the files of a prepared set, decoded on the way.

    An epoch reads the files in a random order, 16 at a time, and shuffles `SHUFFLE_WINDOW` records
    at a time: stateless, where the buffer of `tf.data.Dataset.shuffle` depends on the global seed.

    Args:
        train, validation: (paths of TFRecord files, number of records to read from each).
        decode: function from a record to (uint8 image, int32 label).
        shape: (height, width, channels) of every decoded image.
    """

    def __init__(self, train, validation, decode, shape):
        self._train, self._validation, self._decode = train, validation, decode
        self.size, self.validation_size = (sum(counts) for _, counts in (train, validation))
        self.shape = shape

    def first(self, count):
        """The same source with fewer training images: the first `count` of the files."""
        return Stream(_head(self._train, count), self._validation, self._decode, self.shape)

    def first_of_validation(self, count):
        """The same source with fewer validation images: the first `count` of the files."""
        return Stream(self._train, _head(self._validation, count), self._decode, self.shape)

    def statistics_images(self):
        """Batches of the training images, uint8, that give mean and deviation."""
        data = self._read(*self._train).take(STATISTICS_EXAMPLES)
        return (images.numpy() for images, _ in self._decoded(data).batch(64))

    def batches(self, seed, epoch, batch_size):
        """The full batches of one epoch, as (images, labels)."""
        files, counts = (tf.constant(part) for part in self._train)
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(files)), key(seed, epoch, ORDER)
        )
        windows = self._read(tf.gather(files, order), tf.gather(counts, order))
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

    def validation(self):
        """Single (image, label) pairs in fixed order."""
        return self._decoded(self._read(*self._validation))

    def _decoded(self, records):
        return records.map(self._decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    @staticmethod
    def _read(files, counts):
        files, counts = tf.convert_to_tensor(files), tf.cast(counts, tf.int64)
        return tf.data.Dataset.from_tensor_slices((files, counts)).interleave(
            lambda file, count: tf.data.TFRecordDataset(file).take(count),
            cycle_length=16,
            block_length=16,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def to_memory(self):
        """All images decoded, as a `Memory`."""
        return Memory(*(self._collect(*part) for part in (self._train, self._validation)))

    def _collect(self, files, counts):
        images = np.empty((sum(counts), *self.shape), np.uint8)
        labels = np.empty(sum(counts), np.int32)
        start = 0
        for image, label in self._decoded(self._read(files, counts)).batch(1024):
            images[start : start + len(label)], labels[start : start + len(label)] = image, label
            start += len(label)
        return images, labels


def _head(records, count):
    """(paths, numbers of records) of the first `count` records."""
    files, counts = records
    before = np.cumsum([0, *counts[:-1]])
    counts = [int(n) for n in np.clip(count - before, 0, counts)]
    return tuple(zip(*((file, n) for file, n in zip(files, counts, strict=True) if n), strict=True))
