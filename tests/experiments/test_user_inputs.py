"""Runs on data and models without a name: continued bit for bit, known again, or refused."""

import dataclasses
import json
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest

from interrupted import Stop, left_behind, stop_after
from larq_filter import datasets, models, serialization
from larq_filter._keras import keras, tf
from larq_filter.experiments import comparison, run_folder, training, user_inputs
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.sweeps import results, spaces, studies
from paths import ROOT

import larq as lq

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
LABELS = np.arange(60) % 3
SMALL = run_folder.Config(epochs=2, batch_size=10, method="adam")  # compiled in no time


def data_of(images=IMAGES):
    cuts = slice(0, 30), slice(30, 50), slice(50, 60)
    return datasets.from_arrays(*((images[cut], LABELS[cut]) for cut in cuts))


def build(input_shape, num_classes, width=8):
    return models.build("mlp", input_shape=input_shape, num_classes=num_classes, width=width)


def weights(folder):
    return keras.models.load_model(pathlib.Path(folder, "model.keras"), compile=False).get_weights()


def read(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.fixture
def pets(tmp_path):
    """A folder of two classes of 12 small grey images."""
    for name in ("dog", "cat"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(12):
            image = tf.io.encode_png(RANDOM.integers(0, 256, (8, 8, 1), dtype=np.uint8))
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(image.numpy())
    return tmp_path / "pets"


@pytest.mark.slow
def test_a_folder_of_images_is_trained_and_continued(pets, tmp_path):
    config = dataclasses.replace(SMALL, dataset=str(pets), model="mlp", width=8, batch_size=5)
    training.run(config, tmp_path / "a" / "run", verbose=0)
    with pytest.raises(Stop):
        training.run(config, tmp_path / "b" / "run", verbose=0, report=stop_after(1))
    training.run(config, tmp_path / "b" / "run", verbose=0)
    assert left_behind(tmp_path / "a") == left_behind(tmp_path / "b")
    assert json.loads((tmp_path / "a" / "run" / "classes.json").read_text()) == ["cat", "dog"]
    found = read(tmp_path / "a" / "run")["own"]["data"]
    assert (found["num_classes"], sum(found["examples"])) == (2, 24)


@pytest.mark.slow
def test_a_folder_that_has_changed_is_not_continued(pets, tmp_path):
    config = dataclasses.replace(SMALL, dataset=str(pets), model="mlp", width=8, batch_size=5)
    with pytest.raises(Stop):
        training.run(config, tmp_path / "run", verbose=0, report=stop_after(1))
    shutil.copy(pets / "cat" / "1.png", pets / "cat" / "0.png")
    with pytest.raises(run_folder.RunExists, match=r"begun with other images .*\(fingerprint"):
        training.run(config, tmp_path / "run", verbose=0)


@pytest.mark.slow
def test_a_file_of_arrays_and_the_same_arrays_train_the_same(tmp_path):
    keys = {}
    for part, cut in (("train", slice(30)), ("validation", slice(30, 50)), ("test", slice(50, 60))):
        keys |= {f"x_{part}": IMAGES[cut], f"y_{part}": LABELS[cut]}
    np.savez(tmp_path / "a.npz", **keys)
    named = dataclasses.replace(SMALL, dataset=str(tmp_path / "a.npz"), model="mlp", width=8)
    one = training.run(named, tmp_path / "one", verbose=0)
    other = training.run(SMALL, tmp_path / "other", verbose=0, data=data_of(), model=build)
    for a, b in zip(weights(tmp_path / "one"), weights(tmp_path / "other"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.loss, one.test_loss) == (other.loss, other.test_loss)
    config = read(tmp_path / "other")["config"]
    assert config["dataset"] == "from Python: arrays" and config["model"] == "from Python: build"


@pytest.mark.slow
def test_what_python_gave_is_wanted_again(tmp_path):
    given = {"data": data_of(), "model": build}
    training.run(SMALL, tmp_path / "a" / "run", verbose=0, **given)
    folder = tmp_path / "b" / "run"
    with pytest.raises(Stop):
        training.run(SMALL, folder, verbose=0, report=stop_after(1), **given)
    for some in ({}, {"data": data_of()}, {"model": build}):
        with pytest.raises(run_folder.RunExists) as error:
            training.run(SMALL, folder, verbose=0, **some)
        for words in ("begun in Python", "data= (from Python: arrays)", "model= (from Python: bui"):
            assert words in str(error.value)
    content = read(folder)["config"]
    del content["knobs"], content["split"]
    saved = run_folder.Config(**content)
    for missing, words in (("data", "images that a program"), ("model", "one that a program")):
        some = {name: value for name, value in given.items() if name != missing}
        with pytest.raises(ValueError, match=f"{words}.*{missing}=\\.\\.\\."):
            training.run(saved, folder, verbose=0, **some)
    with pytest.raises(run_folder.RunExists, match="other images of the same name"):
        training.run(SMALL, folder, verbose=0, data=data_of(IMAGES[::-1]), model=build)
    training.run(saved, folder, verbose=0, **given)
    assert left_behind(tmp_path / "a") == left_behind(tmp_path / "b")
    with pytest.raises(run_folder.RunExists, match="other images"):  # a finished one too
        training.run(SMALL, folder, verbose=0, data=data_of(IMAGES[::-1]), model=build)


@pytest.mark.slow
def test_other_augmentation_is_other_data(tmp_path):
    folder, data = tmp_path / "run", data_of()
    with pytest.raises(Stop):
        training.run(SMALL, folder, 0, stop_after(1), data=data, model=build)
    other = dataclasses.replace(data, augmentation=datasets.Augmentation(pad=3, flip=False))
    with pytest.raises(run_folder.RunExists, match="pad: 1 there, 3 now"):
        training.run(SMALL, folder, 0, data=other, model=build)


def test_a_copy_computes_what_the_model_does():
    """A frozen layer is listed elsewhere, and a Normalization computes with what it derived."""
    normalization = keras.layers.Normalization()
    normalization.adapt(np.random.default_rng(1).normal(5, 3, (50, 8, 8, 1)))
    net = build((8, 8, 1), 3)
    frozen = keras.layers.Dense(3, trainable=False)
    image = keras.Input((8, 8, 1))
    outputs = keras.layers.Activation("softmax")(frozen(net(normalization(image))))
    model = keras.Model(image, outputs)
    config = dataclasses.replace(SMALL, model=user_inputs.FROM_PYTHON + "Functional")
    copy = user_inputs.build(config, data_of(), model)
    x = np.random.default_rng(2).normal(5, 3, (10, 8, 8, 1))
    np.testing.assert_array_equal(copy.predict(x, verbose=0), model.predict(x, verbose=0))
    assert not copy.layers[-2].trainable
    assert not {id(v) for v in copy.weights} & {id(v) for v in model.weights}


@pytest.mark.slow
def test_a_model_is_copied_and_trained_from_its_weights(tmp_path):
    model = build((8, 8, 1), 3)
    before = model.get_weights()
    config = dataclasses.replace(SMALL, epochs=1, method="frozen", knobs=Knobs(learning_rate=1e-30))
    training.run(config, tmp_path / "run", verbose=0, data=data_of(), model=model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    signs = [np.sign(w) for w in before if w.ndim == 2]
    for a, b in zip(signs[:2], [w for w in weights(tmp_path / "run") if w.ndim == 2], strict=False):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(run_folder.RunExists, match="another model of the same name"):
        other = build((8, 8, 1), 3, width=16)
        training.run(config, tmp_path / "run", verbose=0, data=data_of(), model=other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "words", "kept"),
    [
        ("filter", None, True),
        ("erlang", None, True),
        ("translated", None, True),
        ("larq_bop", "method larq_bop can only start at zero", False),
        ("bop_second_order", "method bop_second_order can only start at zero", False),
        ("frozen", "trained before: its binary kernels are frozen as they are", True),
        ("adam", None, True),
    ],
)
def test_what_a_method_makes_of_a_trained_model(method, words, kept, tmp_path, caplog):
    def built():
        image = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(image)
        if method != "filter":  # and then without: the bias of the last layer tells
            x = keras.layers.BatchNormalization(momentum=0.5)(x)
        x = lq.layers.QuantDense(64, kernel_quantizer="ste_sign", kernel_constraint="weight_clip")(
            x
        )
        return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))

    caplog.set_level("WARNING")
    fresh = dataclasses.replace(SMALL, epochs=1)
    training.run(fresh, tmp_path / "a", verbose=0, data=data_of(), model=built)
    assert "was trained before" not in caplog.text
    path = str(tmp_path / "a" / "model.keras")
    config = dataclasses.replace(SMALL, model=path, method=method, epochs=1, steps_per_epoch=1)
    training.run(config, tmp_path / "b", verbose=0, data=data_of())
    assert bool(re.search(words, caplog.text)) if words else "was trained before" not in caplog.text
    before, after = (np.sign(max(weights(tmp_path / n), key=np.size)) for n in "ab")
    assert (np.mean(before == after) > 0.99) == kept


@pytest.mark.slow
def test_a_keras_file_is_a_model(tmp_path):
    build((8, 8, 1), 3).save(tmp_path / "m.keras")
    config = dataclasses.replace(SMALL, model=str(tmp_path / "m.keras"), method="two_step")
    with pytest.raises(Stop):
        training.run(config, tmp_path / "run", 0, stop_after(1), data=data_of())
    assert read(tmp_path / "run")["config"]["model"] == str(tmp_path / "m.keras")
    build((8, 8, 1), 3).save(tmp_path / "m.keras")
    with pytest.raises(run_folder.RunExists, match="another model of the same name"):
        training.run(config, tmp_path / "run", 0, data=data_of())
    wide = dataclasses.replace(config, width=3)
    with pytest.raises(ValueError, match="a model of a fixed width"):
        training.run(wide, tmp_path / "new", 0, data=data_of())
    absent = dataclasses.replace(config, model=str(tmp_path / "none.keras"))
    with pytest.raises(FileNotFoundError, match="no saved model at"):
        training.run(absent, tmp_path / "new", 0, data=data_of())
    assert not (tmp_path / "new").exists()


class Counter(keras.callbacks.Callback):
    def __init__(self, last=None):
        super().__init__()
        self.seen, self.last = [], last

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((epoch, {**logs}))
        logs["mine"] = 7.0
        self.model.stop_training = epoch == self.last


@pytest.mark.slow
def test_callbacks_see_and_log_and_end_the_training(tmp_path):
    counter = Counter(last=1)
    config = dataclasses.replace(SMALL, epochs=5)
    given = {"data": data_of(), "model": build, "callbacks": [counter]}
    result = training.run(config, tmp_path / "run", verbose=0, **given)
    assert [epoch for epoch, _ in counter.seen] == [0, 1]
    assert {"flip_ratio", "val_accuracy", "loss"} <= set(counter.seen[0][1])
    assert result.epochs == 2
    header, *rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert "mine" in header.split(",") and len(rows) == 2
    assert training.run(config, tmp_path / "run", verbose=0, **given) == result
    with pytest.raises(TypeError, match="`callbacks` must be tf.keras.callbacks.Callback, not 3"):
        training.run(config, tmp_path / "other", verbose=0, callbacks=[3])


@pytest.mark.slow
def test_the_result_is_that_of_the_restored_weights(tmp_path):
    best = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    config = dataclasses.replace(SMALL, epochs=30, knobs=Knobs(learning_rate=0.1))
    data = data_of()
    given = {"data": data, "model": build, "callbacks": [best]}
    result = training.run(config, tmp_path / "run", verbose=0, **given)
    table = np.genfromtxt(tmp_path / "run" / "metrics.csv", delimiter=",", names=True)
    assert 0 < best.stopped_epoch < 29 and table["val_loss"].argmin() == best.best_epoch
    assert result.loss == pytest.approx(table["val_loss"][best.best_epoch], rel=1e-5)
    assert result.accuracy == pytest.approx(table["val_accuracy"][best.best_epoch])
    assert training.run(config, tmp_path / "run", verbose=0, **given) == result


# Models that don't fit ----------------------------------------------------------------------------


def dense(classes=3, activation="softmax", shape=(8, 8, 1)):
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            lq.layers.QuantDense(4, kernel_quantizer="ste_sign", kernel_constraint="weight_clip"),
            keras.layers.Dense(classes, activation=activation),
        ]
    )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda input_shape, num_classes: dense(5), r"outputs of shape \(2, 5\).*3 classes"),
        (lambda input_shape, num_classes: dense(3, None), "must end in a softmax"),
        (lambda input_shape, num_classes: dense(3, shape=(9, 8, 1)), "can't take images of shape"),
        (lambda input_shape, num_classes: 3, "gave 3; a tf.keras.Model is needed"),
        (lambda shape: dense(), r"takes \(shape\); it is called with input_shape, num_classes"),
        (dense(4), r"outputs of shape \(2, 4\)"),
        (dense, None),
        ("mymodels:build", "must be a Keras model, or a function"),
    ],
)
def test_models_that_do_not_fit(model, words, tmp_path):
    if words is None:  # arguments that have defaults, and take neither
        assert user_inputs.build(SMALL, data_of(), lambda: dense()).output_shape == (None, 3)
        return
    with pytest.raises((TypeError, ValueError), match=words):
        training.run(SMALL, tmp_path / "run", verbose=0, data=data_of(), model=model)
    assert not (tmp_path / "run").exists()


