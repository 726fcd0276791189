"""The networks that come with the package: what the card says is what the files are."""

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


def test_the_card_says_what_was_reached():
    about = models.model_card(NAME)
    found = about["accuracy"]
    assert found["test, these files in Keras"] == found["test"] > 0.77
    assert abs(found["test, these files in LCE"] - found["test"]) < 2e-3
    assert about["examples"] == {"training": 45000, "validation": 5000, "test": 10000}
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
    patches = np.random.default_rng(0).normal(size=(16, 4, 4, 3)).astype(np.float32)
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
    with pytest.raises(ValueError, match=r"Build the model that was packed: .* width"):
        models.build("birealnet20", weights="cifar10", width=8)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("birealnet20", "cifar100", "no file cifar100, and birealnet20 comes .* weights='cifar10'"),
        ("starter", "cifar10", "no file cifar10, and starter comes trained with weights=None"),
    ],
)
def test_other_weights_are_named(name, weights, message):
    with pytest.raises(FileNotFoundError, match=message):
        models.build(name, weights=weights)


def test_a_model_that_is_not_trained_needs_its_shapes():
    with pytest.raises(TypeError, match="input_shape and num_classes of a model that is not tr"):
        models.build("birealnet20")
    with pytest.raises(TypeError, match="needs num_classes of"):
        models.build("mlp", input_shape=(8, 8, 1))


def test_another_name_or_file_is_refused():
    with pytest.raises(ValueError, match=f"`name` is 'birealnet20'; .* one of {NAME}"):
        models.model_card("birealnet20")
    with pytest.raises(ValueError, match="`suffix` is '.keras'; it must be one of .npz, .tflite"):
        models.pretrained_file(NAME, ".keras")


def test_a_packed_file_builds_what_its_card_names(tmp_path):
    model = models.build("mlp", input_shape=(8, 8, 1), num_classes=4, width=16)
    about = {"network": "mlp", "input_shape": (8, 8, 1), "num_classes": 4, "width": 16}
    (tmp_path / "net.npz").write_bytes(models.pack(model, about))
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 1))
    np.testing.assert_array_equal(
        models.load(tmp_path / "net.npz").predict(images, verbose=0),
        model.predict(images, verbose=0),
    )
    (tmp_path / "net.npz").write_bytes(models.pack(model, {"network": "mlp"}))
    with pytest.raises(ValueError, match="net.npz does not say input_shape and num_classes of its"):
        models.load(tmp_path / "net.npz")


def test_a_preparation_comes_back_from_json():
    about = models.model_card(NAME)["images"]
    with pytest.raises(ValueError, match="it lacks 'std'"):
        datasets.Preparation.from_json({key: about[key] for key in about if key != "std"})
    with pytest.raises(ValueError, match="the values don't fit together"):
        datasets.Preparation.from_json(about | {"std": [1, 1, 0]})
