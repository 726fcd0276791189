"""What runs of several methods say together: means, spread, differences, curves.

Two methods are compared seed by seed: runs of the same seed saw the same images in the same order,
so their differences vary less than they do. The interval of a mean difference is Student's, over
the seeds; with n = 1 there is none. It holds for one comparison chosen beforehand: of twenty
methods that differ in nothing, one leaves zero outside its 95 % interval on average.
"""

import csv
import dataclasses
import json
import logging
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import scipy

from larq_filter.experiments import methods, run_folder
from larq_filter.experiments.comparison.jobs import Outcome
from larq_filter.experiments.run_folder import Result

logger = logging.getLogger(__name__)

CONTROL, REFERENCE = "frozen", "filter"
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (``ddof=1``; NaN for n = 1) of n values."""

    mean: float
    deviation: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """That of ``values``; NaN and n = 0 for none."""
        if not len(values):
            return cls(math.nan, math.nan, 0)
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return cls(float(np.mean(values)), deviation, len(values))


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean of n paired differences, and the ends of its confidence interval (NaN for n < 2)."""

    mean: float
    low: float
    high: float
    n: int


def paired_difference(one: Mapping[int, float], other: Mapping[int, float]) -> Difference:
    """``one - other`` over the seeds that both have.

    mean +- t * deviation / sqrt(n), t the quantile of Student's distribution of n - 1 degrees of
    freedom, deviation that of the differences.

    Args:
        one: seed to value.
        other: the same kind.
    """
    spread = Spread.of([one[seed] - other[seed] for seed in sorted({*one} & {*other})])
    if spread.n < 2:
        return Difference(spread.mean, math.nan, math.nan, spread.n)
    t = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, spread.n - 1))
    half = t * spread.deviation / math.sqrt(spread.n)
    return Difference(spread.mean, spread.mean - half, spread.mean + half, spread.n)


@dataclasses.dataclass(frozen=True)
class Summary:
    """The runs of one method.

    Attributes:
        method: its name.
        outcomes: of its jobs, in the order of the seeds.
        results: seed to result, of the finished ones.
    """

    method: str
    outcomes: tuple[Outcome, ...]

    @property
    def results(self) -> dict[int, Result]:
        return {each.job.config.seed: each.result for each in self.outcomes if each.result}

    def values(self, quantity: str) -> dict[int, float]:
        """Seed to an attribute of the result, for results that have it."""
        values = {seed: getattr(result, quantity) for seed, result in self.results.items()}
        return {seed: value for seed, value in values.items() if value is not None}

    def spread(self, quantity: str) -> Spread:
        """Of an attribute of the result, over the seeds."""
        return Spread.of(list(self.values(quantity).values()))

    def count(self, status: str) -> int:
        """Jobs of this status."""
        return sum(each.status == status for each in self.outcomes)

    def flipped_layers(self) -> tuple[int, int] | None:
        """Binary layers that flipped, in the run with the fewest, of how many."""
        return min((result.flipped_layers for result in self.results.values()), default=None)


def summarize(outcomes: Sequence[Outcome]) -> list[Summary]:
    """One summary a method, by falling mean accuracy; methods without a result come last."""
    names = dict.fromkeys(each.job.config.method for each in outcomes)
    summaries = [
        Summary(name, tuple(each for each in outcomes if each.job.config.method == name))
        for name in names
    ]
    return sorted(
        summaries,
        key=lambda each: each.spread("accuracy").mean if each.results else -math.inf,
        reverse=True,
    )


# Column, method compared with, attribute of the result, sign: all are better when positive.
COMPARED = (
    (f"accuracy above {CONTROL}", CONTROL, "accuracy", 1),
    (f"training loss below {CONTROL}", CONTROL, "train_loss", -1),
    (f"accuracy above {REFERENCE}", REFERENCE, "accuracy", 1),
)


def difference(summary: Summary, other: Summary, quantity: str, sign: int = 1) -> Difference:
    """Paired difference of an attribute of the results; with ``sign`` -1, ``other - summary``."""
    one, two = (
        {seed: sign * value for seed, value in each.values(quantity).items()}
        for each in (summary, other)
    )
    return paired_difference(one, two)


def versions(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for people: the package versions of the finished runs, and whether they differ."""
    packages, found = ("larq_filter", "tensorflow", "larq"), {}
    for each in outcomes:
        if each.result:
            path = pathlib.Path(each.result.output_dir) / "config.json"
            has = json.loads(path.read_text())["versions"]
            text = ", ".join(f"{name} {has.get(name, 'unknown')}" for name in packages)
            found.setdefault(text, []).append(each.job.name)
    if len(found) < 2:
        return [f"Made with {text}." for text in found]
    return [
        "Runs of DIFFERENT versions: "
        + "; ".join(f"{text}: {', '.join(names)}" for text, names in found.items())
    ]


def knobs_used(summary: Summary) -> dict:
    """The hyperparameters of the runs of a method, its defaults included, by name.

    Those of the first finished run as its config.json has them, since a default may be another one
    in another version of the package; those of today where none is finished.
    """
    for result in summary.results.values():
        return run_folder.read_config(pathlib.Path(result.output_dir))["resolved"]["knobs"]
    config = summary.outcomes[0].job.config
    return methods.resolve(config.method, config.knobs).given()


def curves(summary: Summary, quantity: str) -> list[list[float]]:
    """A column of ``metrics.csv``: for each finished run a number an epoch of its budget.

    NaN stands for the epochs of a first stage, which trains another network, and for what a run
    doesn't measure.

    Args:
        summary: of the runs.
        quantity: a column, or ``cross_entropy``: that column, or the loss where the loss is it.
    """
    runs = []
    for each in summary.outcomes:
        if each.result:
            values = _column(pathlib.Path(each.result.output_dir) / "metrics.csv", quantity)
            runs.append([math.nan] * (each.job.config.epochs - len(values)) + values)
    return runs


def _column(path: pathlib.Path, quantity: str) -> list[float]:
    """A column of a run's table; none, with a warning, of one that is damaged."""
    absent = "loss" if quantity == "cross_entropy" else None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        values = [float(row.get(quantity, row.get(absent, math.nan))) for row in rows]
        if rows and "epoch" in rows[0]:
            return values
        reason = "no rows of epochs"
    except (OSError, ValueError, TypeError, csv.Error) as error:
        reason = str(error)
    logger.warning(
        "%s is damaged (%s): the curves lack its run. To have it made again remove %s and give "
        "the same command.",
        *(path, reason, path.with_name("result.json")),
    )
    return []