def test_one_set_and_one_model_at_a_time():
    with pytest.raises(ValueError, match="`data` is given, .* and the config names 'mnist'"):
        user_inputs.named(run_folder.Config(dataset="mnist"), data=data_of())
    with pytest.raises(ValueError, match="image_size of the config would mean nothing"):
        user_inputs.named(run_folder.Config(image_size=8), data=data_of())
    with pytest.raises(ValueError, match="`model` is given, .* and the config names 'mlp'"):
        user_inputs.named(run_folder.Config(model="mlp"), model=build)
    with pytest.raises(TypeError, match="`data` must be what .*from_arrays"):
        user_inputs.named(run_folder.Config(), data=IMAGES)


# Code that a file names ---------------------------------------------------------------------------


@pytest.fixture
def poison(tmp_path, monkeypatch):
    """A module that leaves a mark where somebody imports it."""
    (tmp_path / "modules").mkdir()
    marker = tmp_path / "imported"
    code = f"open({str(marker)!r}, 'w')\n\ndef build(**arguments):\n    raise SystemExit(3)\n"
    (tmp_path / "modules" / "poisonous.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield "poisonous:build"
    assert not marker.exists() and "poisonous" not in sys.modules


@pytest.mark.parametrize("text", ["poisonous:build", "os:system", "os.path:join"])
def test_no_text_of_a_config_is_imported(text, poison, tmp_path):
    config = dataclasses.replace(SMALL, model=text)
    with pytest.raises(ValueError, match=f"Type --model={text} on the command line"):
        training.run(config, tmp_path / "run", verbose=0, data=data_of())
    with pytest.raises(ValueError, match="is code, which no config has imported"):
        comparison.Comparison(tmp_path / "results", [comparison.Job(config, "")])
    sweep = studies.Sweep(config, spaces.build("adam", ["learning_rate"]))
    with pytest.raises(ValueError, match="is code, which no config has imported"):
        studies.work(sweep, tmp_path / "sweep", 1, str(tmp_path / "study.sqlite"), "s")
    assert not (tmp_path / "run").exists() and not (tmp_path / "study.sqlite").exists()


def test_a_poisoned_run_folder(poison, tmp_path):
    """config.json names the module, and everybody who reads it has another model or none."""
    folder = shutil.copytree(
        ROOT / "tests" / "saved" / "run", tmp_path / "results" / "filter-seed0"
    )
    content = read(folder)
    content["config"]["model"] = poison
    content["own"] = {"model": "no dict", "data": {"fingerprint": poison}}
    (folder / "config.json").write_text(json.dumps(content))
    config = run_folder.Config(model="mlp", width=8, epochs=3, train_examples=100, batch_size=50)
    with pytest.raises(run_folder.RunExists, match=f"wants --model={poison} on the command line"):
        training.run(config, folder, verbose=0)
    with pytest.raises(run_folder.RunExists, match="holds another run"):
        comparison.Comparison(tmp_path / "results", [comparison.Job(config, "")])
    sweep = {"study": "s", "config": {"method": "filter", "space": {}, "split": 2, "model": poison}}
    (tmp_path / "sweep.json").write_text(json.dumps({**sweep, "effort": None}))
    results.compare([tmp_path])


@pytest.mark.slow
def test_a_function_beside_its_text_is_trained_by_comparisons_too(tmp_path):
    config = dataclasses.replace(SMALL, model="mymodels:build", width=8, epochs=1)
    jobs = [comparison.Job(config, "")]
    compared = comparison.Comparison(tmp_path, jobs, data=data_of(), model=build)
    compared.train()
    (outcome,) = compared.outcomes()
    assert outcome.status == "finished"
    assert read(tmp_path / "adam-seed0")["config"]["model"] == "mymodels:build"
    with pytest.raises(run_folder.RunExists, match="other images"):
        comparison.Comparison(tmp_path, jobs, data=data_of(IMAGES[::-1]), model=build)


def edited(input_shape, num_classes, width=8):
    """What stands under the name of ``build`` after an edit; its weights have the same shapes."""
    model = build(input_shape, num_classes, width)
    return keras.Sequential([*model.layers[:-1], keras.layers.Dropout(0.1), model.layers[-1]])


@pytest.mark.slow
def test_a_function_that_was_edited_makes_another_model(tmp_path):
    config = dataclasses.replace(
        SMALL, model="mymodels:build", width=8, epochs=1, train_examples=300, batch_size=50
    )
    with pytest.raises(Stop):
        training.run(config, tmp_path / "half", 0, stop_after(1), model=build)
    training.run(config, tmp_path / "results" / "adam-seed0", 0, model=build)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for folder in (tmp_path / "half", tmp_path / "results" / "adam-seed0"):
        with pytest.raises(run_folder.RunExists, match="another model of the same .*structure: '"):
            training.run(config, folder, verbose=0, model=edited)
    jobs = [comparison.Job(dataclasses.replace(config, seed=seed), "") for seed in (0, 1)]
    with pytest.raises(
        run_folder.RunExists, match="another model of the same .*\n.*results folder"
    ):
        comparison.Comparison(tmp_path / "results", jobs, model=edited)
    assert {path: path.read_bytes() for path in before} == before
    comparison.Comparison(tmp_path / "results", jobs[:1], model=build)
    training.run(config, tmp_path / "half", verbose=0, model=build)


@pytest.mark.extras
@pytest.mark.slow
def test_a_search_ranks_trials_of_one_model(tmp_path):
    pytest.importorskip("optuna")
    config = dataclasses.replace(
        SMALL, model="mymodels:build", width=8, epochs=1, train_examples=300, batch_size=50
    )
    sweep = studies.Sweep(config, spaces.build("adam", ["learning_rate"]))
    place = tmp_path / "sweep", 1, str(tmp_path / "study.sqlite"), "s"
    studies.work(sweep, *place, model=build)
    with pytest.raises(studies.StudyError, match="searches something else .layers: 12 there, 13 "):
        studies.work(sweep, *place, model=edited)
    assert len(studies.work(sweep, *place, model=build)) == 1


@pytest.mark.slow
def test_what_a_function_draws_is_drawn_again(tmp_path):
    """Channels in an order of chance: a run and a comparison of several seeds know them again."""

    def drawn(input_shape, num_classes):
        image = keras.Input(input_shape)
        order = np.random.permutation(8)
        return keras.Model(image, build(input_shape, num_classes)(tf.gather(image, order, axis=1)))

    with pytest.raises(Stop):
        training.run(SMALL, tmp_path / "half", 0, stop_after(1), data=data_of(), model=drawn)
    np.random.seed(5)
    half = training.run(SMALL, tmp_path / "half", verbose=0, data=data_of(), model=drawn)
    whole = training.run(SMALL, tmp_path / "adam-seed0", verbose=0, data=data_of(), model=drawn)
    assert half.loss == whole.loss
    jobs = [comparison.Job(dataclasses.replace(SMALL, seed=seed), "") for seed in (0, 1)]
    comparison.Comparison(tmp_path, jobs, data=data_of(), model=drawn).train()
    comparison.Comparison(tmp_path, jobs, data=data_of(), model=drawn)


def computed(middle):
    def build_it(input_shape, num_classes):
        image = keras.Input(input_shape)
        return keras.Model(image, build(input_shape, num_classes)(middle(image)))

    return build_it


def unregistered(x):
    return lq.math.sign(x)


unregistered.precision = 1


def with_own_quantizer(x):
    quantizers = {"kernel_quantizer": unregistered, "input_quantizer": "ste_sign"}
    return lq.layers.QuantConv2D(1, 3, padding="same", use_bias=False, **quantizers)(x)


def test_what_keras_can_not_save_is_not_trained(tmp_path):
    dots = computed(lambda x: x[..., :1])
    with pytest.raises(
        ValueError, match=r"Keras can't save the model .*ellipsis.*x\[:, :, :, :4\]"
    ):
        training.run(SMALL, tmp_path / "run", verbose=0, data=data_of(), model=dots)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (keras.layers.Lambda(lambda x: 2 * x), "holds a Lambda layer.*layer class of your own"),
        (with_own_quantizer, "names the function 'unregistered'.*register_keras_serializable"),
    ],
)
def test_what_no_stage_and_no_command_can_open(middle, words, tmp_path, caplog):
    config = dataclasses.replace(SMALL, method="two_step")
    given = {"data": data_of(), "model": computed(middle)}
    with pytest.raises(ValueError, match=f"{words}.* second stage begins with its file"):
        training.run(config, tmp_path / "run", verbose=0, **given)
    assert not (tmp_path / "run").exists()
    training.run(SMALL, tmp_path / "run", verbose=0, **given)
    assert re.search(f"{words}.* No command will open", caplog.text)
    with pytest.raises(ValueError, match=f"model.keras {words}"):
        serialization.load_model(tmp_path / "run" / "model.keras")


