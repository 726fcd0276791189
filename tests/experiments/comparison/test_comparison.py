"""Comparisons: nothing is lost, done twice or mixed; numbers against SciPy; checked settings."""

import csv
import dataclasses
import fcntl
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from scipy import stats

from html_reading import Page
from larq_filter import datasets
from larq_filter.datasets import splits
from larq_filter.experiments import comparison, methods, run_folder, tables, training
from larq_filter.experiments.comparison import pages, report, settings, summaries
from larq_filter.experiments.methods.knobs import Knobs
from listening import listening
from paths import ROOT

COMMITTED = ROOT / "larq_filter" / "cli" / "settings.json"
SMALL = run_folder.Config(model="mlp", width=16, epochs=3, train_examples=300)
FLAGS = ["--model=mlp", "--width=16", "--train_examples=300", "--epochs=3", "--seeds=2"]
RECIPES = {
    "filter": settings.Setting(Knobs(alpha=0.02), "a search"),
    "distilled": settings.Setting(Knobs(teacher="lost.keras"), "fails"),
    "frozen": settings.Setting(),
}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def as_file(path, chosen):
    entries = {
        name: {"knobs": setting.knobs.given(), "reason": setting.reason}
        for name, setting in chosen.items()
    }
    return write(path, {"digits": entries})


def compare(*flags):
    """The script as a process."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "compare.py"), *flags],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(outcomes):
    """What must not depend on interruptions: all but time and place."""
    return [row | {"seconds": "", "output_dir": ""} for row in report.run_rows(outcomes, {"x": ""})]


def text(values):
    return [{key: str(value) for key, value in row.items() if key != "x"} for row in values]


def starts(folder):
    """Job to how often it was started."""
    locks = (path for path in (folder / "locks").glob("*.lock") if path.stem != "tables")
    return {path.stem: len(path.read_text().splitlines()) for path in locks}


@pytest.mark.slow
def test_no_run_reads_a_test_image_before_its_last_epoch(tmp_path, monkeypatch):
    """Also of a method that chooses what its second stage starts from."""

    def refuse(self, batch_size):
        raise AssertionError("a test image was read")

    given = {"filter": settings.Setting(), "two_step": settings.Setting()}
    jobs = comparison.make_jobs(SMALL, given, 1)
    compared = comparison.Comparison(tmp_path, jobs)
    with monkeypatch.context() as patch:
        patch.setattr(datasets.ImageData, "test", refuse)
        compared.train()
    errors = [(each.status, each.error.split(": ")[-1]) for each in compared.outcomes()]
    assert errors == [("failed", "a test image was read")] * 2
    own = methods.first_stage("two_step", jobs[1].config.knobs, SMALL.epochs).own_epochs
    epochs = [len(rows(tmp_path / job.name / "metrics.csv")) for job in jobs]
    assert epochs == [SMALL.epochs, own] and 0 < own < SMALL.epochs  # all is trained and saved
    compared.train()
    assert [each.status for each in compared.outcomes()] == ["finished"] * 2


# Real runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The comparison of RECIPES in one go, and what it said."""
    folder = tmp_path_factory.mktemp("comparison") / "results"
    compared = comparison.Comparison(folder, comparison.make_jobs(SMALL, RECIPES, 2))
    with listening() as said:
        compared.train()
    return compared, said


@pytest.mark.slow
def test_a_job_that_fails_does_not_stop_the_others(uninterrupted):
    compared, said = uninterrupted
    outcomes = compared.outcomes()
    by_name = {each.job.name: each.status for each in outcomes}
    assert by_name == {
        "filter-seed0": "finished",
        "distilled-seed0": "failed",
        "frozen-seed0": "finished",
        "filter-seed1": "finished",
        "distilled-seed1": "failed",
        "frozen-seed1": "finished",
    }
    assert "FileNotFoundError" in outcomes[1].error and "lost.keras" in outcomes[1].error
    traceback = (compared.folder / "errors" / "distilled-seed1.txt").read_text()
    assert "Traceback" in traceback and "lost.keras" in traceback
    assert said[0] == "[1/6] filter seed 0 ..."
    assert said[1].endswith(" left") and " left" not in said[-1]
    text = "\n".join(said)
    assert "[2/6] distilled seed 0: FAILED: FileNotFoundError" in text
    assert f"[3/6] frozen seed 0: {outcomes[2].result.accuracy:.4f} in " in text


