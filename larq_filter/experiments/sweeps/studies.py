"""Studies: trials that several processes run together.

Exactly ``trials`` of a study are completed or pruned, however many processes work on it and however
often some of them are killed:

- A trial begins as a record of the storage, which numbers it. Live are the records that run, wait
  to be run again, or are completed or pruned. A trial trains only if fewer than ``trials`` live
  ones have a lower number. Numbers only grow and a trial can only stop being live, so no more than
  ``trials`` ever pass; one that doesn't pass is closed unused, and not shown.
- Live trials of a dead process are found by the lock it held (a file; at once, no clock involved)
  or by the heartbeat it no longer gives (a database), closed, and put back into the queue with
  their knobs. The new trial continues the run folder of the old one.
- A trial that ends its process again and again without an epoch in between is given up, and
  reported as failed. One that gets on is repeated however often.
- Whoever finds all trials taken waits until they are finished, so as to take over if need be.

Failed trials don't count: a knob at which training diverges costs no trial, and is reported.
"""

import contextlib
import dataclasses
import json
import logging
import pathlib
import time
import urllib.parse
from collections.abc import Callable

from larq_filter.datasets import splits
from larq_filter.experiments import run_folder
from larq_filter.experiments.locks import FileLock
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.sweeps import _optuna, results, sampling, storages, urls
from larq_filter.experiments.sweeps.objectives import Objective, reported_epochs
from larq_filter.experiments.sweeps.spaces import Choices, Range
from larq_filter.experiments.sweeps.storages import StudyError

logger = logging.getLogger(__name__)

POLL = 1.0  # seconds between two looks at the trials of other processes
FIRST_FAILURES = 3  # a process whose first trials all fail has an error, not bad luck
RUN, WAIT, DONE = "run", "wait", "done"


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
        sampler_seed: of the choice of the knobs.
    """

    config: run_folder.Config
    space: dict[str, Range | Choices]
    seeds: int = 1
    prune_after: int | None = 5
    sampler_seed: int = 0

    def fingerprint(self) -> dict:
        """What makes two searches the same: all but paths and the seed of the sampler."""
        config = dataclasses.asdict(self.config) | {"knobs": self.config.knobs.given()}
        del config["data_dir"], config["download"]
        space = {name: str(part) for name, part in self.space.items()}
        own = {"space": space, "seeds": self.seeds, "prune_after": self.prune_after}
        own["split"] = splits.SPLIT
        return json.loads(json.dumps({**config, **own}))

    def configs(self, knobs: dict) -> list[run_folder.Config]:
        """The runs of a trial: one for each seed."""
        chosen = Knobs(**self.config.knobs.given(), **knobs)
        first = self.config.seed
        return [
            dataclasses.replace(self.config, knobs=chosen, seed=seed)
            for seed in range(first, first + self.seeds)
        ]


def work(
    sweep: Sweep,
    folder: str | pathlib.Path,
    trials: int,
    storage: str,
    study: str,
    heartbeat: int = 60,
    say: Callable = logger.info,
) -> list[results.Trial]:
    """Runs trials until the study holds ``trials`` completed or pruned ones.

    Args:
        sweep: what is searched.
        folder: gets a folder of runs for each trial that this process runs, and TensorBoard files.
        trials: completed and pruned ones in the whole study, whoever ran them.
        storage: path of a file, or a database URL as SQLAlchemy reads it.
        study: name of the study in the storage; created if need be, else continued.
        heartbeat: seconds between two signs of life in a database; after twice that without one a
            process counts as dead. A file needs none.
        say: takes a line.

    Returns:
        All trials of the study.

    Raises:
        ImportError: Optuna or the driver of the database is not installed.
        StudyError: the storage can't be used, the study searches something else, too many trials
            failed.
    """
    with _optuna.quiet(), storages.errors_in_one_line(storage):
        opened, gate = storages.open_storage(storage, heartbeat, say)
        worker = _Worker(sweep, pathlib.Path(folder), trials, gate, 2 * heartbeat, say)
        with gate or contextlib.nullcontext():
            worker.join(study, opened)
        return worker.work()


class _Surplus(Exception):
    """The study has its trials without this one."""


class _Failed(Exception):
    """A trial that can't be trained; recorded as such."""


