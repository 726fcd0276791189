"""What runs of several methods say together: means, spread, differences, tables.

Two methods are compared seed by seed: runs of the same seed saw the same images in the same order,
so their differences vary less than they do. The interval of a mean difference is Student's, over
the seeds; with n = 1 there is none. It holds for one comparison chosen beforehand: of twenty
methods that differ in nothing, one leaves zero outside its 95 % interval on average.
"""

import csv
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from larq_filter.comparison import Outcome
from larq_filter.training import Result

CONTROL, REFERENCE = "frozen", "filter"
CONFIDENCE = 0.95
NOTHING = "-"


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


def paired_difference(
    one: Mapping[int, float], other: Mapping[int, float], confidence: float = CONFIDENCE
) -> Difference:
    """``one - other`` over the seeds that both have.

    mean +- t * deviation / sqrt(n), t the quantile of Student's distribution of n - 1 degrees of
    freedom, deviation that of the differences.

    Args:
        one: seed to value.
        other: the same kind.
        confidence: of the two-sided interval, in (0, 1).
    """
    spread = Spread.of([one[seed] - other[seed] for seed in sorted({*one} & {*other})])
    if spread.n < 2:
        return Difference(spread.mean, math.nan, math.nan, spread.n)
    t = float(stats.t.ppf((1 + confidence) / 2, spread.n - 1))
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
        """Seed to an attribute of the result."""
        return {seed: getattr(result, quantity) for seed, result in self.results.items()}

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


def markdown(summaries: Sequence[Summary], title: str, notes: Sequence[str] = ()) -> str:
    """Title, results, differences, failures and how to read them, as a Markdown document.

    Args:
        summaries: from ``summarize``.
        title: the heading.
        notes: further lines under the tables.
    """
    parts = [f"# {title}", _table(summaries, _RESULTS)]
    columns = _differences({each.method: each for each in summaries})
    if len(columns) > 1:
        parts.append(_table(summaries, columns))
    lines = [*_reading(columns), *notes, *_troubles(summaries)]
    parts.append("\n".join(f"- {line}" for line in lines))
    return "\n\n".join(parts) + "\n"


def _table(summaries: Sequence[Summary], columns: Mapping[str, Callable[[Summary], str]]) -> str:
    rows = [list(columns), ["---"] * len(columns)]
    rows += [[column(summary) for column in columns.values()] for summary in summaries]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _accuracy(summary: Summary) -> str:
    return f"{_spread(summary.spread('accuracy'), '.4f')} ({_runs(summary)})"


def _runs(summary: Summary) -> str:
    """``5``; ``3, 1 failed, 1 running``."""
    others = [(status, summary.count(status)) for status in ("failed", "running", "missing")]
    return ", ".join([f"{len(summary.results)}", *(f"{n} {name}" for name, n in others if n)])


def _spread(spread: Spread, form: str) -> str:
    if not spread.n:
        return NOTHING
    return f"{spread.mean:{form}}" + (f" ± {spread.deviation:{form}}" if spread.n > 1 else "")


def _quantity(quantity: str, form: str) -> Callable[[Summary], str]:
    return lambda summary: _spread(summary.spread(quantity), form)


def _mean(quantity: str, form: str) -> Callable[[Summary], str]:
    def text(summary):
        return f"{summary.spread(quantity).mean:{form}}" if summary.results else NOTHING

    return text


def _layers(summary: Summary) -> str:
    layers = summary.flipped_layers()
    return f"{layers[0]} of {layers[1]}" if layers else NOTHING


_RESULTS: dict[str, Callable[[Summary], str]] = {
    "method": lambda summary: summary.method,
    "validation accuracy (n)": _accuracy,
    "training loss (nats)": _quantity("train_loss", ".4f"),
    "flips per weight": _mean("flips_per_weight", ".3g"),
    "binary layers that flipped": _layers,
    "wall time (s)": _mean("seconds", ".0f"),
    "optimizer state (bytes per weight)": _mean("optimizer_bytes_per_weight", ".3g"),
}