@pytest.mark.slow
def test_a_shortcut_that_is_padded_is_trained_in_two_stages(tmp_path):
    config = dataclasses.replace(SMALL, method="two_step")
    padded = computed(lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])[:, 1:-1, 1:-1])
    training.run(config, tmp_path / "run", verbose=0, data=data_of(), model=padded)
    found = serialization.load_model(tmp_path / "run" / "model.keras")
    assert found.output_shape == (None, 3)


def test_a_function_makes_a_new_model_each_time(tmp_path):
    """Else the second run of a comparison would begin where the first one ended."""
    model = build((8, 8, 1), 3)
    with pytest.raises(ValueError, match="gave the same model twice.*hand over the model itself"):
        training.run(SMALL, tmp_path / "run", verbose=0, data=data_of(), model=lambda: model)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_comparison_holds_runs_of_the_same_images(pets, tmp_path):
    config = dataclasses.replace(
        SMALL, dataset=str(pets), model="mlp", width=8, batch_size=5, epochs=1
    )
    jobs = [comparison.Job(dataclasses.replace(config, seed=seed), "") for seed in (0, 1)]
    comparison.Comparison(tmp_path / "results", jobs[:1]).train()
    shutil.copy(pets / "cat" / "1.png", pets / "cat" / "0.png")
    with pytest.raises(run_folder.RunExists, match="other images"):
        comparison.Comparison(tmp_path / "results", jobs).train()
    alone = jobs[0].config, tmp_path / "results" / jobs[0].name
    with pytest.raises(run_folder.RunExists, match="other images"):
        training.run(*alone, verbose=0)
    shutil.rmtree(pets)  # where they are gone, nobody can tell
    assert training.run(*alone, verbose=0) == run_folder.read_result(alone[1])


@pytest.mark.slow
@pytest.mark.extras
def test_a_search_on_data_of_python(tmp_path):
    pytest.importorskip("optuna")
    config = dataclasses.replace(SMALL, width=8, epochs=1)
    sweep = studies.Sweep(config, spaces.build("adam", ["learning_rate"]))
    place = tmp_path / "sweep", 1, str(tmp_path / "study.sqlite"), "s"
    (trial,) = studies.work(sweep, *place, data=data_of(), model=build)
    assert trial.state == "complete"
    with pytest.raises(studies.StudyError, match="searches something else .fingerprint"):
        studies.work(sweep, *place, data=data_of(IMAGES[::-1]), model=build)
