"""Methods times seeds on the same data and budget, in one folder that any process may work on.

    METHOD-seedN/      the run folder of one job (``training.run``)
    locks/             one lock file a job; a line for each time that the job was started
    errors/            the traceback of a job that failed, until it succeeds

A comparison is resumed by being started again: finished runs are looked up, unfinished ones go on
from their last checkpoint. Several processes may share a folder: a job is claimed by an exclusive
``flock`` on its lock file, which the operating system gives back when the process ends, however it
ends. That was chosen over a file that says "taken", which a killed process would leave behind. A
network file system must pass locks on to all its machines (NFS 4 does).
"""

import dataclasses
import logging
import os
import pathlib
import time
import traceback
from collections.abc import Callable, Sequence

from larq_filter import serialization
from larq_filter._validation import first_line
from larq_filter.experiments import files, methods, run_data, run_folder, training, user_inputs
from larq_filter.experiments.comparison.settings import Setting
from larq_filter.experiments.epoch_lines import duration

logger = logging.getLogger(__name__)

POLL = 1.0  # seconds between two looks at the jobs of other processes


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    config: run_folder.Config
    reason: str

    @property
    def name(self) -> str:
        """Of the run folder."""
        return f"{self.config.method}-seed{self.config.seed}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What is known of a job: ``status`` is finished, failed, running or missing."""

    job: Job
    status: str
    result: run_folder.Result | None = None
    error: str = ""


def make_jobs(base: run_folder.Config, settings: dict[str, Setting], seeds: int) -> list[Job]:
    """The jobs of a comparison: all methods with seed 0, then all with seed 1, and so on.

    Args:
        base: data, model and budget of every run; its method, knobs and seed don't count.
        settings: the methods and their hyperparameters.
        seeds: runs of each method; the seeds are 0 to ``seeds - 1``.

    Raises:
        ValueError: ``seeds`` is less than 1.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; it is how many, from seed 0 on: at least 1.")
    return [
        Job(
            dataclasses.replace(base, method=method, knobs=setting.knobs, seed=seed), setting.reason
        )
        for seed in range(seeds)
        for method, setting in settings.items()
    ]


class Comparison:
    """The jobs of a comparison and the folder that they are run in.

    Args:
        folder: created if need be.
        jobs: from ``jobs``.
        data: as ``training.run`` takes it, in place of what the configs name.
        model: likewise.

    Raises:
        OSError: the folder can't be written.
        ValueError: a method can't be trained with its knobs and epochs, or what ``model`` makes
            does not fit the data.
        run_folder.RunExists: it holds files and no comparison; a run in it was made with another
            config, other images or another model than its job has now.
    """

    def __init__(self, folder, jobs: Sequence[Job], data=None, model=None):
        self.folder = pathlib.Path(folder)
        given = {"data": data, "model": model}
        self.given = {name: value for name, value in given.items() if value is not None}
        self.jobs = [
            dataclasses.replace(job, config=user_inputs.named(job.config, **self.given))
            for job in jobs
        ]
        for job in self.jobs:  # too few epochs for two stages: say so before any job runs
            methods.first_stage(job.config.method, job.config.knobs, job.config.epochs)
        own = {"locks", *(job.name for job in self.jobs)}
        run_folder.refuse_other_files(self.folder, own.__contains__, "comparison")
        try:
            for name in ("locks", "errors"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            with self.alone():
                pass
        except OSError as error:
            raise OSError(
                f"The results folder {self.folder} can't be written ({error}). Choose another one."
            ) from None
        self._refuse_other_runs()

    def train(self, wait: bool = True) -> None:
        """Runs every job that is not finished and that no other process runs.

        A job that fails doesn't keep the others from running.

        Args:
            wait: whether to wait for jobs of other processes, and to run those that they leave.

        Raises:
            ValueError, OSError, ImportError: data, model or batch size, the same for every job,
                can't be had.
            run_folder.RunExists: another process began a job with another config meanwhile.
            files.NotWritable: the disk is full, or the folder has become read-only.
        """
        left = [job for job in self.jobs if not self._finished(job)]
        if left:
            described = _check_shared_part(left[0].config, **self.given)
            for job in self.jobs:  # finished ones too: all of a table are of the same images
                run_folder.refuse_other_own(self.folder / job.name, described)
        progress = _Progress(self.jobs)
        waited_for = None
        while left:
            with files.plain_errors(self.folder):
                elsewhere = self._pass(left, progress)
            if not elsewhere or not wait:
                return
            if elsewhere != waited_for:
                names = ", ".join(job.name for job in elsewhere)
                logger.info("Waiting for another process to finish %s", names)
            left = waited_for = elsewhere
            time.sleep(POLL)

    def _pass(self, left: list[Job], progress: "_Progress") -> list[Job]:
        """Runs each job that is neither finished nor claimed; returns those claimed elsewhere."""
        elsewhere = []
        for index, job in enumerate(left):
            with self._claim(job) as ours:
                if not ours:
                    elsewhere.append(job)
                elif not self._finished(job):  # else another process finished it meanwhile
                    remaining = sum(not self._finished(each) for each in left[index:])
                    progress.run(job, lambda job=job: self._run(job), remaining)
        return elsewhere

    def outcomes(self) -> list[Outcome]:
        """What is known of each job now."""
        return [self._outcome(job) for job in self.jobs]

    def alone(self):
        """While inside, other processes wait at the same place: for writing tables."""
        return files.locked(self.folder / "locks" / "tables.lock")

    def _outcome(self, job: Job) -> Outcome:
        if self._finished(job):
            return Outcome(job, "finished", self._look_up(job))
        with self._claim(job) as ours:
            if not ours:
                return Outcome(job, "running")
            error = self._error_file(job)
            if error.exists():
                return Outcome(job, "failed", error=error.read_text().strip().splitlines()[-1])
            return Outcome(job, "missing")

    def _finished(self, job: Job) -> bool:
        return (self.folder / job.name / "result.json").exists()

    def _error_file(self, job: Job) -> pathlib.Path:
        return self.folder / "errors" / f"{job.name}.txt"

    def _lock(self, job: Job) -> pathlib.Path:
        return self.folder / "locks" / f"{job.name}.lock"

    def _claim(self, job: Job):
        """Holds the lock of a job; gives False while a live process has it."""
        return files.locked(self._lock(job), wait=False)

    def _run(self, job: Job) -> run_folder.Result:
        """Runs a claimed job; leaves its traceback if it fails."""
        with self._lock(job).open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} started by process {os.getpid()}\n")
        try:
            result = training.run(job.config, self.folder / job.name, verbose=0, **self.given)
        except (run_folder.RunExists, files.NotWritable):
            raise
        except Exception:
            self._error_file(job).write_text(traceback.format_exc())
            raise
        self._error_file(job).unlink(missing_ok=True)
        return result

    def _look_up(self, job: Job) -> run_folder.Result:
        """The result of a finished job; trained again from its checkpoint if it is damaged."""
        folder = self.folder / job.name
        run_folder.refuse_other_run(folder, job.config)
        result = run_folder.read_result(folder)
        return result or training.run(job.config, folder, verbose=0, **self.given)

    def _refuse_other_runs(self) -> None:
        """Raises at once, not hours later when the job's turn comes."""
        shared = None
        for job in self.jobs:
            try:
                run_folder.refuse_other_run(self.folder / job.name, job.config)
                shared = shared or _describe_shared(job.config, **self.given)
                described = user_inputs.describe(job.config) | shared
                run_folder.refuse_other_own(self.folder / job.name, described)
            except run_folder.RunExists as error:
                raise run_folder.RunExists(
                    f"{error}\nA comparison holds runs of one config for each method. Give the "
                    "flags and hyperparameters again that this one was begun with; or choose "
                    f"another results folder; or remove the runs of {job.config.method} to make "
                    "them anew."
                ) from None


