"""Runs every hard test many times and prints one table: case, tried, survived, lost.

    python tests/soak/run.py
    python tests/soak/run.py --cases=kills,formats --seed=3

A case is a function in one of the modules beside this one. It tries something that must not lose
anything and yields, after each try, None for survived or a sentence that says what was lost. The
exit status is 1 if anything was lost, or if a case raised or tried nothing.
"""

import argparse
import importlib
import itertools
import pathlib
import sys
import tempfile
import time
import traceback

from larq_filter._keras import tf

MODULES = ("kills", "damage", "formats", "strategies", "fuzz")


def cases_of(module: str) -> dict:
    """Name of the case -> ``case(folder, seed)``, a generator of None or of what was lost."""
    return importlib.import_module(module).CASES


def run(name: str, case, seed: int) -> tuple[str, int, list[str]]:
    """A row: the case, how often it was tried, what was lost."""
    tried, lost, began = 0, [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            for outcome in case(pathlib.Path(folder), seed):
                tried += 1
                lost += [] if outcome is None else [outcome]
                word = "survived" if outcome is None else f"LOST: {outcome}"
                print(f"{time.monotonic() - began:6.0f} s  {name}, try {tried}: {word}", flush=True)
        except Exception:  # the other cases still have to be tried
            tried += 1
            lost.append(f"raised {traceback.format_exc()}")
            print(f"{name} {lost[-1]}", flush=True)
        if not tried:
            tried = 1
            lost.append("nothing was tried")
    return name, tried, lost


def table(rows: list[tuple[str, int, list[str]]]) -> str:
    lines = [("case", "tried", "survived", "lost")]
    lines += [(n, str(t), str(t - len(lost)), str(len(lost))) for n, t, lost in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(word.ljust(w) if i == 0 else word.rjust(w) for i, (word, w) in cells)
        for cells in (enumerate(zip(line, widths, strict=True)) for line in lines)
    ]
    return "\n".join(text)


def main() -> None:
    # For two replicas; TensorFlow takes the number only before it computes anything.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(MODULES), help="Modules, with commas.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments and the damage.")
    options = parser.parse_args()
    found = [cases_of(module) for module in options.cases.split(",")]
    began, rows = time.monotonic(), []
    for name, case in itertools.chain(*(cases.items() for cases in found)):
        rows.append(run(name, case, options.seed))
    print(f"\n{table(rows)}\n\n{(time.monotonic() - began) / 60:.0f} minutes, seed {options.seed}")
    for name, _, lost in rows:
        for what in lost:
            print(f"\nlost in {name}: {what}")
    sys.exit(any(lost for _, _, lost in rows))


if __name__ == "__main__":
    main()
