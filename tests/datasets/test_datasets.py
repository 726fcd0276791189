"""Data sets against the arrays they come from, and an independent crop and flip in numpy."""

import dataclasses
import re
import sys

import numpy as np
import pytest

from larq_filter import datasets
from larq_filter._keras import tf
from larq_filter.datasets import pipelines, sources, splits
from larq_filter.datasets.pipelines import Augmentation


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def collect(data):
    """(images, labels) of all batches, one after another."""
    images, labels = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def assert_same(data, expected):
    """The same batches, bit for bit."""
    data, expected = list(data.as_numpy_iterator()), list(expected.as_numpy_iterator())
    assert len(data) == len(expected) > 0
    for (images, labels), (expected_images, expected_labels) in zip(data, expected, strict=True):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)


def raw(data, images):
    """Pixels in [0, 255] from normalised images."""
    return np.round(images * data.std + data.mean).astype(int)


def as_multiset(images):
    return sorted(image.tobytes() for image in images)


def crops(image, pad, flip):
    """Every outcome of the augmentation of one image, a dict from (row, column, flip)."""
    height, width, _ = image.shape
    padded = np.zeros((height + 2 * pad, width + 2 * pad, image.shape[2]), image.dtype)
    padded[pad : pad + height, pad : pad + width] = image
    shifts = [(row, column) for row in range(2 * pad + 1) for column in range(2 * pad + 1)]
    views = {shift: padded[shift[0] :, shift[1] :][:height, :width] for shift in shifts}
    result = {(*shift, False): view for shift, view in views.items()}
    if flip:
        result.update({(*shift, True): view[:, ::-1] for shift, view in views.items()})
    return result


def test_digits_are_those_of_scikit_learn_split_by_class(digits):
    from sklearn.datasets import load_digits

    source = load_digits()
    parts = {
        "train": collect(digits.train(379, seed=0, augment=False)),
        "validation": collect(digits.validation(100)),
        "test": collect(digits.test(100)),
    }
    sizes = {"train": 1137, "validation": 300, "test": 360}
    assert {part: len(labels) for part, (_, labels) in parts.items()} == sizes
    assert {part: getattr(digits, f"{part}_examples") for part in parts} == sizes
    together = raw(digits, np.concatenate([images for images, _ in parts.values()]))[..., 0]
    assert as_multiset(np.round(together * 16 / 255).astype(int)) == as_multiset(
        source.images.astype(int)
    )
    for part, size in sizes.items():
        share = np.bincount(source.target) * size / 1797
        assert np.all(np.abs(np.bincount(parts[part][1]) - share) < 2)
    labels = {
        image.tobytes(): label for image, label in zip(source.images, source.target, strict=True)
    }
    for images, found in parts.values():
        pixels = np.round(raw(digits, images)[..., 0] * 16 / 255).astype(float)
        assert [labels[image.tobytes()] for image in pixels] == found.tolist()


def test_the_test_images_of_digits_are_those_that_were_held_out_first(digits):
    """The 360 that older runs were validated on."""
    from sklearn import datasets as source
    from sklearn.model_selection import train_test_split

    images = source.load_digits()
    _, expected = train_test_split(
        images.images, test_size=360, stratify=images.target, random_state=0
    )
    pixels = np.round(raw(digits, collect(digits.test(90))[0])[..., 0] * 16 / 255)
    np.testing.assert_array_equal(pixels, expected)


def test_digits_describe_themselves(digits):
    assert digits.input_shape == (8, 8, 1)
    assert (digits.num_classes, digits.class_names) == (10, tuple("0123456789"))
    assert digits.augmentation == Augmentation(pad=1, flip=False)
    images, labels = next(iter(digits.train(32, seed=0)))
    assert (images.shape, images.dtype) == ((32, 8, 8, 1), tf.float32)
    assert (labels.shape, labels.dtype) == ((32,), tf.int32)


