"""Matplotlib, which is optional, and what the figures of ``plots`` need beside it."""

import io
from importlib import import_module


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
