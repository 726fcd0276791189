"""Studies: trials that several processes run together, by Optuna's own means.

- Whoever finds fewer trials finished or running than are wanted begins one. Finished are completed
  and pruned ones. Processes that look at the same time may each begin one more than was wanted.
- A trial of a dead process is known by the signs of life that it no longer gives. It is tried again
  with its knobs, from its start; after some such repeats it is given up and reported as failed.
- Whoever finds all trials taken waits until they are finished, so as to try those of dead processes
  again.

Failed trials don't count: a knob at which training diverges costs no trial, and is reported.
"""

import dataclasses
import json
import logging
import pathlib
import time

from larq_filter.datasets import sources, splits
from larq_filter.experiments import checkpoints, run_data, run_folder, user_inputs
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.sweeps import _optuna, results, storages
from larq_filter.experiments.sweeps.objectives import Failed, Objective, reported_epochs
from larq_filter.experiments.sweeps.spaces import Choices, Range
from larq_filter.experiments.sweeps.storages import StudyError

logger = logging.getLogger(__name__)

POLL = 1.0  # seconds between two looks at the trials of other processes
FIRST_FAILURES = 3  # a process whose first trials all fail has an error, not bad luck


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is searched. Processes that share a study must agree on all of it but sampler_seed.

    Attributes:
        config: data, model, method, budget, the fixed knobs and the first seed.
        space: the searched knobs (``spaces.build``).
        seeds: runs of each trial; their mean is its result.
        prune_after: completed trials before pruning begins, at least 1; None: no pruning. A trial
            is pruned if it lags behind the median of the completed ones at the same epoch, from a
            quarter of the epochs on.
        sampler_seed: of the choice of the knobs, in the process that creates the study.
        described: what ``user_inputs.describe`` says of data and model without a name.
    """

    config: run_folder.Config
    space: dict[str, Range | Choices]
    seeds: int = 1
    prune_after: int | None = 5
    sampler_seed: int = 0
    described: dict | None = None

    def fingerprint(self) -> dict:
        """What makes two searches the same: all but paths and the seed of the sampler."""
        config = dataclasses.asdict(self.config) | {"knobs": self.config.knobs.given()}
        del config["data_dir"], config["download"]
        space = {name: str(part) for name, part in self.space.items()}
        mine = {"space": space, "seeds": self.seeds, "prune_after": self.prune_after}
        mine["split"] = splits.SPLIT
        if self.described:
            mine["own"] = self.described
        return json.loads(json.dumps({**config, **mine}))

    def configs(self, knobs: dict) -> list[run_folder.Config]:
        """The runs of a trial: one for each seed."""
        chosen = Knobs(**self.config.knobs.given(), **knobs)
        first = self.config.seed
        return [
            dataclasses.replace(self.config, knobs=chosen, seed=seed)
            for seed in range(first, first + self.seeds)
        ]


def with_own(sweep: Sweep, data=None, model=None) -> Sweep:
    """The sweep of ``data`` and ``model`` in place of what its config names.

    Those that share a study must agree on the images and on what a function makes for them, so that
    images are loaded here, before the first trial, if they or the model have no name.

    Args:
        sweep: what is searched.
        data: as ``training.run`` takes it.
        model: likewise.

    Raises:
        TypeError, ValueError, OSError: they can't be had.
    """
    config = user_inputs.named(sweep.config, data, model)
    changing = sources.stamp(config.dataset, config.data_dir) is not None
    if data is None and (changing or user_inputs.has_code(model)):
        data = run_data.load(config)
    described = user_inputs.describe(config, data, model) or None
    return dataclasses.replace(sweep, config=config, described=described)


def work(
    sweep: Sweep,
    folder: str | pathlib.Path,
    trials: int,
    storage: str,
    study: str,
    heartbeat: int = 60,
    data=None,
    model=None,
) -> list[results.Trial]:
    """Runs trials until the study holds ``trials`` completed or pruned ones.

    Args:
        sweep: what is searched.
        folder: gets a folder of runs for each trial that this process runs, and TensorBoard files.
        trials: completed and pruned ones in the whole study, whoever ran them; up to one a process
            more where several work on it.
        storage: path of an SQLite file, or a database URL as SQLAlchemy reads it.
        study: name of the study in the storage; created if need be, else continued.
        heartbeat: seconds between two signs of life of a trial; after twice that without one its
            process counts as dead.
        data: as ``training.run`` takes it, in place of what the config names.
        model: likewise.

    Returns:
        All trials of the study.

    Raises:
        ImportError: Optuna or the driver of the database is not installed.
        StudyError: the storage can't be used, the study searches something else, too many trials
            failed.
    """
    sweep = with_own(sweep, data, model)
    with _optuna.quiet(), storages.errors_in_one_line(storage):
        opened = storages.open_storage(storage, heartbeat)
        joined = _join(sweep, study, opened)
        objective = Objective(sweep, pathlib.Path(folder), opened, data=data, model=model)
        _search(joined, objective, trials, 2 * heartbeat)
        return trials_of(joined)


def draw(folder: pathlib.Path, storage: str, study: str) -> list[pathlib.Path]:
    """Draws the pictures of ``results.draw`` of a study that ``work`` has filled."""
    with _optuna.quiet(), storages.errors_in_one_line(storage):
        opened = storages.open_storage(storage, heartbeat=1)  # nothing runs here
        return results.draw(folder, _optuna.load().load_study(study_name=study, storage=opened))


def _join(sweep: Sweep, name: str, storage):
    """Creates the study, or loads it if it is that of the same sweep.

    Whoever creates it draws knobs with the seed that was given; all others with one that nobody
    chose, as they would else propose the same knobs again.
    """
    optuna = _optuna.load()
    samplers, pruner = optuna.samplers, optuna.pruners.NopPruner()
    if sweep.prune_after is not None:
        pruner = optuna.pruners.MedianPruner(sweep.prune_after, reported_epochs(sweep.config) // 4)
    common = {"storage": storage, "study_name": name, "pruner": pruner}
    try:
        sampler = samplers.TPESampler(multivariate=True, seed=sweep.sampler_seed)
        study = optuna.create_study(direction="maximize", sampler=sampler, **common)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(sampler=samplers.TPESampler(multivariate=True), **common)
        for _ in range(20):  # whoever has created it writes its fingerprint next
            if "fingerprint" in study.user_attrs:
                break
            time.sleep(0.1)
    if "fingerprint" not in study.user_attrs:
        study.set_user_attr("fingerprint", json.dumps(sweep.fingerprint()))
    _refuse_other_study(study, sweep)
    return study


def _refuse_other_study(study, sweep: Sweep) -> None:
    found, wanted = json.loads(study.user_attrs["fingerprint"]), sweep.fingerprint()
    try:
        run_folder.refuse_other_split(found, f"The study {study.study_name}")
    except run_folder.RunExists as error:
        raise StudyError(str(error)) from None
    differs = checkpoints.differences(found, wanted)
    if differs:
        raise StudyError(
            f"The study {study.study_name} searches something else ({differs})."
            " Choose another name, or give the flags that it was begun with."
        )


def _search(study, objective: Objective, total: int, grace: float) -> None:
    """Runs trials until ``total`` are finished, and waits for those that others run."""
    optuna = _optuna.load()
    states = optuna.trial.TrialState
    finished = (states.COMPLETE, states.PRUNED)
    taken = (*finished, states.RUNNING)
    callbacks = [optuna.study.MaxTrialsCallback(total, taken), _Hopeless(total)]
    waited = False
    while _count(study, *finished) < total:
        storages.retry_dead(study, grace)
        if _count(study, states.WAITING) or _count(study, *taken) < total:
            _optimize(study, objective, callbacks)
        else:
            if not waited:
                logger.info(
                    "All trials are taken; waiting for those of other processes. One that was "
                    "killed is tried again after %d s.",
                    grace,
                )
            waited = True
            time.sleep(POLL)


def _count(study, *states) -> int:
    return len(study.get_trials(deepcopy=False, states=states))


class _Hopeless:
    """Ends a process whose trials fail: after three without any result, later after ``total``."""

    def __init__(self, total: int):
        self.total, self.failures = total, 0

    def __call__(self, study, trial) -> None:
        """Optuna calls this after each trial."""
        states = _optuna.load().trial.TrialState
        self.failures += trial.state == states.FAIL
        any_result = _count(study, states.COMPLETE, states.PRUNED)
        bearable = max(FIRST_FAILURES, self.total) if any_result else FIRST_FAILURES
        if self.failures >= bearable:
            raise StudyError(
                f"{self.failures} trials of this process failed, the last one with: "
                f"{trial.user_attrs['error']} Mend it and give the same command again."
            )


def _optimize(study, objective: Objective, callbacks: list) -> None:
    """Runs trials until a callback stops it, or the result of one comes too late."""
    try:
        study.optimize(objective, catch=(Failed,), callbacks=callbacks)
    except storages.late_errors():
        tried = [t for t in study.get_trials(deepcopy=False) if t.number == objective.number]
        if not tried or tried[0].state.name != "FAIL" or tried[0].user_attrs.get("error"):
            raise
        logger.warning(
            "Trial %d: this process gave no sign of life for so long that the trial was given to "
            "another one; its result is dropped.",
            objective.number,
        )


def trials_of(study) -> list[results.Trial]:
    """The trials of an Optuna study, without those that are tried again."""
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running", "FAIL": "failed"}
    trials = []
    for trial in study.get_trials(deepcopy=False):
        told, state = trial.user_attrs, names.get(trial.state.name)
        error = told.get("error", "") if state == "failed" else ""
        if state == "failed" and not error and storages.is_given_up(trial):
            error = f"its process ended {storages.REPEATS + 1} times before it was finished"
        if state is None or (state == "failed" and not error):
            continue
        rest = ("flip_ratio", "flips_per_weight", "seconds", "worker")
        trials.append(
            results.Trial(
                number=trial.number,
                state=state,
                knobs=told.get("knobs", dict(trial.params)),
                accuracy=trial.value,
                epochs=len(trial.intermediate_values),
                folder=results.folder_name(trial.number),
                error=error,
                **{name: told[name] for name in rest if name in told},
            )
        )
    return trials
