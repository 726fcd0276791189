"""What `load` gives: training, validation and test images as batches for `fit`.

Training batches of epoch `e` depend on `(seed, e)` alone: a run that is resumed at epoch 7 sees
what the uninterrupted run saw.
"""

import dataclasses
from typing import Any

import numpy as np

from larq_filter._keras import tf
from larq_filter._validation import validate_choice, validate_integer
from larq_filter.datasets.arrays import PARTS
from larq_filter.datasets.pipelines import AUGMENT, Augmentation, key
from larq_filter.datasets.preparation import Preparation


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Training, validation and test images of one data set, ready for `fit`.

    Images come out as float32 `(pixel - mean) / std`, labels as int32. Pixels are in [0, 255], or
    in the units that float images were given in.

    Attributes:
        name: what `load` was asked for.
        input_shape: (height, width, channels).
        num_classes: number of labels.
        class_names: their names in the order of the labels; numbers where the set has no names.
        train_examples: number of training images used.
        validation_examples: number of validation images.
        test_examples: number of test images.
        mean, std: float32 arrays (channels,), of the raw pixels of the training images.
        augmentation: what `train` does to the images. Default of `load`: `pad = max(1, height //
            8)` (4 for CIFAR, 1 for `digits`) and a flip for colour images only, since digits and
            letters are not mirror symmetric (coloured digits, as in `svhn_cropped`, need
            `dataclasses.replace(data, augmentation=Augmentation(pad=4, flip=False))`).
        fingerprint: by which images of your own are known again; None for sets that have a name.
    """

    name: str
    input_shape: tuple
    num_classes: int
    class_names: tuple
    train_examples: int
    validation_examples: int
    test_examples: int
    mean: np.ndarray
    std: np.ndarray
    augmentation: Augmentation
    _source: Any = dataclasses.field(repr=False)
    fingerprint: str | None = None

    def describe(self) -> dict:
        """What tells these data from others, for a JSON file."""
        return {
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "examples": [getattr(self, f"{part}_examples") for part in PARTS],
            "augmentation": dataclasses.asdict(self.augmentation),
            "fingerprint": self.fingerprint,
        }

    def steps_per_epoch(self, batch_size: int) -> int:
        """Full batches in one epoch; the remainder of the images is left out of that epoch.

        Raises:
            ValueError: `batch_size` is outside [1, train_examples].
        """
        hint = (
            f": {self.name} has {self.train_examples} images for training, beside "
            f"{self.validation_examples} for validation and {self.test_examples} for the test"
        )
        size = validate_integer("batch_size", batch_size, 1, self.train_examples, hint)
        return self.train_examples // size

    def train(
        self,
        batch_size: int,
        *,
        seed: int,
        augment: bool = True,
        first_epoch: int = 0,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
    ) -> Any:
        """Batches of the epochs `first_epoch`, ..., `epochs - 1`, one epoch after another.

        Order and augmentation of epoch `e` depend on `(seed, e)` only, so that the batches of
        `first_epoch=k` are the tail of those of `first_epoch=0`, bit for bit.

        Args:
            batch_size: images a batch, in [1, train_examples].
            seed: integer in [0, 2**32 - 1].
            augment: whether to apply `augmentation`.
            first_epoch: the epoch to begin with, >= 0.
            epochs: the epoch to end before, > first_epoch (as in `fit`: the total, not the rest).
            steps_per_epoch: batches an epoch; None for all full batches.

        Returns:
            `tf.data.Dataset` of (images, labels), `(epochs - first_epoch) * steps_per_epoch` long.

        Raises:
            ValueError: a number outside its interval.
        """
        available = self.steps_per_epoch(batch_size)
        steps = available if steps_per_epoch is None else steps_per_epoch
        hint = f": {self.train_examples} images make {available} full batches of {batch_size}"
        validate_integer("steps_per_epoch", steps, 1, available, hint)
        validate_integer("seed", seed, 0, 2**32 - 1)
        validate_integer("first_epoch", first_epoch, 0, 2**30 - 1)
        hint = ": `epochs` is the epoch to end before, counted from 0, not from first_epoch"
        validate_integer("epochs", epochs, first_epoch + 1, 2**30, hint)

        prepared = self.preparation()

        def batches_of(epoch):
            batches = self._source.batches(seed, epoch, batch_size).take(steps)
            return batches.enumerate().map(lambda step, batch: (epoch, step, batch))

        def finish(epoch, step, batch):
            images, labels = self._source.fetch(batch)
            images = tf.ensure_shape(images, (batch_size, *self.input_shape))
            if augment:
                images = self.augmentation(images, key(seed, epoch, AUGMENT, step))
            return prepared(images), labels

        data = tf.data.Dataset.range(first_epoch, epochs).flat_map(batches_of)
        data = data.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        length = tf.data.experimental.assert_cardinality((epochs - first_epoch) * steps)
        return data.apply(length).prefetch(tf.data.AUTOTUNE)

    def validation(self, batch_size: int) -> Any:
        """All validation images as `tf.data.Dataset`, in fixed order, the last batch kept."""
        return self._in_order("validation", self.validation_examples, batch_size)

    def test(self, batch_size: int) -> Any:
        """All test images, as `validation` gives its own. Nothing is chosen by them."""
        return self._in_order("test", self.test_examples, batch_size)

    def _in_order(self, part, size, batch_size):
        validate_integer("batch_size", batch_size)
        data = self._source.in_order(part).batch(batch_size)
        length = tf.data.experimental.assert_cardinality(-(-size // batch_size))
        prepared = self.preparation()
        data = data.map(lambda images, labels: (prepared(images), labels))
        return data.apply(length).prefetch(tf.data.AUTOTUNE)

    def arrays(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """All images and labels of a part in fixed order, for `from_arrays` and programs of yours.

        Args:
            part: `train`, `validation` or `test`.

        Returns:
            Images (n, height, width, channels), uint8 or float32, neither augmented nor scaled; and
            labels int32 (n,). They are in memory, all at once.

        Raises:
            ValueError: another part.
        """
        validate_choice("part", part, PARTS)
        size = getattr(self, f"{part}_examples")
        images, labels = next(iter(self._source.in_order(part).batch(size)))
        return images.numpy(), labels.numpy()

    def first(self, part: str, count: int) -> "ImageData":
        """The same data with fewer images of a part, mixed.

        Args:
            part: `validation` or `test`.
            count: of images, in [1, those there are]. They are the first of a fixed permutation,
                for files lie class by class; of what is streamed, the first.
        """
        size = getattr(self, f"{part}_examples")
        validate_integer("count", count, 1, size, f": {self.name} has {size} images for {part}")
        fewer = {f"{part}_examples": count, "_source": self._source.first(part, count)}
        return dataclasses.replace(self, **fewer)

    def preparation(self) -> Preparation:
        """What a network that was trained on these data needs of them later."""
        image, _ = self._source.in_order("train").element_spec
        kept = self.input_shape, self.class_names, self.mean, self.std
        return Preparation(*kept, image.dtype.name)
