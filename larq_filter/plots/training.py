"""How training goes, drawn: flips, and curves over epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from larq_filter import analysis
from larq_filter.filters import Filter
from larq_filter.plots.style import (
    COLOURS,
    FONT,
    STYLES,
    band,
    column,
    legend,
    line_styles,
    logarithmic,
    matplotlib,
    panels,
)

MOST_LINES = 8  # in one axis
ACROSS = 4  # small multiples in a row


def flip_ratio(
    measured: Sequence[float] | Mapping[str, Sequence[float]],
    predicted: Sequence[float] | Mapping[str, Sequence[float]] | Filter | None = None,
    steps_per_epoch: int | None = None,
) -> Any:
    """Share of the binary weights that flip in a step, epoch by epoch, on a logarithmic scale.

    Args:
        measured: one run, a number in [0, 1] per epoch (``flip_ratio`` of
            ``history.history``), or several: label to numbers.
        predicted: the same kind of numbers; or the filter that trained, from which
            ``analysis.expected_flip_ratio`` in the middle of each epoch is drawn. None: nothing.
        steps_per_epoch: batches per epoch; needed for a filter only.

    Returns:
        A figure of one axis; epochs are counted from 1, as Keras prints them. Zeros, which a
        logarithmic scale has no place for, leave gaps.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: nothing measured; a number outside [0, 1]; a filter without
            ``steps_per_epoch``, or one that is not linear.
    """
    runs = _runs("measured", measured, "measured")
    if isinstance(predicted, Filter):
        if steps_per_epoch is None:
            raise ValueError(
                "`predicted` is a filter and `steps_per_epoch` is None; give the number of batches "
                "per epoch, to know its rates in each epoch."
            )
        middles = [
            int((epoch + 0.5) * steps_per_epoch) for epoch in range(max(map(len, runs.values())))
        ]
        predicted = [analysis.expected_flip_ratio(predicted, step) for step in middles]
    expected = {} if predicted is None else _runs("predicted", predicted, "predicted, white noise")
    figure, axes = column(1, height=3.4)
    lines = line_styles()
    for label, values in runs.items():
        style = {**next(lines), "linestyle": "-", "marker": "os^Dv"[len(axes.lines) % 5]}
        epochs, values = np.arange(1, len(values) + 1), np.where(values > 0, values, np.nan)
        axes.plot(epochs, values, label=label, markersize=4, **style)
    for index, (label, values) in enumerate(expected.items()):
        epochs, values = np.arange(1, len(values) + 1), np.where(values > 0, values, np.nan)
        style = {"color": "0.45", "linestyle": STYLES[1 + index % 3], "linewidth": 1.8}
        axes.plot(epochs, values, label=label, **style)
    axes.set(xlabel="epoch", ylabel="flip ratio per step")
    logarithmic(axes)
    axes.xaxis.set_major_locator(matplotlib("ticker").MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, max(map(len, [*runs.values(), *expected.values()])) + 0.5)
    legend(axes)
    return figure


def learning_curves(
    quantities: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], log: Sequence[str] = ()
) -> Any:
    """Mean and range over seeds, epoch by epoch: an axis for each quantity, or small multiples.

    The range, not the standard deviation, since a band of that leaves a logarithmic scale, and the
    interval that accuracies lie in. More than 8 methods share no axis: each has its own, on equal
    scales, with the means of all others in grey.

    Args:
        quantities: label of the axis to (label of the method to its runs, each a number per epoch).
            NaN leaves a gap, and so do mean values of 0 on a logarithmic scale.
        log: labels of the axes that are logarithmic.

    Returns:
        A figure; epochs are counted from 1, as Keras prints them.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: nothing to draw, runs of different lengths.
    """
    if not quantities:
        raise ValueError("`quantities` is empty; give at least one, with the runs of a method.")
    tables = {
        name: {str(label): _table_of_runs(name, label, runs) for label, runs in methods.items()}
        for name, methods in quantities.items()
    }
    labels = list(dict.fromkeys(label for methods in tables.values() for label in methods))
    if not labels:
        raise ValueError("`quantities` holds no run; give a list of runs for at least one label.")
    repeated = any(len(runs) > 1 for methods in tables.values() for runs in methods.values())
    how = "line: mean over seeds; shade: lowest to highest seed" if repeated else None
    draw = _shared_axes if len(labels) <= MOST_LINES else _small_multiples
    figure = draw(tables, labels, log, how)
    for each in figure.axes:
        ticks = matplotlib("ticker").MaxNLocator(4, integer=True, min_n_ticks=1)
        each.xaxis.set_major_locator(ticks)
    return figure


def _shared_axes(tables: Mapping, labels: Sequence[str], log: Sequence[str], how: str | None):
    """All methods in one axis a quantity, and a legend."""
    lines = dict(zip(labels, line_styles(), strict=False))
    rows = -(-len(labels) // 4)  # of the legend
    figure, axes = column(len(tables), 2.6 * len(tables) + 0.6 + 0.2 * rows, sharex=True)
    drawn = set()
    for each, (name, methods) in zip(np.atleast_1d(axes), tables.items(), strict=True):
        each.set_ylabel(name)
        if name in log:
            logarithmic(each)
        drawn |= {label for label, runs in methods.items() if band(each, runs, lines[label])}
    each.set_xlabel("epoch")
    size = FONT["size"] - 1
    figure.legend(
        [matplotlib("lines").Line2D([], [], **lines[label]) for label in labels],
        [label if label in drawn else f"{label} (none)" for label in labels],
        title=how, loc="outside lower center", ncols=min(4, len(labels)), frameon=False,
        fontsize=size, title_fontsize=size,
    )  # fmt: skip
    return figure


def _small_multiples(tables: Mapping, labels: Sequence[str], log: Sequence[str], how: str | None):
    """An axis for each quantity and method; a block of rows for each quantity."""
    blocks = [_block(labels, f"{number}: ") for number in range(len(tables))]
    figure, axes = panels([row for block in blocks for row in block], 1.35 * sum(map(len, blocks)))
    for number, (name, methods) in enumerate(tables.items()):
        own = [axes[f"{number}: {label}"] for label in labels]
        own[0].set_ylabel(name, loc="top")
        for label, each in zip(labels, own, strict=True):
            each.sharex(own[0])
            each.sharey(own[0])
            if name in log:
                logarithmic(each)
            each.tick_params(labelsize=FONT["size"] - 2, which="both")
            for runs in methods.values():
                band(each, runs, {"color": "0.85", "linewidth": 0.8}, shade=0.0)
            found = label in methods and band(each, methods[label], {"color": COLOURS[1]}, 0.25)
            each.set_title(label if found else f"{label} (none)", fontsize=FONT["size"] - 1)
    figure.supxlabel("epoch", fontsize=FONT["size"])
    figure.suptitle("; ".join(filter(None, [how, "grey: the others"])), fontsize=FONT["size"] - 1)
    return figure


def _block(labels: Sequence[str], prefix: str) -> list[list[str]]:
    """Rows of names for ``panels``; a dot leaves a place empty."""
    names = [prefix + label for label in labels] + ["."] * (-len(labels) % ACROSS)
    return [names[at : at + ACROSS] for at in range(0, len(names), ACROSS)]


def _table_of_runs(name: str, label: str, runs) -> np.ndarray:
    """Runs as an array (seeds, epochs)."""
    lengths = sorted({len(run) for run in runs})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(
            f"The runs of {label!r} in {name!r} have {lengths} epochs; give one run at least, and "
            "runs of one length."
        )
    return np.asarray(runs, np.float64)


def _runs(name: str, values, label: str) -> dict[str, np.ndarray]:
    """Label to flip ratios, for one run and for several."""
    runs = values if isinstance(values, Mapping) else {label: values}
    runs = {str(key): np.atleast_1d(np.asarray(run, np.float64)) for key, run in runs.items()}
    if not runs or not all(run.ndim == 1 and len(run) for run in runs.values()):
        raise ValueError(f"`{name}` must hold one number per epoch for each run, not {values!r}.")
    for key, run in runs.items():
        outside = run[~((run >= 0) & (run <= 1))]
        if len(outside):
            raise ValueError(f"`{name}` contains {outside[0]} in {key!r}; it must lie in [0, 1].")
    return runs
