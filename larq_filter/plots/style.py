"""How all figures look: width of a page, colours, lines, legends; Matplotlib itself is optional."""

import functools
import io
from collections.abc import Mapping
from importlib import import_module

import numpy as np

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's palette, black first, without the yellow, which paper swallows."""
STYLES = ("-", "--", "-.", ":")
"""Styles of lines, which go with the colours."""
WIDTH = 6.5
"""Of a figure, in inches: the text of a page."""
FONT = {"family": "DejaVu Sans", "size": 10}
"""Of all words; the size in points, at that width."""


def matplotlib(module: str):
    """A module of Matplotlib, or an error that says what to type."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Drawing needs Matplotlib. Type: pip install "larq_filter[plot]"'
        ) from error
    return import_module(f"matplotlib.{module}")


def png(figure) -> tuple[bytes, dict]:
    """What a notebook shows for a figure: sharp on every screen, 100 pixels an inch wide.

    IPython draws figures by itself only after an import of pyplot, which ``plots`` leaves alone.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    width, height = figure.get_size_inches() * 100
    return buffer.getvalue(), {"width": int(width), "height": int(height)}


def plain_ticks(axis) -> None:
    """Ticks of a logarithmic axis as plain numbers: 0.03, not 3 x 10^-2."""
    formatter = matplotlib("ticker").LogFormatter

    class Plain(formatter):  # which ticks have room for a number, Matplotlib knows
        def __call__(self, x, pos=None):
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain())


def logarithmic(axes, which: str = "y") -> None:
    """Makes the vertical axis, or the horizontal one, logarithmic, its ticks plain numbers."""
    axes.set(**{f"{which}scale": "log"})
    axes.grid(True, which="minor", axis=which, color="0.93", linewidth=0.5)
    axes.tick_params(which="minor", labelsize=FONT["size"])
    plain_ticks({"x": axes.xaxis, "y": axes.yaxis}[which])


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


def column(rows: int, height: float, sharex: bool = False):
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
    figure, axes = column(1, height=0.7 + 0.26 * len(values))
    shown = [max(value, lowest or 0.0) for value in values.values()]
    names = [str(name).replace("$", r"\$") for name in values]  # else two would enclose a formula
    drawn = axes.barh(names, shown, color=COLOURS[1], height=0.6)
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
