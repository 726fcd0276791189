"""What came out of a study: tables, a summary for people, TensorBoard's HParams, pictures."""

import dataclasses
import json
import logging
import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from larq_filter._keras import tf
from larq_filter.experiments import files, run_folder, tables
from larq_filter.experiments.sweeps import _optuna
from larq_filter.experiments.sweeps.spaces import Choices, Range
from larq_filter.plots.style import matplotlib

HALF_A_POINT = 0.005  # of accuracy
CONTOUR_FROM = 10  # completed trials: between fewer points the lines are invented

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One choice of the knobs and what came of it.

    Attributes:
        number: in the order in which trials were begun, from 0.
        state: ``complete``, ``pruned``, ``failed`` or ``running``.
        knobs: the searched knobs.
        accuracy: on the validation images after the last epoch, mean over the seeds, in [0, 1]; of
            a pruned trial after the last epoch it was given. None without any.
        epochs: how many epochs were reported, all seeds together.
        flip_ratio, flips_per_weight, seconds: as in ``runs.Result``, mean over the seeds (the
            seconds: sum); None unless complete.
        folder: name of its folder.
        error: why it failed.
        worker: host and process id.
    """

    number: int
    state: str
    knobs: dict[str, Any]
    accuracy: float | None = None
    epochs: int = 0
    flip_ratio: float | None = None
    flips_per_weight: float | None = None
    seconds: float | None = None
    folder: str = ""
    error: str = ""
    worker: str = ""


def folder_name(number: int) -> str:
    """Name of the folder of a trial."""
    return f"{number:04d}"


@dataclasses.dataclass(frozen=True)
class Effort:
    """How many trials it took to come within ``within`` of the best accuracy of a study.

    Attributes:
        best: the best accuracy.
        within: the distance, in accuracy.
        tried: trials that were completed or pruned, ``n``.
        close: those of them within the distance, ``k``. A pruned one counts as not.
        took: the position of the first of them in the order in which the trials were begun, from 1.
        expected: its mean position over all orders of the trials, (n + 1) / (k + 1).
    """

    best: float
    tried: int
    close: int
    took: int
    expected: float


def effort(trials: Sequence[Trial]) -> Effort:
    """Trials needed to come within half a point of the best, as they ran and in a random order.

    The order in which trials happened to run is one draw, and a sampler that learns makes the late
    ones better. Over all orders of ``n`` trials of which ``k`` are good enough, the first good one
    has position ``(n + 1) / (k + 1)`` on average: the ``k`` cut the ``n - k`` others into ``k + 1``
    runs of equal expected length ``(n - k) / (k + 1)``, and one more trial ends the first run (mean
    of the negative hypergeometric distribution).

    Raises:
        ValueError: no trial was completed.
    """
    tried = sorted((t for t in trials if t.state in ("complete", "pruned")), key=lambda t: t.number)
    complete = [t.accuracy for t in tried if t.state == "complete"]
    if not complete:
        raise ValueError("No trial was completed, so there is no best one.")
    best = max(complete)
    # Accuracies are shares of a number of images: rounding must not decide.
    good = [t.state == "complete" and t.accuracy >= best - HALF_A_POINT - 1e-9 for t in tried]
    close = sum(good)
    expected = (len(tried) + 1) / (close + 1)
    return Effort(best, len(tried), close, good.index(True) + 1, expected)


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The completed trial of the highest accuracy, the earliest of several; None without any."""
    complete = [t for t in trials if t.state == "complete"]
    return max(complete, key=lambda t: (t.accuracy, -t.number), default=None)


def train_command(config: run_folder.Config, others: Sequence[str] = ()) -> str:
    """The line that repeats a run with larq-filter train; ``others``: words that it wants too."""
    always = ("dataset", "model", "method", "batch_size", "epochs", "seed")
    values = {name: getattr(config, name) for name in always}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name != "knobs" and field.name not in values and value != field.default:
            values[field.name] = value
    flags = [_flag(name, value) for name, value in (values | config.knobs.given()).items()]
    return " ".join(["larq-filter train", *flags, *others, "--control=no"])


def _flag(name: str, value) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={shlex.quote(str(value))}"


def summary(
    trials: Sequence[Trial], configs: Sequence[run_folder.Config], others: Sequence[str] = ()
) -> str:
    """The study for people.

    Args:
        trials: all trials.
        configs: the runs of the best one, a config for each seed.
        others: what a command that repeats them needs besides their flags.
    """
    count = {state: sum(t.state == state for t in trials) for state in ("complete", "pruned")}
    failed = [t for t in trials if t.state == "failed"]
    lines = [f"{count['complete']} trials complete, {count['pruned']} pruned, {len(failed)} failed"]
    lines += [f"  trial {t.number} failed: {t.error}" for t in failed]
    best = best_trial(trials)
    if best is None:
        return "\n".join([*lines, "No trial was completed."])
    needed = effort(trials)
    lines += [
        f"best: trial {best.number}, validation accuracy {best.accuracy:.4f}",
        f"  {tables.listed(best.knobs)}",
        *(f"  {train_command(config, others)}" for config in configs),
        f"trials to within half a point of the best: {needed.took} as they ran, "
        f"{needed.expected:.1f} expected in a random order "
        f"({needed.close} of {needed.tried} come that close)",
    ]
    return "\n".join(lines)


