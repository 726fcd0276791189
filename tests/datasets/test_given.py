"""Arrays, `.npz` files and `tf.data` datasets against the arrays they were made of."""

import io

import numpy as np
import pytest

from larq_filter import datasets
from larq_filter._keras import keras, tf
from larq_filter.datasets import given, sources

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3


def collect(data):
    images, labels = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def whole(data):
    """(image bytes, label) of every part."""
    parts = data.train(data.train_examples, seed=0, augment=False), data.validation(7), data.test(7)
    found = []
    for images, labels in map(collect, parts):
        raw = np.round(images * data.std + data.mean).astype(np.uint8)
        found.append([(image.tobytes(), int(n)) for image, n in zip(raw, labels, strict=True)])
    return found


def pairs(images, labels):
    return sorted((image.tobytes(), int(n)) for image, n in zip(images, labels, strict=True))


def three():
    """Parts of 30, 20 and 10."""
    cuts = slice(0, 30), slice(30, 50), slice(50, 60)
    return [(IMAGES[cut], LABELS[cut]) for cut in cuts]


def test_arrays_come_back():
    data = datasets.from_arrays(*three(), class_names=["a", "b", "c"])
    assert data.class_names == ("a", "b", "c") and data.input_shape == (6, 5, 3)
    for found, (images, labels) in zip(whole(data), three(), strict=True):
        assert sorted(found) == pairs(images, labels)
    np.testing.assert_allclose(data.mean, IMAGES[:30].mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.std, IMAGES[:30].std((0, 1, 2)), rtol=1e-6)


def test_what_is_missing_is_held_out():
    pytest.importorskip("sklearn")
    data = datasets.from_arrays((IMAGES, LABELS[:, None]))
    assert (data.train_examples, data.validation_examples, data.test_examples) == (15, 15, 30)
    assert sorted(sum(whole(data), [])) == pairs(IMAGES, LABELS)
    again = datasets.from_arrays((IMAGES, LABELS))
    assert whole(again) == whole(data) and again.fingerprint == data.fingerprint


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_keep_their_units_and_are_normalised(kind):
    """A mean that is large beside the deviation costs sums of squares their digits."""
    images = (IMAGES[..., 0] / 255 + 100).astype(kind)
    parts = [(images[:30], LABELS[:30]), (images[30:50], LABELS[30:50]), (images[50:], LABELS[50:])]
    data = datasets.from_arrays(*parts)
    assert data.input_shape == (6, 5, 1)
    exact = images[:30].astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(data.std, [exact.std()], rtol=1e-6)
    found, _ = collect(data.train(30, seed=0, augment=False))
    assert abs(found.mean()) < 1e-3 and abs(found.std() - 1) < 1e-3
    found, _ = collect(data.test(10))
    expected = (images[50:].astype(np.float32)[..., None] - data.mean) / data.std
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sums_of_several_batches_equal_numpy():
    batches = [RANDOM.normal(1e4, 1, (n, 3, 3, 2)).astype(np.float32) for n in (1, 700, 40)]
    mean, std = sources._statistics(iter(batches))
    every = np.concatenate(batches).astype(np.float64)
    np.testing.assert_allclose(mean, every.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, every.std((0, 1, 2)), rtol=1e-6)


def test_arrays_are_resized():
    data = datasets.from_arrays(*three(), image_size=3)
    expected = tf.image.resize(IMAGES[50:], (3, 3), antialias=True).numpy()
    expected = np.clip(np.rint(expected), 0, 255).astype(np.uint8)
    assert whole(data)[2] == [(i.tobytes(), n) for i, n in zip(expected, LABELS[50:], strict=True)]


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_an_npz_file_of_keras(tmp_path):
    keys = {}
    for part, (images, labels) in zip(("train", "validation", "test"), three(), strict=True):
        keys |= {f"x_{part}": images, f"y_{part}": labels[:, None]}
    data = datasets.load(npz(tmp_path / "a.npz", **keys, class_names=np.array(["a", "b", "c"])))
    same = datasets.from_arrays(*three(), class_names=["a", "b", "c"])
    assert whole(data) == whole(same) and data.fingerprint == same.fingerprint
    assert data.class_names == ("a", "b", "c")


