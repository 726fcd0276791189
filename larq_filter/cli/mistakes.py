"""What is wrong with a command line, in plain words: absl's own are for who writes programs."""

import difflib
import re

from absl import flags

_DEVICES = ("gpu", "gpus", "device", "devices", "cuda")
_ABOUT_DEVICES = (
    "There is no flag --{}. A command uses the first GPU that TensorFlow sees; the variable "
    "CUDA_VISIBLE_DEVICES=1 before the command chooses another, and larq-filter train "
    "--strategy=mirrored shares the work between all."
)
_NEEDED = {"int": "a whole number is needed.", "float": "a number is needed."}
_SHORT = 60  # characters of a list that is read at a glance


def explained(error: flags.Error) -> str:
    """The error in one line: what was received, and what is allowed or was meant."""
    if isinstance(error, flags.UnrecognizedFlagError) and error.flagname in _DEVICES:
        return _ABOUT_DEVICES.format(error.flagname)
    text = str(error).replace("\n", " ").removeprefix("ERROR:: ").strip()
    value = re.match(r"flag --(\w+)=(.*?): (.*)", text)
    if value and value[1] in flags.FLAGS:
        return f"--{value[1]}={value[2]}: {_wanted(flags.FLAGS[value[1]], value[2], value[3])}"
    return re.sub(r"^flags .*?: (?=give --)", "", text)  # the values of require_one_of


def _wanted(flag, value: str, reason: str) -> str:
    """What the flag takes; ``reason`` are absl's words."""
    values = getattr(flag.parser, "enum_values", None)
    if values:
        close = difflib.get_close_matches(value, values, 1)
        if len(", ".join(values)) <= _SHORT:
            return f"it is one of {', '.join(values)}."
        return f"did you mean {close[0]}?" if close else "there is no such choice."
    if flag.boolean:
        return f"a switch is --{flag.name} or --no{flag.name}."
    if reason.startswith(("invalid literal", "could not convert")):
        return _NEEDED.get(flag.flag_type(), reason)
    return reason
