"""What the tests of searches share: a sweep of no time, processes that run one, and what to expect.

Forked processes are enough where training is replaced by a formula: they do not touch TensorFlow,
and start in no time. Where it is not, the script itself is started.
"""

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import types

from larq_filter.experiments import run_folder, training
from larq_filter.experiments.sweeps import results, spaces, storages, studies
from paths import ROOT

SCRIPT = ROOT / "examples" / "sweep.py"
TINY = ["--model=mlp", "--width=8", "--train_examples=100", "--batch_size=50", "--epochs=2"]
CONFIG = run_folder.Config(model="mlp", width=8, train_examples=100, batch_size=50, epochs=4)
SWEEP = studies.Sweep(CONFIG, spaces.build("filter", ["alpha", "gamma"]), prune_after=None)


def accuracy(config):
    """A formula with its maximum 0.9 in the middle of the space, in place of training."""
    alpha, gamma = config.knobs.alpha or 0.01, config.knobs.gamma or 0.1
    return 0.9 - 0.1 * abs(alpha - 0.01) - 0.05 * abs(gamma - 0.1)


def result(accuracy):
    return types.SimpleNamespace(
        accuracy=accuracy, flip_ratio=0.01, flips_per_weight=2.0, seconds=0.5
    )


def formula(config, folder, verbose, report, test):
    """Stands for ``training.run``."""
    for epoch in range(config.epochs):
        report(epoch, {"loss": 1.0, "val_accuracy": accuracy(config) * (epoch + 1) / config.epochs})
    return result(accuracy(config))


def replace_training(monkeypatch, run=formula):
    """Puts ``run`` for training, and has SQLite not wait for the disk."""
    monkeypatch.setattr(training, "run", run)
    monkeypatch.setattr(results, "write_hparams", lambda folder, trial: None)
    monkeypatch.setattr(studies, "POLL", 0.05)
    connect = storages._connect

    def quickly(url, heartbeat):
        import sqlalchemy

        opened = connect(url, heartbeat)
        if url.startswith("sqlite"):
            opened.engine.dispose()
            sqlalchemy.event.listen(
                opened.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous=OFF")
            )
        return opened

    monkeypatch.setattr(storages, "_connect", quickly)


def silence(path):
    """Has all running trials of an SQLite file give their last sign of life long ago."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")


def fork(count, **arguments):
    """``count`` processes that ``work`` at a study; their exit codes."""
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_work_or_exit, kwargs=arguments, daemon=True) for _ in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    return [process.exitcode for process in processes]


def _work_or_exit(**arguments):
    """Without what pytest has set up for the end of a process."""
    code = 1
    with contextlib.suppress(BaseException):
        studies.work(**arguments)
        code = 0
    os._exit(code)


def killed_once(marker, epoch=2):
    """Training that ends its process with SIGKILL in the middle, the first time."""

    def run(config, folder, verbose, report, test):
        for each in range(config.epochs):
            if each == epoch and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            report(each, {"loss": 1.0, "val_accuracy": 0.5})
        return result(accuracy(config))

    return run


def start(output, *flags):
    """The script in a process of its own."""
    command = [sys.executable, str(SCRIPT), f"--output_dir={output}", *TINY, *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(process):
    """What it printed; fails if it failed."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def assert_complete(trials, total, processes=1):
    """As many trials as wanted, each once, none of them lost or without a result.

    Each process but the first may have begun one more.
    """
    assert total <= len(trials) < total + processes, trials
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert len({trial.number for trial in trials}) == len(trials)
    assert len({tuple(trial.knobs.items()) for trial in trials}) == len(trials)
    assert all(trial.accuracy is not None for trial in trials)
