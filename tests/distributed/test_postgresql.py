"""Searches of several processes through a real PostgreSQL server: ``make test-distributed``."""

import csv
import itertools
import json
import pathlib
import signal
import time

import pytest

import sweeping
from larq_filter.experiments import training
from larq_filter.experiments.sweeps import studies
from sweeping import SWEEP

pytestmark = [
    pytest.mark.extras,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture
def place(database, tmp_path, monkeypatch):
    """Where the study is; training is a formula."""
    sweeping.replace_training(monkeypatch)
    return {"folder": tmp_path / "out", "storage": database, "study": "s"}


def work(trials, place, **others):
    return studies.work(SWEEP, trials=trials, **{**place, **others})


def test_two_scripts_share_a_study(database, tmp_path, server):
    """Both begin at once, on an empty database: tables, study and trials are contested."""
    flags = ["--trials=6", "--knobs=alpha,gamma", "--prune_after=2", f"--storage={database}"]
    outputs = [tmp_path / "one", tmp_path / "two"]
    processes = [sweeping.start(output, *flags, "--study=shared") for output in outputs]
    said = [sweeping.finish(process) for process in processes]
    tables = []
    for output in outputs:
        with (output / "trials.csv").open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    rows = max(tables, key=len)  # the other process may have ended before
    assert len(rows) == len({row["number"] for row in rows}) in (6, 7)
    assert len({row["alpha"] for row in rows}) == len(rows)
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    runs = [
        path.name for output in outputs for path in (output / "trials").iterdir() if path.is_dir()
    ]
    assert sorted(runs) == sorted(row["folder"] for row in rows)
    assert all("to within half a point" in text for text in said)
    assert server.password not in "".join(said)
    for path in itertools.chain(*(output.rglob("*") for output in outputs)):
        if path.is_file():
            assert server.password.encode() not in path.read_bytes(), path
    config = json.loads(next(outputs[0].rglob("seed0/config.json")).read_text())
    assert any(":***@" in argument for argument in config["command"])


def test_contested_trials_are_neither_lost_nor_doubled(place):
    assert sweeping.fork(4, sweep=SWEEP, trials=24, **place) == [0] * 4
    sweeping.assert_complete(work(24, place), 24, processes=4)


def test_the_trial_of_a_killed_process_is_tried_again(place, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training, "run", sweeping.killed_once(tmp_path / "marker"))
        codes = sweeping.fork(2, sweep=SWEEP, trials=6, heartbeat=1, **place)
    assert sorted(codes) == [-signal.SIGKILL, 0]
    trials = work(6, place)
    sweeping.assert_complete(trials, 6, processes=2)
    numbers = [trial.number for trial in trials]
    assert numbers != list(range(len(trials)))  # the killed one has another number now


def test_server_that_goes_away_is_a_short_error_and_nothing_is_lost(place, server, monkeypatch):
    calls = itertools.count()

    def run(config, folder, verbose, report, test):
        if next(calls) == 2:
            server.stop()
        return sweeping.formula(config, folder, verbose, report, test)

    monkeypatch.setattr(training, "run", run)
    with pytest.raises(studies.StudyError, match="can't be used") as raised:
        work(4, place, heartbeat=1)
    assert server.password not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    server.start()
    time.sleep(2.5)  # the trial that was cut off is no longer alive
    sweeping.assert_complete(work(4, place, heartbeat=1), 4)


def test_wrong_password(place, server):
    wrong = place["storage"].replace(server.password, "wr0ng")
    with pytest.raises(studies.StudyError, match="password authentication failed") as raised:
        work(1, place, storage=wrong)
    assert "wr0ng" not in str(raised.value)
    assert not pathlib.Path(place["folder"]).exists()
