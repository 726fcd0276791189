"""What a trial does: train its knobs with each seed, report each epoch, stop early if it lags."""

import math
import os
import pathlib
import socket
from collections.abc import Callable

import numpy as np

from larq_filter.experiments import files, methods, run_folder, training
from larq_filter.experiments.locks import FileLock
from larq_filter.experiments.sweeps import _optuna, results, sampling


class Objective:
    """Trains one trial of a sweep; ``run`` returns its accuracy.

    Args:
        sweep: the ``studies.Sweep``.
        trial: Optuna's trial.
        reported: the epochs reported before, by a process that ended.
        folder: of the sweep.
        say: prints a line.
    """

    def __init__(self, sweep, trial, reported, folder: pathlib.Path, say: Callable):
        self.sweep, self.trial, self.folder, self.say = sweep, trial, folder, say
        self.reported = set(reported)
        self.last = None

    def run(self) -> float:
        """Trains; raises ``optuna.TrialPruned`` if the trial was stopped early.

        Raises:
            FloatingPointError: the loss is not finite.
            RuntimeError: the folder is in use by another study.
        """
        lock = self._choose_folder()
        try:
            return self._run()
        finally:
            lock.release()

    def _run(self) -> float:
        space, trial = self.sweep.space, self.trial
        knobs = {name: sampling.suggest(trial, name, part) for name, part in space.items()}
        trial.set_user_attr("knobs", knobs)
        trial.set_user_attr("folder", self.name)
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        self.say(f"Trial {trial.number}: {results.listed(knobs)}")
        configs = self.sweep.configs(knobs)
        self.epochs = reported_epochs(configs[0])
        try:
            trained = [self._train(index, config) for index, config in enumerate(configs)]
        except _optuna.load().TrialPruned:
            self._log("pruned", knobs, self.last)
            raise
        except Exception:
            self._log("failed", knobs, None)
            raise
        accuracy = float(np.mean([each.accuracy for each in trained]))
        self._log("complete", knobs, accuracy)
        for name in ("flip_ratio", "flips_per_weight"):
            trial.set_user_attr(name, float(np.mean([getattr(each, name) for each in trained])))
        trial.set_user_attr("seconds", round(sum(each.seconds for each in trained), 1))
        self.say(f"Trial {trial.number}: validation accuracy {accuracy:.4f}")
        return accuracy

    def _choose_folder(self) -> FileLock:
        """Takes the folder of the trial that this one repeats, unless a live process is in it."""
        repeated = self.trial.user_attrs.get("folder")
        repeated = repeated and files.name_of(repeated)  # a shared database can hold anything
        for name in filter(None, (repeated, f"{self.trial.number:04d}")):
            lock = FileLock(self.folder / "trials" / f"{name}.lock")
            if lock.acquire(wait=False):
                self.name = name
                return lock
        raise RuntimeError(f"{lock.path} is held by another study. Choose another output folder.")

    def _train(self, index: int, config: run_folder.Config) -> run_folder.Result:
        folder = self.folder / "trials" / self.name / f"seed{config.seed}"
        # Steps count on through the seeds, so that like is compared with like: the second epoch of
        # the second seed with that of other trials.
        first = index * self.epochs
        return training.run(
            config, folder, 0, lambda epoch, logs: self._report(first + epoch, logs), test=False
        )

    def _report(self, step: int, logs: dict) -> None:
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"the loss is {logs['loss']} after epoch {step + 1}.")
        self.last = float(logs["val_accuracy"])
        if step not in self.reported:
            self.trial.report(self.last, step)
            self.reported.add(step)
        steps = self.sweep.seeds * self.epochs
        if step + 1 < steps and self.trial.should_prune():  # after the last one nothing is saved
            self.say(
                f"Trial {self.trial.number}: pruned after epoch {step + 1} of {steps}, "
                f"validation accuracy {self.last:.4f}"
            )
            raise _optuna.load().TrialPruned

    def _log(self, state: str, knobs: dict, accuracy: float | None) -> None:
        trial = results.Trial(
            self.trial.number, state, knobs, accuracy, len(self.reported), folder=self.name
        )
        results.write_hparams(self.folder, trial)


def reported_epochs(config: run_folder.Config) -> int:
    """The epochs that a run reports: all but those of a first stage."""
    stage = methods.first_stage(config.method, config.knobs, config.epochs)
    return stage.own_epochs if stage else config.epochs
