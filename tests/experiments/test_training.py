"""Runs: continued after an interruption, looked up when finished, refused when not the same."""

import csv
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from larq_filter import binary, callbacks, datasets
from larq_filter._keras import keras, tf
from larq_filter.datasets import preparation, splits
from larq_filter.experiments import (
    files,
    methods,
    progress,
    run_data,
    run_folder,
    training,
    user_inputs,
)
from paths import ROOT

SMALL = run_folder.Config(model="mlp", width=16, epochs=4, train_examples=300, batch_size=50)


def weights(folder):
    model = keras.models.load_model(pathlib.Path(folder) / "model.keras")
    return model.get_weights()


def rows(folder, table="metrics.csv"):
    with (pathlib.Path(folder) / table).open(newline="") as file:
        return list(csv.DictReader(file))


class Stop(Exception):
    """Stands for a crash."""


def crash_after(monkeypatch, epochs, before_saving=False):
    """Makes the loop fail at the end of an epoch, after its checkpoint is written or before."""
    original = progress.Progress.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        last = epoch + 1 == epochs
        if not (last and before_saving):
            original(self, epoch, logs)
        if last:
            raise Stop

    monkeypatch.setattr(progress.Progress, "on_epoch_end", on_epoch_end)


def test_the_train_step_is_traced_once(tmp_path, monkeypatch):
    traces, original = [], keras.Model.train_step
    monkeypatch.setattr(
        keras.Model, "train_step", lambda self, data: traces.append(1) or original(self, data)
    )
    training.run(dataclasses.replace(SMALL, epochs=1), tmp_path / "run", verbose=0)
    assert len(traces) == 1


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    results = {}

    def run(method):
        if method not in results:
            config = dataclasses.replace(SMALL, method=method)
            folder = tmp_path_factory.mktemp(method) / "run"
            results[method] = training.run(config, folder, verbose=0)
        return results[method]

    return run


# One of each kind of state: filters, legacy optimizers, random numbers, latent weights, two stages.
# A teacher's student is resumed in test_attention.py.
RESUMED = ["filter", "larq_bop", "prob_bop", "standardized", "two_step"]


@pytest.mark.slow
@pytest.mark.parametrize("method", RESUMED)
def test_continued_run_equals_the_uninterrupted_one(method, uninterrupted, tmp_path, monkeypatch):
    config = dataclasses.replace(SMALL, method=method)
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        crash_after(patch, 2)
        training.run(config, folder, verbose=0)
    assert not (folder / "result.json").exists()
    result = training.run(config, folder, verbose=0)
    expected = uninterrupted(method)
    for a, b in zip(weights(folder), weights(expected.output_dir), strict=True):
        np.testing.assert_array_equal(a, b)
    for table in ("metrics.csv", "flips.csv"):
        assert rows(folder, table) == rows(expected.output_dir, table)
    assert dataclasses.replace(result, output_dir="", seconds=0) == dataclasses.replace(
        expected, output_dir="", seconds=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["two_step", "distilled"])
