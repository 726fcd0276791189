"""Figures: what filters do, how often weights flip, and how training goes.

Every function returns a ``matplotlib.figure.Figure`` and leaves the state of ``pyplot`` alone:
``figure.savefig("bode.pdf")`` writes it, a notebook shows it. Lines differ in style as well as in
colour (Okabe and Ito's palette), so they can be told apart in grey and by the colour-blind.

Matplotlib is an extra, ``pip install "larq_filter[plot]"``; only drawing needs it.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from larq_filter import analysis
from larq_filter._drawing import matplotlib, plain_ticks, png
from larq_filter.filters import Filter, is_schedule

# Okabe and Ito's palette, black first, without the yellow, which paper swallows.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
STYLES = ("-", "--", "-.", ":")
WIDTH = 6.5  # inches: the text of a page
FONT = {"family": "DejaVu Sans", "size": 10}  # points, at that width
DECADE = 10.0  # memories further apart than this share no linear axis
HALF_POWER = -10 * math.log10(2)  # dB
LOWEST_GAIN = -80.0  # dB, where the picture ends
NO_PHASE = -200.0  # dB, where rounding decides the phase: a zero on the unit circle


def bode(
    filters: Filter | Sequence[Filter],
    labels: Sequence[str] | None = None,
    steps_per_epoch: float | None = None,
    step: int = 0,
) -> Any:
    """Gain in dB and phase in degrees over frequency; a dot at each cutoff that exists.

    The gain is relative to that at frequency 0, unless that is 0 or infinite: the sign of the
    signal knows no scale. Gains below -80 dB are left out of the picture.

    Args:
        filters: one linear filter or several.
        labels: a name for each; None: class and rates.
        steps_per_epoch: None for cycles per step, a positive number for cycles per epoch.
        step: the training step that schedules are read at, from 0.

    Returns:
        A figure of two axes, gain above phase.

    Raises:
        ImportError: Matplotlib is not installed.
        TypeError: something in ``filters`` is not a filter.
        ValueError: a filter is not linear; no filter; labels of another number.
    """
    named = _named(filters, labels)
    frequencies = _frequencies(named, step, steps_per_epoch)
    figure, (above, below) = _figure(2, height=5.2, sharex=True)
    lowest = 0.0
    for (label, f), line in zip(named, line_styles(), strict=False):
        _, response = analysis.frequency_response(f, frequencies, step, steps_per_epoch)
        at_zero = float(analysis.gain(f, 0.0, step)[1])
        reference = at_zero if 0 < at_zero < math.inf else 1.0
        decibels = 20 * np.log10(np.maximum(np.abs(response) / reference, 1e-12))
        lowest = min(lowest, decibels.min())
        above.plot(frequencies, decibels, label=label, **line)
        phase = np.degrees(np.unwrap(np.angle(response)))
        below.plot(frequencies, np.where(decibels > NO_PHASE, phase, np.nan), **line)
        try:
            cutoff = analysis.cutoff(f, step, steps_per_epoch)
        except ValueError:  # it has none
            continue
        above.plot(cutoff, HALF_POWER, "o", color=line["color"], markersize=6)
    above.set(xscale="log", ylabel="gain (dB)")
    above.set_ylim(bottom=max(LOWEST_GAIN, lowest - 3))
    unit = "step" if steps_per_epoch is None else "epoch"
    below.set(xlabel=f"frequency (cycles per {unit})", ylabel="phase (degrees)")
    below.yaxis.set_major_locator(matplotlib("ticker").MultipleLocator(90))
    legend(above, "dot: cutoff (-3 dB)")
    return figure


def impulse_responses(
    filters: Filter | Sequence[Filter],
    labels: Sequence[str] | None = None,
    steps_per_epoch: float | None = None,
    step: int = 0,
) -> Any:
    """What one gradient leaves in the signal, over its age; each curve relative to its peak.

    Args:
        filters: one linear filter or several.
        labels: a name for each; None: class and rates.
        steps_per_epoch: None for an age in steps, a positive number for epochs.
        step: the training step that schedules are read at (and held), from 0.

    Returns:
        A figure of one axis, five of the longest finite time constants wide. The age is on a
        logarithmic scale, from one step on, where one memory is ten times another.

    Raises:
        ImportError: Matplotlib is not installed.
        TypeError: something in ``filters`` is not a filter.
        ValueError: a filter is not linear; no filter; labels of another number; a
            ``steps_per_epoch`` that is not positive.
    """
    named = _named(filters, labels)
    analysis.gain(named[0][1], 0.0, step, steps_per_epoch)  # checks steps_per_epoch
    steps = max(20, math.ceil(5 * _longest_memory(named, step)))
    spread = steps / (5 * min(analysis.time_constant(f, step) for _, f in named))
    if spread > DECADE:  # the short ones would be a line at the edge
        ages = np.unique(np.geomspace(1, steps - 1, 5000).astype(int))
    else:
        ages = np.arange(0, steps, max(1, steps // 5000))  # more points than these don't show
    figure, axes = _figure(1, height=3.4)
    for (label, f), line in zip(named, line_styles(), strict=False):
        response = analysis.impulse_response(f, steps, step)
        peak = np.max(np.abs(response))
        heights = response[ages] / (peak if peak > 0 else 1.0)
        axes.plot(ages / (steps_per_epoch or 1), heights, label=label, **line)
    unit = "steps" if steps_per_epoch is None else "epochs"
    axes.set(xlabel=f"age of the gradient ({unit})", ylabel="weight in the signal (peak = 1)")
    if spread > DECADE:
        logarithmic(axes, "x")
    axes.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
    axes.margins(x=0.01)
    legend(axes, below=True, ncols=3)
    return figure


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
    figure, axes = _figure(1, height=3.4)
    lines = line_styles()
    for label, values in runs.items():
        style = {**next(lines), "linestyle": "-", "marker": "os^Dv"[len(axes.lines) % 5]}
        epochs, values = np.arange(1, len(values) + 1), np.where(values > 0, values, np.nan)
        axes.plot(epochs, values, label=label, markersize=4, **style)
    for index, (label, values) in enumerate(expected.items()):
        epochs, values = np.arange(1, len(values) + 1), np.where(values > 0, values, np.nan)
        style = {"color": "0.45", "linestyle": STYLES[1 + index % 3], "linewidth": 1.8}
        axes.plot(epochs, values, label=label, **style)
    axes.set(xlabel="epoch", ylabel="flip ratio (share of weights per step)")
    logarithmic(axes)
    axes.xaxis.set_major_locator(matplotlib("ticker").MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, max(map(len, [*runs.values(), *expected.values()])) + 0.5)
    legend(axes)
    return figure


def learning_curves(
    quantities: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], log: Sequence[str] = ()
) -> Any:
    """Mean and range over seeds, epoch by epoch, one axis for each quantity.

    The range, not the standard deviation, since a band of that leaves a logarithmic scale, and the
    interval that accuracies lie in.

    Args:
        quantities: label of the axis to (label of the method to its runs, each a number per epoch).
            NaN leaves a gap, and so do mean values of 0 on a logarithmic scale.
        log: labels of the axes that are logarithmic.

    Returns:
        A figure of one axis for each quantity; epochs are counted from 1, as Keras prints them.

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
    lines = dict(zip(labels, line_styles(), strict=False))
    rows = -(-len(labels) // 4)  # of the legend
    figure, axes = _figure(len(tables), 2.6 * len(tables) + 0.6 + 0.2 * rows, sharex=True)
    drawn = set()
    for each, (name, methods) in zip(np.atleast_1d(axes), tables.items(), strict=True):
        each.set_ylabel(name)
        if name in log:
            logarithmic(each)
        for label, runs in methods.items():
            if band(each, runs, lines[label], shade=0.15 if len(labels) < 8 else 0.07):
                drawn.add(label)
    each.set_xlabel("epoch")
    repeated = any(len(runs) > 1 for methods in tables.values() for runs in methods.values())
    ticker, line = matplotlib("ticker"), matplotlib("lines").Line2D
    each.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(
        [line([], [], **lines[label]) for label in labels],
        [label if label in drawn else f"{label} (none)" for label in labels],
        title="line: mean over seeds; shade: lowest to highest seed" if repeated else None,
        loc="outside lower center", ncols=min(4, len(labels)), frameon=False,
        fontsize=FONT["size"] - 1, title_fontsize=FONT["size"] - 1,
    )  # fmt: skip
    return figure


def bars(
    values: Mapping[str, float],
    label: str,
    bound: float | None = None,
    lowest: float | None = None,
    most: int = 20,
):
    """A horizontal bar for each number, the number beside it.

    Args:
        values: name to number, in the order from above; of more than ``most`` the largest ones.
        label: of the axis: what the numbers are, and their unit.
        bound: a line there, which they should not pass. None: no line.
        lowest: makes the axis logarithmic; what is smaller ends there. None: linear from 0.
        most: bars.

    Returns:
        A figure of one axis.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: no number.
    """
    if not values:
        raise ValueError("`values` is empty; give at least one number.")
    names = sorted(values, key=values.get, reverse=True)[:most] if len(values) > most else values
    values = {name: values[name] for name in names}
    figure, axes = _figure(1, height=0.7 + 0.26 * len(values))
    shown = [max(value, lowest or 0.0) for value in values.values()]
    drawn = axes.barh(list(map(str, values)), shown, color=COLOURS[1], height=0.6)
    axes.bar_label(drawn, [f"{v:,.3g}" for v in values.values()], padding=3, fontsize=FONT["size"])
    if lowest is not None:
        axes.set(xscale="log", xlim=(lowest, 20 * max(*shown, bound or lowest)))
    else:
        axes.margins(x=0.15)
    if bound is not None:
        axes.axvline(bound, color=COLOURS[2], linestyle="--", linewidth=1.8)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(label)
    return figure


def logarithmic(axes, which: str = "y") -> None:
    """Makes the vertical axis, or the horizontal one, logarithmic, its ticks plain numbers."""
    axes.set(**{f"{which}scale": "log"})
    axes.grid(True, which="minor", axis=which, color="0.93", linewidth=0.5)
    axes.tick_params(which="minor", labelsize=FONT["size"])
    plain_ticks({"x": axes.xaxis, "y": axes.yaxis}[which])


def _table_of_runs(name: str, label: str, runs) -> np.ndarray:
    """Runs as an array (seeds, epochs)."""
    lengths = sorted({len(run) for run in runs})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(
            f"The runs of {label!r} in {name!r} have {lengths} epochs; give one run at least, and "
            "runs of one length."
        )
    return np.asarray(runs, np.float64)


def band(axes, runs: np.ndarray, line: Mapping, shade: float = 0.15) -> bool:
    """Mean over the rows as a line, their range as a shade; a lone epoch as a dot.

    Args:
        axes: to draw on; epochs, or steps, are counted from 1.
        runs: shape (seeds, epochs).
        line: of ``line_styles``, and what else ``Axes.plot`` takes.
        shade: opacity of the range, in [0, 1].

    Returns:
        Whether there was anything to draw.
    """
    mean = runs.mean(axis=0)
    shown = np.isfinite(mean) & ((mean > 0) | (axes.get_yscale() != "log"))
    epochs, mean, runs = np.arange(1, len(mean) + 1), np.where(shown, mean, np.nan), runs[:, shown]
    if not shown.any():
        return False
    marker = {"marker": "o", "markersize": 4} if shown.sum() == 1 else {}
    axes.plot(epochs, mean, **line, **marker)
    axes.fill_between(
        epochs[shown], runs.min(axis=0), runs.max(axis=0), color=line["color"], alpha=shade,
        linewidth=0,
    )  # fmt: skip
    return True


if not TYPE_CHECKING:  # else a type checker would take any name for one of these

    def __getattr__(name: str) -> object:
        if name == "knobs_table":
            raise AttributeError("plots.knobs_table is gone: print(translation) shows the table.")
        if name in ("search_contour", "search_points"):
            raise AttributeError(
                f"plots.{name} is gone: optuna.visualization.matplotlib draws the study of a "
                "search."
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def panels(layout, height: float, **options):
    """A figure without pyplot and its axes by name, in this module's style.

    Args:
        layout: what ``Figure.subplot_mosaic`` takes, ``"ab;cc"`` for example.
        height: of the figure, in inches; it is as wide as the text of a page.
        **options: of ``subplot_mosaic``: ``sharex``, ``sharey``, ``height_ratios``.
    """
    figure = matplotlib("figure").Figure(figsize=(WIDTH, height), dpi=150, layout="constrained")
    figure._repr_png_ = functools.partial(png, figure)
    axes = figure.subplot_mosaic(layout, **options)
    for each in axes.values():
        each.grid(True, color="0.9", linewidth=0.6)
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=FONT["size"])
        each.xaxis.label.set_size(FONT["size"])
        each.yaxis.label.set_size(FONT["size"])
    return figure, axes


def _figure(rows: int, height: float, sharex: bool = False):
    """A figure of ``rows`` axes, one below the other."""
    figure, axes = panels([[row] for row in range(rows)], height, sharex=sharex)
    return figure, list(axes.values()) if rows > 1 else axes[0]


def legend(axes, title: str | None = None, below: bool = False, **options) -> None:
    """Names the lines of ``axes``, in them or ``below`` all axes of the figure."""
    size = FONT["size"] - 1
    options = {"title": title, "fontsize": size, "title_fontsize": size, **options}
    if below:
        options = {"loc": "outside lower center", **options}
        axes.figure.legend(*axes.get_legend_handles_labels(), frameon=False, **options)
    else:
        axes.legend(frameon=False, alignment="left", **options)


def line_styles():
    """Endless line styles: colour and dashes change together, no pair soon repeats."""
    index = 0
    while True:
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index % len(STYLES)]
        yield {"color": colour, "linestyle": style, "linewidth": 1.8}
        index += 1


