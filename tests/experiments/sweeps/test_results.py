"""What is said about a search: trials needed, the summary, tables, TensorBoard, pictures."""

import csv
import dataclasses
import itertools
import shlex

import numpy as np
import pytest

from larq_filter._keras import tf
from larq_filter.datasets import splits
from larq_filter.experiments import run_folder
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.sweeps import results
from larq_filter.experiments.sweeps.results import Trial
from larq_filter.experiments.sweeps.spaces import Range
from sweeping import CONFIG


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
    assert line[:2] == ["larq-filter", "train"]
    assert {"--dataset=my data", "--download", "--noaugment", "--alpha=1e-05"} <= set(line)
    assert {"--width=8", "--train_examples=100", "--epochs=4", "--method=filter"} <= set(line)


def test_a_folder_of_other_files_is_no_search(tmp_path):
    results.refuse_other_files(tmp_path / "new", "study.sqlite")
    (tmp_path / ".DS_Store").touch()
    results.refuse_other_files(tmp_path, "study.sqlite")
    (tmp_path / "trials.csv").write_text("my own")
    with pytest.raises(run_folder.RunExists, match="not empty and holds no search"):
        results.refuse_other_files(tmp_path, "postgresql://host/database")
    for name in ("0007", "sweep.json", "my.sqlite"):
        (tmp_path / name).touch()
        results.refuse_other_files(tmp_path, "runs/my.sqlite")
        (tmp_path / name).unlink()


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
    for number, content in enumerate(("{", "{}", "[]", '{"config": 3}')):
        folder = tmp_path / f"damaged{number}"
        folder.mkdir()
        (folder / "sweep.json").write_text(content)
        with pytest.raises(ValueError, match=r"damaged\d/sweep.json is damaged"):
            results.compare([tmp_path / "a", folder])
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
    plugin_data_pb2 = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")

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


@pytest.mark.extras
@pytest.mark.parametrize(
    ("knobs", "names"),
    [
        (["alpha", "gamma"], ["history.png", "contour.png"]),
        (["alpha"], ["history.png", "slice.png"]),
    ],
)
def test_pictures_of_a_search(tmp_path, knobs, names, said):
    optuna, plt = pytest.importorskip("optuna"), pytest.importorskip("matplotlib.pyplot")
    study = optuna.create_study(direction="maximize")
    spread = optuna.distributions.FloatDistribution(0.01, 1.0, log=True)
    before = dict(plt.rcParams), plt.get_fignums()
    for number in range(1, 11):
        if number in (1, 2, 3, 10):
            drawn = [] if number < 3 else [name for name in names if name != "contour.png"]
            assert [path.name for path in results.draw(tmp_path, study)] == drawn
        trial = optuna.create_trial(
            params={name: 0.05 * number for name in knobs},
            distributions=dict.fromkeys(knobs, spread),
            value=0.1 * number,
        )
        study.add_trial(trial)
    missing = "No contour.png yet: it is drawn from 10 completed trials on, and there are"
    assert said == [f"{missing} {n}." for n in (2, 9) if "contour.png" in names]
    paths = results.draw(tmp_path, study)
    assert [path.name for path in paths] == names
    assert all(path.stat().st_size > 1000 for path in paths)
    assert (dict(plt.rcParams), plt.get_fignums()) == before