class _Progress:
    """A line where a job begins, and one where it ends with the time that is left."""

    def __init__(self, all_jobs: Sequence[Job]):
        self.numbers = {job.name: number for number, job in enumerate(all_jobs, 1)}
        self.began, self.done = time.monotonic(), 0

    def run(self, job: Job, action: Callable[[], run_folder.Result], remaining: int) -> None:
        """Runs ``action`` and says what came of it; ``remaining`` counts this job too."""
        config = job.config
        head = f"[{self.numbers[job.name]}/{len(self.numbers)}] {config.method} seed {config.seed}"
        logger.info("%s ...", head)
        began, level = time.monotonic(), logging.INFO
        try:
            text = f"{action().accuracy:.4f}"
        except (run_folder.RunExists, files.NotWritable):  # no other job would fare better
            logger.info("%s: stopped", head)
            raise
        except Exception as error:  # whatever it is, it must not stop the other jobs
            level, text = logging.WARNING, f"FAILED: {type(error).__name__}: {first_line(error)}"
        self.done += 1
        now = time.monotonic()
        left = (now - self.began) / self.done * (remaining - 1)
        end = f", about {duration(left)} left" if remaining > 1 else ""
        logger.log(level, "%s: %s in %s%s", head, text, duration(now - began), end)


def _describe_shared(config: run_folder.Config, data=None, model=None) -> dict:
    """``user_inputs.describe`` of what all jobs share; a function wants the data for it."""
    if data is None and user_inputs.has_code(model):
        data = run_data.load(config)
    described = user_inputs.describe(config, data, model)
    return {name: entry for name, entry in described.items() if name != "teacher"}


def _check_shared_part(config: run_folder.Config, data=None, model=None) -> dict:
    """Raises for what would make every job fail the same way; returns ``_describe_shared``."""
    data = run_data.load(config) if data is None else data
    data.train(config.batch_size, seed=config.seed, steps_per_epoch=config.steps_per_epoch)
    serialization.file_config(user_inputs.build(config, data, model))
    return _describe_shared(config, data, model)