def test_digits_split_does_not_depend_on_global_seeds():
    expected = None
    for seed in (1, 2):
        np.random.seed(seed)
        tf.random.set_seed(seed)
        data = datasets.load("digits")
        images = np.concatenate([collect(data.validation(300))[0], collect(data.test(360))[0]])
        expected = images if expected is None else expected
        np.testing.assert_array_equal(images, expected)


def test_training_images_have_mean_0_and_deviation_1(digits):
    """Tolerance: float32 rounding of 73,000 pixels."""
    images, _ = collect(digits.train(379, seed=0, augment=False))
    assert abs(images.mean()) < 1e-4
    assert abs(images.std() - 1) < 1e-4


def test_an_epoch_shows_every_image_once(digits):
    first, _ = collect(digits.train(379, seed=3, augment=False))
    second, _ = collect(digits.train(379, seed=3, augment=False, first_epoch=1, epochs=2))
    assert as_multiset(first) == as_multiset(second)
    assert not np.array_equal(first, second)


def test_batches_depend_on_seed_and_epoch_alone(digits):
    tf.random.set_seed(1)
    expected = digits.train(64, seed=7, epochs=2)
    images, _ = collect(expected)
    tf.random.set_seed(2)
    assert_same(digits.train(64, seed=7, epochs=2), expected)
    assert_same(datasets.load("digits").train(64, seed=7, epochs=2), expected)
    other, _ = collect(digits.train(64, seed=8, epochs=2))
    assert not np.array_equal(images, other)
    half = len(images) // 2
    assert not np.array_equal(images[:half], images[half:])


def test_a_resumed_run_sees_what_the_uninterrupted_one_saw(digits):
    whole = digits.train(100, seed=5, epochs=5)
    assert_same(digits.train(100, seed=5, first_epoch=2, epochs=5), whole.skip(2 * 11))
    short = digits.train(100, seed=5, epochs=5, steps_per_epoch=3)
    assert_same(
        digits.train(100, seed=5, first_epoch=4, epochs=5, steps_per_epoch=3), short.skip(4 * 3)
    )


def test_fewer_steps_are_the_first_ones_of_each_epoch(digits):
    short = digits.train(100, seed=5, epochs=3, steps_per_epoch=2)
    assert short.cardinality().numpy() == 6
    for epoch in range(3):
        whole = digits.train(100, seed=5, first_epoch=epoch, epochs=epoch + 1)
        assert whole.cardinality().numpy() == digits.steps_per_epoch(100) == 11
        assert_same(short.skip(2 * epoch).take(2), whole.take(2))


def test_augmentation_keeps_order_and_labels_and_changes_every_epoch(digits):
    """Every augmented image is one of the 9 crops of the image in its place."""
    plain, plain_labels = collect(digits.train(64, seed=2, augment=False, epochs=2))
    images, labels = collect(digits.train(64, seed=2, augment=True, epochs=2))
    np.testing.assert_array_equal(labels, plain_labels)
    found = []
    for source, image in zip(raw(digits, plain), raw(digits, images), strict=True):
        found.append(
            {shift for shift, crop in crops(source, 1, False).items() if (crop == image).all()}
        )
    assert all(found)
    half = len(found) // 2
    assert found[:half] != found[half:]


