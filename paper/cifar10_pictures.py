"""The pictures of docs/results.md, drawn from the files in results/cifar10."""

from collections.abc import Mapping

import numpy as np

import cifar10
import cifar10_numbers as numbers
from larq_filter import plots

FILES = {
    name: f"cifar10_{name}.png"
    for name in ("search", "flips", "curves", "accuracy", "front", "long")
}


def draw() -> dict:
    """Name of a picture to its figure, for those that there is something to see of."""
    found = {}
    accuracies = numbers.searched()
    if accuracies:
        figure, axes = plots.panels("a", 0.6 + 0.28 * len(accuracies))
        for place, values in enumerate(reversed(accuracies.values())):
            axes["a"].plot(values, np.full(len(values), place), "o", alpha=0.6, color="C0")
        axes["a"].set_yticks(range(len(accuracies)), reversed(accuracies))
        axes["a"].set_ylim(-0.6, len(accuracies) - 0.4)
        axes["a"].set_xlabel("validation accuracy after 500 steps; a dot is a trial")
        found["search"] = figure
    ratios = numbers.flips()
    if ratios:
        figure, axes = plots.panels("a", 3.2)
        ends = [np.min(list(ratios.values())), np.max(list(ratios.values()))]
        axes["a"].plot(ends, ends, color="0.6", linewidth=1, label="as predicted")
        for (row, (predicted, measured)), marker in zip(ratios.items(), "os^", strict=False):
            axes["a"].plot(predicted, measured, marker, alpha=0.7, label=row)
        axes["a"].set(xscale="log", yscale="log")
        axes["a"].set_xlabel("predicted flips, share of the weights per step")
        axes["a"].set_ylabel("measured")
        axes["a"].legend(frameon=False)
        found["flips"] = figure
    curves = {
        row: list(numbers.runs_of(row).values()) for row in cifar10.ROWS if numbers.runs_of(row)
    }
    if curves:
        found["curves"] = _curves(curves)
        for name, rows in (("accuracy", numbers.MAIN), ("front", numbers.FRONT)):
            found[name] = _accuracies([row for row in rows if numbers.runs_of(row)])
    long = {
        name: [run] for name in cifar10.LONG if (run := numbers.read(f"long/{name}")) is not None
    }
    if long:
        found["long"] = _curves(long)
    return found


def _curves(runs: Mapping[str, list[dict]]):
    """Validation accuracy by epoch. A first stage trains another network, and has no line."""
    curves = {
        row: [run["metrics"][-1]["val_accuracy"] for run in each] for row, each in runs.items()
    }
    length = max(len(curve) for each in curves.values() for curve in each)
    padded = {
        row: [[np.nan] * (length - len(curve)) + curve for curve in each]
        for row, each in curves.items()
    }
    return plots.learning_curves({"validation accuracy": padded})


def _accuracies(rows):
    """A line a row, with the minutes it takes: a dot a seed, and a stroke at their mean."""
    rows = [row for row in rows if row != "frozen"]  # far below: it would press all others together
    figure, axes = plots.panels("a", 0.6 + 0.28 * len(rows))
    for place, row in enumerate(reversed(rows)):
        values = list(numbers.results(row, "test_accuracy").values())
        axes["a"].plot(values, np.full(len(values), place), "o", alpha=0.6, color="C0")
        axes["a"].plot(np.mean(values), place, "|", markersize=14, color="C0")
    names = [f"{row}, {numbers.minutes(row):.0f} min" for row in reversed(rows)]
    axes["a"].set_yticks(range(len(rows)), names)
    axes["a"].set_ylim(-0.6, len(rows) - 0.4)
    axes["a"].set_xlabel("test accuracy; a dot is a seed, a stroke their mean")
    return figure