class _Worker:
    """One process at a study.

    Args:
        sweep, folder, say: as for ``work``.
        total: trials in the whole study.
        gate: of a study in a file. From the look at the storage until the new trial's lock is held,
            a process is alone, so that a running trial without a lock is one of a dead process.
        grace: seconds that a process may give no sign of life in a database.
    """

    def __init__(self, sweep, folder, total, gate, grace, say):
        self.sweep, self.folder, self.total, self.say = sweep, folder, total, say
        self.gate, self.grace = gate, grace
        self.states = _optuna.load().trial.TrialState
        # Optuna's errors for a result that comes too late: after the trial was closed.
        self.late = (_optuna.load().exceptions.UpdateFinishedTrialError, ValueError)
        self.failures: list[str] = []
        self.unclaimed: dict[int, float] = {}  # running trials that nobody signed, since when
        self.number: int | None = None  # of the trial in work
        self.lock: FileLock | None = None  # that says it is in work

    def work(self) -> list[results.Trial]:
        """Runs trials until the study has them all."""
        waited = False
        while (step := self._next()) != DONE:
            if step == WAIT:
                if not waited:
                    self.say("All trials are taken; waiting for those of other processes.")
                waited = True
                time.sleep(POLL)
            elif self.failures and len(self.failures) >= self._bearable():
                raise StudyError(
                    f"{len(self.failures)} trials of this process failed, the last one with: "
                    f"{self.failures[-1]} Mend it and give the same command again."
                )
        return trials_of(self.study)

    def _bearable(self) -> int:
        """How many failures end the search: three without a result, else as many as trials."""
        any_result = any(t.state in ("complete", "pruned") for t in trials_of(self.study))
        return max(FIRST_FAILURES, self.total) if any_result else FIRST_FAILURES

    # The study --------------------------------------------------------------------------------

    def join(self, name: str, storage) -> None:
        """Creates the study, or loads it if it is that of the same sweep."""
        optuna, sweep = _optuna.load(), self.sweep
        pruner = optuna.pruners.NopPruner()
        if sweep.prune_after is not None:
            pruner = optuna.pruners.MedianPruner(
                sweep.prune_after, reported_epochs(sweep.config) // 4
            )
        sampler = sampling.sampler(sweep.sampler_seed)
        common = {"storage": storage, "sampler": sampler, "pruner": pruner, "study_name": name}
        try:
            self.study = optuna.create_study(direction="maximize", **common)
        except optuna.exceptions.DuplicatedStudyError:
            self.study = optuna.load_study(**common)
            for _ in range(20):  # whoever has created it writes its fingerprint next
                if "fingerprint" in self.study.user_attrs:
                    break
                time.sleep(0.1)
        if "fingerprint" not in self.study.user_attrs:
            self.study.set_user_attr("fingerprint", json.dumps(sweep.fingerprint()))
        self._refuse_other_study()

    def _refuse_other_study(self) -> None:
        """Also before each trial: of two that wrote a fingerprint at the same time, one goes."""
        found, wanted = json.loads(self.study.user_attrs["fingerprint"]), self.sweep.fingerprint()
        try:
            run_folder.refuse_other_split(found, f"The study {self.study.study_name}")
        except run_folder.RunExists as error:
            raise StudyError(str(error)) from None
        differs = [
            f"{name}: {found.get(name)!r} there, {wanted.get(name)!r} now"
            for name in sorted({*found, *wanted})
            if found.get(name) != wanted.get(name)
        ]
        if differs:
            raise StudyError(
                f"The study {self.study.study_name} searches something else ({'; '.join(differs)})."
                " Choose another name, or give the flags that it was begun with."
            )

    # Who runs what ----------------------------------------------------------------------------

    def _next(self) -> str:
        """Runs a trial if there is one to run; says whether to go on at once, later, or not."""
        try:
            if self.gate:
                self.gate.acquire()
            self._refuse_other_study()
            self._bury_the_dead()
            step = self._what_now()
            if step == RUN:
                self._run_one()
            return step
        finally:
            if self.gate:
                self.gate.release()  # the objective has done so, unless it was never reached

    def _what_now(self) -> str:
        states = [trial.state for trial in self._all()]
        finished = sum(state in (self.states.COMPLETE, self.states.PRUNED) for state in states)
        if finished >= self.total:
            return DONE
        waiting, running = states.count(self.states.WAITING), states.count(self.states.RUNNING)
        return RUN if waiting or finished + running < self.total else WAIT

    def _bury_the_dead(self) -> None:
        """Closes the trials of processes that have ended, and queues them again."""
        running = [trial for trial in self._all() if trial.state == self.states.RUNNING]
        if self.gate:
            for trial in running:
                with contextlib.closing(self._lock_of(trial.number)) as lock:
                    if lock.acquire(wait=False):
                        self._close_and_put_back(trial.number)
            return
        with _optuna.experimental():
            _optuna.load().storages.fail_stale_trials(self.study)
        # A process that ended before its first heartbeat has none that could be missed.
        unclaimed = {t.number for t in running if t.user_attrs.get("claimed") != t.number}
        self.unclaimed = {n: self.unclaimed.get(n, time.monotonic()) for n in unclaimed}
        for number, since in self.unclaimed.items():
            if time.monotonic() - since > self.grace:
                self._close_and_put_back(number)

    def _close_and_put_back(self, number: int) -> None:
        with contextlib.suppress(*self.late):  # another process has done both
            self.study.tell(number, state=self.states.FAIL)
            self._put_back(number)

    def _put_back(self, number: int) -> None:
        storages.again()(self.study, self._all()[number])

    def _lock_of(self, number: int) -> FileLock:
        name = urllib.parse.quote(self.study.study_name, safe="")
        return FileLock(self.gate.path.with_name(f"{name}-{number}"))

    def _all(self):
        return self.study.get_trials(deepcopy=False)

    def _run_one(self) -> None:
        self.number = None
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(_Surplus, _Failed))
        except self.late:
            if self.number is None or not self._all()[self.number].state.is_finished():
                raise
            self.say(f"Trial {self.number}: another process took it over; its result is dropped.")
        except KeyboardInterrupt:
            if self.number is not None and self._all()[self.number].state == self.states.FAIL:
                self._put_back(self.number)
                self.say(f"Trial {self.number}: interrupted; the same command goes on with it.")
            raise
        finally:
            if self.lock:
                self.lock.release()

    def _objective(self, trial) -> float:
        self.number = trial.number
        if self.gate:
            self.lock = self._lock_of(trial.number)
            self.lock.acquire()
            self.gate.release()
        trial.set_user_attr("claimed", trial.number)
        trial.set_user_attr("error", "")  # a trial that is repeated brings what it had
        trials = self._all()
        if sum(each.state != self.states.FAIL for each in trials[: trial.number]) >= self.total:
            raise _Surplus
        optuna = _optuna.load()
        reported = trials[trial.number].intermediate_values
        storages.count_repeat(trial, len(reported))
        try:
            return Objective(self.sweep, trial, reported, self.folder, self.say).run()
        except (
            optuna.TrialPruned,
            optuna.exceptions.StorageInternalError,
            optuna.exceptions.UpdateFinishedTrialError,
        ):
            raise
        except KeyboardInterrupt:
            storages.forgive(trial)
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["no reason given."])[0][:500]
            text = urls.masked(f"{type(error).__name__}: {reason}")
            trial.set_user_attr("error", text)
            self.failures.append(text)
            self.say(f"Trial {trial.number}: failed. {text}")
            raise _Failed from error


def trials_of(study) -> list[results.Trial]:
    """The trials of an Optuna study, without those that were closed unused or are repeated."""
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running", "FAIL": "failed"}
    trials = []
    for trial in study.get_trials(deepcopy=False):
        told, state = dict(trial.user_attrs), names.get(trial.state.name)
        if state == "failed" and not told.get("error") and storages.is_given_up(trial):
            told["error"] = (
                f"its process ended {storages.MAX_REPEATS + 1} times in a row without another epoch"
            )
        if state is None or (state == "failed" and not told.get("error")):
            continue
        rest = ("flip_ratio", "flips_per_weight", "seconds", "folder", "error", "worker")
        trials.append(
            results.Trial(
                number=trial.number,
                state=state,
                knobs=told.get("knobs", dict(trial.params)),
                accuracy=trial.value,
                epochs=len(trial.intermediate_values),
                **{name: told[name] for name in rest if name in told},
            )
        )
    return trials