@pytest.mark.parametrize("pad", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_gives_every_crop_equally_often(pad, flip):
    """5 standard deviations around the expected count of every shift and mirror image."""
    image = np.random.default_rng(0).integers(1, 256, (7, 5, 3), dtype=np.uint8)
    count = 4000
    images = np.repeat(image[None], count, axis=0)
    augmented = Augmentation(pad, flip)(tf.constant(images), tf.constant([1, 2], tf.int64)).numpy()
    possible = crops(image, pad, flip)
    counts = {
        shift: int((augmented == crop).all((1, 2, 3)).sum()) for shift, crop in possible.items()
    }
    assert sum(counts.values()) == count
    share = 1 / len(possible)
    deviation = np.sqrt(count * share * (1 - share))
    assert all(abs(n - count * share) <= 5 * deviation for n in counts.values())


def test_augmentation_moves_each_image_of_a_batch_by_itself():
    images = np.random.default_rng(0).integers(1, 256, (50, 6, 6, 1), dtype=np.uint8)
    augmented = Augmentation(2, True)(tf.constant(images), tf.constant([3, 4], tf.int64)).numpy()
    moves = []
    for image, result in zip(images, augmented, strict=True):
        (move,) = [m for m, crop in crops(image, 2, True).items() if (crop == result).all()]
        moves.append(move)
    assert len(set(moves)) > 20


def test_augmentation_differs_from_step_to_step_and_from_epoch_to_epoch(digits):
    """All images are the same one, so batches differ by their random moves alone."""
    image = np.random.default_rng(0).integers(1, 256, (8, 8, 1), dtype=np.uint8)
    part = np.repeat(image[None], 40, axis=0), np.zeros(40, np.int32)
    data = dataclasses.replace(digits, train_examples=40, _source=pipelines.Memory(train=part))
    batches = [images.numpy().tobytes() for images, _ in data.train(20, seed=0, epochs=3)]
    assert len(set(batches)) == len(batches) == 6


def test_augmentation_can_be_replaced(digits):
    none = dataclasses.replace(digits, augmentation=Augmentation(pad=0, flip=False))
    assert_same(none.train(64, seed=2), digits.train(64, seed=2, augment=False))


def test_validation_keeps_order_and_the_last_batch(digits):
    batches = [len(labels) for _, labels in digits.validation(100)]
    assert batches == [100, 100, 100]
    assert [len(labels) for _, labels in digits.test(100)] == [100, 100, 100, 60]
    assert digits.test(100).cardinality().numpy() == 4
    np.testing.assert_array_equal(
        collect(digits.validation(100))[0], collect(digits.validation(7))[0]
    )


def test_arrays_are_the_raw_images_and_make_the_same_set(digits):
    for part in ("validation", "test"):
        images, labels = digits.arrays(part)
        prepared, expected = collect(getattr(digits, part)(100))
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, raw(digits, prepared))
        np.testing.assert_array_equal(labels, expected)
    assert len(digits.arrays("train")[1]) == digits.train_examples
    parts = [digits.arrays(part) for part in ("train", "validation", "test")]
    same = datasets.from_arrays(*parts, class_names=digits.class_names)
    assert_same(same.train(64, seed=3), digits.train(64, seed=3))
    with pytest.raises(ValueError, match="must be one of train, validation, test"):
        digits.arrays("training")


def test_train_examples_takes_the_first_of_a_fixed_order(digits):
    few, more = (datasets.load("digits", train_examples=n) for n in (20, 50))
    assert (few.train_examples, few.validation_examples, few.test_examples) == (20, 300, 360)
    few_images = raw(few, collect(few.train(20, seed=0, augment=False))[0])
    more_images = raw(more, collect(more.train(50, seed=1, augment=False))[0])
    all_images = raw(digits, collect(digits.train(379, seed=0, augment=False))[0])
    assert (
        set(as_multiset(few_images)) < set(as_multiset(more_images)) < set(as_multiset(all_images))
    )
    np.testing.assert_allclose(few.mean, few_images.mean(), rtol=1e-6)
    np.testing.assert_allclose(few.std, few_images.std(), rtol=1e-6)


def test_validation_examples_takes_the_first_of_a_fixed_order(digits):
    few, more = (datasets.load("digits", validation_examples=n) for n in (20, 50))
    assert (few.train_examples, few.validation_examples, few.test_examples) == (1137, 20, 360)
    parts = [raw(data, collect(data.validation(30))[0]) for data in (few, more, digits)]
    assert [len(part) for part in parts] == [20, 50, 300]
    few_images, more_images, all_images = (set(as_multiset(part)) for part in parts)
    assert few_images < more_images < all_images
    np.testing.assert_array_equal(few.mean, digits.mean)


