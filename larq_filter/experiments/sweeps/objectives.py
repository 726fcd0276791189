"""What a trial does: train its knobs with each seed, report each epoch, stop early if it lags."""

import logging
import math
import os
import pathlib
import socket

import numpy as np

from larq_filter.experiments import methods, run_folder, tables, training
from larq_filter.experiments.sweeps import _optuna, results, storages
from larq_filter.experiments.sweeps.spaces import Choices, Range

logger = logging.getLogger(__name__)


class Failed(Exception):
    """A trial that can't be trained; recorded as such."""


class Objective:
    """Trains the trials that Optuna calls it with, and returns their accuracy.

    Args:
        sweep: the ``studies.Sweep``.
        folder: of the sweep.
        storage: the opened one.
        given: ``data`` and ``model`` as ``training.run`` takes them.

    Attributes:
        number: of the last trial.
    """

    def __init__(self, sweep, folder: pathlib.Path, storage, **given):
        self.sweep, self.folder, self.storage = sweep, folder, storage
        self.given = {name: value for name, value in given.items() if value is not None}
        self.number: int | None = None

    def __call__(self, trial) -> float:
        """Raises ``Failed``, or ``optuna.TrialPruned`` if the trial was stopped early."""
        self.number = trial.number
        self.storage.record_heartbeat(trial._trial_id)  # before BEGUN; Optuna's may come after it
        trial.set_user_attr(storages.BEGUN, trial.number)
        own = _optuna.load().exceptions
        try:
            return _Trial(self.sweep, trial, self.folder, self.given).run()
        except (own.TrialPruned, own.StorageInternalError, own.UpdateFinishedTrialError):
            raise
        except KeyboardInterrupt:
            trial.study.enqueue_trial(trial.params)
            logger.info("Trial %d: interrupted; the same command tries it again.", trial.number)
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["no reason given."])[0][:500]
            text = storages.masked(f"{type(error).__name__}: {reason}")
            trial.set_user_attr("error", text)
            logger.warning("Trial %d: failed. %s", trial.number, text)
            raise Failed from error


class _Trial:
    """One trial."""

    def __init__(self, sweep, trial, folder: pathlib.Path, given: dict):
        self.sweep, self.trial, self.folder, self.given = sweep, trial, folder, given
        self.name = results.folder_name(trial.number)
        self.epochs, self.reported = reported_epochs(sweep.config), 0
        self.last: float | None = None

    def run(self) -> float:
        space, trial = self.sweep.space, self.trial
        knobs = {name: _suggest(trial, name, part) for name, part in space.items()}
        trial.set_user_attr("knobs", knobs)
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        logger.info("Trial %d: %s", trial.number, tables.listed(knobs))
        configs = self.sweep.configs(knobs)
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
        logger.info("Trial %d: validation accuracy %.4f", trial.number, accuracy)
        return accuracy

    def _train(self, index: int, config: run_folder.Config) -> run_folder.Result:
        folder = self.folder / "trials" / self.name / f"seed{config.seed}"
        # Steps count on through the seeds, so that like is compared with like: the second epoch of
        # the second seed with that of other trials.
        first = index * self.epochs

        def report(epoch, logs):
            self._report(first + epoch, logs)

        return training.run(config, folder, 0, report, test=False, **self.given)

    def _report(self, step: int, logs: dict) -> None:
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"the loss is {logs['loss']} after epoch {step + 1}.")
        self.last = float(logs["val_accuracy"])
        self.trial.report(self.last, step)
        self.reported += 1
        steps = self.sweep.seeds * self.epochs
        if step + 1 < steps and self.trial.should_prune():  # after the last one nothing is saved
            logger.info(
                "Trial %d: pruned after epoch %d of %d, validation accuracy %.4f",
                *(self.trial.number, step + 1, steps, self.last),
            )
            raise _optuna.load().TrialPruned

    def _log(self, state: str, knobs: dict, accuracy: float | None) -> None:
        trial = results.Trial(
            self.trial.number, state, knobs, accuracy, self.reported, folder=self.name
        )
        results.write_hparams(self.folder, trial)


def _suggest(trial, name: str, part: Range | Choices):
    """The value of one knob for a trial."""
    if isinstance(part, Choices):
        return trial.suggest_categorical(name, part.values)
    draw = trial.suggest_int if part.whole else trial.suggest_float
    return part.legible(draw(name, part.low, part.high, log=part.log))


def reported_epochs(config: run_folder.Config) -> int:
    """The epochs that a run reports: all but those of a first stage."""
    stage = methods.first_stage(config.method, config.knobs, config.epochs)
    return stage.own_epochs if stage else config.epochs
