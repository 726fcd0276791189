"""Where images come from.

The 1,797 handwritten digits that scikit-learn carries with it (`digits`, nothing to download), a
folder of images by class, an `.npz` file, and every image classification set of TensorFlow
Datasets, by name or by the folder of a prepared set. All end in the same `ImageData`. What a
program has in its own variables, `given` takes.

Sets whose decoded images fit into `MEMORY_LIMIT` bytes are decoded once; larger ones are streamed.
`splits` says which images are held out where a set names none for validation or for the test.
"""

import difflib
import itertools
import os
import pathlib
import re

import numpy as np

from larq_filter._keras import tf
from larq_filter._validation import validate_integer
from larq_filter.datasets import arrays, folders, image_files, splits
from larq_filter.datasets.image_data import ImageData
from larq_filter.datasets.pipelines import Augmentation, Memory, Stream, decoded, resized

MEMORY_LIMIT = 2 * 2**30  # bytes of decoded uint8 images, all parts together


def load(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    train_examples: int | None = None,
    validation_examples: int | None = None,
    image_size: int | None = None,
) -> ImageData:
    """Loads a data set in three parts: training, validation and test.

    The test images are the split `test` if it has labels, else `validation`, else held out of the
    training images. Those for validation are `validation` if that is not the test, else held out of
    the training images: the same ones for every seed. Held out is a tenth, at least 300 and at most
    50,000 images, never more than half: by class of sets in memory, by files of streamed ones.
    Of a folder of images it is a tenth for each part, by the names of the files: see `folders`.

    Args:
        name: `digits` (8x8 grey images, 1,137 for training, 300 for validation, 360 for the test;
            the 17 grey levels are scaled to 0..255); or the path of a folder of images by class,
            PNG, JPEG, GIF (its first picture) or BMP; or of an `.npz` file: x_train and y_train,
            the same of validation and test if there are such, maybe class_names; or the name of a
            TensorFlow Datasets set as `name`, `name/config` or `name:version`; or the path of a
            prepared set, with or without the version folder.
        data_dir: folder of prepared sets; default: the environment variable TFDS_DATA_DIR, else
            `~/tensorflow_datasets`. A prepared set is read from its files alone, so it need not be
            one that the installed TensorFlow Datasets knows.
        download: whether a set that is not there may be downloaded and prepared.
        train_examples: use only that many of the training images that are left after the holding
            out: of a set in memory, the first of a fixed permutation; of a streamed set, the first
            of its files.
        validation_examples: use only that many validation images, chosen alike.
        image_size: resize to (image_size, image_size), bilinear with antialiasing, aspect ratio
            not kept; needed where the images of a set differ in size.

    Returns:
        `ImageData`.

    Raises:
        FileNotFoundError: the data are not there and `download` is False.
        ImportError: the extra `data` is not installed.
        TypeError, ValueError: unknown name, no such set, no split `train`, images that can't be
            read or differ in size, wrong arrays, a number outside its interval.
    """
    if image_size is not None:
        validate_integer("image_size", image_size)
    fingerprint = None
    if name == "digits":
        source, class_names = _digits(image_size), tuple("0123456789")
    elif str(name).lower().endswith(".npz"):
        source, class_names, fingerprint = _npz(name, image_size)
    elif _is_image_folder(str(name), data_dir):
        source, class_names, fingerprint = _image_folder(name, image_size)
    else:
        builder = _builder(str(name), data_dir, download)
        source, class_names = _tfds_source(str(name), builder, image_size)
    source = _limited(source, name, "train", train_examples)
    source = _limited(source, name, "validation", validation_examples)
    return image_data(str(name), source, class_names, fingerprint)


def stamp(name, data_dir=None):
    """Changes whenever files of the user's own do that `load` would read; None for other sets."""
    if str(name).lower().endswith(".npz"):
        path = pathlib.Path(name).expanduser()
        return f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path.is_file() else "missing"
    return folders.stamp(name) if _is_image_folder(str(name), data_dir) else None