def test_a_crash_in_the_second_stage_keeps_the_first(method, uninterrupted, tmp_path, monkeypatch):
    folder, expected = tmp_path / "run", uninterrupted(method)
    epochs_before = expected.epochs - (2 if method == "two_step" else 4)
    saved, original = [], progress.Progress.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        original(self, epoch, logs)
        saved.append(epoch)
        if len(saved) == epochs_before + 1:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(progress.Progress, "on_epoch_end", on_epoch_end)
        training.run(dataclasses.replace(SMALL, method=method), folder, verbose=0)
    (first,) = folder.glob("*/result.json")
    written = first.stat().st_mtime_ns
    training.run(dataclasses.replace(SMALL, method=method), folder, verbose=0)
    assert first.stat().st_mtime_ns == written
    for a, b in zip(weights(folder), weights(expected.output_dir), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_saved_teacher_takes_the_place_of_the_first_stage(uninterrupted, tmp_path):
    teacher = pathlib.Path(uninterrupted("distilled").output_dir) / "teacher" / "model.keras"
    config = dataclasses.replace(
        SMALL, method="distilled", knobs=methods.Knobs(teacher=str(teacher))
    )
    result = training.run(config, tmp_path / "run", verbose=0)
    assert result.epochs == 4
    assert not (tmp_path / "run" / "teacher").exists()
    again = dataclasses.replace(config, knobs=methods.Knobs(teacher=str(teacher.parent)))
    assert user_inputs.teacher(again, run_data.load(config)).output_shape == (None, 10)
    for a, b in zip(
        weights(tmp_path / "run"), weights(uninterrupted("distilled").output_dir), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("write", "error", "words"),
    [
        (None, FileNotFoundError, ["no saved model", "teacher.keras"]),
        (b"not a model", ValueError, ["teacher.keras", "can't be read"]),
    ],
)
def test_a_teacher_that_is_none(write, error, words, tmp_path):
    path = tmp_path / "teacher.keras"
    if write is not None:
        path.write_bytes(write)
    config = dataclasses.replace(SMALL, method="distilled", knobs=methods.Knobs(teacher=str(path)))
    with pytest.raises(error) as raised:
        training.run(config, tmp_path / "run", verbose=0)
    for word in words:
        assert word in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_would_teach_something_else(tmp_path):
    path = tmp_path / "teacher.keras"
    logits = keras.Sequential([keras.layers.Flatten(input_shape=(8, 8, 1)), keras.layers.Dense(10)])
    logits.save(path)
    config = dataclasses.replace(SMALL, method="distilled", knobs=methods.Knobs(teacher=str(path)))
    with pytest.raises(ValueError, match=r"teacher .*teacher.keras don't add up to 1: .* softmax"):
        training.run(config, tmp_path / "run", verbose=0)
    keras.Sequential([logits, keras.layers.Softmax()]).save(path)
    here = run_data.load(config).preparation()
    for taught, words in (
        (dataclasses.replace(here, class_names=here.class_names[::-1]), "knows the classes 9, 8, "),
        (dataclasses.replace(here, mean=here.mean * 0, std=here.std * 0 + 1), "mean 0 and std 1; "),
    ):
        files.write_json(preparation.beside(path), taught.to_json())
        with pytest.raises(ValueError, match=words):
            training.run(config, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_knows_its_teacher_again(tmp_path):
    path, layers = tmp_path / "teacher.keras", keras.layers
    sizes = layers.Flatten(input_shape=(8, 8, 1)), layers.Dense(10, activation="softmax")
    keras.Sequential(sizes).save(path)
    config = dataclasses.replace(SMALL, method="distilled", knobs=methods.Knobs(teacher=str(path)))
    training.run(config, tmp_path / "run", verbose=0)
    assert training.run(config, tmp_path / "run", verbose=0).epochs == config.epochs
    changed = keras.models.load_model(path)
    changed.layers[-1].bias.assign(np.ones(10))
    changed.save(path)
    with pytest.raises(run_folder.RunExists, match="begun with another teacher of the same name"):
        training.run(config, tmp_path / "run", verbose=0)


@pytest.mark.slow
def test_one_training_at_a_time_in_a_folder(tmp_path):
    folder = tmp_path / "run"
    config = dataclasses.replace(SMALL, epochs=1)
    run_folder.write_config(folder, config)
    with (folder / "config.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # what the other process does
        (folder / "metrics.csv").write_text("its rows")
        with pytest.raises(run_folder.RunExists, match="Another process trains in"):
            training.run(config, folder, verbose=0)
        assert (folder / "metrics.csv").read_text() == "its rows"
        assert not (folder / "flips.csv").exists()
    assert training.run(config, folder, verbose=0).epochs == 1  # it has ended


def report_all(seen):
    return lambda epoch, logs: seen.append((epoch, logs["val_accuracy"]))


@pytest.mark.slow
def test_every_epoch_is_reported_and_the_reporter_may_stop_it(uninterrupted, tmp_path):
    seen = []

    def stopping(epoch, logs):
        report_all(seen)(epoch, logs)
        if epoch == 1:
            raise Stop

    with pytest.raises(Stop):
        training.run(SMALL, tmp_path / "run", verbose=0, report=stopping)
    training.run(
        SMALL,
        tmp_path / "run",
        verbose=0,
        report=lambda e, logs: seen.append((e, logs["val_accuracy"])),
    )
    expected = [float(row["val_accuracy"]) for row in rows(uninterrupted("filter").output_dir)]
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 3]
    assert [accuracy for _, accuracy in seen] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "bytes_per_weight"),
    [("filter", 8), ("prob_bop", 4), ("larq_bop", 4), ("two_step", 8)],
)
def test_optimizer_state_per_weight(method, bytes_per_weight, uninterrupted):
    result = uninterrupted(method)
    assert result.optimizer_bytes_per_weight == pytest.approx(bytes_per_weight, rel=1e-3)


