"""Tables: Markdown and columns of text for people, CSV of full precision for programs."""

import csv
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from larq_filter.experiments import files

NOTHING = "-"


def text_of(value) -> str:
    """A cell for people: three digits of a number, ``-`` for None and for no text."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "/")


def listed(values: Mapping) -> str:
    """``alpha=0.01, gamma=0.1``."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def markdown(
    rows: Sequence[Mapping],
    columns: Mapping[str, str] | None = None,
    text: Callable[..., str] = text_of,
) -> str:
    """A table in Markdown, without an end of line after the last row.

    Args:
        rows: key to cell; a key that a row lacks is None.
        columns: keys and their headings. Default: all keys, which are the headings too.
        text: of a cell.
    """
    columns = columns or {key: key for row in rows for key in row}
    lines = [[*columns.values()], ["---"] * len(columns)]
    lines += [[text(row.get(key)) for key in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def aligned(rows: Iterable[Sequence], right: bool = False) -> str:
    """Rows of equal length with their columns under one another, at their left or right ends."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    side = ">" if right else "<"
    lines = ["  ".join(f"{c:{side}{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def write_csv(path: pathlib.Path, rows: Sequence[Mapping], columns: Iterable[str] = ()) -> None:
    """Writes rows, whole or not at all; ``columns``: by default the keys of the first row."""
    with files.whole(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns or rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