def test_image_size_resizes(digits):
    same = datasets.load("digits", image_size=8)
    assert_same(same.validation(60), digits.validation(60))
    large = datasets.load("digits", image_size=16)
    assert large.input_shape == (16, 16, 1)
    assert large.augmentation == Augmentation(pad=2, flip=False)
    small_pixels, pixels = (raw(d, collect(d.validation(60))[0]) for d in (digits, large))
    # Bilinear by two, inner pixels: weights 3/4 and 1/4 of the nearest two; 1 for the rounding.
    quarter = (3 * small_pixels[:, :-1] + small_pixels[:, 1:]) / 4
    quarter = (3 * quarter[:, :, :-1] + quarter[:, :, 1:]) / 4
    assert np.abs(pixels[:, 1:-1:2, 1:-1:2] - quarter).max() <= 1


def test_statistics_equal_numpy():
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 6, 3), dtype=np.uint8)
    images[..., 1] = 9
    mean, std = sources._statistics([images[:15], images[15:]])
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std[::2], images.std((0, 1, 2))[::2], rtol=1e-6)
    assert std[1] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, r"`batch_size` is 0; it must lie in \[1, 1137\]"),
        (
            {"batch_size": 1138},
            r"is 1138; it must lie in \[1, 1137\]: digits has 1137 images for training, beside 300 "
            "for validation and 360 for the test",
        ),
        (
            {"steps_per_epoch": 12},
            r"`steps_per_epoch` is 12; it must lie in \[1, 11\]: 1137 images make 11 full",
        ),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` is 0"),
        ({"seed": -1}, "`seed` is -1"),
        ({"first_epoch": -1}, "`first_epoch` is -1"),
        ({"first_epoch": 3, "epochs": 3}, r"`epochs` is 3; .* \[4, .*epoch to end before"),
    ],
)
def test_train_rejects(digits, arguments, message):
    with pytest.raises(ValueError, match=message):
        digits.train(**{"batch_size": 100, "seed": 0, **arguments})


def test_validation_and_types_are_checked(digits):
    with pytest.raises(ValueError, match=r"`batch_size` is 0; it must lie in \[1, inf\)"):
        digits.validation(0)
    with pytest.raises(TypeError, match=r"`batch_size` must be an integer in \[1, inf\), not 2\.5"):
        digits.validation(2.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_examples": 0}, r"`train_examples` is 0; .*\[1, 1137\]: digits has 1137"),
        ({"train_examples": 1138}, r"`train_examples` is 1138"),
        (
            {"validation_examples": 301},
            r"`validation_examples` is 301; .* \[1, 300\]: digits has 300 validation",
        ),
        ({"image_size": 0}, r"`image_size` is 0; it must lie in \[1"),
    ],
)
def test_load_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.load("digits", **arguments)


@pytest.mark.parametrize(("name", "module"), [("digits", "sklearn"), ("x", "tensorflow_datasets")])
def test_missing_extra_is_named(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=re.escape('pip install "larq_filter[data]"')):
        datasets.load(name)


def write_set(folder, images, splits, *, shape=None, features=None, per_file=10, unlabelled=()):
    """A prepared TensorFlow Datasets set: `splits` maps names to slices of `images`."""
    import tensorflow_datasets as tfds

    folder.mkdir(parents=True)
    features = features or {
        "image": tfds.features.Image(shape=shape or images[0].shape, encoding_format="png"),
        "label": tfds.features.ClassLabel(names=("cat", "dog")),
    }
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=folder.parent.name, version=folder.name, data_dir=str(folder), module_name="tests"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=per_file)
    writer.initialize_splits(list(splits))
    label = next(name for name in features if name != "image")
    for split, part in splits.items():
        labels = [-1 if split in unlabelled else i % 2 for i in range(len(images[part]))]
        pairs = zip(images[part], labels, strict=True)
        writer.add_examples({split: [{"image": image, label: value} for image, value in pairs]})
    writer.close_all()
    return folder


IMAGES = np.random.default_rng(0).integers(0, 256, (70, 9, 6, 3), dtype=np.uint8)
SPLITS = {"train": slice(0, 45), "validation": slice(45, 60), "test": slice(60, 70)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    pytest.importorskip("tensorflow_datasets")
    root = tmp_path_factory.mktemp("data")
    write_set(root / "pets" / "1.0.0", IMAGES, SPLITS)
    return root


@pytest.fixture(params=["memory", "streamed"])
def pets(request, data_dir, monkeypatch):
    if request.param == "streamed":
        monkeypatch.setattr(sources, "MEMORY_LIMIT", 70 * 9 * 6 * 3 - 1)
        monkeypatch.setattr(pipelines, "SHUFFLE_WINDOW", 8)
    data = datasets.load("pets", data_dir=data_dir)
    assert isinstance(data._source, pipelines.Stream) == (request.param == "streamed")
    return data


@pytest.mark.extras
def test_prepared_set(pets):
    assert pets.input_shape == (9, 6, 3)
    assert (pets.train_examples, pets.validation_examples, pets.test_examples) == (45, 15, 10)
    assert (pets.num_classes, pets.class_names) == (2, ("cat", "dog"))
    assert pets.augmentation == Augmentation(pad=1, flip=True)
    np.testing.assert_allclose(pets.mean, IMAGES[:45].mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(pets.std, IMAGES[:45].std((0, 1, 2)), rtol=1e-6)


@pytest.mark.extras
def test_prepared_set_gives_back_its_images(pets):
    images, labels = collect(pets.validation(4))
    assert as_multiset(raw(pets, images)) == as_multiset(IMAGES[45:60].astype(int))
    images, labels = collect(pets.test(4))
    assert as_multiset(raw(pets, images)) == as_multiset(IMAGES[60:].astype(int))
    images, labels = collect(pets.train(45, seed=1, augment=False, epochs=2))
    known = {image.tobytes(): i % 2 for i, image in enumerate(IMAGES[:45])}
    for epoch in (slice(0, 45), slice(45, 90)):
        pixels = raw(pets, images[epoch]).astype(np.uint8)
        assert as_multiset(pixels) == as_multiset(IMAGES[:45])
        assert [known[image.tobytes()] for image in pixels] == labels[epoch].tolist()
    assert not np.array_equal(images[:45], images[45:])


@pytest.mark.extras
def test_prepared_set_resumes(pets):
    tf.random.set_seed(1)
    whole = pets.train(10, seed=5, epochs=4)
    assert whole.cardinality().numpy() == 16
    expected, _ = collect(whole.skip(2 * 4))
    tf.random.set_seed(2)
    resumed, _ = collect(pets.train(10, seed=5, first_epoch=2, epochs=4))
    np.testing.assert_array_equal(resumed, expected)
    other, _ = collect(pets.train(10, seed=6, first_epoch=2, epochs=4))
    assert not np.array_equal(other, expected)


@pytest.mark.extras
def test_streamed_single_file_is_shuffled_anew_every_epoch(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(sources, "MEMORY_LIMIT", 0)
    write_set(tmp_path / "pets" / "1.0.0", IMAGES, SPLITS, per_file=100)
    data = datasets.load("pets", data_dir=tmp_path)
    images, _ = collect(data.train(45, seed=1, augment=False, epochs=2))
    pixels = raw(data, images).astype(np.uint8)
    for one, other in ((pixels[:45], pixels[45:]), (pixels[:45], IMAGES[:45])):
        assert as_multiset(one) == as_multiset(other)
        assert not np.array_equal(one, other)


@pytest.mark.extras
def test_streamed_train_examples_are_the_first_of_the_files(data_dir, monkeypatch):
    monkeypatch.setattr(sources, "MEMORY_LIMIT", 0)
    data = datasets.load("pets", data_dir=data_dir, train_examples=23)
    images, _ = collect(data.train(23, seed=0, augment=False))
    assert as_multiset(raw(data, images).astype(np.uint8)) == as_multiset(IMAGES[:23])


@pytest.mark.extras
def test_streamed_validation_examples_are_the_first_of_the_files(data_dir, monkeypatch):
    monkeypatch.setattr(sources, "MEMORY_LIMIT", 0)
    data = datasets.load("pets", data_dir=data_dir, validation_examples=12)
    images, _ = collect(data.validation(5))
    np.testing.assert_array_equal(np.round(raw(data, images)), IMAGES[45:57])


@pytest.mark.extras
@pytest.mark.parametrize("name", ["{root}/pets", "{root}/pets/1.0.0", "pets", "pets:1.0.0"])
def test_prepared_set_is_found(data_dir, name):
    data = datasets.load(name.format(root=data_dir), data_dir=data_dir)
    assert data.train_examples == 45


@pytest.mark.extras
def test_newest_version_and_only_config(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    for version, count in (("9.0.0", 20), ("10.0.0", 30)):
        parts = {"train": slice(0, count), "validation": slice(40, 60), "test": slice(30, 40)}
        write_set(tmp_path / "pets" / "small" / version, IMAGES, parts)
    data = datasets.load("pets", data_dir=tmp_path)
    assert (data.train_examples, data.validation_examples) == (30, 20)
    assert datasets.load("pets/small:9.0.0", data_dir=tmp_path).train_examples == 20
    write_set(tmp_path / "pets" / "large" / "1.0.0", IMAGES, SPLITS)
    with pytest.raises(ValueError, match="pass one as name/config: large, small"):
        datasets.load("pets", data_dir=tmp_path)


@pytest.mark.extras
def test_images_of_many_sizes_need_image_size(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    images = [np.full((4 + i, 10 - i, 3), 20 * i + 5, np.uint8) for i in range(6)]
    splits = {"train": slice(0, 3), "validation": slice(3, 4), "test": slice(4, 6)}
    write_set(tmp_path / "pets" / "1.0.0", images, splits, shape=(None, None, 3))
    with pytest.raises(ValueError, match=r"shape \(None, None, 3\).*pass image_size="):
        datasets.load("pets", data_dir=tmp_path)
    data = datasets.load("pets", data_dir=tmp_path, image_size=5)
    assert data.input_shape == (5, 5, 3)
    pixels = raw(data, collect(data.test(2))[0])
    np.testing.assert_array_equal(pixels, np.full((2, 5, 5, 3), [[[[85]]], [[[105]]]]))


@pytest.mark.extras
def test_unknown_name_and_missing_data(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(ValueError, match="unknown data set 'cifer10'.*did you mean cifar10"):
        datasets.load("cifer10", data_dir=tmp_path)
    with pytest.raises(ValueError, match="unknown data set 'digit'.*did you mean digits"):
        datasets.load("digit", data_dir=tmp_path)
    missing = re.escape(str(tmp_path / "mnist")) + ".*download=True.*data_dir="
    with pytest.raises(FileNotFoundError, match=missing):
        datasets.load("mnist", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none"))):
        datasets.load(tmp_path / "none", data_dir=tmp_path)


@pytest.mark.extras
def test_other_tasks_and_missing_splits_are_refused(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    features = {
        "image": tfds.features.Image(shape=(9, 6, 3)),
        "age": tfds.features.Scalar(np.int64),
    }
    write_set(tmp_path / "ages" / "1.0.0", IMAGES, SPLITS, features=features)
    with pytest.raises(ValueError, match=r"has the features \['age', 'image'\]"):
        datasets.load("ages", data_dir=tmp_path)
    write_set(tmp_path / "pets" / "1.0.0", IMAGES, {"test": slice(0, 20)})
    with pytest.raises(ValueError, match=r"has the splits \['test'\]: `train` is needed"):
        datasets.load("pets", data_dir=tmp_path)


@pytest.fixture(params=["memory", "streamed"])
def limited(request, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    if request.param == "streamed":
        monkeypatch.setattr(sources, "MEMORY_LIMIT", 0)
    return request.param


def parts_of(data):
    """The raw images of each part, as sets of bytes; each image comes once."""
    every = data.train(data.train_examples, seed=0, augment=False)
    found = [collect(part)[0] for part in (every, data.validation(7), data.test(7))]
    sets = [as_multiset(raw(data, images).astype(np.uint8)) for images in found]
    assert [len(part) for part in sets] == [len({*part}) for part in sets]
    sizes = data.train_examples, data.validation_examples, data.test_examples
    assert sizes == tuple(map(len, sets))
    return [{*part} for part in sets]


def known(part):
    return {*as_multiset(IMAGES[part])}


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.parametrize(
    ("splits", "unlabelled", "test"),
    [
        ({"train": slice(0, 50), "test": slice(50, 70)}, [], slice(50, 70)),
        ({"train": slice(0, 50), "validation": slice(50, 70)}, [], slice(50, 70)),
        (
            {"train": slice(0, 40), "validation": slice(40, 55), "test": slice(55, 70)},
            ["test"],
            slice(40, 55),
        ),
        ({"train": slice(0, 60)}, [], None),
    ],
    ids=["train and test", "train and validation", "unlabelled test", "train alone"],
)
def test_what_a_set_lacks_is_held_out_of_its_training_images(
    tmp_path, limited, splits, unlabelled, test
):
    write_set(tmp_path / "pets" / "1.0.0", IMAGES, splits, unlabelled=unlabelled)
    data = datasets.load("pets", data_dir=tmp_path)
    training, validation, tested = parts_of(data)
    train = known(splits["train"])
    if test is None:
        assert training | validation | tested == train
        assert (len(tested), len(validation)) == (30, 15)  # half, and half of what is left
    else:
        assert tested == known(test)
        assert training | validation == train
        assert len(validation) == len(train) // 2  # at least 300, but never more than half
    assert not training & validation and not (training | validation) & tested
    assert parts_of(datasets.load("pets", data_dir=tmp_path)) == [training, validation, tested]
    few = datasets.load("pets", data_dir=tmp_path, train_examples=10, validation_examples=9)
    fewer = parts_of(few)
    assert fewer[0] < training and fewer[1] < validation and fewer[2] == tested


def test_held_out_images_have_the_shares_of_the_classes():
    from sklearn.model_selection import train_test_split

    labels = np.repeat([0, 1, 2], [4000, 800, 200])
    count = splits.held_out_size(len(labels))
    rest, held_out = splits.stratified(labels, count, train_test_split)
    assert np.bincount(labels[held_out]).tolist() == [400, 80, 20]
    assert sorted([*rest, *held_out]) == [*range(5000)]
    lonely = np.append(labels, 3)  # a class of one image can't be divided
    rest, held_out = splits.stratified(lonely, 500, train_test_split)
    assert (len(rest), len(held_out)) == (4501, 500)


@pytest.mark.parametrize(
    ("size", "expected"), [(20, 10), (599, 299), (1000, 300), (50_000, 5000), (1_281_167, 50_000)]
)
def test_how_many_are_held_out(size, expected):
    assert splits.held_out_size(size) == expected


def records_of(records):
    """Every (file, number) that a triple reads."""
    rows = zip(*records, strict=True)
    return {(file, n) for file, skip, count in rows for n in range(skip, skip + count)}


@pytest.mark.parametrize("files", [1, 3, 19, 20, 100])
def test_streamed_sets_hold_out_records_by_files(files):
    """About a tenth, evenly over the files; whole files where there are many."""
    counts = [100 + number % 3 for number in range(files)]
    whole = [[f"file {number}" for number in range(files)], [0] * files, counts]
    kept, held_out = splits.by_files(whole)
    assert records_of(kept) | records_of(held_out) == records_of(whole)
    assert not records_of(kept) & records_of(held_out)
    wanted = splits.held_out_size(sum(counts))
    assert abs(len(records_of(held_out)) - wanted) <= (60 if files >= 20 else 0)
    shared = {*kept[0]} & {*held_out[0]}
    assert len(shared) == (0 if files >= 20 else files)
    if files >= 20:
        gaps = np.diff([int(name.split()[1]) for name in held_out[0]])
        assert gaps.max() - gaps.min() <= 2