@pytest.mark.slow
def test_flips_of_the_run_are_those_of_its_epochs(uninterrupted):
    result = uninterrupted("filter")
    per_epoch = [float(row["flip_ratio"]) * 6 for row in rows(result.output_dir)]
    assert result.flips_per_weight == pytest.approx(sum(per_epoch), rel=1e-5)


@pytest.mark.slow
def test_a_crash_after_the_last_epoch_only_needs_the_result(uninterrupted, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        crash_after(patch, 4)
        training.run(SMALL, folder, verbose=0)
    result = training.run(SMALL, folder, verbose=0)
    expected = uninterrupted("filter")
    assert dataclasses.replace(result, output_dir="", seconds=0) == dataclasses.replace(
        expected, output_dir="", seconds=0
    )
    for a, b in zip(weights(folder), weights(expected.output_dir), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_crash_before_the_first_checkpoint_leaves_no_double_row(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        crash_after(patch, 1, before_saving=True)
        training.run(SMALL, folder, verbose=0)
    training.run(SMALL, folder, verbose=0)
    assert [row["epoch"] for row in rows(folder, "flips.csv")] == [*"00112233"]


@pytest.mark.slow
def test_lost_indices_of_the_checkpoints_do_not_restart_the_run(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        crash_after(patch, 2)
        training.run(SMALL, folder, verbose=0)
    for path in (folder / "checkpoints").glob("*.index"):
        path.unlink()
    with pytest.raises(RuntimeError, match="No checkpoint in .* can be read"):
        training.run(SMALL, folder, verbose=0)


@pytest.mark.slow
def test_it_says_that_it_continues(tmp_path, monkeypatch, said):
    with monkeypatch.context() as patch, pytest.raises(Stop):
        crash_after(patch, 3)
        training.run(SMALL, tmp_path / "run", verbose=0)
    training.run(SMALL, tmp_path / "run", verbose=0)
    assert "after epoch 3 of 4" in " ".join(said)


@pytest.mark.slow
def test_a_crash_between_log_and_checkpoint_leaves_no_double_row(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stop):
        crash_after(patch, 2, before_saving=True)
        training.run(SMALL, tmp_path / "run", verbose=0)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["0", "1"]
    training.run(SMALL, tmp_path / "run", verbose=0)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["0", "1", "2", "3"]


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.slow
@pytest.mark.parametrize("harm", [damage, truncate])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    harm, uninterrupted, tmp_path, monkeypatch, said
):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        crash_after(patch, 3)
        training.run(SMALL, folder, verbose=0)
    harm(folder / "checkpoints" / "ckpt-3.data-00000-of-00001")
    training.run(SMALL, folder, verbose=0)
    text = " ".join(said)
    assert "ckpt-3 can't be read" in text
    assert "after epoch 2 of 4" in text
    expected = uninterrupted("filter")
    for a, b in zip(weights(folder), weights(expected.output_dir), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_no_readable_checkpoint_is_an_error_and_nothing_is_overwritten(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        crash_after(patch, 1)
        training.run(SMALL, folder, verbose=0)
    data_file = folder / "checkpoints" / "ckpt-1.data-00000-of-00001"
    damage(data_file)
    damaged = data_file.read_bytes()
    with pytest.raises(RuntimeError, match="No checkpoint in .* can be read"):
        training.run(SMALL, folder, verbose=0)
    assert data_file.read_bytes() == damaged


def test_the_run_folder_says_what_was_run(uninterrupted):
    folder = pathlib.Path(uninterrupted("filter").output_dir)
    content = json.loads((folder / "config.json").read_text())
    own = json.loads(json.dumps(dataclasses.asdict(SMALL)))
    assert content["config"] == {**own, "split": splits.SPLIT}
    resolved = content["resolved"]["knobs"]  # the method's defaults too
    assert resolved["gamma"] == methods.METHODS["filter"].knobs["gamma"] and None not in resolved
    assert {"larq_filter", "tensorflow", "larq", "python"} <= set(content["versions"])
    assert len(rows(folder)) == 4
    assert {"flip_ratio", "val_accuracy", "val_loss"} <= set(rows(folder)[0])
    assert any((folder / "tensorboard").rglob("events*")) == callbacks.has_tensorboard()
    assert len(list((folder / "checkpoints").glob("*.index"))) == 3


@pytest.mark.slow
def test_without_tensorboard_training_goes_on(tmp_path, monkeypatch, said):
    """A plain installation of the core on TensorFlow 2.21 has none."""
    monkeypatch.setattr(callbacks, "has_tensorboard", lambda: False)
    config = dataclasses.replace(SMALL, epochs=1, steps_per_epoch=2)
    folder = tmp_path / "run"
    training.run(config, folder, verbose=0)
    assert len(rows(folder)) == 1 and not (folder / "tensorboard").exists()
    assert any("pip install larq_filter[tensorboard]" in line for line in said)


def test_result_is_that_of_the_saved_model(uninterrupted):
    result = uninterrupted("filter")
    model = keras.models.load_model(pathlib.Path(result.output_dir) / "model.keras")
    data = datasets.load("digits", train_examples=300)
    for part, expected in (
        (data.validation(50), (result.accuracy, result.loss)),
        (data.test(50), (result.test_accuracy, result.test_loss)),
    ):
        loss, accuracy = model.evaluate(part, verbose=0)
        assert accuracy == pytest.approx(expected[0], abs=1e-6)
        assert loss == pytest.approx(expected[1], rel=1e-5)
    assert result.flipped_layers == (2, 2)
    assert 0 < result.flip_ratio < 0.5
    assert all(binary.holds_signs(kernel) for _, kernel in binary.binary_kernels(model))
    before = int(model.optimizer.iterations)
    assert before == 4 * 6


def test_a_finished_run_is_looked_up(uninterrupted, said):
    expected = uninterrupted("filter")
    model = pathlib.Path(expected.output_dir) / "model.keras"
    written = model.stat().st_mtime_ns
    assert training.run(SMALL, expected.output_dir, verbose=0) == expected
    assert "nothing to train" in " ".join(said)
    assert model.stat().st_mtime_ns == written


def test_another_run_is_not_overwritten(uninterrupted):
    other = dataclasses.replace(SMALL, seed=7, knobs=methods.Knobs(gamma=0.5))
    with pytest.raises(run_folder.RunExists) as raised:
        training.run(other, uninterrupted("filter").output_dir, verbose=0)
    assert "another run (gamma: None there, 0.5 now; seed: 0 there, 7 now)." in str(raised.value)
    assert "output_dir" in str(raised.value)


@pytest.fixture
def read_tests(monkeypatch):
    """How often the test images were asked for, and whether training was over by then."""
    asked, original = [], datasets.ImageData.test

    def test(self, batch_size):
        asked.append(bool(trained))
        return original(self, batch_size)

    trained, fit = [], keras.Model.fit

    def fitted(self, *arguments, **keywords):
        history = fit(self, *arguments, **keywords)
        trained.append(self)
        return history

    monkeypatch.setattr(datasets.ImageData, "test", test)
    monkeypatch.setattr(keras.Model, "fit", fitted)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("method", ["filter", "two_step"])
def test_the_test_images_are_read_once_after_the_last_epoch(method, tmp_path, read_tests):
    config = dataclasses.replace(SMALL, method=method)
    result = training.run(config, tmp_path / "run", verbose=0)
    assert read_tests == [True]
    assert 0 <= result.test_accuracy <= 1
    if method == "two_step":  # what a method chooses to start from has not seen them
        assert run_folder.read_result(tmp_path / "run" / "step1").test_accuracy is None


def refuse_test(self, batch_size):
    raise AssertionError("a test image was read")


@pytest.mark.slow
def test_no_step_of_a_choice_reads_a_test_image(tmp_path, monkeypatch):
    """``fit``, and a search, with test images that can't be read."""
    monkeypatch.setattr(datasets.ImageData, "test", refuse_test)
    result = training.run(SMALL, tmp_path / "run", verbose=0, test=False)
    assert (result.test_accuracy, result.test_loss) == (None, None)
    assert training.run(SMALL, tmp_path / "run", verbose=0, test=False) == result
    with pytest.raises(AssertionError, match="a test image was read"):
        training.run(SMALL, tmp_path / "other", verbose=0)
    assert len(rows(tmp_path / "other")) == SMALL.epochs  # all was trained and saved before


@pytest.mark.slow
@pytest.mark.extras
def test_no_search_reads_a_test_image(tmp_path, monkeypatch):
    from larq_filter.experiments.sweeps import spaces, studies

    monkeypatch.setattr(datasets.ImageData, "test", refuse_test)
    sweep = studies.Sweep(dataclasses.replace(SMALL, epochs=1), spaces.build("filter", ["alpha"]))
    trials = studies.work(sweep, tmp_path, 2, str(tmp_path / "study"), "s")
    assert [trial.state for trial in trials] == ["complete"] * 2


def test_a_run_of_another_division_of_the_images_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(splits, "SPLIT", 1)
        run_folder.write_config(tmp_path, SMALL)
    with pytest.raises(run_folder.RunExists, match="split 1, now 2.*may have been the test images"):
        training.run(SMALL, tmp_path, verbose=0)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["config"]["split"]  # as it was before there was a word for it
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(run_folder.RunExists, match="split 1, now 2"):
        training.run(SMALL, tmp_path, verbose=0)


def test_more_steps_than_there_are_leave_no_folder(tmp_path):
    wrong = dataclasses.replace(SMALL, steps_per_epoch=7)
    with pytest.raises(ValueError, match="steps_per_epoch is 7, but 300 training images make 6"):
        training.run(wrong, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("all my work")
    with pytest.raises(run_folder.RunExists, match="holds no run"):
        training.run(SMALL, tmp_path, verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_a_wrong_argument_leaves_a_folder_that_can_be_used(tmp_path):
    wrong = dataclasses.replace(SMALL, model="mpl")
    with pytest.raises(ValueError, match="mlp"):
        training.run(wrong, tmp_path / "run", verbose=0)
    training.run(dataclasses.replace(SMALL, epochs=1), tmp_path / "run", verbose=0)


@pytest.mark.slow
def test_bop_model_is_saved_without_the_optimizer_that_would_not_train(uninterrupted):
    folder = pathlib.Path(uninterrupted("larq_bop").output_dir)
    model = keras.models.load_model(folder / "model.keras")
    assert not getattr(model, "optimizer", None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, ["epochs", "0", "[1, 1000000000000]"]),
        ({"batch_size": -5}, ["batch_size", "-5"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"steps_per_epoch": 0}, ["steps_per_epoch"]),
    ],
)
def test_config_errors(change, words):
    with pytest.raises(ValueError) as raised:
        dataclasses.replace(SMALL, **change)
    for word in words:
        assert word in str(raised.value)


def run_script(*flags, name="train.py"):
    command = [sys.executable, str(ROOT / "examples" / name), *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pets/", "pets"),
        ("/a/pets//", "/a/pets"),
        ("/", "/"),
        ("./pets", "pets"),
        ("gs://a/b", "gs://a/b"),
    ],
)
def test_a_folder_is_the_same_however_it_is_completed(typed, meant):
    assert run_folder.Config(dataset=typed).dataset == meant


@pytest.mark.slow
def test_a_word_without_flag_is_refused(tmp_path):
    ended = run_script("bop", f"--output_dir={tmp_path / 'run'}")
    assert ended.returncode != 0
    assert "'bop' belongs to no flag" in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_interrupted_script_says_so_in_one_line(tmp_path):
    """Ctrl-C once the first checkpoint is there."""
    folder = tmp_path / "run"
    command = [sys.executable, str(ROOT / "examples" / "train.py"), f"--output_dir={folder}"]
    command += ["--model=mlp", "--width=16", "--epochs=1000", "--train_examples=300"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    # Shells start their background jobs deaf to Ctrl-C, which children inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, env=environment, **pipes) as process:
        signal.signal(signal.SIGINT, before)
        deadline = time.monotonic() + 120
        while not (folder / "checkpoints" / "checkpoint").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "Interrupted. The same command continues."
    assert "Traceback" not in said


@pytest.mark.slow
def test_killed_script_continues_to_the_same_weights(uninterrupted, tmp_path):
    """SIGKILL once the first checkpoint is there; the same command again."""
    folder = tmp_path / "run"
    command = [sys.executable, str(ROOT / "examples" / "train.py"), f"--output_dir={folder}"]
    command += ["--model=mlp", "--width=16", "--epochs=4", "--train_examples=300", "--control=no"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, **quiet)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "checkpoint").exists():
        assert process.poll() is None, "the script ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "Continues the run" in again.stdout or "nothing to train" in again.stdout
    for a, b in zip(weights(folder), weights(uninterrupted("filter").output_dir), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_run_of_an_older_version_is_continued(tmp_path, monkeypatch):
    """tests/saved/run, whose process ended after two of three epochs."""
    folder = shutil.copytree(ROOT / "tests" / "saved" / "run", tmp_path / "run")
    reader = tf.train.load_checkpoint(str(folder / "checkpoints" / "ckpt-2"))
    config = run_folder.Config(model="mlp", width=8, epochs=3, train_examples=100, batch_size=50)
    fit, compared = keras.Model.fit, []

    def checked(model, *arguments, initial_epoch, **keywords):
        assert initial_epoch == 2 and int(model.optimizer.iterations) == 4
        with_weights = [layer for layer in model.layers if layer.weights]
        for name in reader.get_variable_to_shape_map():
            part, _, key = name.partition("/.ATTRIBUTES")
            if part.startswith("model/layer_with_weights-") and key == "/VARIABLE_VALUE":
                _, number, attribute = part.split("/")
                layer = with_weights[int(number.rpartition("-")[2])]
                value = binary.latent(getattr(layer, attribute))
                np.testing.assert_array_equal(value, reader.get_tensor(name))
                compared.append(name)
        return fit(model, *arguments, initial_epoch=initial_epoch, **keywords)

    monkeypatch.setattr(keras.Model, "fit", checked)
    result = training.run(config, folder, verbose=0)
    assert len(compared) == 10
    assert [row["epoch"] for row in rows(folder)] == ["0", "1", "2"]
    assert result.epochs == 3