def image_data(name, source, class_names, fingerprint=None):
    """The `ImageData` of a source, with mean and deviation of its training images."""
    mean, std = _statistics(source.statistics_images())
    height, _, channels = source.shape
    return ImageData(
        name=name,
        input_shape=source.shape,
        num_classes=len(class_names),
        class_names=class_names,
        **{f"{part}_examples": size for part, size in source.sizes.items()},
        mean=mean,
        std=std,
        augmentation=Augmentation(pad=max(1, height // 8), flip=channels == 3),
        _source=source,
        fingerprint=fingerprint,
    )


def _limited(source, name, part, count):
    """The source with `count` images in a part; None: all of them."""
    if count is None:
        return source
    size, noun = source.sizes[part], "training" if part == "train" else part
    hint = f": {name} has {size} {noun} images"
    return source.first(part, validate_integer(f"{part}_examples", count, 1, size, hint))


def _digits(image_size):
    sklearn = _sklearn('the data set "digits"')
    digits = sklearn.datasets.load_digits()
    images = np.round(digits.images[..., None] * (255 / 16)).astype(np.uint8)
    if image_size is not None:
        images = resized(images, image_size).numpy()
    labels = digits.target.astype(np.int32)
    rest, test = splits.stratified(labels, 360, sklearn.model_selection.train_test_split)
    return _in_memory({"train": (images[rest], labels[rest]), "test": (images[test], labels[test])})


def _is_image_folder(name, data_dir):
    """Whether a name is a folder of folders; a prepared set of that name comes first."""
    if not folders.holds_classes(name):
        return False
    return all(_prepared(folder) is None for folder in _places(name, data_dir))


def _npz(name, image_size):
    """(source, class names, fingerprint) of an `.npz` file."""
    parts, class_names = arrays.read_npz(name)
    return from_parts(parts, image_size), class_names, arrays.fingerprint(parts)


def _image_folder(name, image_size):
    """(source, class names, fingerprint) of a folder of images by class."""
    listing = folders.read(name)
    source, fingerprint = image_files.source(listing, image_size)
    if sum(source.sizes.values()) * np.prod(source.shape) <= MEMORY_LIMIT:
        source = Memory(**decoded(source))
    return source, listing.class_names, fingerprint


def from_parts(parts, image_size=None):
    """`Memory` of (images, labels) by part, resized; what is missing is held out of `train`."""
    if image_size is not None:
        parts = {
            part: (resized(images, image_size).numpy(), labels)
            for part, (images, labels) in parts.items()
        }
    return _in_memory(dict(parts))


def _in_memory(parts):
    """`Memory` of (images, labels) by part; what is missing is held out of `train`."""
    for missing in _missing(parts):
        images, labels = parts["train"]
        if len(labels) < 2:
            raise ValueError(
                f"There are too few images: {len(labels)} is left for training, and none to hold "
                f"out for {missing}. Give at least one for each of training, validation and test."
            )
        split = _sklearn("holding out images").model_selection.train_test_split
        chosen = splits.stratified(labels, splits.held_out_size(len(labels)), split)
        parts["train"], parts[missing] = ((images[part], labels[part]) for part in chosen)
    return Memory(**parts)


def _sklearn(what):
    try:
        import sklearn.datasets
        import sklearn.model_selection
    except ImportError as error:
        raise ImportError(f'{what} needs scikit-learn: pip install "larq_filter[data]"') from error
    return sklearn


def _tfds_source(name, builder, image_size):
    """(source, class names) of a prepared TensorFlow Datasets set."""
    info, tfds = builder.info, _tfds(name)
    features, found = info.features, info.splits
    image, label = (dict(features).get(name) for name in ("image", "label"))
    if not (
        isinstance(image, tfds.features.Image)
        and isinstance(label, tfds.features.ClassLabel)
        and image.np_dtype == np.uint8
    ):
        raise ValueError(
            f"{name!r} has the features {sorted(features)}: an image classification set with uint8 "
            "images `image` and class labels `label` is needed"
        )
    shape = image.shape if image_size is None else (image_size, image_size, image.shape[-1])
    if None in shape:
        raise ValueError(
            f"the images of {name!r} have the shape {tuple(image.shape)}, None for what differs "
            "from image to image: pass image_size=, for example image_size=224"
        )
    if "train" not in found:
        raise ValueError(f"{name!r} has the splits {list(found)}: `train` is needed")
    if info.file_format.value != "tfrecord":
        raise ValueError(
            f"{name!r} is stored as {info.file_format.value}: prepare it with "
            "file_format='tfrecord'"
        )

    def decode(record):
        example = features.deserialize_example(record)
        image = example["image"] if image_size is None else resized(example["image"], image_size)
        return tf.ensure_shape(image, shape), tf.cast(example["label"], tf.int32)

    def records(split):
        files = [str(file) for file in found[split].filepaths]
        return files, [0] * len(files), list(found[split].shard_lengths)

    def has_labels(split):
        few = Stream(decode, tuple(shape), train=records(split)).in_order("train").take(64)
        return any(int(label) >= 0 for _, label in few)

    labelled = [split for split in ("test", "validation") if split in found and has_labels(split)]
    parts = {"train": records("train")}
    parts |= {part: records(split) for part, split in zip(_missing(parts), labelled, strict=False)}
    source = Stream(decode, tuple(shape), **parts)
    if sum(source.sizes.values()) * np.prod(shape) <= MEMORY_LIMIT:
        return _in_memory(source.decoded()), tuple(label.names)
    for missing in _missing(parts):
        parts["train"], parts[missing] = splits.by_files(parts["train"])
    return Stream(decode, tuple(shape), **parts), tuple(label.names)


def _missing(parts):
    return [part for part in ("test", "validation") if part not in parts]


def _builder(name, data_dir, download):
    """The TensorFlow Datasets builder of a prepared set, or of one that it may download."""
    places = _places(name, data_dir)
    prepared = next(filter(None, map(_prepared, places)), None)
    if prepared is None and name.startswith((".", "~", os.sep)):
        raise folders.no_data(places[1])
    tfds = _tfds(name)
    if prepared is not None:
        return tfds.builder_from_directory(str(prepared))
    known = ["digits", *tfds.list_builders(with_community_datasets=False)]
    if name.partition(":")[0].split("/")[0] not in known:
        if os.sep in name or places[1].exists():
            raise folders.no_data(places[1])
        close = difflib.get_close_matches(name, known) or ["digits", "mnist", "cifar10"]
        raise ValueError(
            f"unknown data set {name!r}, no prepared set in {places[0]}, and no folder or file of "
            f"that name here: did you mean {', '.join(close)}?"
        )
    if not download:
        raise FileNotFoundError(
            f"no prepared set {name!r}: looked for dataset_info.json and features.json in "
            f"{places[0]} and its version folders; download=True (--download) fetches it; if you "
            "have it, pass data_dir= the folder that holds it"
        )
    builder = tfds.builder(name, data_dir=str(_root(data_dir)))
    builder.download_and_prepare()
    return builder


def _root(data_dir):
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return pathlib.Path(default if data_dir is None else data_dir).expanduser()


def _places(name, data_dir):
    """Where a prepared set of that name may lie: in the folder of sets, or at the path itself."""
    path, _, version = name.partition(":")
    return _root(data_dir) / path / version, pathlib.Path(name).expanduser()


def _prepared(folder):
    """`folder` if it is a prepared set, else its newest version, else that of its only config."""
    if (folder / "dataset_info.json").is_file() and (folder / "features.json").is_file():
        return folder
    for pattern in ("*/dataset_info.json", "*/*/dataset_info.json"):
        versions = [info.parent for info in folder.glob(pattern)]
        versions = [path for path in versions if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
        if len({path.parent for path in versions}) > 1:
            configs = ", ".join(sorted(path.parent.name for path in versions))
            raise ValueError(f"{folder} holds several sets, pass one as name/config: {configs}")
        if versions:
            return max(versions, key=lambda path: [int(n) for n in path.name.split(".")])
    return None


def _tfds(name):
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            f'{name!r} is neither the embedded "digits", nor a folder of images by class, nor an '
            '.npz file; every other set needs TensorFlow Datasets: pip install "larq_filter[data]"'
        ) from error
    return tensorflow_datasets


def _statistics(batches):
    """Mean and standard deviation per channel, (channels,), of image batches of one type."""
    batches = iter(batches)
    first = next(batches)
    found = _counted if first.dtype == np.uint8 else _summed
    mean, std = found(itertools.chain([first], batches))
    std[std == 0] = 1.0  # a constant channel becomes 0, not NaN
    return mean.astype(np.float32), std.astype(np.float32)


def _counted(batches):
    counts = sum(  # a histogram per channel is exact and small
        np.stack([np.bincount(plane.ravel(), minlength=256) for plane in np.moveaxis(batch, -1, 0)])
        for batch in batches
    )
    levels, total = np.arange(256.0), counts.sum(axis=1)
    mean = counts @ levels / total
    return mean, np.sqrt(counts @ levels**2 / total - mean**2)


def _summed(batches):
    """Of floats: sums of squares about the mean so far, which lose no digits to a large mean."""
    count, mean, squares = 0, 0.0, 0.0
    for batch in batches:
        for start in range(0, len(batch), 256):
            pixels = batch[start : start + 256].reshape(-1, batch.shape[-1]).astype(np.float64)
            shift = pixels.mean(axis=0) - mean
            total = count + len(pixels)
            squares += ((pixels - pixels.mean(axis=0)) ** 2).sum(axis=0)
            squares += shift**2 * count * len(pixels) / total
            mean, count = mean + shift * len(pixels) / total, total
    return mean, np.sqrt(squares / count)
