"""The networks that come with the package: binary, small, of one mind, and built by name."""

import hashlib
import json
import zipfile

import numpy as np
import pytest

from larq_filter import binary, datasets, export, models
from larq_filter.datasets import preparation

NAME = "birealnet20-cifar10"


def as_json(prepare):
    return json.loads(json.dumps(prepare.to_json()))


@pytest.fixture(scope="module")
def network():
    return models.build("birealnet20", weights="cifar10")


def test_the_network_is_binary_and_small(network):
    kernels = [kernel for _, kernel in binary.binary_kernels(network, trainable_only=False)]
    assert len(kernels) == 18 and all(binary.holds_signs(kernel) for kernel in kernels)
    signs = sum(np.prod(kernel.shape) for kernel in kernels)
    assert models.pretrained_file(NAME).stat().st_size < 300_000
    with zipfile.ZipFile(models.pretrained_file(NAME)) as archive:
        assert archive.getinfo("bits.npy").file_size < signs / 8 + 200


def test_the_card_says_which_run_it_is_and_how_good():
    about = models.model_card(NAME)
    found = about["accuracy"]
    assert found["test, these files in Keras"] == found["test"] > 0.82
    assert abs(found["test, these files in LCE"] - found["test"]) < 2e-3
    assert about["examples"] == {"training": 50000, "validation": 0, "test": 10000}
    assert about["recipe"]["commit"] and about["recipe"]["seed"] == 0


def test_images_are_prepared_as_the_files_beside_say():
    about = models.model_card(NAME)
    prepare = datasets.Preparation.from_json(about["images"])
    beside = preparation.read(preparation.beside(models.pretrained_file(NAME)))
    assert as_json(beside) == as_json(prepare) == about["images"]
    # By other sources: means and deviations of CIFAR-10's training pixels, to within a unit of 255.
    np.testing.assert_allclose(prepare.mean, [125.3, 123.0, 113.9], atol=2)
    np.testing.assert_allclose(prepare.std, [63.0, 62.1, 66.7], atol=1)
    assert prepare.class_names[3] == "cat" and prepare.input_shape == (32, 32, 3)


@pytest.mark.extras
def test_the_export_computes_what_the_network_computes(network):
    content = models.pretrained_file(NAME, ".tflite").read_bytes()
    said = models.model_card(NAME)["export"]
    assert (len(content), hashlib.sha256(content).hexdigest()) == (said["bytes"], said["sha256"])
    # Not seed 0: an activation of its images is a near-tie, to which rounding gives either sign.
    patches = np.random.default_rng(1).normal(size=(16, 4, 4, 3)).astype(np.float32)
    images = patches.repeat(8, axis=1).repeat(8, axis=2)
    found = export.Interpreter(content).predict(images)[0]
    expected = network.predict(images, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(set(expected.argmax(axis=1))) > 3, "of few classes: little could differ"


def test_shapes_may_be_given_and_must_fit(network):
    same = models.build("birealnet20", input_shape=(32, 32, 3), num_classes=10, weights="cifar10")
    for found, kept in zip(same.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(found, kept)
    for given in ({"input_shape": (64, 64, 3)}, {"num_classes": 4}):
        ((key, value),) = given.items()
        with pytest.raises(ValueError, match=rf"^{key}=.* does not fit weights='cifar10', trained"):
            models.build("birealnet20", weights="cifar10", **given)
    with pytest.raises(ValueError, match=r"Build the model that was packed, with all arguments"):
        models.build("birealnet20", weights="cifar10", width=8)
    with pytest.raises(TypeError, match="`num_classes` .* '10'"):
        models.build("birealnet20", weights="cifar10", num_classes="10")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("birealnet20", "cifar100", "no file 'cifar100'.*birealnet20 comes .* weights='cifar10'"),
        ("birealnet20", "", "there is no file ''"),
        ("starter", "cifar10", "no file 'cifar10'.*trained: starter is not among them"),
    ],
)
def test_other_weights_are_named(name, weights, message):
    with pytest.raises(FileNotFoundError, match=message):
        models.build(name, weights=weights)
    with pytest.raises(TypeError, match=r"`weights` must be a text or a path, or None, not \[3\]"):
        models.build(name, weights=[3])


def test_a_model_that_is_not_trained_needs_its_shapes():
    with pytest.raises(TypeError, match="can't be built without input_shape and num_classes: give"):
        models.build("birealnet20")
    with pytest.raises(TypeError, match="mlp can't be built without num_classes"):
        models.build("mlp", input_shape=(8, 8, 1))


def test_another_name_or_file_is_refused():
    with pytest.raises(ValueError, match=f"`name` is 'birealnet20'; .* one of {NAME}"):
        models.model_card("birealnet20")
    with pytest.raises(ValueError, match="`suffix` is '.keras'; it must be one of .npz, .tflite, "):
        models.pretrained_file(NAME, ".keras")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mlp", {"input_shape": (8, 8, 1), "num_classes": 4, "width": 16, "depth": 2}),
        # Of 34 x 34 images both paddings give weights of the same shapes.
        ("binarynet", {"input_shape": (34, 34, 3), "width": 4, "first_padding": "same"}),
    ],
)
def test_a_packed_file_builds_what_its_card_names(tmp_path, name, arguments):
    arguments = {"num_classes": 4, **arguments}
    model = models.build(name, **arguments)
    path = tmp_path / "net.npz"
    path.write_bytes(models.pack(model, {"network": name, "note": "other", **arguments}))
    images = np.random.default_rng(0).normal(size=(5, *arguments["input_shape"]))
    expected = model.predict(images, verbose=0)
    for same in (models.load(path), models.build(name, weights=path)):
        np.testing.assert_array_equal(same.predict(images, verbose=0), expected)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"network": "mlp"}, "net.npz does not say input_shape and num_classes of its network"),
        (
            {"network": ["mlp"], "input_shape": (8, 8, 1), "num_classes": 4},
            r"of the network \['mlp'\], which is none",
        ),
        ({}, "net.npz does not say network and input_shape and num_classes"),
        ({"network": "QuickNet"}, "of the network 'QuickNet', which is none of this package"),
    ],
)
def test_a_packed_file_that_does_not_say_what_it_is_is_refused(tmp_path, about, message):
    shapes = {"input_shape": (8, 8, 1), "num_classes": 4}
    model = models.build("mlp", **shapes, width=16)
    about = about | (shapes if about.get("network") == "QuickNet" else {})
    (tmp_path / "net.npz").write_bytes(models.pack(model, about))
    with pytest.raises(ValueError, match=message):
        models.load(tmp_path / "net.npz")


def test_a_preparation_comes_back_from_json():
    about = models.model_card(NAME)["images"]
    for content, message in (
        ({key: about[key] for key in about if key != "std"}, "has input_shape, .* there is no std"),
        (models.model_card(NAME), "there is no class_names"),
        (None, "there is no input_shape"),
        (about | {"std": [1, 1, 0]}, "the values don't fit together"),
        (about | {"pixels": "float64"}, "pixels are uint8 or float32, not 'float64'"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.Preparation.from_json(content)
    with pytest.raises(ValueError, match=r"images holds one image; .*: images\[None\]"):
        datasets.Preparation.from_json(about).images(np.zeros((32, 32, 3), np.uint8))
