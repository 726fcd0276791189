"""Packed weights: exact, as small as they say, and refused where they don't fit."""

import json
import zipfile

import numpy as np
import pytest

from larq_filter import FilterOptimizer, binary, models, to_latent_free
from larq_filter._keras import keras

SHAPE = {"input_shape": (8, 8, 3), "num_classes": 4, "width": 4}


def build(**changes):
    return models.build("birealnet20", **{**SHAPE, **changes})


@pytest.fixture(scope="module")
def trained():
    """A latent-free network after a few steps, so that no variable is as it was drawn."""
    keras.utils.set_random_seed(0)
    model = to_latent_free(build())
    model.compile(FilterOptimizer(), "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    model.fit(random.normal(size=(32, 8, 8, 3)), random.integers(4, size=32), verbose=0)
    return model


@pytest.fixture
def file(trained, tmp_path):
    path = tmp_path / "net.npz"
    path.write_bytes(models.pack(trained, {"accuracy": 0.5, "classes": ["a", "b"]}))
    return path


def test_a_network_comes_back_as_it_was(trained, file):
    model = build(weights=file)
    for found, kept in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(found, kept)
    assert all(binary.holds_signs(kernel) for _, kernel in binary.binary_kernels(model))
    images = np.random.default_rng(1).normal(size=(5, 8, 8, 3))
    np.testing.assert_array_equal(model.predict(images), trained.predict(images))


def test_what_was_said_comes_back(file):
    assert models.unpack(file).about == {"accuracy": 0.5, "classes": ["a", "b"]}


def test_a_binary_weight_takes_a_bit(trained, file):
    kernels = [binary.latent(kernel).numpy() for _, kernel in binary.binary_kernels(trained)]
    signs = sum(kernel.size for kernel in kernels)
    others = trained.count_params() - signs
    with zipfile.ZipFile(file) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    assert sizes["bits.npy"] + sizes["numbers.npy"] <= signs / 8 + 4 * others + 2 * 128
    # By hand: the first kernel's bits are the first ones, +1 is 1, the highest bit first.
    bits = np.load(file)["bits"]
    first = (kernels[0].ravel()[:8] > 0) @ 2 ** np.arange(7, -1, -1)
    assert bits[0] == first


def test_latent_weights_are_kept_exactly(tmp_path):
    model = build()
    path = tmp_path / "latent.npz"
    path.write_bytes(models.pack(model))
    for found, kept in zip(models.unpack(path).weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, kept)


def test_the_same_network_gives_the_same_bytes(trained):
    assert models.pack(trained) == models.pack(trained)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 8}, r"this birealnet20: \S+ is \(3, 3, 3, 4\), not .*8\)\. Build"),
        ({"num_classes": 5}, r"is \(16, 4\), not \(16, 5\)"),
        ({"input_shape": (8, 8, 1)}, r"is \(3, 3, 3, 4\), not \(3, 3, 1, 4\)"),
    ],
)
def test_weights_of_another_network_are_refused(file, changes, message):
    with pytest.raises(ValueError, match=message):
        build(weights=file, **changes)


def test_a_network_with_more_layers_is_refused(file):
    with pytest.raises(ValueError, match="this mlp"):
        models.build("mlp", input_shape=(8, 8, 3), num_classes=4, weights=file)


def cut(content):
    return content[: len(content) // 2]


def no_archive(content):
    return b"\x89HDF and so on"


@pytest.mark.parametrize("damage", [cut, no_archive, lambda content: b""])
def test_a_damaged_file_is_refused(file, damage):
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=f"{file.name} is no file of packed weights, or damaged"):
        build(weights=file)


def with_header(file, change):
    arrays = dict(np.load(file))
    header = json.loads(arrays["header"].tobytes())
    change(header)
    np.savez(file, **arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(format=2), "its format is 2, this version reads 1"),
        (lambda header: header.pop("about"), "it lacks 'about'"),
        (lambda header: header["weights"].pop(), "don't fill its shapes"),
        (lambda header: header["weights"][0].update(shape=[-3, -3, 3, 4]), "damaged"),
        (lambda header: header["weights"][0].update(shape=[10**12]), "don't fill its shapes"),
        (lambda header: header["weights"][0].update(shape="x"), "damaged"),
        (lambda header: header.update(weights=3), "damaged"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(file, change, message):
    with_header(file, change)
    with pytest.raises(ValueError, match=message):
        models.unpack(file)


def test_another_archive_is_refused(file):
    np.savez(file, x=np.zeros(3))
    with pytest.raises(ValueError, match=r"damaged \(it lacks"):
        models.unpack(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.npz"):
        build(weights=tmp_path / "no.npz")


def test_numbers_that_are_not_finite_are_refused(trained):
    model = keras.models.clone_model(trained)
    model.layers[-2].bias.assign([0, np.nan, 0, 0])
    with pytest.raises(ValueError, match="bias.* not finite"):
        models.pack(model)


def test_other_types_are_refused():
    model = keras.Sequential([keras.layers.Dense(2, dtype="float16", input_shape=(3,))])
    with pytest.raises(ValueError, match="float16; weights are packed from float32"):
        models.pack(model)
    with pytest.raises(TypeError, match="`model` must be a tf.keras.Model, not 'x'"):
        models.pack("x")


@pytest.mark.parametrize("about", [[1, 2], "text", {1: 2}])
def test_what_is_said_has_names(trained, about):
    with pytest.raises(TypeError, match="`about` must be a dict whose keys are texts"):
        models.pack(trained, about)
