"""What ``--help`` prints: what the command does, and its flags in groups.

absl's own help knows neither groups nor an exit status of 0. With ``--method=NAME`` beside it the
hyperparameters are those of that method, with its defaults; without, all, and a list of methods.
"""

import dataclasses
import re
import textwrap

from absl import flags

from larq_filter.experiments import methods, run_folder
from larq_filter.experiments.methods.knobs import Knobs

ASKS = ("--help", "-help", "-h", "--h", "--helpshort", "--helpfull")
WIDTH = 100
_REPEATED = "; repeat this option to specify a list of values"
TITLES = {
    "Data": run_folder.DATA,
    "Model and budget": [
        field.name
        for field in dataclasses.fields(run_folder.Config)
        if field.name not in run_folder.DATA
    ],
    "Hyperparameters": [field.name for field in dataclasses.fields(Knobs)],
}


def is_asked(arguments) -> bool:
    """Whether the command line asks for help."""
    return any(argument in ASKS for argument in arguments)


def text(module, arguments) -> str:
    """The help of a command.

    Args:
        module: of the command; its docstring says what it does.
        arguments: of the command line, for ``--method``.

    Raises:
        ValueError: an unknown method.
    """
    own = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(module.__name__)}
    method = _method_of(arguments) if "method" in own else None
    grouped = {name for names in TITLES.values() for name in names}
    groups = {"This command": [name for name in own if name not in grouped], **TITLES}
    parts = [module.__doc__.strip()]
    for title, names in groups.items():
        lines = [_line(own[name], method) for name in names if _is_shown(name, own, method)]
        if lines:
            title = f"{title} of {method}" if method and title == "Hyperparameters" else title
            parts.append("\n".join([f"{title}:", *lines]))
    if {"method", "methods"} & {*own} and not method:
        parts.append(_table_of_methods("method" in own))
    return "\n\n".join(parts)


def _method_of(arguments) -> str | None:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    named = [
        after if flag == "--method" else flag.partition("=")[2]
        for flag, after in pairs
        if flag == "--method" or flag.startswith("--method=")
    ]
    if named:
        methods.resolve(named[-1], Knobs())
    return named[-1] if named else None


def _is_shown(name: str, own: dict, method: str | None) -> bool:
    hidden = method and name in TITLES["Hyperparameters"] and name not in _knobs(method)
    return name in own and not hidden


def _knobs(method: str) -> dict:
    return methods.METHODS[method].knobs


def _line(flag, method: str | None) -> str:
    kind = {"int": "N", "float": "NUMBER", "comma separated list of strings": "A,B"}
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={_value_of(flag, kind)}"
    words = " ".join(flag.help.split()).removesuffix(_REPEATED)
    words = re.sub(r"^<[^>]*>: ", "", words)  # absl lists the values of an enumeration again
    default = flag.default
    if method and flag.name in _knobs(method):
        default = _knobs(method)[flag.name]
    if default not in (None, []) and "Default:" not in words:
        shown = ",".join(default) if isinstance(default, list) else str(default)
        words += f" Default: {shown.lower() if flag.boolean else shown}."
    body = textwrap.fill(words, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return f"  {name}\n{body}"


def _value_of(flag, kind: dict) -> str:
    values = getattr(flag.parser, "enum_values", None)
    if values and len("|".join(values)) <= 60:
        return "|".join(values)
    return kind.get(flag.flag_type(), "TEXT")


def _table_of_methods(one: bool) -> str:
    shown = {name: each for name, each in methods.METHODS.items() if one or not each.stage_only}
    lines = [f"  {name:<20} {method.summary}" for name, method in shown.items()]
    hint = "--method=NAME --help shows the hyperparameters of one, with its defaults."
    return "\n".join(["Methods:", *lines, *([hint] if one else [])])
