"""Hyperparameters by data set and method, from a file that also says where they come from.

    {"digits": {"epochs": 10,
                "adam": {"knobs": {"learning_rate": 0.003}, "reason": "search, 40 trials"}}}

Only what differs from a method's defaults is written down, so that a file shows what was tuned.
``epochs`` and ``batch_size``, which may be left out, are those of the runs that it was tuned on.
"""

import dataclasses
import difflib
import json
import pathlib
from collections.abc import Mapping, Sequence

from larq_filter._validation import validate_integer
from larq_filter.experiments import methods
from larq_filter.experiments.methods.knobs import Knobs, from_dict

PUBLISHED = "published default"
TUNED_FOR = ("epochs", "batch_size")


@dataclasses.dataclass(frozen=True)
class Setting:
    """The hyperparameters of one method on one data set, and where they come from."""

    knobs: Knobs = dataclasses.field(default_factory=Knobs)
    reason: str = PUBLISHED


def choose_methods(names: Sequence[str]) -> list[str]:
    """Names of methods, each once, groups among them (``methods.GROUPS``) opened.

    Raises:
        ValueError: no name, an unknown one.
    """
    chosen: dict[str, None] = {}
    for name in names:
        chosen |= dict.fromkeys(methods.names(name) if name in methods.GROUPS else [name])
    for name in chosen:
        if name not in methods.METHODS:
            raise ValueError(_unknown("method", name, [*methods.GROUPS, *methods.METHODS]))
    if not chosen:
        raise ValueError(f"No method is named; choose all, or some of {', '.join(methods.names())}")
    return list(chosen)


def load_settings(path, section: str, names: Sequence[str]) -> dict[str, Setting] | None:
    """The settings of the methods ``names`` from a file of hyperparameters.

    The file is JSON: ``{section: {method: {"knobs": {name: value}, "reason": text}}}``. All of the
    section is checked, whatever ``names`` are.

    Returns:
        The settings by method, the method's defaults where it has no entry; None if the file has
        no such section.

    Raises:
        ValueError: not such a file; an unknown method or knob, a value that is not allowed, an
            entry without a reason; the message says the fix.
        OSError: the file can't be read.
    """
    entries = _section(path, section)
    if entries is None:
        return None
    entries = {name: entry for name, entry in entries.items() if name not in TUNED_FOR}
    settings = {name: _setting(f"{path}, {section}", name, entries[name]) for name in entries}
    return {name: settings.get(name, Setting()) for name in names}


def caveats(path, section: str, names: Sequence[str], given: Mapping[str, int | None]) -> str:
    """What to know of a section's numbers in runs of ``given`` epochs and batch size; or nothing.

    Args:
        path: of the file.
        section: in it.
        names: the methods.
        given: a value for each of ``TUNED_FOR``.

    Raises:
        ValueError: not such a file; what the section was tuned for is no positive integer.
        OSError: the file can't be read.
    """
    entries = _section(path, section) or {}
    tuned = {
        name: validate_integer(f"{name} of {section} in {path}", entries[name])
        for name in TUNED_FOR
        if name in entries
    }
    others = {name: value for name, value in tuned.items() if value != given[name]}
    missing = [name for name in names if name not in entries]
    said = []
    if others:
        then, now = (
            ", ".join(f"{name}={values[name]}" for name in others) for values in (others, given)
        )
        said.append(f"They were tuned for {then}; these runs have {now}.")
    if missing:
        said.append(f"Not in it, so by their published defaults: {', '.join(missing)}.")
    return " ".join(said)


def _section(path, section: str) -> dict | None:
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get(section, {}), dict):
        raise ValueError(
            f"{path} must hold an object of sections, each an object of methods; see "
            "larq_filter/cli/settings.json."
        )
    return content.get(section)


def _setting(place: str, method: str, entry) -> Setting:
    if method not in methods.METHODS:
        raise ValueError(f"{place}: {_unknown('method', method, methods.METHODS)}")
    if not (
        isinstance(entry, dict)
        and set(entry) == {"knobs", "reason"}
        and isinstance(entry["knobs"], dict)
        and isinstance(entry["reason"], str)
        and entry["reason"].strip()
    ):
        raise ValueError(
            f'{place}: {method} is {json.dumps(entry)}; it must be {{"knobs": {{name: value}}, '
            '"reason": "where they come from"}.'
        )
    try:
        chosen = from_dict(entry["knobs"])
        methods.resolve(method, chosen)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}, {method}: {error}") from None
    return Setting(chosen, entry["reason"])


def _unknown(kind: str, name: str, known) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"there is no {kind} {name!r}.{hint} larq-filter compare --help lists all."
