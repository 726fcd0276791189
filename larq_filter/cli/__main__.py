"""``larq-filter COMMAND --flags``, or ``python -m larq_filter.cli COMMAND --flags``."""

import difflib
import importlib
import sys

from larq_filter.experiments import run_folder

COMMANDS = {
    "train": "train a network by one method",
    "compare": "train it by several methods, and compare",
    "sweep": "search hyperparameters",
    "export": "make a .tflite of a trained network, and prove that it is the same",
    "predict": "classify images with a trained network",
    "benchmark": "time the step of an optimizer on this machine",
    "translate": "say what a latent recipe is as a filter",
}


def run(arguments=None) -> None:
    """Runs the command that the first argument names; without one says which there are."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return
    if arguments[0] == "--version":
        print(", ".join(f"{name} {version}" for name, version in run_folder.versions().items()))
        return
    command = arguments[0]
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        print(f"error: there is no command {command!r}.{hint}\n\n{_usage()}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = [f"larq-filter {command}", *arguments[1:]]
    try:
        importlib.import_module(f"larq_filter.cli.{command}").start()
    except KeyboardInterrupt:  # before the command begins: it says itself what it leaves
        raise SystemExit(130) from None


def _usage() -> str:
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: larq-filter COMMAND --flag=value ...",
            "",
            *lines,
            "",
            "larq-filter COMMAND --help",
            "larq-filter --version",
        ]
    )


if __name__ == "__main__":
    run()
