"""What filters do, drawn."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from larq_filter import analysis
from larq_filter.filters import Filter, is_schedule
from larq_filter.plots.style import column, legend, line_styles, logarithmic, matplotlib

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
    figure, (above, below) = column(2, height=5.2, sharex=True)
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
    figure, axes = column(1, height=3.4)
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