def _named(filters, labels) -> list[tuple[str, Filter]]:
    """Labels and filters in pairs."""
    filters = [filters] if isinstance(filters, Filter) else list(filters)
    if not filters:
        raise ValueError("There is no filter to draw; give at least one.")
    labels = [_label(f) for f in filters] if labels is None else list(labels)
    if len(labels) != len(filters):
        raise ValueError(f"There are {len(filters)} filters and {len(labels)} labels: {labels}.")
    return list(zip(labels, filters, strict=True))


def _label(f: Filter) -> str:
    """``EMA(alpha=0.01)``; a schedule by the name of its class."""
    if not isinstance(f, Filter):
        return repr(f)  # analysis refuses it
    rates = (
        f"{name}={type(rate).__name__ if is_schedule(rate) else format(rate, 'g')}"
        for name, rate in f.rates().items()
    )
    return f"{type(f).__name__}({', '.join(rates)})"


def _longest_memory(named, step: int) -> float:
    """The longest finite time constant, in steps, at most a million; 1 where all are infinite."""
    memories = [analysis.time_constant(f, step) for _, f in named]
    return min(1e6, max((memory for memory in memories if memory < math.inf), default=1.0))


def _frequencies(named, step: int, steps_per_epoch) -> np.ndarray:
    """Logarithmic, from far below the lowest corner to the highest frequency there is."""
    lowest = 0.005 / (_longest_memory(named, step) + 10)
    frequencies, _ = analysis.gain(named[0][1], None, step, steps_per_epoch)  # in the right unit
    return np.geomspace(lowest * 2 * frequencies[-1], frequencies[-1], 801)


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
