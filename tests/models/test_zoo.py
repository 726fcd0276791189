"""Models of larq-zoo: latent-free, trained, saved, pretrained; the recipes; the table of models."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from larq_filter import binary, filters, models
from larq_filter._keras import keras, tf
from larq_filter.conversion import to_latent_free
from larq_filter.experiments import methods
from larq_filter.optimizers import FilterOptimizer
from paths import ROOT

import larq

pytestmark = pytest.mark.extras
RECIPES = sorted((ROOT / "larq_filter" / "cli" / "recipes").glob("*.txt"))


@pytest.fixture(autouse=True)
def larq_zoo():
    return pytest.importorskip("larq_zoo")


def images(size, count=4):
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype("float32")


def kernels_of(model):
    return [kernel for _, kernel in binary.binary_kernels(model)]


# Each is here for something that the others have not: a blur whose initializer is a function;
# Lambdas that no file brings back; scales per layer, 2-bit inputs, dense layers.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kernels"), [("QuickNetSmall", 16), ("MeliusNet22", 34), ("DoReFaNet", 6)]
)
def test_convert_train_save_and_load_without_larq_zoo(tmp_path, monkeypatch, name, kernels):
    size = max(32, models.smallest_image(name))
    free = to_latent_free(models.build(name, input_shape=(size, size, 3), num_classes=4))
    assert len(kernels_of(free)) == kernels
    before = [kernel.numpy() for kernel in kernels_of(free)]
    optimizer = FilterOptimizer(jit_compile=False)  # to compile takes longer than one step
    free.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=True)
    assert np.isfinite(free.train_on_batch(images(size), np.arange(4)))
    for kernel, old in zip(kernels_of(free), before, strict=True):
        assert binary.holds_signs(kernel) and not np.array_equal(kernel, old), kernel.name
    free.save(tmp_path / "model.keras")
    forget_larq_zoo(monkeypatch)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(free.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(free.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(loaded(images(size)), free(images(size)))


def forget_larq_zoo(monkeypatch):
    """As in a process that has not imported it: what it registered with Keras is gone."""
    registered = keras.utils.get_custom_objects()
    for key, value in list(registered.items()):
        if getattr(value, "__module__", "").startswith("larq_zoo"):
            monkeypatch.delitem(registered, key)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RealToBinaryNet", "MeliusNet22", "DoReFaNet"])
def test_stand_ins_compute_the_same(larq_zoo, name):
    size = max(32, models.smallest_image(name))
    original = getattr(larq_zoo.literature, name)(
        weights=None, input_shape=(size, size, 3), num_classes=4
    )
    x = images(size)
    original(x, training=True)  # moves the statistics
    model = models.zoo.portable(original)
    assert model is not original
    assert [layer.name for layer in model.layers] == [layer.name for layer in original.layers]
    assert not any(type(layer) is keras.layers.Lambda for layer in model.layers)
    for one, other in zip(model.weights, original.weights, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(binary.latent(one), binary.latent(other))
    np.testing.assert_array_equal(model(x), original(x))


def test_blur_is_that_of_larq_zoo():
    from larq_zoo.sota.quicknet import blurpool_initializer

    for size in (2, 3, 5):
        shape = (size, size, 7, 1)
        actual = models._zoo_layers.Blur()(shape)
        np.testing.assert_allclose(actual, blurpool_initializer(shape), rtol=1e-6)
        assert actual.dtype == tf.float32


@pytest.mark.parametrize(
    ("name", "size", "fits", "advice"),
    [
        ("QuickNetSmall", 28, "29 and more", 32),
        ("BinaryAlexNet", 56, "57 and more", 64),
        ("DoReFaNet", 43, "44 and more", 64),
        ("BinaryResNetE18", 80, "multiples of 32", 96),
        ("XNORNet", 216, "217 and more", 224),
    ],
)
def test_size_that_a_model_cannot_take(name, size, fits, advice):
    message = f"{name} cannot be built for {size}x{size} images: .*{fits}; .*image_size={advice}"
    with pytest.raises(ValueError, match=message):
        models.build(name, input_shape=(size, size, 3), num_classes=4)


@pytest.mark.parametrize("name", ["QuickNetSmall", "BinaryAlexNet", "BinaryResNetE18"])
def test_smallest_image_is_enough(name):
    size = models.smallest_image(name)
    model = models.build(name, input_shape=(size, size, 3), num_classes=4)
    assert model.output_shape == (None, 4)


def test_smallest_images():
    assert models.smallest_image("XNORNet") == 217
    assert models.smallest_image("BiRealNet") == 1
    with pytest.raises(ValueError, match="unknown model 'XnorNet': did you mean XNORNet"):
        models.smallest_image("XnorNet")


# Pretrained weights


@pytest.mark.slow
def test_imagenet_weights_are_converted_with_their_scales(tmp_path, monkeypatch, larq_zoo):
    """The download is replaced by a file of random weights."""
    arguments = {"input_shape": (224, 224, 3), "num_classes": 1000}
    source = models.build("BiRealNet", **arguments)
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            moments = np.random.default_rng(0).uniform(0.5, 2.0, (4, layer.gamma.shape[0]))
            layer.set_weights(moments)
    source.save_weights(tmp_path / "weights.h5")
    asked = []

    def download(**what):
        asked.append(what["model"])
        return str(tmp_path / "weights.h5")

    monkeypatch.setattr(larq_zoo.core.utils, "download_pretrained_model", download)
    model = models.build("BiRealNet", **arguments, weights="imagenet")
    assert asked == ["birealnet"]
    free = to_latent_free(model)
    for index, old in enumerate(source.layers):
        if not isinstance(old, larq.layers.QuantConv2D):
            continue
        new = free.layers[index]
        latent = binary.latent(old.kernel).numpy()
        np.testing.assert_array_equal(binary.latent(new.kernel), np.where(latent < 0, -1, 1))
        scale = np.abs(latent).mean(axis=(0, 1, 2))
        (norm,) = [node.layer for node in old.outbound_nodes]
        folded = free.layers[source.layers.index(norm)]
        np.testing.assert_allclose(folded.moving_mean, norm.moving_mean / scale, rtol=1e-4)
        variance = norm.moving_variance / scale**2
        np.testing.assert_allclose(folded.moving_variance, variance, rtol=1e-4)


def test_imagenet_weights_need_imagenet_classes():
    with pytest.raises(ValueError, match="`classes` should be 1000"):
        models.build("QuickNetSmall", input_shape=(32, 32, 3), num_classes=10, weights="imagenet")


WAVES = np.arange(16) * np.pi / 4


def stripes(count, seed):
    """Stripes of four directions in noise, and the directions."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    row = np.sin(WAVES)[:, None] * np.ones(16)
    patterns = [row, row.T, np.sin(WAVES[:, None] + WAVES), np.sin(WAVES[:, None] - WAVES)]
    clean = [np.roll(patterns[k], random.integers(0, 8, 2), (0, 1)) for k in labels]
    noise = random.normal(scale=1.0, size=(count, 16, 16, 3))
    return (np.stack(clean)[..., None] + noise).astype("float32"), labels


