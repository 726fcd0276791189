"""How export and predict are told how the images of a network are scaled, and which network."""

import contextlib
import json

import numpy as np
import pytest
from absl import flags

from larq_filter import datasets
from larq_filter._keras import keras
from larq_filter.cli import networks

GREY = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
LABELS = [0, 1, 0, 1, 0]


@pytest.fixture
def typed(monkeypatch):
    """Sets flags as a command line would; nothing of it stays."""

    def type_them(**values):
        own = flags.FlagValues()
        for name in ("run", "model_file"):
            flags.DEFINE_string(name, values.get(name), "", flag_values=own)
        for name in ("mean", "std"):
            flags.DEFINE_list(name, values.get(name), "", flag_values=own)
        own.mark_as_parsed()
        monkeypatch.setattr(networks, "FLAGS", own)

    return type_them


@pytest.mark.parametrize(
    ("given", "mean", "std"),
    [
        ({"std": "255"}, [0, 0, 0], [255, 255, 255]),
        ({"mean": "127.5"}, [127.5] * 3, [1, 1, 1]),
        ({"mean": "1,2,3", "std": "4,5,6"}, [1, 2, 3], [4, 5, 6]),
    ],
)
def test_images_are_scaled_as_the_flags_say(given, mean, std, typed):
    raw = np.stack([GREY] * 3, axis=-1)
    data = datasets.from_arrays(*[(raw, LABELS)] * 3)
    typed(**given)
    assert networks.is_scale_given()
    (images, _) = next(iter(networks.scaled(data).validation(5)))
    np.testing.assert_allclose(images, (raw - np.array(mean)) / np.array(std), rtol=1e-6)
    typed()
    assert networks.scaled(data) is data and not networks.is_scale_given()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"std": "0"}, "--std=0 must be above 0"),
        ({"mean": "a"}, "--mean=a: one number is needed"),
        ({"std": "1,2"}, "--std=1,2: one number is needed"),
        ({"std": "nan"}, "--std=nan: one number"),
    ],
)
def test_a_wrong_scale_is_refused(given, error, typed):
    typed(**given)
    with pytest.raises(ValueError, match=error):
        networks.scaled(datasets.from_arrays(*[(GREY, LABELS)] * 3).preparation())


def test_what_contradicts_the_file_beside_the_model_is_refused(typed, tmp_path):
    data = datasets.from_arrays(*[(GREY, LABELS)] * 3, class_names=["cat", "dog"])
    path = tmp_path / "model.images.json"
    path.write_text(json.dumps(data.preparation().to_json()))
    mean, std = float(data.mean[0]), float(data.std[0])
    for given in ({}, {"mean": f"{mean:.4g}", "std": f"{std:.4g}"}):
        typed(**given)
        found = networks.recorded(path, data)
        assert (found.mean, found.std) == (data.mean, data.std)
    typed(std="255")
    with pytest.raises(
        ValueError, match=rf"mean {mean:.4g} and std {std:.4g}; .* mean 0 and std 255"
    ):
        networks.recorded(path, data)
    with pytest.raises(ValueError, match="Leave them out"):
        networks.at_its_scale(path)
    typed()
    assert networks.at_its_scale(path).class_names == ("cat", "dog")
    for names in (["ape", "cat"], ["dog", "cat"], ["cat", "dog", "eel"]):
        other = datasets.from_arrays(*[(GREY, LABELS)] * 3, class_names=names)
        said = (
            f"2 classes cat, dog; .* {len(names)} classes {', '.join(names)}.* --dataset.*move it"
        )
        with pytest.raises(ValueError, match=said):
            networks.recorded(path, other)


def test_images_of_other_units_are_refused(typed, tmp_path):
    typed()
    data = datasets.from_arrays(*[(GREY, LABELS)] * 3)
    divided = datasets.from_arrays(*[(GREY / 255, LABELS)] * 3)
    as_floats = datasets.from_arrays(*[(GREY.astype(np.float32), LABELS)] * 3)
    path = tmp_path / "model.images.json"
    mean, std = (f"{float(each[0]):.6g}" for each in (data.mean, data.std))
    for trained_on, said in ((divided, "pixels / 255"), (as_floats, "pixels as floats")):
        path.write_text(json.dumps(trained_on.preparation().to_json()))
        words = rf"of units of their own; .*{said}, .* --mean={mean}.* --std={std}"
        with pytest.raises(ValueError, match=words):
            networks.recorded(path, data)
    path.write_text(json.dumps(data.preparation().to_json()))
    with pytest.raises(ValueError, match=r"pixels in \[0, 255\]; .* in an .npz file\.$"):
        networks.recorded(path, divided)


def test_a_training_without_names_knows_its_classes_by_number(typed, tmp_path):
    typed()
    path, names = tmp_path / "model.images.json", ["cat", "dog"]
    path.write_text(json.dumps(datasets.from_arrays(*[(GREY, LABELS)] * 3).preparation().to_json()))
    data = datasets.from_arrays(*[(GREY, LABELS)] * 3, class_names=names)
    assert networks.recorded(path, data).class_names == ("0", "1")


@pytest.mark.parametrize(("outputs", "wrong"), [(1, False), (2, False), (3, True)])
def test_data_of_another_number_of_classes_are_refused(outputs, wrong):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs)], name="net")
    data = datasets.from_arrays(*[(GREY, LABELS)] * 3)
    said = "net has 3 outputs; arrays has 2 classes, 0, 1.*--dataset"
    with pytest.raises(ValueError, match=said) if wrong else contextlib.nullcontext():
        networks.refuse_other_classes(model, data)


@pytest.mark.parametrize(
    ("takes", "said"),
    [
        ((4, 4, 1), None),
        ((None, None, 1), None),
        ((16, 16, 1), r"net takes images of \(16, 16, 1\).* are \(4, 4, 1\).*--image_size=16"),
        ((8, 16, 1), "--dataset"),
        ((4, 4, 3), r"needs colour images \(3 channels\).*--dataset"),
    ],
)
def test_data_of_another_shape_are_refused(takes, said):
    layers = [keras.Input(takes), keras.layers.GlobalMaxPool2D(), keras.layers.Dense(2)]
    model, data = keras.Sequential(layers, name="net"), datasets.from_arrays(*[(GREY, LABELS)] * 3)
    with pytest.raises(ValueError, match=said) if said else contextlib.nullcontext():
        networks.refuse_other_images(model, data)


def test_what_is_missing_of_a_run_is_said(typed, tmp_path):
    typed(run=str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="there is no folder .*nothing"):
        networks.source()
    typed(run=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no run folder"):
        networks.source()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="not finished: .* again, continues it"):
        networks.source()
    (tmp_path / "result.json").touch()
    with pytest.raises(FileNotFoundError, match="lost: .* again, makes it from the last check"):
        networks.source()
    (tmp_path / "model.keras").touch()
    assert networks.source() == tmp_path / "model.keras"
    typed(model_file=str(tmp_path / "m.tflite"))
    with pytest.raises(FileNotFoundError, match="there is no file .*m.tflite"):
        networks.source()
