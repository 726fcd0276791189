"""Code of the user's own, which commands import only if it stands on their command line.

    --model=mymodels:build    a function of input_shape and num_classes that makes the model
    --import=mylayers         modules that register classes which .keras files name

Modules are looked for where Python looks, and in the current folder last. A flag file may hold
neither: whoever reads a recipe of somebody else would import what that names.
"""

import importlib
import os
import shlex
import sys
import traceback

from absl import flags

from larq_filter.experiments import user_inputs

FLAGS = flags.FLAGS

flags.DEFINE_multi_string(
    "import",
    [],
    "Modules of yours to import first, with commas or the flag repeated: those that register the "
    "classes which a .keras file names. Not taken from a flag file.",
)


def load():
    """Imports what the command line names; returns the function of --model, None for a name."""
    for text in FLAGS["import"].value or []:
        for module in text.split(","):
            _imported(module.strip(), "import", text)
    text = FLAGS.model
    if not user_inputs.is_function(text):
        return None
    module, _, name = text.partition(":")
    found = getattr(_imported(module, "model", text), name, None)
    if not callable(found):
        raise ValueError(f"--model={text}: {module} has no function {name}.")
    return found


def imports() -> list[str]:
    """The ``--import`` of this command line, to stand in the next one too."""
    return [f"--import={shlex.quote(text)}" for text in FLAGS["import"].value or []]


def refuse_unnamed(config: dict, what: str) -> None:
    """Raises if a run or study wants code that stands on its own config alone.

    Args:
        config: as read from a file.
        what: names the run in the error.
    """
    wanted = config.get("model")
    if user_inputs.is_function(wanted) and FLAGS.model != wanted:
        raise ValueError(
            f"{what} was trained with --model={wanted}, which is code. No command imports what a "
            f"file names: look at it, and type --model={wanted} again."
        )


def _imported(module: str, flag: str, value: str):
    if not _is_typed(flag, value):
        raise ValueError(
            f"--{flag}={value} imports code, so it must stand on the command line itself, not in a "
            "flag file."
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: no file there takes the place of an installed module
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise ImportError(
                f"--{flag}={value}: there is no module {module}, installed or in {os.getcwd()}."
            ) from None
        raise
    except Exception as error:  # of its author, who wants to see where
        traceback.print_exc()
        raise ImportError(
            f"--{flag}={value}: the module {module} can't be imported ({type(error).__name__})."
        ) from error


def _is_typed(flag: str, value: str) -> bool:
    """Whether the flag stands on the command line with that value."""
    words = sys.argv[1:]
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, equals, text = word.lstrip("-").partition("=")
        if word.startswith("-") and name == flag and (text if equals else following) == value:
            return True
    return False