@pytest.mark.slow
def test_warm_start_keeps_a_pretrained_network_with_scaled_kernels(larq_zoo):
    """Bi-Real net of larq-zoo with an eighth of the channels, its kernels magnitude_aware_sign."""
    factory = larq_zoo.literature.birealnet.BiRealNetFactory
    model = factory(input_shape=(16, 16, 3), num_classes=4, filters=8).build()
    x, labels = stripes(320, seed=0)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x, labels, batch_size=32, epochs=12, verbose=0)
    test, truth = stripes(200, seed=1)

    def answers(network):
        return network(test).numpy().argmax(axis=1)

    before = answers(model)
    assert np.mean(before == truth) > 0.7
    free = to_latent_free(model)
    assert np.mean(answers(free) == before) > 0.98  # rounding may turn a sign
    after = {}
    for warm_start in (10.0, None):
        network = to_latent_free(free)
        network.compile(
            FilterOptimizer(
                filters.CascadedEMA(alpha=1e-3, gamma=0.1),
                default_optimizer=keras.optimizers.Adam(1e-5),
                warm_start=warm_start,
            ),
            "sparse_categorical_crossentropy",
        )
        network.fit(x, labels, batch_size=32, epochs=2, verbose=0)  # 20 steps
        after[warm_start] = answers(network)
    for reference in (truth, before):
        warm, cold = (np.mean(after[start] == reference) for start in (10.0, None))
        assert warm > cold + 0.1
    assert np.mean(after[10.0] == truth) > np.mean(before == truth) - 0.05


