"""How commands start, and how they end: with one line where something is in the way."""

import logging
import sys

from absl import app, flags

ERRORS = (ValueError, TypeError, RuntimeError, OSError, ImportError)  # of what the user gave


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