def refuse_other_files(folder: pathlib.Path, storage: str) -> None:
    """Raises if the folder holds files and no search: what is written there replaces others.

    Args:
        folder: of the results.
        storage: of the study, which may lie in the folder.

    Raises:
        run_folder.RunExists: no part of a search is in it.
    """
    own = {"sweep.json", "tables.lock", pathlib.PurePath(storage).name}
    run_folder.refuse_other_files(
        folder,
        lambda name: name in own or name.isdigit(),
        "search",  # digits: folders of trials
    )


def write(
    folder: pathlib.Path,
    trials: Sequence[Trial],
    space: Mapping[str, Range | Choices],
    about: Mapping[str, Any],
) -> None:
    """Writes trials.csv and sweep.json; each whole or not at all, whoever else writes them too.

    Args:
        folder: of the results.
        trials: all trials.
        space: what was searched.
        about: what else sweep.json is to hold: study, configuration and so on, without secrets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = [field.name for field in dataclasses.fields(Trial) if field.name != "knobs"]
    rows = [dataclasses.asdict(trial) for trial in sorted(trials, key=lambda t: t.number)]
    rows = [row.pop("knobs") | row for row in rows]
    best = best_trial(trials)
    outcome = None if best is None else dataclasses.asdict(effort(trials))
    content = {**about, "best_trial": best and dataclasses.asdict(best), "effort": outcome}
    with files.locked(folder / "tables.lock"):
        tables.write_csv(folder / "trials.csv", rows, [*own[:2], *space, *own[2:]])
        files.write_json(folder / "sweep.json", content)


def compare(folders: Sequence[str | pathlib.Path]) -> str:
    """One table of several studies, from the folders that ``write`` has filled.

    Raises:
        FileNotFoundError: a folder without sweep.json.
        ValueError: a damaged one.
        run_folder.RunExists: a study with another division of the images.
    """
    head = ["study", "method", "knobs", "trials", "best", "to within half a point", "random order"]
    rows = [head]
    for folder in map(pathlib.Path, folders):
        path = folder / "sweep.json"
        if not path.exists():
            raise FileNotFoundError(f"{folder} holds no finished search: there is no {path}.")
        try:
            study = json.loads(path.read_bytes())
            run_folder.refuse_other_split(study["config"], f"The study in {folder}")
            rows.append(_row(study))
        except run_folder.RunExists:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({type(error).__name__}: {error}). The same larq-filter sweep, "
                "given again, writes it from the study."
            ) from error
    return tables.aligned(rows)


def _row(study: dict) -> list:
    """Of the table of several studies, for the content of one sweep.json."""
    config = study["config"]
    needed = study["effort"] or dict.fromkeys(("tried", "best", "took", "expected"), math.nan)
    row = [study["study"], config["method"], len(config["space"]), needed["tried"]]
    return [*row, f"{needed['best']:.4f}", needed["took"], f"{needed['expected']:.1f}"]


def write_hparams(folder: pathlib.Path, trial: Trial) -> None:
    """Writes one trial for the HParams view of ``tensorboard --logdir FOLDER/tensorboard``."""
    from tensorboard.plugins.hparams import api

    with tf.summary.create_file_writer(str(folder / "tensorboard" / trial.folder)).as_default():
        api.hparams({**trial.knobs, "state": trial.state}, trial_id=trial.folder)
        if trial.accuracy is not None:
            tf.summary.scalar("validation accuracy", trial.accuracy, step=trial.epochs)


def draw(folder: pathlib.Path, study) -> list[pathlib.Path]:
    """Draws Optuna's pictures: accuracies in the order of the trials, and over the knobs.

    Args:
        folder: of the results.
        study: of Optuna.

    Returns:
        The pictures' paths; none while fewer than two trials are complete, and no contours while
        fewer than ``CONTOUR_FROM`` are.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if len(complete) < 2:
        return []
    drawn, pyplot = _optuna.load().visualization.matplotlib, matplotlib("pyplot")
    knobs = len(complete[0].params)
    pictures = {"history": (drawn.plot_optimization_history, 1)}
    if knobs == 1:
        pictures["slice"] = drawn.plot_slice, 1
    elif len(complete) >= CONTOUR_FROM:
        pictures["contour"] = drawn.plot_contour, knobs
    else:
        logger.info(
            "No contour.png yet: it is drawn from %d completed trials on, and there are %d.",
            *(CONTOUR_FROM, len(complete)),
        )
    paths = []
    for name, (plot, size) in pictures.items():
        width = 4 + 2.5 * size
        with _optuna.experimental(), pyplot.rc_context({"figure.figsize": (width, 0.8 * width)}):
            axes = plot(study, target_name="validation accuracy")
            figure = np.ravel(axes)[0].figure
            if name == "history":  # trials are numbered
                figure.axes[0].xaxis.set_major_locator(
                    matplotlib("ticker").MaxNLocator(integer=True)
                )
            paths.append(folder / f"{name}.png")
            with files.locked(folder / "tables.lock"), files.whole(paths[-1]) as part:
                figure.savefig(part, bbox_inches="tight")
            pyplot.close(figure)
    return paths