# Recipes and the table of models


def run(*command, status=0):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout


def prepared(folder, count=16, classes=3):
    """A tiny prepared set under the name that the recipes have."""
    import tensorflow_datasets as tfds

    version = folder / "imagenet2012" / "5.1.0"
    version.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="png"),
            "label": tfds.features.ClassLabel(names=[f"class{k}" for k in range(classes)]),
        }
    )
    identity = tfds.core.dataset_info.DatasetIdentity(
        name="imagenet2012", version="5.1.0", data_dir=str(version), module_name="tests"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=count)
    writer.initialize_splits(["train", "validation"])
    random = np.random.default_rng(0)
    for split in ("train", "validation"):
        pictures = [random.integers(0, 256, (40 + i, 36, 3), np.uint8) for i in range(count)]
        examples = [{"image": image, "label": i % classes} for i, image in enumerate(pictures)]
        writer.add_examples({split: examples})
    writer.close_all()


def flags_in(file):
    lines = [line.strip() for line in file.read_text().splitlines()]
    flags = [line.removeprefix("--") for line in lines if line.startswith("--")]
    return dict((flag.split("=") + ["true"])[:2] for flag in flags)


PUBLISHED = {
    "reactnet_a.txt": {"batch_size": "512", "epochs": "256", "model": "reactnet_a"},
    "quicknet.txt": {"batch_size": "2048", "epochs": "600", "model": "QuickNet"},
}


def test_recipes_hold_what_was_published():
    assert {file.name for file in RECIPES} == set(PUBLISHED)
    for file in RECIPES:
        found = flags_in(file)
        expected = {"dataset": "imagenet2012", "image_size": "224", **PUBLISHED[file.name]}
        assert {name: found[name] for name in expected} == expected
        assert found["model"] in models.names() and found["method"] in methods.METHODS


@pytest.mark.slow
@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_recipe_runs_on_a_few_images(tmp_path, file):
    """With the least that makes it small; what follows the flag file counts."""
    pytest.importorskip("tensorflow_datasets")
    prepared(tmp_path)
    few = ["--image_size=32", "--batch_size=4", "--epochs=1", "--steps_per_epoch=2"]
    if flags_in(file)["method"] == "distilled":
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(inputs))
        keras.Model(inputs, x).save(tmp_path / "teacher.keras")
        few += [f"--teacher={tmp_path / 'teacher.keras'}", "--width=2"]
    folder = tmp_path / "run"
    script = ROOT / "examples" / "train.py"
    places = [f"--data_dir={tmp_path}", f"--output_dir={folder}"]
    output = run(script, f"--flagfile={file.stem}", *few, *places)
    assert "validation accuracy" in output
    config = json.loads((folder / "config.json").read_text())["config"]
    assert config["knobs"]["alpha"] == float(flags_in(file)["alpha"])
    assert (folder / "result.json").exists()


@pytest.mark.slow
def test_table_of_models(tmp_path):
    """One model that works and one that fails; the second time nothing is trained."""
    few = ["--steps=6", "--parts=2", "--batch_size=16", "--train_examples=60", "--image_size=8"]
    command = [ROOT / "benchmarks" / "models.py", *few, "--noexport", f"--output_dir={tmp_path}"]
    stray = tmp_path / "birealnet20" / "filter" / "stray.txt"
    stray.parent.mkdir(parents=True)
    stray.write_text("in the way")
    assert "holds no run" in run(*command, "--models=birealnet20,mlp", status=1)
    with (tmp_path / "table.csv").open(newline="") as file:
        failed, row = csv.DictReader(file)
    assert failed["model"] == "birealnet20" and failed["loss"] == ""
    assert (row["model"], row["image_size"], row["binary_kernels"]) == ("mlp", "8", "2")
    assert (row["flipped"], row["reloads"]) == ("2 of 2", "yes")
    assert float(row["loss"]) > 0 and float(row["frozen_loss"]) > 0
    result = tmp_path / "mlp" / "filter" / "result.json"
    before = result.stat().st_mtime_ns
    output = run(*command, "--models=mlp")
    assert result.stat().st_mtime_ns == before
    for table in (output, (tmp_path / "table.md").read_text()):
        assert "| mlp | 8 | 0.01 | 2 |" in table and "birealnet20" not in table
