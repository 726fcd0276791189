"""Searches: spaces, exactly so many trials whoever runs them, what is said about them."""

import csv
import dataclasses
import itertools
import json
import math
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import sweeping
from larq_filter import plots
from larq_filter._keras import tf
from larq_filter.datasets import splits
from larq_filter.experiments import locks, methods, run_folder, training
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.sweeps import results, spaces, storages, studies, urls
from larq_filter.experiments.sweeps.results import Trial
from larq_filter.experiments.sweeps.spaces import Choices, Range
from sweeping import CONFIG, SWEEP

forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """``work`` at a study in a file, with a formula for training."""
    pytest.importorskip("optuna")
    sweeping.replace_training(monkeypatch)
    place = {"folder": tmp_path / "out", "storage": str(tmp_path / "file"), "study": "s"}
    said = []

    def work(trials, sweep=SWEEP, **others):
        arguments = {**place, "say": said.append, **others}
        return studies.work(sweep, trials=trials, **arguments)

    work.place, work.said = place, said
    return work


def records(work, **place):
    """All records of a study, the hidden ones too."""
    import optuna

    place = {**work.place, **place}
    storage, _ = storages.open_storage(place["storage"], 1, print)
    return optuna.load_study(study_name=place["study"], storage=storage)


# Spaces -------------------------------------------------------------------------------------------


def test_every_method_has_a_space_around_its_recipe():
    for method in methods.names():
        space = spaces.build(method)
        defaults = methods.METHODS[method].knobs
        assert space
        for name, part in space.items():
            if isinstance(part, Range):
                assert part.low <= defaults[name] <= part.high
                Knobs(**{name: part.low})
                Knobs(**{name: part.high})
            else:
                assert defaults[name] in part.values


def test_default_knobs_are_the_numbers_of_the_recipe_and_a_schedule():
    assert list(spaces.build("filter")) == ["alpha", "gamma", "learning_rate", "alpha_schedule"]
    rates = ["learning_rate", "kernel_learning_rate"]
    assert list(spaces.build("adam")) == [*rates, "learning_rate_schedule"]
    assert list(spaces.build("adam", fixed=Knobs(rest="same"))) == [
        "kernel_learning_rate",
        "learning_rate_schedule",
    ]
    fixed = Knobs(learning_rate=0.01)
    assert list(spaces.build("filter", fixed=fixed)) == ["alpha", "gamma", "alpha_schedule"]
    assert spaces.build("adam", ["weight_decay"]) == {"weight_decay": Range(3.33e-6, 3e-3)}


def test_space_from_text():
    text = "alpha=1e-4:1e-1:log, gamma=0.01:1:linear,alpha_schedule=linear|cosine"
    assert spaces.build("filter", ["alpha_schedule", "alpha", "gamma"], text) == {
        "alpha_schedule": Choices(("linear", "cosine")),
        "alpha": Range(1e-4, 0.1, log=True),
        "gamma": Range(0.01, 1.0, log=False),
    }
    assert spaces.build("filter", None, "alpha_halving_steps=10:100")["alpha_halving_steps"] == (
        Range(10, 100, log=True, whole=True)
    )
    assert spaces.build("sgd", ["momentum"], "momentum=0:0.9")["momentum"].log is False
    assert spaces.build("filter", ["alpha"], "alpha=0.1|0.01")["alpha"] == Choices((0.1, 0.01))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("adam", ["alpha"]), ["adam", "no knob 'alpha'", "learning_rate"]),
        (("adam", None, "gamma=0.1:1"), ["adam", "no knob 'gamma'"]),
        (("addam",), ["addam", "adam"]),
        (("filter", None, "alpha"), ["'alpha' can't be read", "KNOB=LOW:HIGH:log"]),
        (("filter", None, "alpha=1:2:3"), ["alpha=1:2:3", "KNOB=LOW:HIGH:log"]),
        (("filter", None, "alpha=a:b"), ["alpha", "a number", "'a'", "KNOB=LOW"]),
        (("filter", None, "alpha=0.1"), ["leaves nothing to search", "fix it"]),
        (("filter", None, "alpha=0.1:0.01"), ["LOW must be below HIGH"]),
        (("filter", None, "alpha=0.1:7"), ["alpha is 7", "(0, 1]"]),
        (("larq_bop", None, "threshold=0:1:log"), ["above 0"]),
        (("filter", None, "alpha_schedule=linear|cosin"), ["cosin", "cosine"]),
        (("filter", None, "alpha=0.1:1,alpha=0.2:1"), ["alpha twice"]),
        (("filter", ["gamma"], "alpha=0.1:1"), ["alpha", "not among"]),
        (("filter", ["gamma"], "", Knobs(gamma=0.1)), ["gamma", "both searched and fixed"]),
        (("filter", None, "gamma=0.1:1", Knobs(gamma=0.1)), ["both searched and fixed"]),
        (("distilled", ["teacher"]), ["teacher", "no search space", "KNOB=LOW"]),
        (("filter", []), ["nothing to search", "alpha"]),
        (("filter", None, "alpha_halving_steps=1.5:3"), ["whole number", "1.5"]),
    ],
)
def test_space_errors(arguments, words):
    with pytest.raises(ValueError) as raised:
        spaces.build(*arguments)
    for word in words:
        assert word in str(raised.value)


