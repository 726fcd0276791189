"""How commands start, and how they end: with one line where something is in the way."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import select
import sys
import typing

from absl import app, flags
from absl import logging as absl_logging

from larq_filter._keras import tf
from larq_filter._validation import first_line
from larq_filter.cli import help, mistakes

flags.disclaim_key_flags()  # what is defined here belongs to the module that asks for it

RECIPES = pathlib.Path(__file__).with_name("recipes")  # flag files that the package brings
ERRORS = (ValueError, TypeError, RuntimeError, OSError, ImportError)  # of what the user gave


def define_flags(cls, names=None, **defaults) -> None:
    """A flag for each field of a dataclass, of its name, type, default, help and lowest number.

    Args:
        cls: its fields are made by ``run_folder.setting``.
        names: of the fields. Default: all.
        **defaults: in place of those of the fields.
    """
    define = {str: flags.DEFINE_string, bool: flags.DEFINE_bool, int: flags.DEFINE_integer}
    for field in dataclasses.fields(cls):
        if names is None or field.name in names:
            kind = (typing.get_args(field.type) or (field.type,))[0]
            default = defaults.get(field.name, field.default)
            low = {"lower_bound": field.metadata["low"]} if kind is int else {}
            define[kind](field.name, default, field.metadata["help"], **low)


class _Path(flags.ArgumentParser):
    """Text in which ``~`` is the home folder, which shells leave as it is after ``--name=``."""

    def parse(self, argument):
        return os.path.expanduser(argument)


def define_path(name: str, default: str | None, text: str) -> None:
    """A flag for the path of a file or folder."""
    flags.DEFINE(_Path(), name, default, text, serializer=flags.ArgumentSerializer())


class _Lines(logging.StreamHandler):
    """Plain lines on whatever ``sys.stdout`` is when they are written."""

    def emit(self, record):
        self.stream = sys.stdout
        super().emit(record)

    def handleError(self, record):
        """Whoever read stdout may have left, as of ``... | head``: a training goes on."""
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)


def show_progress() -> None:
    """Shows what the library logs as plain lines on stdout; once, however often it is called."""
    logger = logging.getLogger("larq_filter")
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())  # without a format: the message alone
    logger.setLevel(logging.INFO)
    logger.propagate = False  # absl would show it again, with time and place
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # "Callback method is slow ..."


def start(main, interrupted: str = "", takes_files: bool = False) -> None:
    """Reads the flags, shows the library's progress and runs ``main()``.

    Exit status 1: an error that the user can mend. 130: interrupted, as shells have it.

    Args:
        main: the command; ``--help`` shows the docstring and the flags of its module.
        interrupted: what an interruption leaves, and how to go on; one sentence.
        takes_files: the command line may hold more than flags; ``main`` gets a list of that.
    """

    def run(arguments):
        if not takes_files:
            refuse_positional(arguments)
        if hasattr(sys.stdout, "reconfigure"):  # class names that the terminal has no letters for
            sys.stdout.reconfigure(errors="backslashreplace")
        absl_logging.set_verbosity(absl_logging.WARNING)  # without TensorFlow's notes on saving
        show_progress()
        try:
            with _quiet_when_unread():
                main(*([arguments[1:]] if takes_files else []))
        except ERRORS as error:
            raise SystemExit(f"error: {error}") from None
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            raise SystemExit(
                f"error: the memory is too small ({first_line(error)[:200]}). Take a smaller "
                "--batch_size, --image_size or --width."
            ) from None
        except KeyboardInterrupt:
            print(f"\nInterrupted. {interrupted}".rstrip(), file=sys.stderr)
            raise SystemExit(130) from None

    if help.is_asked(sys.argv[1:]):
        try:
            with _quiet_when_unread():
                print(help.text(sys.modules[main.__module__], sys.argv[1:]))
        except ValueError as error:
            raise SystemExit(f"error: {error}") from None
        return
    flags.FLAGS.set_gnu_getopt(takes_files)  # flags may follow files
    app.run(run, flags_parser=_parse)


@contextlib.contextmanager
def _quiet_when_unread():
    """Ends with status 1 and no word once nobody reads stdout any more, as of ``... | head``."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        watcher = select.poll()
        watcher.register(sys.stdout, 0)  # errors are told without asking for them
        if not watcher.poll(0):
            raise  # another pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        raise SystemExit(1) from None


def _parse(arguments):
    """Reads the command line; what it can't read is an error in a line, with exit status 2."""
    try:
        return flags.FLAGS([_with_recipe(word) for word in arguments])
    except flags.Error as error:
        text = mistakes.explained(error)
        if isinstance(error, flags.CantOpenFlagFileError):
            names = sorted(path.stem for path in RECIPES.glob("*.txt"))
            text += f" Give the path of a file, or the name of a recipe: {', '.join(names)}."
        hint = f"{arguments[0]} --help lists the flags, and what they take."
        print(f"error: {text}\n{hint}", file=sys.stderr)
        raise SystemExit(2) from None


def _with_recipe(word: str) -> str:
    """``--flagfile=NAME`` with the path of the recipe; a file of that name comes first."""
    flag, _, text = word.partition("=")
    if flag.lstrip("-") != "flagfile" or pathlib.Path(text).is_file():
        return word
    # Before they were in the package, clones had them in that folder.
    name = text.removeprefix("examples/flagfiles/").removesuffix(".txt")
    path = RECIPES / f"{name}.txt"
    return f"{flag}={path}" if name and path.is_file() else word


def require_one_of(*names: str) -> None:
    """Ends the command unless exactly one of these flags is given."""
    wanted = " or ".join(f"--{name}=..." for name in names)
    flags.register_multi_flags_validator(
        names,
        lambda values: sum(value is not None for value in values.values()) == 1,
        message=f"give {wanted}, and only one of them.",
    )


def refuse_positional(arguments) -> None:
    """Ends the script if there is anything on its command line but flags."""
    if len(arguments) > 1:
        raise SystemExit(
            f"error: {arguments[1]!r} belongs to no flag. Write --flag=value, lists with commas: "
            "--methods=filter,adam; a switch is --name or --noname."
        )