# Column, method compared with, attribute of the result, sign: all are better when positive.
_COMPARED = (
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


def _differences(by_name: Mapping[str, Summary]) -> dict[str, Callable[[Summary], str]]:
    def column(other: Summary, quantity: str, sign: int):
        def text(summary):
            if summary.method == other.method:
                return NOTHING
            return _difference(difference(summary, other, quantity, sign))

        return text

    columns = {
        name: column(by_name[other], quantity, sign)
        for name, other, quantity, sign in _COMPARED
        if other in by_name
    }
    return {"method": lambda summary: summary.method, **columns}


def _difference(value: Difference) -> str:
    if not value.n:
        return NOTHING
    interval = f" [{value.low:+.4f}, {value.high:+.4f}]" if value.n > 1 else ""
    return f"{value.mean:+.4f}{interval} ({value.n})"


def _reading(columns) -> list[str]:
    lines = [
        "Accuracy and losses are those of the last epoch, not of the best one; mean ± standard "
        "deviation over n seeds (ddof = 1). The training loss is the mean over the last epoch's "
        "steps, each before its update."
    ]
    if len(columns) > 1:
        lines.append(
            "Differences are paired: runs of one seed saw the same data in the same order. Mean "
            f"[{CONFIDENCE:.0%} t interval over seeds] (n), not corrected for the number of "
            "methods."
        )
    lines.append(
        "Flips per weight: in the whole run. Layers: in the run with the fewest. Wall times are "
        "comparable only between runs that had the machine to themselves."
    )
    return lines


def _troubles(summaries: Sequence[Summary]) -> list[str]:
    lines = []
    for outcome in (each for summary in summaries for each in summary.outcomes):
        if outcome.status == "failed":
            lines.append(f"FAILED: {outcome.job.name}: {outcome.error}")
        elif outcome.status == "running":
            lines.append(f"{outcome.job.name} is still being run by another process.")
    return lines


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


def run_rows(outcomes: Sequence[Outcome], context: Mapping[str, str] | None = None) -> list[dict]:
    """One flat row a job: config, knobs and their reason, result; for ``write_csv``."""
    rows = []
    for each in outcomes:
        row = {"method": each.job.config.method, "seed": each.job.config.seed}
        row["status"] = each.status
        result = dataclasses.asdict(each.result) if each.result else {}
        for field in dataclasses.fields(Result):
            row[field.name] = result.get(field.name, "")
        row["flipped_layers"], row["binary_layers"] = result.get("flipped_layers", ("", ""))
        rows.append({**row, **_recipe_of(each), **(context or {}), "error": each.error})
    return rows


def summary_rows(
    summaries: Sequence[Summary], context: Mapping[str, str] | None = None
) -> list[dict]:
    """One flat row a method: means, deviations, differences, knobs; for ``write_csv``."""
    by_name, rows = {each.method: each for each in summaries}, []
    for each in summaries:
        row = {"method": each.method, "n": len(each.results), "failed": each.count("failed")}
        for quantity in _AVERAGED:
            spread = each.spread(quantity)
            row |= {f"{quantity}_mean": spread.mean, f"{quantity}_std": spread.deviation}
        row["flipped_layers"], row["binary_layers"] = each.flipped_layers() or ("", "")
        for name, other, quantity, sign in _COMPARED:
            found = difference(each, by_name[other], quantity, sign) if other in by_name else None
            column = name.replace(" ", "_")
            for part in ("mean", "low", "high", "n"):
                row[f"{column}_{part}"] = getattr(found, part) if found else ""
        rows.append({**row, **_recipe_of(each.outcomes[0]), **(context or {})})
    return rows


_AVERAGED = (
    "accuracy",
    "loss",
    "train_accuracy",
    "train_loss",
    "flip_ratio",
    "flips_per_weight",
    "seconds",
    "optimizer_bytes_per_weight",
)


def _recipe_of(outcome: Outcome) -> dict[str, str]:
    job = outcome.job
    return {"knobs": json.dumps(job.config.knobs.given()), "reason": job.reason}


def write_csv(path, rows: Sequence[Mapping]) -> None:
    """Writes rows of the same columns, whole or not at all."""
    path = pathlib.Path(path)
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)


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
            with (pathlib.Path(each.result.output_dir) / "metrics.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            absent = "loss" if quantity == "cross_entropy" else None
            values = [float(row.get(quantity, row.get(absent, math.nan))) for row in rows]
            runs.append([math.nan] * (each.job.config.epochs - len(values)) + values)
    return runs