def test_an_npz_file_of_images_and_labels(tmp_path):
    pytest.importorskip("sklearn")
    data = datasets.load(
        str(npz(tmp_path / "a.npz", images=IMAGES, labels=LABELS)), train_examples=9
    )
    assert data.train_examples == 9 and data.class_names == ("0", "1", "2")


class Poison:
    """Writes a file where somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_an_npz_file_runs_nothing(tmp_path):
    marker = tmp_path / "marker"
    objects = np.array([Poison(marker)] * 60, dtype=object)
    path = npz(tmp_path / "a.npz", x_train=objects, y_train=LABELS)
    with pytest.raises(ValueError, match="x_train holds Python objects, which only pickle reads"):
        datasets.load(path)
    assert not marker.exists()
    with np.load(path, allow_pickle=True) as file:  # what the refusal is for
        file["x_train"][0].close()
    assert marker.exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"text", "array"])
def test_what_is_no_npz_file(content, tmp_path):
    if content == "array":
        file = io.BytesIO()
        np.save(file, IMAGES)
        content = file.getvalue()
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="a.npz can't be read as an .npz file"):
        datasets.load(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match="no file .*b.npz"):
        datasets.load(tmp_path / "b.npz")


FLOATS = IMAGES.astype(np.float32)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_train": IMAGES}, "holds x_train, and lacks y_train"),
        ({"images": IMAGES}, "lacks x_train, y_train"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "lacks y_test"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_val": IMAGES, "y_val": LABELS},
            "of these x_val, y_val would not be read. Needed .* x_validation, y_validation",
        ),
        ({"x_train": IMAGES.astype(int), "y_train": LABELS}, "int64; images are uint8 or floats"),
        ({"x_train": IMAGES[0], "y_train": LABELS[:6]}, None),
        ({"x_train": IMAGES[:, 0, 0], "y_train": LABELS}, r"has the shape \(60, 3\)"),
        ({"x_train": IMAGES.transpose(0, 3, 1, 2), "y_train": LABELS}, "channels first"),
        ({"x_train": np.where(FLOATS == 7, np.nan, FLOATS), "y_train": LABELS}, "not finite"),
        ({"x_train": IMAGES, "y_train": LABELS[:50]}, "has 60 images and .* 50 labels"),
        ({"x_train": IMAGES[:0], "y_train": LABELS[:0]}, "holds no image"),
        ({"x_train": IMAGES, "y_train": LABELS.astype(float)}, "float64; labels are integers"),
        ({"x_train": IMAGES, "y_train": np.eye(3)[LABELS]}, r"One-hot rows: labels.argmax"),
        ({"x_train": IMAGES, "y_train": LABELS - 1}, "goes from -1 to 1"),
        ({"x_train": IMAGES, "y_train": LABELS + 1}, "no training image has the label 0"),
        ({"x_train": IMAGES, "y_train": LABELS * 0}, "at least two classes"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "class_names": np.array(["a", "b"])},
            "there is a label 2; 2 classes have labels 0 to 1",
        ),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": FLOATS, "y_test": LABELS},
            "the test images are float32",
        ),
    ],
)
def test_arrays_that_are_refused(arrays, words, tmp_path):
    path = npz(tmp_path / "a.npz", **arrays)
    if words is None:  # an image of 3 dimensions reads as 6 grey ones of 5 by 3
        pytest.importorskip("sklearn")
        assert datasets.load(path).input_shape == (5, 3, 1)
        return
    with pytest.raises((TypeError, ValueError), match=words):
        datasets.load(path)


def test_pairs_are_asked_for():
    with pytest.raises(TypeError, match="`train` must be a pair"):
        datasets.from_arrays(IMAGES)
    with pytest.raises(ValueError, match="num_classes is 4, but there are 2 names"):
        datasets.from_arrays((IMAGES, LABELS), num_classes=4, class_names=["a", "b"])
    assert datasets.from_arrays(*three(), num_classes=7).num_classes == 7


# tf.data ------------------------------------------------------------------------------------------


def as_dataset(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels))


def test_a_dataset_is_the_same_set_in_whatever_order_and_batches():
    parts = [as_dataset(*pair) for pair in three()]
    data = datasets.from_datasets(*parts)
    for found, (images, labels) in zip(whole(data), three(), strict=True):
        assert sorted(found) == pairs(images, labels)
    mixed = [part.shuffle(30).batch(7) for part in parts]
    other = datasets.from_datasets(*mixed)
    assert other.fingerprint == data.fingerprint and whole(other) == whole(data)
    fewer = datasets.from_datasets(parts[0].skip(1), *parts[1:])
    assert fewer.fingerprint != data.fingerprint


def test_what_keras_reads_from_a_folder(tmp_path):
    pytest.importorskip("sklearn")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            image = RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            (tmp_path / name / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
    read = keras.utils.image_dataset_from_directory(tmp_path, image_size=(8, 8), batch_size=3)
    data = datasets.from_datasets(read)
    assert data.class_names == ("cat", "dog") and data.input_shape == (8, 8, 3)
    assert data.train_examples + data.validation_examples + data.test_examples == 20


def test_grey_columns_and_sizes():
    parts = [as_dataset(images[..., 0], labels[:, None]).batch(4) for images, labels in three()]
    assert datasets.from_datasets(*parts, image_size=4).input_shape == (4, 4, 1)


def test_a_dataset_too_large_for_memory_is_streamed(monkeypatch):
    monkeypatch.setattr(sources, "MEMORY_LIMIT", 100)
    monkeypatch.setattr(given, "WINDOW_BYTES", 8 * IMAGES[0].nbytes)
    parts = [as_dataset(*pair) for pair in three()]
    data = datasets.from_datasets(*parts)
    assert type(data._source) is given.Streamed
    for found, (images, labels) in zip(whole(data), three(), strict=True):
        assert sorted(found) == pairs(images, labels)
    np.testing.assert_allclose(data.mean, IMAGES[:30].mean((0, 1, 2)), rtol=1e-6)
    every, _ = collect(data.train(10, seed=5, epochs=3))
    last, _ = collect(data.train(10, seed=5, first_epoch=2, epochs=3))
    np.testing.assert_array_equal(every[60:], last)
    assert not np.array_equal(every[:30], every[30:60])
    with pytest.raises(ValueError, match="Pass validation= and test= too"):
        datasets.from_datasets(parts[0])
    with pytest.raises(ValueError, match="another order each time.*shuffle=False"):
        datasets.from_datasets(parts[0].shuffle(30), *parts[1:])
    with pytest.raises(ValueError, match="`validation` comes in another order each time"):
        datasets.from_datasets(parts[0], parts[1].shuffle(30), parts[2])


SIZES = tf.data.Dataset.from_generator(
    lambda: ((np.zeros((4 + i, 4, 3), np.uint8), i % 2) for i in range(4)),
    output_signature=(tf.TensorSpec((None, 4, 3), tf.uint8), tf.TensorSpec((), tf.int32)),
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (IMAGES, "must be a tf.data.Dataset"),
        (tf.data.Dataset.from_tensor_slices(IMAGES), r"must give pairs \(image, label\)"),
        (as_dataset(IMAGES, LABELS).repeat(), "never ends"),
        (as_dataset(IMAGES, np.eye(3)[LABELS]), "labels of type float64"),
        (as_dataset(IMAGES, np.eye(3, dtype=int)[LABELS]).batch(5), "labels of shape"),
        (as_dataset(IMAGES, np.eye(3, dtype=int)[LABELS]), "one-hot labels"),
        (as_dataset(IMAGES, np.eye(6, dtype=int)[LABELS]), "one-hot labels"),  # of 6 rows too
        (as_dataset(IMAGES[:2], LABELS[:2]), "too few images: 1 is left .* Give at least one"),
        (as_dataset(IMAGES.astype(int), LABELS), "images of type int64"),
        (as_dataset(IMAGES[:, 0, 0], LABELS), "images of shape"),
        (as_dataset(IMAGES, LABELS).take(0), "holds no image"),
        (as_dataset(IMAGES, LABELS - 1), "goes from -1 to 1"),
        (SIZES, "differ in size.*image_size="),
    ],
)
def test_datasets_that_are_refused(data, words):
    with pytest.raises((TypeError, ValueError), match=words):
        datasets.from_datasets(data)
