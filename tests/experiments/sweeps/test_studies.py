"""Studies: as many trials as wanted, whoever runs them and whatever ends. Training: a formula."""

import csv
import dataclasses
import itertools
import json
import math
import os
import pathlib
import signal
import time

import pytest

import sweeping
from larq_filter.datasets import splits
from larq_filter.experiments import training
from larq_filter.experiments.sweeps import spaces, storages, studies
from sweeping import CONFIG, SWEEP

pytestmark = [
    pytest.mark.extras,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """``work`` at a study in a file, with a formula for training."""
    pytest.importorskip("optuna")
    sweeping.replace_training(monkeypatch)
    place = {"folder": tmp_path / "out", "storage": str(tmp_path / "deep" / "file"), "study": "s"}

    def work(trials, sweep=SWEEP, **others):
        return studies.work(sweep, trials=trials, **{**place, **others})

    work.place = place
    return work


def records(study):
    """Optuna's study, with all its trials."""
    import optuna

    opened = storages.open_storage(study.place["storage"], 1)
    return optuna.load_study(study_name=study.place["study"], storage=opened)


def in_turn(monkeypatch, *steps):
    """Has the first trainings end in these ways, later ones in the last: levels or exceptions."""
    calls = itertools.count()

    def run(config, folder, verbose, report, test):
        step = steps[min(next(calls), len(steps) - 1)]
        levels = [step] * config.epochs if isinstance(step, float) else step
        if not isinstance(levels, list):
            report(0, {"loss": 1.0, "val_accuracy": 0.1})
            raise step
        for epoch, level in enumerate(levels):
            report(epoch, {"loss": level, "val_accuracy": level})
        return sweeping.result(levels[-1])

    monkeypatch.setattr(training, "run", run)
    return calls


def test_a_study_goes_on_and_repeats_no_proposal(study):
    first = study(2)
    whole = study(4)
    sweeping.assert_complete(whole, 4)
    assert whole[:2] == first
    assert study(3) == whole
    assert study(2, study="same seed")[0].knobs == first[0].knobs
    other = dataclasses.replace(SWEEP, sampler_seed=1)
    assert study(1, other, study="other seed")[0].knobs != first[0].knobs


def test_a_trial_tells_what_it_did(study, said, monkeypatch):
    (trial,) = study(1)
    assert trial.accuracy == pytest.approx(sweeping.accuracy(SWEEP.configs(trial.knobs)[0]))
    assert (trial.state, trial.epochs, trial.folder) == ("complete", 4, "0000")
    assert (trial.flip_ratio, trial.flips_per_weight, trial.seconds) == (0.01, 2.0, 0.5)
    assert trial.worker.endswith(f":{os.getpid()}")
    assert said[0].startswith("Trial 0: alpha=")
    assert said[1] == f"Trial 0: validation accuracy {trial.accuracy:.4f}"


def test_the_result_is_the_mean_over_the_seeds(study, monkeypatch):
    seen = []

    def run(config, folder, verbose, report, test):
        seen.append((config.seed, folder.name))
        for epoch in range(config.epochs):
            report(epoch, {"loss": 1.0, "val_accuracy": 0.1})
        return sweeping.result(0.1 * config.seed)

    monkeypatch.setattr(training, "run", run)
    config = dataclasses.replace(CONFIG, seed=4)
    (trial,) = study(1, dataclasses.replace(SWEEP, config=config, seeds=3))
    assert trial.accuracy == pytest.approx(0.5)
    assert trial.epochs == 12
    assert seen == [(4, "seed4"), (5, "seed5"), (6, "seed6")]


def test_pruned_trials_count_and_none_is_pruned_after_its_last_epoch(study, monkeypatch, said):
    in_turn(monkeypatch, 0.8, 0.9, 0.5, [0.9, 0.9, 0.9, 0.1])
    trials = study(4, dataclasses.replace(SWEEP, prune_after=2))
    assert [trial.state for trial in trials] == ["complete", "complete", "pruned", "complete"]
    assert (trials[2].accuracy, trials[2].epochs) == (0.5, 2)  # of 4: not in the first quarter
    assert "Trial 2: pruned after epoch 2 of 4, validation accuracy 0.5000" in said


def test_failed_trials_are_reported_and_do_not_count(study, monkeypatch, said):
    in_turn(monkeypatch, 0.5, [math.nan], [math.nan], 0.6)
    trials = study(3)
    assert [trial.state for trial in trials] == ["complete", *["failed"] * 2, *["complete"] * 2]
    assert trials[1].error == "FloatingPointError: the loss is nan after epoch 1."
    assert f"Trial 1: failed. {trials[1].error}" in said


def test_if_the_first_three_trials_fail_the_search_ends(study, monkeypatch, said):
    error = FileNotFoundError("There is no data set at postgresql://me:s3cret@host.\nmore")
    calls = in_turn(monkeypatch, error)
    reason = "3 trials .* FileNotFoundError: There is no data set"
    with pytest.raises(studies.StudyError, match=reason) as raised:
        study(10)
    assert next(calls) == 3
    assert "s3cret" not in f"{raised.value} {said}"
    assert b"s3cret" not in pathlib.Path(study.place["storage"]).read_bytes()
    monkeypatch.setattr(training, "run", sweeping.formula)  # mended: the same command goes on
    assert [trial.state for trial in study(2)] == [*["failed"] * 3, *["complete"] * 2]


def test_a_search_that_fails_for_ever_ends(study, monkeypatch):
    calls = in_turn(monkeypatch, 0.5, ValueError())
    with pytest.raises(studies.StudyError, match="4 trials of this process failed.*no reason"):
        study(4)
    assert next(calls) == 5


def test_a_study_of_another_division_of_the_images_is_refused(study, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(splits, "SPLIT", 1)
        study(1)
    with pytest.raises(studies.StudyError, match="split 1, now 2.*neither continued nor compared"):
        study(2)


def test_a_study_of_something_else_is_refused(study):
    study(1)
    for change, words in [
        ({"config": dataclasses.replace(CONFIG, epochs=5)}, "epochs: 4 there, 5 now"),
        ({"space": spaces.build("filter", ["alpha"])}, "gamma: '0.01:1:log' there, None now"),
        ({"seeds": 2}, "seeds: 1 there, 2 now.*another name"),
    ]:
        with pytest.raises(studies.StudyError, match=words):
            study(2, dataclasses.replace(SWEEP, **change))
    elsewhere = dataclasses.replace(CONFIG, data_dir="/data", download=True)
    assert len(study(2, dataclasses.replace(SWEEP, config=elsewhere, sampler_seed=1))) == 2


def test_a_study_whose_creator_was_killed_at_once_is_adopted(study, tmp_path, monkeypatch):
    import optuna

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    (tmp_path / "deep").mkdir()
    opened = storages.open_storage(study.place["storage"], 1)
    optuna.create_study(storage=opened, study_name="s", direction="maximize")
    assert len(study(1)) == 1


def test_an_interrupted_trial_is_tried_again(study, monkeypatch, said):
    in_turn(monkeypatch, 0.5, KeyboardInterrupt(), KeyboardInterrupt(), 0.6)
    for number in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            study(3)
        assert f"Trial {number}: interrupted; the same command tries it again." in said
    sweeping.assert_complete(study(3), 3)
    knobs = [trial.user_attrs["knobs"] for trial in records(study).trials]
    assert knobs[1] == knobs[2] == knobs[3] != knobs[4]


def test_a_late_result_of_a_trial_taken_over_is_dropped(study, monkeypatch, said):
    """Of a process that was only asleep: an epoch of the first trial, the end of the second."""

    def run(config, folder, verbose, report, test):
        found = records(study)
        number = len(found.trials) - 1
        ended = sweeping.formula(config, folder, verbose, report, test) if number else None
        if number < 2:
            found.tell(number, state=found.trials[number].state.FAIL)
        return ended or sweeping.formula(config, folder, verbose, report, test)

    monkeypatch.setattr(training, "run", run)
    (trial,) = study(1)
    assert (trial.number, trial.state) == (2, "complete")
    assert sum("its result is dropped" in line for line in said) == 2


@pytest.mark.slow
def test_a_trial_that_always_ends_its_process_is_given_up(study, tmp_path, monkeypatch):
    for life in range(storages.REPEATS + 1):
        with monkeypatch.context() as patch:
            patch.setattr(training, "run", sweeping.killed_once(tmp_path / str(life)))
            assert sweeping.fork(1, sweep=SWEEP, trials=1, **study.place) == [-signal.SIGKILL]
        sweeping.silence(study.place["storage"])
    failed, complete = study(1)
    assert (failed.state, complete.state) == ("failed", "complete")
    assert failed.error == "its process ended 4 times before it was finished"
    first, *repeats = records(study).trials[:-1]
    assert {repeat.params["alpha"] for repeat in repeats} == {first.params["alpha"]}
    assert complete.knobs != failed.knobs


def test_a_killed_trial_is_tried_again_by_another_process_that_waits(study, tmp_path, monkeypatch):
    """From its start, with the same knobs, after the grace; then there are as many as wanted."""
    monkeypatch.setattr(training, "run", sweeping.killed_once(tmp_path / "marker"))
    began = time.monotonic()
    codes = sweeping.fork(2, sweep=SWEEP, trials=3, heartbeat=1, **study.place)
    assert sorted(codes) == [-signal.SIGKILL, 0]
    assert time.monotonic() - began > 2
    trials = study(3)
    sweeping.assert_complete(trials, 3, processes=2)
    (killed,) = (trial for trial in records(study).trials if trial.state.name == "FAIL")
    (again,) = (trial for trial in trials if trial.knobs == killed.user_attrs["knobs"])
    assert len(killed.intermediate_values) == 2
    assert (again.epochs, again.folder) == (4, f"{again.number:04d}")


def test_processes_share_a_file_without_losing_or_doubling_a_trial(study):
    """All begin at once, and each draws other knobs."""
    assert sweeping.fork(3, sweep=SWEEP, trials=10, **study.place) == [0] * 3
    trials = study(10)
    sweeping.assert_complete(trials, 10, processes=3)
    assert [trial.number for trial in trials] == list(range(len(trials)))


@pytest.mark.slow
def test_the_script(tmp_path):
    """With real training; a second process would find the study finished."""
    output = tmp_path / "out"
    said = sweeping.finish(sweeping.start(output, "--trials=2", "--knobs=alpha,gamma"))
    with (output / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row["state"]) for row in rows] == [("0", "complete"), ("1", "complete")]
    for row in rows:
        folder = output / "trials" / row["folder"] / "seed0"
        config = json.loads((folder / "config.json").read_text())["config"]
        assert config["knobs"]["alpha"] == float(row["alpha"])
        result = json.loads((folder / "result.json").read_text())
        assert result["accuracy"] == float(row["accuracy"])
        assert (output / "tensorboard" / row["folder"]).is_dir()
    assert f"in {output / 'study.sqlite'}: 2 trials of filter" in said
    assert "Trial 1: alpha=" in said and "to within half a point" in said
    assert str(output / "history.png") in said and "No contour.png yet" in said


@pytest.mark.slow
def test_the_script_says_no_password_and_no_traceback(tmp_path):
    pytest.importorskip("psycopg2")
    url = "postgresql+psycopg2://me:s3cret@127.0.0.1:1/db"
    process = sweeping.start(tmp_path / "out", f"--storage={url}")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: The storage postgresql+psycopg2://me:***@127.0.0.1:1/db can't be used" in err
    assert "Traceback" not in err
    assert "s3cret" not in out + err
