"""The program that makes the files of a network to ship, on a small network of digits."""

import json
import subprocess
import sys

import numpy as np
import pytest

from larq_filter import datasets, export, models
from larq_filter.experiments import run_folder, training
from larq_filter.experiments.methods import Knobs
from paths import ROOT

sys.path.append(str(ROOT / "paper"))
import cifar10_ship  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.extras]
NAME = cifar10_ship.NAME


@pytest.fixture(scope="module")
def data():
    return datasets.load("digits", image_size=16)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained model, and the file that its run would have."""
    folder = tmp_path_factory.mktemp("run")
    config = run_folder.Config(
        dataset="digits", image_size=16, model="birealnet20", width=4, epochs=3, batch_size=64,
        method="filter", knobs=Knobs(alpha=0.03),
    )  # fmt: skip
    result = training.run(config, folder, verbose=0)
    saved = json.loads((folder / "config.json").read_text())
    file = {
        "name": "long/filter", "commit": "abc", "config": saved["config"],
        "result": json.loads((folder / "result.json").read_text()),
    }  # fmt: skip
    return training.serialization.load_model(folder / "model.keras"), file, result


@pytest.fixture(scope="module")
def shipped(run, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    return folder, cifar10_ship.ship(run[0], run[1], data, folder)


def all_of(images):
    return (np.concatenate(part) for part in zip(*images.as_numpy_iterator(), strict=True))


def test_the_files_are_those_of_the_run_and_count_what_they_say(run, data, shipped):
    model, _, result = run
    folder, card = shipped
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{NAME}.{end}" for end in ("images.json", "npz", "tflite")
    ]
    images, labels = all_of(data.test(100))
    network = models.load(folder / f"{NAME}.npz")
    expected = np.mean(model.predict(images, verbose=0).argmax(1) == labels)
    assert np.mean(network.predict(images, verbose=0).argmax(1) == labels) == expected
    engine = export.Interpreter((folder / f"{NAME}.tflite").read_bytes())
    in_lce = np.mean(engine.predict(images)[0].argmax(1) == labels)
    assert expected > 0.3  # of ten classes: it has learned
    assert card["accuracy"] == {
        "validation": pytest.approx(result.accuracy, abs=1e-4),
        "test": pytest.approx(result.test_accuracy, abs=1e-4),
        "test, these files in Keras": pytest.approx(expected, abs=1e-4),
        "test, these files in LCE": pytest.approx(in_lce, abs=1e-4),
    }


def test_the_card_travels_with_the_weights(data, shipped):
    folder, card = shipped
    about = models.unpack(folder / f"{NAME}.npz").about
    assert about == json.loads(json.dumps(card))
    assert about["recipe"] == {
        "run": "long/filter", "method": "filter", "knobs": {"alpha": 0.03}, "batch_size": 64,
        "epochs": 3, "seed": 0, "commit": "abc",
    }  # fmt: skip
    np.testing.assert_allclose(about["images"]["mean"], data.mean, rtol=1e-6)
    assert about["examples"] == {"training": 1137, "validation": 300, "test": 360}


def test_of_a_network_that_has_seen_the_validation_images_none_is_counted(run, data, tmp_path):
    content = {**run[1], "start": "long/filter.npz"}
    card = cifar10_ship.ship(run[0], content, data, tmp_path, validated=False)
    assert card["recipe"]["start"] == "long/filter.npz"
    assert card["examples"] == {"training": 1137, "validation": 0, "test": 360}
    assert "validation" not in card["accuracy"]


def test_what_is_not_proven_is_not_written(run, data, tmp_path, monkeypatch):
    true = cifar10_ship.export.convert

    def other_weights(model):
        """The export of a network with one layer turned over."""
        kernel = next(layer for layer in model.layers if layer.name == "quant_conv2d").kernel
        kernel.assign(-kernel)
        flatbuffer = true(model)
        kernel.assign(-kernel)
        return flatbuffer

    monkeypatch.setattr(cifar10_ship.export, "convert", other_weights)
    with pytest.raises(ValueError, match="Not every claim of the export holds"):
        cifar10_ship.ship(run[0], run[1], data, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_run_that_is_not_finished_is_named(tmp_path):
    command = [sys.executable, "paper/cifar10_ship.py", "--job=carry/filter-0", "--data_dir=x"]
    command += [f"--output_dir={tmp_path}", f"--target={tmp_path}/target"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    path = tmp_path / "carry" / "filter-0" / "model.keras"
    assert f"carry/filter-0 is not finished here: there is no {path}." in done.stderr
    assert not (tmp_path / "target").exists()