def test_fixed_knobs_from_text():
    fixed = spaces.parse_fixed("learning_rate=0.01, alpha_schedule=cosine", "filter")
    assert fixed == Knobs(learning_rate=0.01, alpha_schedule="cosine")
    with pytest.raises(ValueError, match="KNOB=VALUE"):
        spaces.parse_fixed("learning_rate", "filter")
    with pytest.raises(ValueError, match="no knob 'momentum'"):
        spaces.parse_fixed("momentum=0.9", "filter")


def test_values_are_legible_and_inside():
    part = Range(0.0012344, 0.1)
    assert part.legible(0.0123456) == 0.01235
    assert part.legible(0.00123441) == part.low
    assert Range(1, 9, whole=True).legible(4) == 4


# Passwords ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("postgresql+psycopg2://me:s3cret@host:5432/db", "s3cret"),
        ("mysql+pymysql://me:s3cret@host/db?charset=utf8", "s3cret"),
        ("postgresql://me:s3cret%40@host/db", "s3cret@"),
        ("postgresql://me:s3cret@s3cret@host/db", "s3cret@s3cret"),
        ("postgresql://:s3cret@host/db", "s3cret"),
        ("postgresql://me@host/db?password=s3cret&sslmode=require", "s3cret"),
        ("postgresql://host/db?sslmode=require&password=s3cret", "s3cret"),
    ],
)
def test_no_password_is_shown(url, secret):
    for text in (url, f"--storage={url}", f"can't reach {url}: timeout"):
        assert "s3cret" not in urls.masked(text)
        assert "***" in urls.masked(text)
        assert "host" in urls.masked(text)
        assert urls.masked(urls.masked(text)) == urls.masked(text)
    text = urls.without_secrets(f"wrong password {secret} for {url}", url)
    assert text.startswith("wrong password *** for ")
    assert "s3cret" not in text


def test_what_holds_no_password_is_left_alone():
    for text in ("postgresql://me@host/db", "runs/a@b", "sqlite:///a.db", "--alpha=1:2:log"):
        assert urls.masked(text) == text


# Results ------------------------------------------------------------------------------------------


def finished(*accuracies, pruned=0):
    complete = [Trial(n, "complete", {"alpha": 0.1}, a) for n, a in enumerate(accuracies)]
    return complete + [
        Trial(len(complete) + n, "pruned", {"alpha": 0.1}, 0.99) for n in range(pruned)
    ]


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 1), (5, 2), (6, 3), (6, 6), (7, 2)])
def test_expected_trials_are_the_mean_over_all_orders(n, k):
    accuracies = [0.9 - 0.001 * i for i in range(k)] + [0.5] * (n - k)
    found = results.effort(finished(*accuracies))
    good = [True] * k + [False] * (n - k)
    positions = [order.index(True) + 1 for order in itertools.permutations(good)]
    assert (found.tried, found.close) == (n, k)
    assert found.expected == pytest.approx(np.mean(positions))


def test_trials_needed_as_they_ran():
    trials = finished(0.5, 0.8, 0.895, 0.9, 0.8949, pruned=2)
    found = results.effort(trials)
    assert found.best == 0.9
    assert (found.took, found.tried, found.close) == (3, 7, 2)  # a pruned one is not close
    assert found == results.effort(trials[::-1])
    assert results.best_trial(trials).number == 3
    failed = [Trial(9, "failed", {}), Trial(10, "running", {})]
    assert results.effort(trials + failed) == found
    with pytest.raises(ValueError, match="No trial was completed"):
        results.effort(failed)


