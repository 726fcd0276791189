"""Texts about many layers: one line for each cause, whatever the number of layers that have it."""

import re
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 150
_LISTED = 3  # so many layers are all named; of more, two


def by_cause(found: Iterable[tuple[str, str]]) -> list[str]:
    """``12 layers (conv_1, conv_2, ...): cause`` for each cause, in the order of the first ones.

    Causes that differ in numbers only are one: what is given is that of the first layer, and is
    said to be.

    Args:
        found: (layer, cause).
    """
    groups = {}
    for layer, cause in found:
        groups.setdefault(re.sub(r"\d+", "", cause), []).append((layer, cause))
    lines = []
    for pairs in groups.values():
        first = ", the first" if len({cause for _, cause in pairs}) > 1 else ""
        lines.append(f"{shortened([layer for layer, _ in pairs])}{first}: {pairs[0][1]}")
    return lines


def shortened(names: Sequence[str]) -> str:
    """All of a few names; the number of many, and two of them."""
    names = list(dict.fromkeys(names))  # a shared layer once
    if len(names) <= _LISTED:
        return ", ".join(names)
    return f"{len(names)} layers ({names[0]}, {names[1]}, ...)"


def wrapped(text: str, indent: int) -> str:
    """``text`` in lines of at most ``WIDTH`` characters, all but the first indented."""
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * indent, **options)
