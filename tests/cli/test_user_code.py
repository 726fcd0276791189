"""Code of the user's own: imported where it is typed, and nowhere else."""

import json
import os
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest

from larq_filter._keras import keras, tf
from larq_filter.cli import user_code
from larq_filter.datasets import preparation
from larq_filter.serialization import load_model
from paths import ROOT

MODULE = """
import larq
import tensorflow as tf


@tf.keras.utils.register_keras_serializable("mine")
class Double(tf.keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def build(input_shape, num_classes):
    return tf.keras.Sequential(
        [
            tf.keras.Input(input_shape),
            Double(),
            tf.keras.layers.Conv2D(32, 3, strides=2, padding="same"),
            tf.keras.layers.BatchNormalization(momentum=0.5),
            larq.layers.QuantConv2D(
                32,
                3,
                padding="same",
                pad_values=1,
                input_quantizer="ste_sign",
                kernel_quantizer="ste_sign",
                kernel_constraint="weight_clip",
                use_bias=False,
            ),
            tf.keras.layers.BatchNormalization(momentum=0.5),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(num_classes, activation="softmax"),
        ]
    )


NUMBER = 3
"""


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Gives the loader the words of a command line, and flags that may come from elsewhere."""
    (tmp_path / "mine_for_tests.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def load(*words, model="mlp", modules=()):
        class Flags(dict):
            model = None

        flags = Flags({"import": types.SimpleNamespace(value=list(modules))})
        flags.model = model
        monkeypatch.setattr(user_code, "FLAGS", flags)
        monkeypatch.setattr(sys, "argv", ["larq-filter train", *words])
        return user_code.load()

    yield load
    for name in set(sys.modules) - before:
        if name.startswith("mine_for_tests"):
            del sys.modules[name]
    keras.utils.get_custom_objects().pop("mine>Double", None)


TEXT = "mine_for_tests:build"


@pytest.mark.parametrize("words", [[f"--model={TEXT}"], [f"-model={TEXT}"], ["--model", TEXT]])
def test_what_is_typed_is_imported(typed, words):
    build = typed("--epochs=3", *words, model=TEXT)
    assert build((8, 8, 1), 3).output_shape == (None, 3)


@pytest.mark.parametrize(
    "words", [[], ["--flagfile=recipe.txt"], [f"--output_dir={TEXT}"], [TEXT], ["--model=mlp"]]
)
def test_what_is_not_typed_is_not_imported(typed, words):
    """As where a flag file gave the flags their values."""
    with pytest.raises(ValueError, match=f"--model={TEXT} .*not in a flag file"):
        typed(*words, model=TEXT)
    with pytest.raises(ValueError, match="--import=mine_for_tests .*not in a flag file"):
        typed(*words, modules=["mine_for_tests"])
    assert "mine_for_tests" not in sys.modules


def test_names_and_files_are_no_code(typed):
    assert typed(model="mlp") is None and typed(model="folder/model.keras") is None
    assert typed(model=None) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mine_for_tests:buidl", "has no function buidl"),
        ("mine_for_tests:NUMBER", "has no function NUMBER"),
        ("nowhere_to_be_found:build", "there is no module nowhere_to_be_found"),
    ],
)
def test_what_is_not_there(typed, text, words):
    with pytest.raises((ImportError, ValueError), match=words):
        typed(f"--model={text}", model=text)


def test_a_module_that_fails_shows_where(typed, tmp_path, capsys):
    (tmp_path / "mine_for_tests_too.py").write_text("import mine_for_tests\n1 / 0\n")
    with pytest.raises(ImportError, match="can't be imported .ZeroDivisionError"):
        typed("--import=mine_for_tests_too", modules=["mine_for_tests_too"])
    assert 'mine_for_tests_too.py", line 2' in capsys.readouterr().err


def test_a_file_with_layers_of_its_own_wants_their_module(typed, tmp_path):
    build = typed(f"--model={TEXT}", model=TEXT)
    build((8, 8, 1), 3).save(tmp_path / "m.keras")
    del sys.modules["mine_for_tests"]
    keras.utils.get_custom_objects().pop("mine>Double")
    with pytest.raises(ValueError, match="'Double'.*in commands --import="):
        load_model(tmp_path / "m.keras")
    assert "mine_for_tests" not in sys.modules
    typed("--import=mine_for_tests", modules=["mine_for_tests"])
    assert load_model(tmp_path / "m.keras").output_shape == (None, 3)


# The commands -------------------------------------------------------------------------------------


def command(folder, name, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    words = [sys.executable, "-m", "larq_filter.cli", name, *arguments]
    ended = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.extras
def test_own_images_and_an_own_model_from_training_to_the_device(tmp_path):
    """And a config.json that names another module, which nobody imports."""
    (tmp_path / "mymodels.py").write_text(MODULE)
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(12):
            image = tf.io.encode_png(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(image.numpy())
    model, run = "--model=mymodels:build", tmp_path / "my run"
    own = ["--dataset=pets", "--epochs=1", "--batch_size=5", f"--output_dir={run}"]
    status, said = command(tmp_path, "train", *own, model, "--method=adam")
    assert status == 0, said
    next_line = said.partition("Next: larq-filter ")[2].splitlines()[0]
    assert json.loads((run / "classes.json").read_text()) == ["cat", "dog"]
    content = json.loads((run / "config.json").read_text())
    assert content["config"]["model"] == "mymodels:build"

    content["config"]["model"] = "poisonous:build"
    (run / "config.json").write_text(json.dumps(content))
    (tmp_path / "poisonous.py").write_text("open('imported', 'w')")
    status, said = command(tmp_path, "export", f"--run={run}", model)
    assert status == 1 and "type --model=poisonous:build again" in said and "Traceback" not in said
    assert not (tmp_path / "imported").exists()

    content["config"]["model"] = "mymodels:build"
    (run / "config.json").write_text(json.dumps(content))
    more = ["--images=2", "--output=phone/pets.tflite"]
    status, said = command(tmp_path, *shlex.split(next_line, comments=True), *more)
    assert status == 0 and (tmp_path / "phone" / "pets.tflite").exists(), said
    images = (tmp_path / "phone" / "pets.images.json").read_bytes()
    assert images == (run / "model.images.json").read_bytes()

    status, said = command(tmp_path, "export", f"--run={run}", model, "--std=255")
    assert status == 1 and "Leave them out" in said and not (run / "model.tflite").exists()
    assert images == (run / "model.images.json").read_bytes()
    preparation.beside(run / "model.keras").rename(run / "away.json")
    (tmp_path / "phone" / "pets.keras").write_bytes(b"of another model")
    status, said = command(
        tmp_path, "export", f"--run={run}", model, "--std=255", "--output=phone/pets.tflite"
    )
    assert status == 1 and "is of pets.keras, another model" in said
    assert images == (tmp_path / "phone" / "pets.images.json").read_bytes()