def test_rounding_does_not_decide_what_is_half_a_point():
    assert results.effort(finished(0.3, 0.3 - 0.005)).close == 2
    assert results.effort(finished(0.3, 0.3 - 0.0051)).close == 1


def test_summary_says_what_was_found_and_how_to_repeat_it():
    trials = [*finished(0.8, 0.9, pruned=1), Trial(5, "failed", {}, error="ValueError: no.")]
    config = dataclasses.replace(CONFIG, knobs=Knobs(alpha=0.1), download=True, augment=False)
    text = results.summary(trials, [config, dataclasses.replace(config, seed=1)])
    for words in ("2 trials complete, 1 pruned, 1 failed", "trial 5 failed: ValueError: no."):
        assert words in text
    for words in ("trial 1, validation accuracy 0.9000", "--seed=1 ", "--alpha=0.1 "):
        assert words in text
    assert "2 as they ran, 2.0 expected in a random order (1 of 3" in text
    assert "No trial was completed" in results.summary(trials[-1:], [])


def test_command_holds_the_whole_config():
    config = dataclasses.replace(
        CONFIG, dataset="my data", download=True, augment=False, knobs=Knobs(alpha=1e-5)
    )
    line = shlex.split(results.train_command(config))
    assert line[:2] == ["python", "examples/train.py"]
    assert {"--dataset=my data", "--download", "--noaugment", "--alpha=1e-05"} <= set(line)
    assert {"--width=8", "--train_examples=100", "--epochs=4", "--method=filter"} <= set(line)


def test_table_of_several_studies(tmp_path):
    config = {"method": "filter", "space": {"alpha": "", "gamma": ""}, "split": splits.SPLIT}
    about = {"study": "one", "config": config}
    results.write(tmp_path / "a", finished(0.8, 0.9), {"alpha": Range(0.01, 1)}, about)
    results.write(tmp_path / "b", [Trial(0, "failed", {})], {}, {**about, "study": "two"})
    head, one, two = results.compare([tmp_path / "a", tmp_path / "b"]).splitlines()
    assert "to within half a point" in head
    assert one.split() == ["one", "filter", "2", "2", "0.9000", "2", "1.5"]
    assert two.split()[0] == "two"
    with pytest.raises(FileNotFoundError, match="holds no finished search"):
        results.compare([tmp_path / "c"])
    older = {**about, "config": {**config, "split": 1}}
    results.write(tmp_path / "d", finished(0.8), {"alpha": Range(0.01, 1)}, older)
    with pytest.raises(
        run_folder.RunExists, match=r"another division of the images \(split 1, now 2\)"
    ):
        results.compare([tmp_path / "a", tmp_path / "d"])
    with (tmp_path / "a" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row["alpha"], row["accuracy"]) for row in rows] == [
        ("0", "0.1", "0.8"),
        ("1", "0.1", "0.9"),
    ]


def test_hparams_are_those_of_the_trial(tmp_path):
    from tensorboard.plugins.hparams import plugin_data_pb2

    knobs = {"alpha": 0.125, "alpha_schedule": "cosine"}
    results.write_hparams(tmp_path, Trial(3, "pruned", knobs, 0.75, epochs=2, folder="0003"))
    (path,) = (tmp_path / "tensorboard" / "0003").glob("events*")
    shown, scalars = {}, {}
    for record in tf.data.TFRecordDataset(str(path)):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                content = value.metadata.plugin_data.content
                start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
                shown |= {
                    name: part.number_value or part.string_value
                    for name, part in start.hparams.items()
                }
            else:
                scalars[value.tag] = float(tf.make_ndarray(value.tensor))
    assert shown == {**knobs, "state": "pruned"}
    assert scalars == {"validation accuracy": 0.75}


# Pictures -----------------------------------------------------------------------------------------


