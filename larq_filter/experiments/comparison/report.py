"""The report of a comparison: tables for people, and the rows of the files for programs.

A column of ``table.md`` is an entry of ``_RESULTS``, one of its second table of ``COMPARED`` in
``summaries``, one of ``summary.csv`` of ``_AVERAGED``; what is measured in a run is a field of
``run_folder.Result``, which ``outcome`` fills.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence

from larq_filter.experiments.comparison.jobs import Outcome
from larq_filter.experiments.comparison.summaries import (
    COMPARED,
    CONFIDENCE,
    Difference,
    Spread,
    Summary,
    difference,
)
from larq_filter.experiments.run_folder import Result
from larq_filter.experiments.tables import NOTHING
from larq_filter.experiments.tables import markdown as table


def markdown(summaries: Sequence[Summary], title: str, notes: Sequence[str] = ()) -> str:
    """Title, results, differences, failures and how to read them, as a Markdown document.

    Args:
        summaries: from ``summarize``.
        title: the heading.
        notes: further lines under the tables.
    """
    tables = [table(each) for each in rows(summaries) if each]
    lines = [*reading(summaries), *notes, *troubles(summaries)]
    return "\n\n".join([f"# {title}", *tables, "\n".join(f"- {line}" for line in lines)]) + "\n"


def rows(summaries: Sequence[Summary]) -> tuple[list[dict], list[dict]]:
    """The rows of both tables, heading to text: results, and differences, where there are any."""
    columns = _differences({each.method: each for each in summaries})
    results, differences = (
        [{name: text(each) for name, text in chosen.items()} for each in summaries]
        for chosen in (_RESULTS, columns)
    )
    return results, differences if len(columns) > 1 else []


def accuracy(summary: Summary) -> str:
    """Mean, deviation and number of runs; runs that are not finished beside it."""
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
    "validation accuracy (n)": accuracy,
    "test accuracy": _quantity("test_accuracy", ".4f"),
    "training loss (nats)": _quantity("train_loss", ".4f"),
    "flips per weight": _mean("flips_per_weight", ".3g"),
    "binary layers that flipped": _layers,
    "wall time (s)": _mean("seconds", ".0f"),
    "optimizer state (bytes per weight)": _mean("optimizer_bytes_per_weight", ".3g"),
}


def _differences(by_name: Mapping[str, Summary]) -> dict[str, Callable[[Summary], str]]:
    def column(other: Summary, quantity: str, sign: int):
        def text(summary):
            if summary.method == other.method:
                return NOTHING
            return difference_text(difference(summary, other, quantity, sign))

        return text

    columns = {
        name: column(by_name[other], quantity, sign)
        for name, other, quantity, sign in COMPARED
        if other in by_name
    }
    return {"method": lambda summary: summary.method, **columns}


def difference_text(value: Difference) -> str:
    """Mean, interval and number of pairs."""
    if not value.n:
        return NOTHING
    interval = f" [{value.low:+.4f}, {value.high:+.4f}]" if value.n > 1 else ""
    return f"{value.mean:+.4f}{interval} ({value.n})"


def reading(summaries: Sequence[Summary]) -> list[str]:
    """How to read the tables, a line each."""
    lines = [
        "Accuracies and losses are those of the last epoch, not of the best one. Choices are made "
        "on the validation images; the test images were read once, after that epoch. Mean ± "
        "standard deviation over n seeds (ddof = 1). The training loss is the mean over the last "
        "epoch's steps, each before its update."
    ]
    if rows(summaries)[1]:
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


def troubles(summaries: Sequence[Summary]) -> list[str]:
    """A line for each run that failed or still goes on."""
    lines = []
    for outcome in (each for summary in summaries for each in summary.outcomes):
        if outcome.status == "failed":
            lines.append(f"FAILED: {outcome.job.name}: {outcome.error}")
        elif outcome.status == "running":
            lines.append(f"{outcome.job.name} is still being run by another process.")
    return lines


def run_rows(outcomes: Sequence[Outcome], context: Mapping[str, str] | None = None) -> list[dict]:
    """One flat row a job: config, knobs and their reason, result; for ``tables.write_csv``."""
    rows = []
    for each in outcomes:
        row = {"method": each.job.config.method, "seed": each.job.config.seed}
        row["status"] = each.status
        result = dataclasses.asdict(each.result) if each.result else {}
        for field in dataclasses.fields(Result):
            row[field.name] = result.get(field.name, "")
        row["flipped_layers"], row["binary_layers"] = result.get("flipped_layers", ("", ""))
        rows.append({**row, **setting_of(each), **(context or {}), "error": each.error})
    return rows


def summary_rows(
    summaries: Sequence[Summary], context: Mapping[str, str] | None = None
) -> list[dict]:
    """One flat row a method: means, deviations, differences, knobs; for ``tables.write_csv``."""
    by_name, rows = {each.method: each for each in summaries}, []
    for each in summaries:
        row = {"method": each.method, "n": len(each.results), "failed": each.count("failed")}
        for quantity in _AVERAGED:
            spread = each.spread(quantity)
            row |= {f"{quantity}_mean": spread.mean, f"{quantity}_std": spread.deviation}
        row["flipped_layers"], row["binary_layers"] = each.flipped_layers() or ("", "")
        for name, other, quantity, sign in COMPARED:
            found = difference(each, by_name[other], quantity, sign) if other in by_name else None
            column = name.replace(" ", "_")
            for part in ("mean", "low", "high", "n"):
                row[f"{column}_{part}"] = getattr(found, part) if found else ""
        rows.append({**row, **setting_of(each.outcomes[0]), **(context or {})})
    return rows


_AVERAGED = (
    "accuracy",
    "loss",
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "train_loss",
    "flip_ratio",
    "flips_per_weight",
    "seconds",
    "optimizer_bytes_per_weight",
)


def setting_of(outcome: Outcome) -> dict[str, str]:
    """The knobs of a run that are not defaults, and their reason."""
    job = outcome.job
    return {"knobs": json.dumps(job.config.knobs.given()), "reason": job.reason}
