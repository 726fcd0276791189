"""``larq-filter COMMAND --flag=value ...``: the way in, which keeps TensorFlow's start-up quiet.

It lies beside the package and not in it, since importing the package imports TensorFlow, which
writes a dozen lines to standard error before anybody can ask it not to. Some of them come from
libraries that know no log level. So what native code writes passes a filter, a small process of its
own that outlives a crash and lets everything through but the notes listed here. What Python writes
goes past it. ``LARQ_FILTER_NOTES=1`` shows all, as Windows does, which has no fork. Rejected: to
set TF_CPP_MIN_LOG_LEVEL in the package, which would silence the programs of whoever imports it.
"""

import os
import re
import sys

# Of no use to who runs a command: levels I and W, and what fails without a GPU.
_NOTES = re.compile(
    rb"\d{4}-\d\d-\d\d [\d:.]+: ([IW] |E .*(register|cuInit|SetPriority unimpl))"
    rb"|([IW]\d{4} [\d:.]+ |E\d{4} [\d:.]+ .*register)"
    rb"|WARNING: All log messages before absl::InitializeLog"
    rb"|To enable the following instructions: "
)


def main(arguments=None) -> None:
    """Runs the command that the first argument names.

    Args:
        arguments: in place of the command line.
    """
    if os.environ.get("LARQ_FILTER_NOTES") != "1" and hasattr(os, "fork"):
        _filter_notes()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    from larq_filter.cli.__main__ import run

    run(arguments)


def _filter_notes() -> None:
    """Has native code write to a filter, and Python to where it has written before."""
    sys.stderr.flush()
    errors = os.dup(2)
    end, start = os.pipe()
    if os.fork() == 0:
        _copy(end, start, errors)
    os.close(end)
    os.dup2(start, 2)
    os.close(start)
    sys.stderr = open(errors, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115


def _copy(end: int, start: int, errors: int) -> None:
    """The filter: copies all lines but notes, until nobody writes any more."""
    os.close(start)
    os.dup2(errors, 2)
    os.setpgid(0, 0)  # Ctrl-C is for the command
    with open(end, "rb") as lines:
        for line in lines:
            if not _NOTES.match(line):
                os.write(errors, line)
    os._exit(0)


if __name__ == "__main__":
    main()