@pytest.mark.extras
def test_contour_interpolates_between_the_trials():
    points = [(1e-4, 0.01, 0.1), (1e-2, 0.01, 0.3), (1e-4, 1.0, 0.5), (1e-2, 1.0, 0.7)]
    figure = plots.search_contour(points, [(1e-3, 0.5)])
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("alpha", "gamma")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *("complete", "best", "pruned"),
    ]
    x, y, accuracy = (np.array(column) for column in zip(*points, strict=True))
    grid_x, grid_y, surface = plots._interpolated(x, y, accuracy, (True, True))
    middle = [len(grid_x) // 2] * 2
    assert grid_x[middle[0]] == pytest.approx(1e-3)
    assert grid_y[middle[0]] == pytest.approx(0.1)
    assert surface[tuple(middle)] == pytest.approx(0.4)
    dots = axes.collections[-3].get_offsets()
    np.testing.assert_allclose(dots, np.transpose([x, y]))


@pytest.mark.extras
@pytest.mark.parametrize(
    "points", [[(0.1, 0.1, 0.5)], [(0.1, 0.1, 0.5), (0.2, 0.2, 0.6), (0.3, 0.3, 0.7)]]
)
def test_trials_that_span_no_area_are_dots(points):
    x, y, accuracy = np.transpose(points)
    assert plots._interpolated(x, y, accuracy, (False, False)) is None
    figure = plots.search_contour(points, logarithmic=(False, False))
    assert len(figure.axes[0].collections) == 2
    with pytest.raises(ValueError, match="empty"):
        plots.search_contour([])
    with pytest.raises(ValueError, match="empty"):
        plots.search_points([])


@pytest.mark.extras
def test_pictures_of_a_search(tmp_path):
    knobs = [{"alpha": 0.1 * n, "gamma": 1.0 / n, "alpha_schedule": "linear"} for n in (1, 2, 4)]
    trials = [Trial(n, "complete", k, 0.1 * n) for n, k in enumerate(knobs)]
    trials.append(dataclasses.replace(trials[0], number=3, state="pruned"))
    pair = spaces.build("filter", ["alpha", "gamma", "alpha_schedule"])
    assert results.draw(tmp_path, trials[3:], pair) == []
    assert [path.name for path in results.draw(tmp_path, trials, pair)] == ["alpha-gamma.png"]
    single = spaces.build("filter", ["alpha", "alpha_schedule"])
    names = [path.name for path in results.draw(tmp_path, trials, single)]
    assert names == ["alpha.png", "alpha_schedule.png"]
    assert all((tmp_path / name).stat().st_size > 1000 for name in names)


# Locks --------------------------------------------------------------------------------------------


def test_lock_excludes_and_is_given_back(tmp_path):
    one, other = (locks.FileLock(tmp_path / "deep" / "lock") for _ in range(2))
    with one:
        assert not other.acquire(wait=False)
    assert other.acquire(wait=False)
    other.release()
    other.release()
    assert one.acquire()
    one.release()


@pytest.mark.parametrize(
    ("content", "kept"), [(b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n"), (b"a", b""), (b"", b"")]
)
def test_half_a_record_is_dropped(tmp_path, content, kept):
    path = tmp_path / "journal"
    path.write_bytes(content)
    assert locks.drop_torn_line(path) == (content != kept)
    assert path.read_bytes() == kept
    assert not locks.drop_torn_line(tmp_path / "missing")


# Studies, with a formula for training -------------------------------------------------------------


@pytest.mark.extras
def test_resumed_study_equals_the_uninterrupted_one(study, tmp_path):
    whole = study(14)
    sweeping.assert_complete(whole, 14)
    other = {"storage": str(tmp_path / "other"), "folder": tmp_path / "other-out"}
    assert len(study(5, **other)) == 5
    assert sweeping.without_worker(study(14, **other)) == sweeping.without_worker(whole)
    assert study(14) == whole
    assert len(study(3)) == 14
    assert study(1, dataclasses.replace(SWEEP, sampler_seed=1), study="t")[0].knobs != (
        whole[0].knobs
    )


@pytest.mark.extras
def test_trial_tells_what_it_did(study):
    first = study(1)[0]
    assert first.accuracy == pytest.approx(sweeping.accuracy(SWEEP.configs(first.knobs)[0]))
    assert (first.state, first.epochs, first.folder) == ("complete", 4, "0000")
    assert (first.flip_ratio, first.flips_per_weight, first.seconds) == (0.01, 2.0, 0.5)
    assert first.worker.endswith(f":{os.getpid()}")
    assert any("Trial 0: alpha=" in line for line in study.said)


@pytest.mark.extras
def test_result_is_the_mean_over_the_seeds(study, monkeypatch):
    seen = []

    def run(config, folder, verbose, report, test):
        seen.append((config.seed, pathlib.Path(folder).name))
        for epoch in range(config.epochs):
            report(epoch, {"loss": 1.0, "val_accuracy": 0.1})
        return dataclasses.replace(RESULT, accuracy=0.1 * config.seed)

    monkeypatch.setattr(training, "run", run)
    config = dataclasses.replace(CONFIG, seed=4)
    (trial,) = study(1, dataclasses.replace(SWEEP, config=config, seeds=3))
    assert trial.accuracy == pytest.approx(0.5)
    assert trial.epochs == 12
    assert seen == [(4, "seed4"), (5, "seed5"), (6, "seed6")]


RESULT = run_folder.Result("", 1, 0.5, 1.0, 0.5, 1.0, 0.01, 2.0, (1, 1), 0.5, 8.0)


@pytest.mark.extras
def test_lagging_trials_are_pruned_and_say_so(study, monkeypatch):
    calls = itertools.count()

    def run(config, folder, verbose, report, test):
        level = [0.8, 0.9, 0.5, 0.95][next(calls)]
        for epoch in range(config.epochs):
            report(epoch, {"loss": 1.0, "val_accuracy": level})
        return dataclasses.replace(RESULT, accuracy=level)

    monkeypatch.setattr(training, "run", run)
    trials = study(4, dataclasses.replace(SWEEP, prune_after=2))
    assert [trial.state for trial in trials] == ["complete", "complete", "pruned", "complete"]
    assert trials[2].accuracy == 0.5
    assert trials[2].epochs == 2  # of 4: not in the first quarter
    assert "Trial 2: pruned after epoch 2 of 4, validation accuracy 0.5000" in study.said


@pytest.mark.extras
def test_no_trial_is_pruned_after_its_last_epoch(study, monkeypatch):
    levels = iter([[0.5] * 4, [0.6, 0.6, 0.6, 0.9], [0.6, 0.6, 0.6, 0.1]])

    def run(config, folder, verbose, report, test):
        values = next(levels)
        for epoch, value in enumerate(values):
            report(epoch, {"loss": 1.0, "val_accuracy": value})
        return dataclasses.replace(RESULT, accuracy=values[-1])

    monkeypatch.setattr(training, "run", run)
    trials = study(3, dataclasses.replace(SWEEP, prune_after=1))
    assert [trial.state for trial in trials] == ["complete"] * 3


@pytest.mark.extras
def test_failed_trials_are_recorded_and_do_not_count(study, monkeypatch):
    calls = itertools.count()

    def run(config, folder, verbose, report, test):
        if next(calls) in (1, 2):
            report(0, {"loss": math.nan, "val_accuracy": 0.1})
        return sweeping.formula(config, folder, verbose, report, test)

    monkeypatch.setattr(training, "run", run)
    trials = study(3)
    assert [trial.state for trial in trials] == ["complete", *["failed"] * 2, *["complete"] * 2]
    assert trials[1].error == "FloatingPointError: the loss is nan after epoch 1."
    assert any(line.startswith("Trial 1: failed. FloatingPointError") for line in study.said)


@pytest.mark.extras
def test_if_the_first_three_trials_fail_the_search_ends(study, monkeypatch):
    calls = []

    def run(config, folder, verbose, report, test):
        calls.append(config)
        raise FileNotFoundError("There is no data set at postgresql://me:s3cret@host.\nmore")

    monkeypatch.setattr(training, "run", run)
    with pytest.raises(
        studies.StudyError, match="3 trials .* FileNotFoundError: There is"
    ) as raised:
        study(10)
    assert len(calls) == 3
    assert "s3cret" not in f"{raised.value} {study.said}"
    assert "s3cret" not in pathlib.Path(study.place["storage"]).read_text()
    monkeypatch.setattr(training, "run", sweeping.formula)  # mended: the same command goes on
    assert [trial.state for trial in study(2)] == [*["failed"] * 3, *["complete"] * 2]


@pytest.mark.extras
def test_a_search_that_fails_for_ever_ends(study, monkeypatch):
    calls = itertools.count()

    def run(config, folder, verbose, report, test):
        if next(calls):
            raise ValueError
        return sweeping.formula(config, folder, verbose, report, test)

    monkeypatch.setattr(training, "run", run)
    with pytest.raises(studies.StudyError, match="4 trials of this process failed.*no reason"):
        study(4)
    assert next(calls) == 5


@pytest.mark.extras
def test_study_of_another_division_of_the_images_is_refused(study, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(splits, "SPLIT", 1)
        study(1)
    with pytest.raises(studies.StudyError, match="split 1, now 2.*neither continued nor compared"):
        study(2)


@pytest.mark.extras
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": dataclasses.replace(CONFIG, epochs=5)}, ["epochs: 4 there, 5 now"]),
        ({"space": spaces.build("filter", ["alpha"])}, ["space", "gamma"]),
        ({"seeds": 2}, ["seeds: 1 there, 2 now"]),
    ],
)
def test_study_of_something_else_is_refused(study, change, words):
    study(1)
    with pytest.raises(studies.StudyError, match="another name") as raised:
        study(2, dataclasses.replace(SWEEP, **change))
    for word in words:
        assert word in str(raised.value)
    elsewhere = dataclasses.replace(CONFIG, data_dir="/data", download=True)
    assert len(study(2, dataclasses.replace(SWEEP, config=elsewhere))) == 2


@pytest.mark.extras
def test_study_whose_creator_was_killed_at_once_is_adopted(study):
    import optuna

    storage, _ = storages.open_storage(study.place["storage"], 1, print)
    optuna.create_study(storage=storage, study_name="s", direction="maximize")
    assert len(study(1)) == 1


@pytest.mark.extras
def test_interrupted_trial_is_repeated(study, monkeypatch):
    """However often: it was no fault of the trial."""
    calls, interrupts = [], storages.MAX_REPEATS + 3

    def run(config, folder, verbose, report, test):
        calls.append((config.knobs, folder))
        report(0, {"loss": 1.0, "val_accuracy": 0.1})
        if 1 < len(calls) < 2 + interrupts:
            raise KeyboardInterrupt
        return sweeping.formula(config, folder, verbose, report, test)

    monkeypatch.setattr(training, "run", run)
    for number in range(1, 1 + interrupts):
        with pytest.raises(KeyboardInterrupt):
            study(3)
        assert f"Trial {number}: interrupted; the same command goes on with it." in study.said
    sweeping.assert_complete(study(3), 3)
    assert len(set(map(str, calls[1 : 2 + interrupts]))) == 1


@pytest.mark.extras
def test_late_result_of_a_trial_taken_over_is_dropped(study, monkeypatch):
    calls = itertools.count()

    def run(config, folder, verbose, report, test):
        if next(calls) == 1:
            records(study).tell(1, state=records(study).trials[0].state.FAIL)
        return sweeping.formula(config, folder, verbose, report, test)

    monkeypatch.setattr(training, "run", run)
    sweeping.assert_complete(study(3), 3)
    assert any("Trial 1: another process took it over" in line for line in study.said)


@pytest.mark.extras
@pytest.mark.parametrize("kind", ["file", "database"])
def test_trial_too_many_is_closed_unused(study, tmp_path, monkeypatch, kind):
    """Two processes that both saw room for one more."""
    place = {} if kind == "file" else {"storage": f"sqlite:///{tmp_path / 'db'}"}
    study(2, **place)
    steps = iter(["run", "done"])
    monkeypatch.setattr(studies._Worker, "_what_now", lambda self: next(steps))
    assert len(study(2, **place)) == 2
    assert len(records(study, **place).trials) == 3


@pytest.mark.extras
@forks
def test_processes_share_a_file_without_losing_or_doubling_a_trial(study):
    codes = sweeping.fork(4, sweep=SWEEP, trials=24, **study.place)
    assert codes == [0] * 4
    trials = study(24)
    sweeping.assert_complete(trials, 24)
    assert [trial.number for trial in trials] == list(range(24))
    assert len(records(study).trials) == 24  # with a gate none is closed unused


@pytest.mark.extras
@forks
@pytest.mark.parametrize("kind", ["file", "database"])
def test_trial_of_a_killed_process_is_taken_over(study, tmp_path, monkeypatch, kind):
    place = dict(study.place)
    if kind == "database":
        place["storage"] = f"sqlite:///{tmp_path / 'db'}"
    monkeypatch.setattr(training, "run", sweeping.killed_once(tmp_path / "marker"))
    assert sweeping.fork(1, sweep=SWEEP, trials=3, heartbeat=1, **place) == [-signal.SIGKILL]
    before = records(study, **place).trials[0]
    assert before.state.name == "RUNNING"
    began = time.monotonic()
    trials = study(3, storage=place["storage"], heartbeat=1)
    sweeping.assert_complete(trials, 3)
    if kind == "file":
        assert time.monotonic() - began < 3
    (repeated,) = [trial for trial in trials if trial.folder == "0000"]
    assert repeated.number > 0
    assert repeated.epochs == 4
    assert repeated.knobs == before.user_attrs["knobs"]


@pytest.mark.extras
@forks
def test_killed_study_searches_what_the_uninterrupted_one_does(study, tmp_path, monkeypatch):
    """Behind the ten trials that TPE begins with too."""
    whole = study(14)
    place = {**study.place, "storage": str(tmp_path / "killed"), "folder": tmp_path / "k"}
    calls = [0, 3, 4, 11, 15]
    monkeypatch.setattr(training, "run", sweeping.killed_in(calls, tmp_path / "calls"))
    for _ in calls:
        assert sweeping.fork(1, sweep=SWEEP, trials=14, **place) == [-signal.SIGKILL]
    trials = study(14, **{name: place[name] for name in ("storage", "folder")})
    sweeping.assert_complete(trials, 14)
    assert trials[-1].number == 13 + len(calls)
    assert [(t.knobs, t.accuracy) for t in trials] == [(t.knobs, t.accuracy) for t in whole]


@pytest.mark.extras
@forks
@pytest.mark.parametrize("epochs", [range(7), [0, 0, 0, 2, 2, 2, 3]], ids=["each", "at last"])
def test_trial_that_gets_on_is_repeated_however_often(study, tmp_path, monkeypatch, epochs):
    """Also if it gets on only in the last repeat that it has."""
    config = dataclasses.replace(sweeping.CONFIG, epochs=7)
    sweep = dataclasses.replace(SWEEP, config=config)
    monkeypatch.setattr(training, "run", sweeping.killed_after(tmp_path / "lives", epochs))
    for _ in epochs:
        assert sweeping.fork(1, sweep=sweep, trials=2, **study.place) == [-signal.SIGKILL]
    first = records(study).trials[0]
    trials = study(2, sweep)
    sweeping.assert_complete(trials, 2)
    assert trials[0].knobs == first.user_attrs["knobs"]
    assert (trials[0].folder, trials[0].number) == ("0000", len(epochs))


@pytest.mark.extras
@forks
@pytest.mark.parametrize("kind", ["file", "database"])
def test_trial_that_always_ends_its_process_is_given_up_and_reported(
    study, tmp_path, monkeypatch, kind
):
    place = dict(study.place)
    if kind == "database":
        place["storage"] = f"sqlite:///{tmp_path / 'db'}"
    bad = study(1, storage=str(tmp_path / "other"), folder=tmp_path / "o")[0]
    knobs = dataclasses.asdict(SWEEP.configs(bad.knobs)[0].knobs)
    # The first time epoch 0 is reported; then it is repeated three times in vain.
    epochs = [1] * (storages.MAX_REPEATS + 2)
    monkeypatch.setattr(training, "run", sweeping.killed_after(tmp_path / "lives", epochs, knobs))
    for _ in epochs:
        codes = sweeping.fork(1, sweep=SWEEP, trials=2, heartbeat=1, **place)
        assert codes == [-signal.SIGKILL]
    trials = study(2, storage=place["storage"], heartbeat=1)
    failed = [trial for trial in trials if trial.state == "failed"]
    sweeping.assert_complete([trial for trial in trials if trial.state != "failed"], 2)
    assert [trial.knobs for trial in failed] == [bad.knobs]
    assert "ended 4 times in a row without another epoch" in failed[0].error


@pytest.mark.extras
def test_trial_whose_process_ended_before_its_first_heartbeat_is_taken_over(study, tmp_path):
    place = {"storage": f"sqlite:///{tmp_path / 'db'}"}
    study(1, **place)
    with pytest.warns(UserWarning, match="Heartbeat"):
        records(study, **place).ask()
    sweeping.assert_complete(study(2, heartbeat=1, **place), 2)


@pytest.mark.extras
def test_folder_of_a_live_process_is_not_trained_in(study, tmp_path, monkeypatch):
    """A process that was only asleep still holds the folder of the trial taken from it."""
    interrupts = iter([False, True])

    def run(config, folder, verbose, report, test):
        if next(interrupts, False):
            raise KeyboardInterrupt
        return sweeping.formula(config, folder, verbose, report, test)

    monkeypatch.setattr(training, "run", run)
    with pytest.raises(KeyboardInterrupt):
        study(2)
    with locks.FileLock(tmp_path / "out" / "trials" / "0001.lock"):
        assert [trial.folder for trial in study(2)] == ["0000", "0002"]
    with locks.FileLock(tmp_path / "out" / "trials" / "0000.lock"):
        trials = study(1, study="another")
    assert [trial.state for trial in trials] == ["failed", "complete"]
    assert "0000.lock is held by another study" in trials[0].error


@pytest.mark.extras
def test_torn_and_foreign_files(study, tmp_path):
    study(1)
    path = pathlib.Path(study.place["storage"])
    with path.open("a") as file:
        file.write('{"op_code": 4, "wor')
    assert len(study(2)) == 2
    assert any("half a record" in line for line in study.said)
    foreign = tmp_path / "thesis.txt"
    foreign.write_text("all my work\nand more\n")
    with pytest.raises(studies.StudyError, match="no study file"):
        study(1, storage=str(foreign))
    assert foreign.read_text() == "all my work\nand more\n"


@pytest.mark.extras
@pytest.mark.parametrize(
    ("storage", "error", "words"),
    [
        ("nosuch://me:s3cret@host/db", studies.StudyError, "neither a file nor a database URL"),
        (
            "postgresql+psycopg2://me:s3cret@s3:cret@host/db",
            studies.StudyError,
            "neither a file nor",
        ),
        ("mssql+pymssql://me:s3cret@host/db", ImportError, "not installed"),
        ("sqlite:////nowhere/deep/db", studies.StudyError, "unable to open"),
    ],
)
def test_unusable_storage(study, storage, error, words):
    with pytest.raises(error, match=words) as raised:
        study(1, storage=storage)
    assert not any(part in str(raised.value) for part in ("s3cret", "s3:", "cret@"))
    assert raised.value.__cause__ is None


def test_without_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"larq_filter\[sweep\]"):
        studies.work(SWEEP, tmp_path, 1, str(tmp_path / "file"), "s")


# The script ---------------------------------------------------------------------------------------


@pytest.mark.extras
def test_two_scripts_share_a_study_and_one_killed_is_replaced(tmp_path):
    """Three processes, one of them killed in the middle of a trial: exactly four trials."""
    output = tmp_path / "out"
    flags = ["--trials=4", "--knobs=alpha,gamma", "--epochs=6", "--prune_after=2"]
    doomed = sweeping.start(output, *flags)
    deadline = time.monotonic() + 120
    while not list(output.glob("trials/*/seed0/checkpoints/checkpoint")):
        assert doomed.poll() is None, doomed.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    doomed.send_signal(signal.SIGKILL)
    doomed.communicate()
    said = [sweeping.finish(p) for p in [sweeping.start(output, *flags) for _ in range(2)]]
    with (output / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["number"] for row in rows}) == 4
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert len({row["alpha"] for row in rows}) == 4
    assert sum("to within half a point" in text for text in said) == 2
    folders = {row["folder"] for row in rows}
    assert folders == {path.name for path in (output / "trials").iterdir() if path.is_dir()}
    assert folders == {path.name for path in (output / "tensorboard").iterdir()}
    config = json.loads((output / "trials" / "0000" / "seed0" / "config.json").read_text())
    assert config["config"]["knobs"]["alpha"] == float(
        next(row["alpha"] for row in rows if row["folder"] == "0000")
    )
    assert (output / "alpha-gamma.png").exists()
    line = next(text for text in said[0].splitlines() if "examples/train.py" in text)
    command = [sys.executable, *shlex.split(line)[1:], f"--output_dir={tmp_path / 'again'}"]
    environment = os.environ | {"PYTHONPATH": str(sweeping.ROOT)}
    subprocess.run(command, env=environment, cwd=sweeping.ROOT, capture_output=True, check=True)
    again = json.loads((tmp_path / "again" / "result.json").read_text())
    best = json.loads((output / "sweep.json").read_text())["best_trial"]
    assert again["accuracy"] == best["accuracy"]


@pytest.mark.extras
def test_script_says_no_password_and_no_traceback(tmp_path):
    pytest.importorskip("psycopg2")
    url = "postgresql+psycopg2://me:s3cret@127.0.0.1:1/db"
    process = sweeping.start(tmp_path / "out", f"--storage={url}")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: The storage postgresql+psycopg2://me:***@127.0.0.1:1/db can't be used" in err
    assert "Traceback" not in err
    assert "s3cret" not in out + err
