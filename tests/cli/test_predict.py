"""Classes by command are those of ``model.predict`` on the images as the training made them."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from larq_filter import datasets, export, models
from larq_filter._keras import keras, tf
from larq_filter.datasets import folders, preparation
from larq_filter.experiments import prediction, training
from larq_filter.serialization import load_model
from paths import ROOT

import larq


def build(input_shape, num_classes):
    binary = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    return keras.Sequential(
        [
            keras.layers.Conv2D(32, 3, input_shape=input_shape),
            keras.layers.BatchNormalization(momentum=0.5),
            larq.layers.QuantConv2D(
                32, 3, padding="same", pad_values=1, input_quantizer="ste_sign", **binary
            ),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(num_classes, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a folder of images of many sizes, grey and coloured, and what its data are."""
    place = tmp_path_factory.mktemp("predict")
    random = np.random.default_rng(0)
    for i in range(60):
        size = random.integers(7, 30, 2)
        image = random.integers(0, 120, (*size, 3 if i % 4 else 1), dtype=np.uint8)
        image += np.uint8(i % 3 * 60)  # the class
        folder = place / "pets" / ("cat", "dog", "eel")[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        write = tf.io.encode_png if i % 2 else tf.io.encode_jpeg
        (folder / f"{i}.{'png' if i % 2 else 'jpg'}").write_bytes(write(image).numpy())
    config = training.Config(
        dataset=str(place / "pets"), image_size=9, batch_size=8, epochs=2, seed=1, method="adam"
    )
    training.run(config, place / "run", model=build, verbose=0)
    return place, datasets.load(config.dataset, image_size=9)


def validation_files(data):
    listing = folders.read(data.name)
    return [str(listing.root / path) for path in listing.parts["validation"][0]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", pytest.param("tflite", marks=pytest.mark.extras)])
def test_files_are_prepared_as_the_training_had_them(trained, kind):
    place, data = trained
    model = load_model(place / "run" / "model.keras")
    expected = model.predict(data.validation(64), verbose=0)
    if kind == "tflite":
        (place / "run" / "model.tflite").write_bytes(export.convert(model))
    network = prediction.load(place / "run" / f"model.{kind}")
    files = validation_files(data)
    names, images = zip(*prediction.images_of(files, network.prepare), strict=True)
    assert list(names) == files and network.prepare.class_names == ("cat", "dog", "eel")
    found = network.probabilities(np.stack(images))
    np.testing.assert_allclose(found, expected, atol=0 if kind == "keras" else 1e-5)
    assert len(set(expected.argmax(axis=1))) > 1, "all of one class: nothing could differ"


@pytest.mark.slow
def test_the_command_and_what_it_cannot_read(trained, tmp_path):
    place, data = trained
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = validation_files(data)[:3]
    raw = np.stack([data.preparation().image(file) for file in files])
    np.savez(tmp_path / "some.npz", x_test=raw)
    np.savez(tmp_path / "large.npz", x=np.zeros((2, 10, 10, 3), np.uint8))
    command = [sys.executable, "-m", "larq_filter_cli", "predict"]
    places = ["broken.png", *files, f"--run={place / 'run'}", "some.npz", "large.npz", "no.png"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [*command, *places], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 1, ended.stderr
    assert [line.split(":")[1].strip() for line in ended.stderr.splitlines()] == [
        "broken.png",
        "large.npz",
        "no.png",
    ]
    contradicted = subprocess.run(
        [*command, f"--run={place / 'run'}", "--std=255", *files],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert contradicted.returncode == 1 and contradicted.stdout == ""
    assert contradicted.stderr.startswith("error: model.images.json beside the model says that its")
    expected = load_model(place / "run" / "model.keras").predict(data.preparation()(raw), verbose=0)
    head, *lines = ended.stdout.splitlines()
    assert head.split() == ["file", "class", "probability", "top", "3"] and len(lines) == 6
    for number, line in enumerate(lines):
        name, label, probability, top = re.split(r"  +", line)
        row = expected[number % 3]
        order = np.argsort(-row)
        assert name == (files[number] if number < 3 else f"some.npz:x_test[{number - 3}]")
        assert label == data.class_names[order[0]]
        assert float(probability) == pytest.approx(row[order[0]], abs=6e-4)
        assert re.findall(r"[a-z]+", top) == [data.class_names[i] for i in order]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", pytest.param(".tflite", marks=pytest.mark.extras)])
def test_a_network_that_comes_with_the_package(tmp_path, end):
    image = np.random.default_rng(1).integers(0, 255, (4, 4, 3), np.uint8)
    image = image.repeat(8, axis=0).repeat(8, axis=1)
    (tmp_path / "one.png").write_bytes(tf.io.encode_png(image).numpy())
    command = [sys.executable, "-m", "larq_filter_cli", "predict", "one.png"]
    command.append(f"--pretrained=birealnet20-cifar10{end}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def predict(*flags):
        return subprocess.run(
            [*command, *flags], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    about = models.model_card("birealnet20-cifar10")
    prepare = datasets.Preparation.from_json(about["images"])
    network = models.build("birealnet20", weights="cifar10")
    (expected,) = network.predict(prepare(image[None]), verbose=0)
    done = predict()
    assert done.returncode == 0, done.stderr
    name, label, probability, _ = re.split(r"  +", done.stdout.splitlines()[1])
    assert (name, label) == ("one.png", prepare.class_names[expected.argmax()])
    assert float(probability) == pytest.approx(expected.max(), abs=6e-4)
    if not end:
        refused = predict("--std=255", "--image_size=9", "--model=mine:net").stderr
        assert "its images: leave out --image_size, --std, --model." in refused
        assert "--pretrained=..., and only one of them" in predict("--run=elsewhere").stderr


def test_what_a_network_is_not_made_for(tmp_path):
    grey = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
    labels = [0, 1, 0, 1, 0]
    floats = datasets.from_arrays(*[(grey / 80, labels)] * 3)
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy())
    with pytest.raises(ValueError, match="units that no image file has"):
        floats.preparation().image(tmp_path / "a.png")
    whole = datasets.from_arrays(*[(grey, labels)] * 3)
    with pytest.raises(ValueError, match="it has 3 channels, the network takes 1"):
        whole.preparation().image(tmp_path / "a.png")
    model = tmp_path / "model.keras"
    with pytest.raises(FileNotFoundError, match="there is no file .*model.keras"):
        prediction.load(model)
    model.touch()
    with pytest.raises(ValueError, match="model.keras can't be read as a Keras model"):
        prediction.load(model)
    build((4, 4, 1), 2).save(model)
    with pytest.raises(FileNotFoundError, match="model.images.json.*--dataset"):
        prediction.load(model)
    endless = json.dumps(whole.preparation().to_json() | {"input_shape": [4, 4, float("inf")]})
    for content in ("{", "[]", "5", '{"input_shape": [4, 4, 1]}', endless):
        preparation.beside(model).write_text(content)
        with pytest.raises(ValueError, match="model.images.json is damaged"):
            prediction.load(model)
    preparation.beside(model).write_text(json.dumps(whole.preparation().to_json()))
    build((8, 8, 1), 2).save(model)  # another one since
    with pytest.raises(ValueError, match=r"images of shape \(4, 4, 1\): .*expected shape"):
        prediction.load(model).probabilities(grey[:1, ..., None])
    with pytest.raises(ValueError, match="must end in .keras, .tflite, .npz"):
        prediction.load(pathlib.Path("model.h5"))
    np.save(tmp_path / "array.npy", grey)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    ((_, error),) = prediction.images_of([str(tmp_path / "array.npz")], whole.preparation())
    assert "one array without a name" in str(error)


def test_a_folder_says_which_files_are_not_classified(tmp_path, said):
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    for name in ("b.png", "a/z.PNG", "a/.hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(tf.io.encode_png(image).numpy())
    for name in ("c.webp", "a/d.webp", "a/e.TIF"):
        (tmp_path / name).write_bytes(b"RIFF")
    prepare = datasets.from_arrays(*[(image[None].repeat(2, 0), [0, 1])] * 3).preparation()
    found = dict(prediction.images_of([str(tmp_path)], prepare))
    assert list(found) == [str(tmp_path / "a" / "z.PNG"), str(tmp_path / "b.png")]
    for read in found.values():
        np.testing.assert_array_equal(read, image)
    assert [line for line in said if line.endswith("passed over: .tif (1), .webp (2)")]
    (tmp_path / "b.png").unlink()
    (tmp_path / "a" / "z.PNG").unlink()
    ((name, error),) = prediction.images_of([str(tmp_path)], prepare)
    assert name == str(tmp_path) and "holds no image: .bmp" in str(error)


@pytest.mark.extras
def test_a_file_that_is_no_tflite_is_named_before_what_should_lie_beside_it(tmp_path):
    model = tmp_path / "model.tflite"
    model.write_bytes(b"another file")
    with pytest.raises(
        ValueError, match=r"model.tflite: `flatbuffer` \(12 bytes\) is not the whole"
    ):
        prediction.load(model)
