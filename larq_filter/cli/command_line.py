"""How commands start, and how they end: with one line where something is in the way."""

import dataclasses
import logging
import sys
import typing

from absl import app, flags
from absl import logging as absl_logging

flags.disclaim_key_flags()  # what is defined here belongs to the module that asks for it

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


class _Lines(logging.StreamHandler):
    """Plain lines on whatever ``sys.stdout`` is when they are written."""

    def emit(self, record):
        self.stream = sys.stdout
        super().emit(record)


def show_progress() -> None:
    """Shows what the library logs as plain lines on stdout; once, however often it is called."""
    logger = logging.getLogger("larq_filter")
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())  # without a format: the message alone
    logger.setLevel(logging.INFO)
    logger.propagate = False  # absl would show it again, with time and place


def start(main, interrupted: str = "") -> None:
    """Reads the flags, shows the library's progress and runs ``main()``.

    Exit status 1: an error that the user can mend. 130: interrupted, as shells have it.

    Args:
        main: the command; ``--help`` shows the docstring and the flags of its module.
        interrupted: what an interruption leaves, and how to go on; one sentence.
    """

    def run(arguments):
        refuse_positional(arguments)
        absl_logging.set_verbosity(absl_logging.WARNING)  # without TensorFlow's notes on saving
        show_progress()
        try:
            main()
        except ERRORS as error:
            raise SystemExit(f"error: {error}") from None
        except KeyboardInterrupt:
            print(f"\nInterrupted. {interrupted}".rstrip(), file=sys.stderr)
            raise SystemExit(130) from None

    _show_in_help(sys.modules[main.__module__])
    app.run(run)


def _show_in_help(module) -> None:
    """Has ``--help`` tell of ``module``; absl looks at the script that Python was started with."""
    sys.modules["__main__"].__doc__ = module.__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(module.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def refuse_positional(arguments) -> None:
    """Ends the script if there is anything on its command line but flags."""
    if len(arguments) > 1:
        raise SystemExit(
            f"error: {arguments[1]!r} belongs to no flag. Write --flag=value, lists with commas: "
            "--methods=filter,adam; a switch is --name or --noname."
        )
