"""Figures: what filters do, how often weights flip, and how training goes.

Every function returns a ``matplotlib.figure.Figure`` and leaves the state of ``pyplot`` alone:
``figure.savefig("bode.pdf")`` writes it, a notebook shows it. Lines differ in style as well as in
colour (Okabe and Ito's palette), so they can be told apart in grey and by the colour-blind.

Matplotlib is an extra, ``pip install "larq_filter[plot]"``; only drawing needs it.
"""

from larq_filter.plots.filters import bode, impulse_responses
from larq_filter.plots.style import (
    COLOURS,
    FONT,
    STYLES,
    WIDTH,
    band,
    bars,
    legend,
    line_styles,
    logarithmic,
    panels,
)
from larq_filter.plots.training import flip_ratio, learning_curves

__all__ = [
    "COLOURS",
    "FONT",
    "STYLES",
    "WIDTH",
    "band",
    "bars",
    "bode",
    "flip_ratio",
    "impulse_responses",
    "learning_curves",
    "legend",
    "line_styles",
    "logarithmic",
    "panels",
]