@pytest.mark.slow
def test_runs_are_those_of_training(uninterrupted, tmp_path):
    compared, _ = uninterrupted
    config = dataclasses.replace(SMALL, knobs=Knobs(alpha=0.02), seed=1)
    alone = training.run(config, tmp_path / "run", verbose=0)
    found = compared.outcomes()[3].result
    assert dataclasses.replace(found, output_dir="", seconds=0) == dataclasses.replace(
        alone, output_dir="", seconds=0
    )


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_numbers(uninterrupted, tmp_path):
    """SIGKILL in the second epoch of the second run that trains."""
    folder, file = tmp_path / "results", as_file(tmp_path / "mine.json", RECIPES)
    flags = [*FLAGS, f"--methods={','.join(RECIPES)}", f"--output_dir={folder}"]
    flags.append(f"--hyperparameters={file}")
    process = compare(*flags)
    deadline = time.monotonic() + 900
    while not (folder / "frozen-seed0" / "checkpoints" / "checkpoint").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finished = folder / "filter-seed0" / "model.keras"
    written = finished.stat().st_mtime_ns
    process = compare(*flags)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 1, err  # of the runs that fail
    assert "Some runs failed" in err
    assert finished.stat().st_mtime_ns == written
    counts = starts(folder)
    assert counts["filter-seed0"] == counts["filter-seed1"] == 1
    assert counts["frozen-seed0"] == 1 or "Continues the run in" in out
    compared, _ = uninterrupted
    expected = compared.outcomes()
    found = [row | {"seconds": "", "output_dir": ""} for row in rows(folder / "runs.csv")]
    source = {"hyperparameters": "Hyperparameters: mine.json, section digits."}
    wanted = text(numbers(expected))
    assert [{**row, **source} for row in wanted] == found
    table = (folder / "table.md").read_text()
    assert table in out
    ours = report.markdown(summaries.summarize(expected), "any").splitlines()
    theirs = table.splitlines()
    assert [line.split("|")[:-3] for line in theirs[2:7]] == [
        line.split("|")[:-3] for line in ours[2:7]
    ]  # without the wall time
    assert theirs[8:13] == ours[8:13]  # differences
    assert "mine.json, section digits" in table and "last epoch, not of the best" in table
    assert "- FAILED: distilled-seed0: FileNotFoundError" in table


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path):
    folder = tmp_path / "results"
    flags = [*FLAGS, "--epochs=1", "--methods=filter,frozen"]
    processes = [compare(*flags, f"--{flag}={folder}") for flag in ("output_dir", "results")]
    answers = [process.communicate(timeout=900) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    names = {f"{method}-seed{seed}" for method in ("filter", "frozen") for seed in (0, 1)}
    assert starts(folder) == dict.fromkeys(names, 1)
    for out, _ in answers:
        assert out.count("(2) |") == 2 + 3  # both tables are whole: results, differences
        assert out.endswith(f"\nThe whole result on a page: {folder / 'comparison.html'}\n")
    said = ["--results is --output_dir now." in out for out, _ in answers]
    assert said == [False, True]
    page = Page((folder / "comparison.html").read_text())
    assert page.links == [] and [row[0] for row in page.tables[0]][0] == "method"
    shown = {row[0]: row[1] for row in page.tables[0][1:]}
    accuracy = {row["method"]: row["accuracy_mean"] for row in rows(folder / "summary.csv")}
    assert {float(value) for value in accuracy.values()} == {
        np.mean([float(row["accuracy"]) for row in rows(folder / "runs.csv") if row["method"] == m])
        for m in accuracy
    }
    for method, mean in accuracy.items():
        assert shown[method].startswith(f"{float(mean):.4f} ")


def made(method, accuracies, folder):
    """The summary of runs that were never made, with a config.json of other defaults."""
    folder = folder / method
    folder.mkdir()
    content = {"config": {}, "resolved": {"knobs": {"alpha": 0.125, "alpha_schedule": method}}}
    write(folder / "config.json", content)
    outcomes = []
    for seed, accuracy in enumerate(accuracies):
        config = dataclasses.replace(SMALL, method=method, seed=seed)
        result = result_of(config, folder, accuracy) if accuracy else None
        job = comparison.Job(config, "<i>a reason</i>")
        status = "finished" if accuracy else "failed"
        outcomes.append(comparison.Outcome(job, status, result, "" if accuracy else "no <luck>"))
    return summaries.summarize(outcomes)[0]


@pytest.mark.parametrize(
    ("filter_", "frozen", "mark", "words"),
    [
        ([0.9, 0.8], [0.5, 0.41], "good", "+0.3950 [+0.3315, +0.4585] (2) above frozen"),
        ([0.9, 0.8], [0.5, 0.75], "unsure", "holds zero, so these seeds do not tell them apart"),
        (
            [0.9, 0.7],
            [0.7, 0.9],
            "unsure",
            "filter and frozen have the same validation accuracy: 0.8",
        ),
        ([0.9], [0.5], "unsure", "+0.4000 (1) above frozen, the next one: one seed says nothing"),
        ([0.9, 0.8], [0.5, None], "unsure", "3 of 4 runs are finished.FAILED: frozen-seed1: no <l"),
        ([None], [None], "bad", "There is no result.0 of 2 runs are finished"),
    ],
)
def test_the_page_says_what_the_tables_say(filter_, frozen, mark, words, tmp_path):
    summed = [made("filter", filter_, tmp_path), made("frozen", frozen, tmp_path)]
    text = pages.page(summed, "a & b", ["a note"], {}, "No Matplotlib.")
    page = Page(text)
    assert words in page.verdict and f'class="verdict {mark}"' in text
    assert page.links == [] and page.images == 0 and "No Matplotlib." in text
    assert "i" not in page.tags and "<title>a &amp; b</title>" in text
    results, differences, *_, knobs = page.tables
    default = methods.METHODS["filter"].knobs["alpha"]
    used = "alpha=0.125, alpha_schedule=filter" if filter_[0] else f"alpha={default}, "
    assert knobs[1][0] == "filter" and knobs[1][1].startswith(used)
    for row, cells in zip(report.summary_rows(summed), results[1:], strict=True):
        assert cells[0] == row["method"]
        if row["n"]:
            assert cells[1].startswith(f"{row['accuracy_mean']:.4f}")
            assert float(cells[4]) == pytest.approx(row["flips_per_weight_mean"], rel=1e-2)
        if row["n"] > 1:
            assert cells[1].split(" ")[2] == f"{row['accuracy_std']:.4f}"
    if row["n"]:
        above = report.summary_rows(summed)[0]["accuracy_above_frozen_mean"]
        assert differences[1][1].startswith(f"{above:+.4f}")


@pytest.mark.slow
def test_wrong_flags(tmp_path):
    process = compare("--methods=filtre", f"--output_dir={tmp_path / 'results'}")
    _, err = process.communicate(timeout=900)
    assert process.returncode == 1
    assert "error: there is no method 'filtre'. Did you mean filter?" in err
    assert "Traceback" not in err
    assert not (tmp_path / "results").exists()


# Claims, with runs that take no time --------------------------------------------------------------


def result_of(config, folder, accuracy=None, **others):
    """A hand-made result."""
    values = {
        "output_dir": str(folder), "epochs": config.epochs, "accuracy": accuracy or 0.5,
        "loss": 1.0, "train_accuracy": 0.5, "train_loss": 2.0, "flip_ratio": 0.01,
        "flips_per_weight": 3.0, "flipped_layers": (2, 2), "seconds": 10.0,
        "optimizer_bytes_per_weight": 8.0, "test_accuracy": 0.25, "test_loss": 3.0,
    }  # fmt: skip
    return run_folder.Result(**{**values, **others})


@pytest.fixture
def instant(monkeypatch):
    """Runs are replaced by files; returns the names of the runs that were started."""
    started = []

    def run(config, output_dir, verbose="auto", report=None, test=True):
        folder = pathlib.Path(output_dir)
        run_folder.refuse_other_run(folder, config)
        result = result_of(config, folder)
        if not (folder / "result.json").exists():
            started.append(folder.name)
            if config.method in broken:
                raise RuntimeError("no luck")
            run_folder.write_config(folder, config)
            run_folder.write_result(folder, result)
        return result

    broken = set()
    monkeypatch.setattr(training, "run", run)
    monkeypatch.setattr(comparison.jobs, "_check_shared_part", lambda config: {})
    monkeypatch.setattr(comparison.jobs, "POLL", 0.02)
    run.started, run.broken = started, broken
    return run


def test_a_comparison_of_another_division_of_the_images_is_refused(tmp_path, instant, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(splits, "SPLIT", 1)
        small(tmp_path).train()
    with pytest.raises(run_folder.RunExists, match="split 1, now 2.*may have been the test images"):
        small(tmp_path)


def small(folder, seeds=2, base=SMALL, chosen=("filter", "frozen")):
    setting = dict.fromkeys(chosen, settings.Setting())
    return comparison.Comparison(folder, comparison.make_jobs(base, setting, seeds))


def test_a_claimed_job_is_left_to_its_process(instant, tmp_path):
    compared = small(tmp_path)
    with (tmp_path / "locks" / "frozen-seed0.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        compared.train(wait=False)
        assert [each.status for each in compared.outcomes()] == [
            "finished", "running", "finished", "finished",
        ]  # fmt: skip
        table = report.markdown(summaries.summarize(compared.outcomes()), "any")
        assert "frozen-seed0 is still being run by another process" in table
        assert "(1, 1 running)" in table
    assert compared.outcomes()[1].status == "missing"
    compared.train()
    assert instant.started == ["filter-seed0", "filter-seed1", "frozen-seed1", "frozen-seed0"]


def test_it_waits_and_takes_over_what_is_left_unfinished(instant, tmp_path, said):
    compared = small(tmp_path)
    lock = (tmp_path / "locks" / "filter-seed1.lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(0.3, lock.close).start()
    compared.train()
    assert said.count("Waiting for another process to finish filter-seed1") == 1
    assert instant.started[-1] == "filter-seed1" and len(instant.started) == 4


def test_a_job_that_failed_is_tried_again(instant, tmp_path):
    compared = small(tmp_path, seeds=1)
    instant.broken.add("filter")
    compared.train()
    assert [each.status for each in compared.outcomes()] == ["failed", "finished"]
    assert compared.outcomes()[0].error == "RuntimeError: no luck"
    instant.broken.clear()
    compared.train()
    assert [each.status for each in compared.outcomes()] == ["finished", "finished"]
    assert not list((tmp_path / "errors").iterdir())
    assert instant.started == ["filter-seed0", "frozen-seed0", "filter-seed0"]


def test_more_seeds_add_runs(instant, tmp_path):
    small(tmp_path, seeds=1).train()
    small(tmp_path, seeds=2).train()
    assert instant.started == ["filter-seed0", "frozen-seed0", "filter-seed1", "frozen-seed1"]


@pytest.mark.parametrize("finished", [True, False])
def test_runs_of_another_config_are_never_mixed_in(finished, instant, tmp_path):
    small(tmp_path, seeds=1).train()
    if not finished:
        (tmp_path / "filter-seed0" / "result.json").unlink()
    changed = comparison.make_jobs(SMALL, {"filter": settings.Setting(Knobs(alpha=0.5))}, 1)
    with pytest.raises(run_folder.RunExists) as raised:
        comparison.Comparison(tmp_path, changed)
    for words in (
        "filter-seed0",
        "(alpha: None there, 0.5 now)",
        "another results folder",
        "remove the runs",
    ):
        assert words in str(raised.value)
    with pytest.raises(run_folder.RunExists, match="epochs: 3 there, 5 now"):
        small(tmp_path, base=dataclasses.replace(SMALL, epochs=5))
    assert instant.started == ["filter-seed0", "frozen-seed0"]


def test_an_argument_that_is_wrong_for_every_job_stops_at_once(tmp_path):
    for change, words in [
        ({"model": "mpl"}, "mlp"),
        ({"batch_size": 301}, "301"),
        ({"steps_per_epoch": 7}, "7"),
        ({"dataset": "/nowhere/at/all"}, "nowhere"),
    ]:
        if "dataset" in change:
            pytest.importorskip("tensorflow_datasets")
        compared = small(tmp_path / words, base=dataclasses.replace(SMALL, **change))
        with pytest.raises((ValueError, OSError), match=words):
            compared.train()
        assert not list((tmp_path / words).glob("*-seed*"))


def test_too_few_epochs_for_two_stages_are_found_before_any_job(tmp_path):
    base = run_folder.Config(model="mlp", epochs=1)
    chosen = {name: settings.Setting() for name in ("filter", "two_step")}
    with pytest.raises(ValueError, match="two_step trains twice.*at least 2; received 1"):
        comparison.Comparison(tmp_path / "results", comparison.make_jobs(base, chosen, 1))
    assert not (tmp_path / "results").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="can't be written.*Choose another"):
        small(tmp_path / "file" / "results")


def test_a_folder_of_other_files_is_refused_and_left_as_it_is(instant, tmp_path):
    (tmp_path / "table.md").write_text("my own")
    with pytest.raises(run_folder.RunExists, match="not empty and holds no comparison"):
        small(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["table.md"]
    (tmp_path / "table.md").rename(tmp_path / ".hidden")
    small(tmp_path, seeds=1).train()
    shutil.rmtree(tmp_path / "locks")  # as after a copy of the runs alone
    small(tmp_path, seeds=1).train()
    assert instant.started == ["filter-seed0", "frozen-seed0"]


def test_jobs_begin_with_all_methods_of_seed_0():
    chosen = {"filter": settings.Setting(Knobs(gamma=0.2), "why"), "frozen": settings.Setting()}
    jobs = comparison.make_jobs(dataclasses.replace(SMALL, seed=9), chosen, 2)
    assert [job.name for job in jobs] == [
        "filter-seed0", "frozen-seed0", "filter-seed1", "frozen-seed1",
    ]  # fmt: skip
    assert jobs[2].config == dataclasses.replace(SMALL, knobs=Knobs(gamma=0.2), seed=1)
    assert jobs[2].reason == "why"
    with pytest.raises(ValueError, match="seeds is 0"):
        comparison.make_jobs(SMALL, chosen, 0)


# Numbers ------------------------------------------------------------------------------------------

ACCURACIES = {
    "filter": [0.90, 0.93, 0.91, 0.95, 0.92],
    "adam": [0.89, 0.93, 0.88, 0.91, 0.90],
    "frozen": [0.41, 0.44, 0.38, 0.47, 0.40],
}


def outcomes_of(accuracies, missing=()):
    """Hand-made outcomes; of ``missing`` jobs the run failed."""
    made = []
    for method, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            config = dataclasses.replace(SMALL, method=method, seed=seed)
            job = comparison.Job(config, "by hand")
            if job.name in missing:
                made.append(comparison.Outcome(job, "failed", error="OSError: disk"))
                continue
            result = result_of(
                config,
                job.name,
                accuracy,
                train_loss=2 - accuracy,
                flipped_layers=(2 - seed % 2, 2),
            )
            made.append(comparison.Outcome(job, "finished", result))
    return made


@pytest.mark.parametrize("n", [2, 3, 5])
def test_paired_difference_is_students(n):
    one, other = (np.array(ACCURACIES[name][:n]) for name in ("adam", "filter"))
    found = summaries.paired_difference(dict(enumerate(one)), dict(enumerate(other)))
    test = stats.ttest_rel(one, other)
    interval = test.confidence_interval(0.95)
    assert found.n == n
    np.testing.assert_allclose(found.mean, np.mean(one - other), rtol=1e-12)
    np.testing.assert_allclose((found.low, found.high), interval, rtol=1e-9)
    assert (found.low <= 0 <= found.high) == (test.pvalue >= 0.05)


def test_only_seeds_that_both_have_are_paired():
    found = summaries.paired_difference({0: 0.9, 2: 0.7, 3: 0.6}, {2: 0.5, 0: 0.8, 1: 0.1})
    interval = stats.ttest_rel([0.9, 0.7], [0.8, 0.5]).confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), interval)
    one = summaries.paired_difference({0: 0.9}, {0: 0.5, 1: 0.1})
    assert one.n == 1 and one.mean == pytest.approx(0.4) and math.isnan(one.low)
    none = summaries.paired_difference({0: 0.9}, {1: 0.5})
    assert none.n == 0 and math.isnan(none.mean)


def test_spread_is_numpys():
    values = ACCURACIES["adam"]
    found = summaries.Spread.of(values)
    assert found.mean == np.mean(values) and found.deviation == np.std(values, ddof=1)
    assert math.isnan(summaries.Spread.of([0.5]).deviation)
    assert summaries.Spread.of([]).n == 0


def test_table_of_hand_made_results():
    summed = summaries.summarize(outcomes_of(ACCURACIES, missing=("adam-seed1",)))
    assert [each.method for each in summed] == ["filter", "adam", "frozen"]
    lines = report.markdown(summed, "by hand", ["a note"]).splitlines()
    assert lines[0] == "# by hand"
    mean, deviation = np.mean(ACCURACIES["filter"]), np.std(ACCURACIES["filter"], ddof=1)
    assert lines[4] == (
        f"| filter | {mean:.4f} ± {deviation:.4f} (5) | 0.2500 ± 0.0000 "
        f"| {2 - mean:.4f} ± {deviation:.4f} | 3 | 1 of 2 | 10 | 8 |"
    )
    assert "| adam | 0.8950 ± 0.0129 (4, 1 failed) |" in lines[5]
    assert lines[8] == (
        "| method | accuracy above frozen | training loss below frozen | accuracy above filter |"
    )
    above = np.array(ACCURACIES["filter"]) - ACCURACIES["frozen"]
    low, high = stats.ttest_1samp(above, 0).confidence_interval(0.95)
    cell = f"{above.mean():+.4f} [{low:+.4f}, {high:+.4f}] (5)"
    assert lines[10] == f"| filter | {cell} | {cell} | - |"
    adam = np.delete(np.array(ACCURACIES["adam"]) - ACCURACIES["filter"], 1)
    low, high = stats.ttest_1samp(adam, 0).confidence_interval(0.95)
    assert lines[11].endswith(f"| {adam.mean():+.4f} [{low:+.4f}, {high:+.4f}] (4) |")
    assert lines[12].startswith("| frozen | - | - | -")
    assert "- a note" in lines and "- FAILED: adam-seed1: OSError: disk" in lines


def test_table_without_control_reference_or_spread():
    outcomes = outcomes_of({"adam": [0.5], "sgd": [0.7], "bold": [0.1]}, missing=("bold-seed0",))
    lines = report.markdown(summaries.summarize(outcomes), "one seed").splitlines()
    assert [line.split(" | ")[0] for line in lines[4:7]] == ["| sgd", "| adam", "| bold"]
    assert "| 0.7000 (1) | 0.2500 | 1.3000 |" in lines[4]
    assert lines[6] == "| bold | - (0, 1 failed) | - | - | - | - | - | - |"
    assert not any("above" in line for line in lines)


def test_csv_files_say_what_the_table_says(tmp_path):
    outcomes = outcomes_of(ACCURACIES, missing=("adam-seed1",))
    summed = summaries.summarize(outcomes)
    tables.write_csv(tmp_path / "runs.csv", report.run_rows(outcomes, {"file": "f.json"}))
    table = rows(tmp_path / "runs.csv")
    assert len(table) == 15
    assert [float(row["accuracy"]) for row in table[:5]] == ACCURACIES["filter"]
    assert (table[1]["flipped_layers"], table[1]["binary_layers"]) == ("1", "2")
    assert table[6]["status"] == "failed" and table[6]["error"] == "OSError: disk"
    assert table[6]["accuracy"] == ""
    assert {row["file"] for row in table} == {"f.json"}
    assert table[0]["knobs"] == "{}" and table[0]["reason"] == "by hand"
    tables.write_csv(tmp_path / "summary.csv", report.summary_rows(summed))
    by_name = {row["method"]: row for row in rows(tmp_path / "summary.csv")}
    assert (by_name["adam"]["n"], by_name["adam"]["failed"]) == ("4", "1")
    assert float(by_name["filter"]["accuracy_std"]) == np.std(ACCURACIES["filter"], ddof=1)
    low, high = stats.ttest_rel(ACCURACIES["filter"], ACCURACIES["frozen"]).confidence_interval(
        0.95
    )
    found = [float(by_name["filter"][f"accuracy_above_frozen_{end}"]) for end in ("low", "high")]
    np.testing.assert_allclose(found, (low, high))
    assert not list(tmp_path.glob("*.part*"))


def test_curves_end_where_the_budget_ends(tmp_path, said):
    """The first stage's epochs are left out; the cross-entropy is the loss where that is it."""
    outcomes = []
    for outcome, header, lines in zip(
        outcomes_of({"two_step": [0.5], "filter": [0.5]}),
        ("epoch,loss,cross_entropy,val_accuracy", "epoch,loss,val_accuracy"),
        (["0,9,1.5,0.2", "1,8,1.0,0.4"], ["0,3,0.1", "1,2,0.2", "2,1,0.3"]),
        strict=True,
    ):
        folder = tmp_path / outcome.job.name
        folder.mkdir()
        (folder / "metrics.csv").write_text("\n".join([header, *lines]))
        result = dataclasses.replace(outcome.result, output_dir=str(folder))
        outcomes.append(dataclasses.replace(outcome, result=result))
    two_step, filtered = (summaries.Summary(o.job.config.method, (o,)) for o in outcomes)
    np.testing.assert_equal(summaries.curves(two_step, "cross_entropy"), [[np.nan, 1.5, 1.0]])
    np.testing.assert_equal(summaries.curves(filtered, "cross_entropy"), [[3, 2, 1]])
    np.testing.assert_equal(summaries.curves(filtered, "val_accuracy"), [[0.1, 0.2, 0.3]])
    np.testing.assert_equal(summaries.curves(filtered, "flip_ratio"), [[np.nan] * 3])
    table = pathlib.Path(outcomes[1].result.output_dir, "metrics.csv")
    for content in (b"epoch,loss\n0,3\n1,", b"\xff\xfe", b"", b"\0" * 99, b"a\n1"):
        table.write_bytes(content)
        np.testing.assert_equal(summaries.curves(filtered, "loss"), [[np.nan] * 3])
        assert f"{table} is damaged" in said[-1] and "result.json" in said[-1]


def test_runs_of_different_versions_are_named(instant, tmp_path):
    compared = small(tmp_path, seeds=1)
    compared.train()
    (line,) = summaries.versions(compared.outcomes())
    assert line.startswith("Made with larq_filter ")
    path = tmp_path / "frozen-seed0" / "config.json"
    content = json.loads(path.read_text())
    content["versions"]["tensorflow"] = "1.0"
    write(path, content)
    (line,) = summaries.versions(compared.outcomes())
    assert "DIFFERENT" in line and "tensorflow 1.0" in line and "frozen-seed0" in line


# Recipes ------------------------------------------------------------------------------------------


def test_the_committed_file_fits_and_others_have_their_defaults():
    for section, entries in json.loads(COMMITTED.read_text()).items():
        found = settings.load_settings(COMMITTED, section, methods.names())
        assert list(found) == list(methods.names())
        for name in methods.names():
            assert (found[name] == settings.Setting()) is (name not in entries)


def test_groups_of_methods():
    latent, free = (settings.choose_methods([group]) for group in ("latent", "latent_free"))
    assert {"adam", "ir_net", "proxquant", "two_step"} <= {*latent}
    assert {"filter", "bop", "bayes_binn", "frozen"} <= {*free}
    assert sorted(latent + free) == sorted(settings.choose_methods(["all"]))


def test_recipes_are_read(tmp_path):
    file = as_file(tmp_path / "h.json", RECIPES)
    assert settings.load_settings(file, "digits", ["frozen", "filter"]) == {
        "frozen": RECIPES["frozen"],
        "filter": RECIPES["filter"],
    }
    assert settings.load_settings(file, "cifar10", ["frozen"]) is None


ENTRY = {"knobs": {}, "reason": "r"}


def test_what_to_know_of_a_section(tmp_path):
    file = write(tmp_path / "h.json", {"digits": {"epochs": 10, "batch_size": 50, "adam": ENTRY}})
    same, longer = {"epochs": 10, "batch_size": 50}, {"epochs": 20, "batch_size": 50}
    assert settings.caveats(file, "digits", ["adam"], same) == ""
    assert settings.caveats(file, "digits", ["adam", "bop"], longer) == (
        "They were tuned for epochs=10; these runs have epochs=20. "
        "Not in it, so by their published defaults: bop."
    )
    assert list(settings.load_settings(file, "digits", ["adam"])) == ["adam"]
    untold = write(tmp_path / "untold.json", {"digits": {"adam": ENTRY}})
    assert settings.caveats(untold, "digits", ["adam"], longer) == ""
    for name in same:
        wrong = write(tmp_path / "wrong.json", {"digits": {name: 0}})
        with pytest.raises(ValueError, match=f"{name} of digits"):
            settings.caveats(wrong, "digits", [], same)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["h.json", "not JSON"]),
        ([], ["object of sections"]),
        ({"digits": 3}, ["object of sections"]),
        ({"digits": {"filtre": ENTRY}}, ["'filtre'", "Did you mean filter?"]),
        ({"digits": {"filter": {"knobs": {}}}}, ["filter", '"reason"']),
        ({"digits": {"filter": {"knobs": {}, "reason": " "}}}, ['"reason"']),
        ({"digits": {"filter": {**ENTRY, "more": 1}}}, ["filter", "more"]),
        ({"digits": {"filter": {"knobs": {"alhpa": 1}, "reason": "r"}}}, ["'alhpa'", "alpha"]),
        ({"digits": {"filter": {"knobs": {"alpha": 7}, "reason": "r"}}}, ["alpha is 7", "(0"]),
        ({"digits": {"filter": {"knobs": {"alpha": "7"}, "reason": "r"}}}, ["alpha", "'7'"]),
        ({"digits": {"filter": {"knobs": {"leak": 0.1}, "reason": "r"}}}, ["leak", "filter"]),
        (
            {"digits": {"filter": ENTRY, "adam": {"knobs": {"gamma": 0.1}, "reason": "r"}}},
            ["adam", "gamma"],  # though only filter is asked for
        ),
    ],
)
def test_wrong_settings(content, words, tmp_path):
    file = write(tmp_path / "h.json", content)
    with pytest.raises(ValueError) as raised:
        settings.load_settings(file, "digits", ["filter"])
    for word in ["h.json", *words]:
        assert word in str(raised.value)


def test_choice_of_methods():
    assert settings.choose_methods(["all"]) == list(methods.names())
    assert settings.choose_methods(["adam", "filter", "adam", "real"]) == ["adam", "filter", "real"]
    with pytest.raises(ValueError, match="'adm'. Did you mean adam"):
        settings.choose_methods(["adm"])
    with pytest.raises(ValueError, match="No method"):
        settings.choose_methods([])
