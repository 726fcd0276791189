"""Peers timed side by side, bounds judged, results and tables written.

A round is some turns, in each of which every peer takes one step; its result is the median of each
peer, a ratio is formed within each round, and the rounds' ratios have a median and percentiles. So
whatever moves the whole machine for longer than a round drops out.
"""

import json
import logging
import os
import pathlib
import platform
import random
import statistics
import time

import numpy as np

from larq_filter._keras import tf
from larq_filter.experiments import files, run_folder, tables
from larq_filter.experiments.checkpoints import differences

logger = logging.getLogger(__name__)

LONG = 1.0  # seconds

# Measuring ----------------------------------------------------------------------------------------


def first_calls(steps: dict, warm_up: int = 3) -> dict[str, float]:
    """Seconds of the first call of each, which traces and compiles; then warms it up."""
    seconds = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - start
        say(f"{name}: first step {seconds[name]:.1f} s")
        for _ in range(warm_up - 1):
            step()
    return seconds


def interleave(steps: dict, repeats: int, calls: int, seed: int) -> dict[str, list[float]]:
    """Seconds of a step by name: for each round the median of ``calls`` turns.

    A peer whose step takes longer than ``LONG`` has one turn in the round.
    """
    rounds, rng = {name: [] for name in steps}, random.Random(seed)
    for number in range(repeats):
        turns = {name: [] for name in steps}
        for _ in range(calls):
            order = [name for name, seconds in turns.items() if max(seconds, default=0) < LONG]
            rng.shuffle(order)  # nobody always follows the same neighbour
            for name in order:
                start = time.perf_counter()
                steps[name]()
                turns[name].append(time.perf_counter() - start)
        for name, seconds in turns.items():
            rounds[name].append(statistics.median(seconds))
        say(f"round {number + 1} of {repeats}")
    return rounds


def timed(steps: dict, s, calls: int | None = None, warm_up: int = 3) -> tuple[dict, dict]:
    """The rounds of ``steps`` after warming up, and a column: the time of their first calls.

    Args:
        steps: name to a function without arguments that takes one step.
        s: has ``repeats``, ``calls`` and ``seed``.
        calls: turns in a round; None: those of the settings.
        warm_up: calls before the first round.
    """
    first = first_calls(steps, warm_up)
    rounds = interleave(steps, s.repeats, calls or s.calls, s.seed)
    return rounds, {name: {"first step (s)": seconds} for name, seconds in first.items()}


def ratio(one: list[float], other: list[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile of the rounds' quotients."""
    quotients = np.divide(one, other)
    low, median, high = np.percentile(quotients, [10, 50, 90])
    return {"median": float(median), "low": float(low), "high": float(high)}


def bound(
    what: str,
    value: dict,
    most: float | None = None,
    least: float | None = None,
    within_spread: bool = False,
) -> dict:
    """Whether a ratio is within its stated bound: at ``most``, or at ``least``.

    Its median has to be; ``within_spread`` the nearer end of its interval is enough, for peers that
    are to cost the same.
    """
    near = ("low" if least is None else "high") if within_spread else "median"
    holds = value[near] <= most if least is None else value[near] >= least
    limit = f"<= {most:g}" if least is None else f">= {least:g}"
    limit += " within its spread" if within_spread else ""
    return {"bound": what, "measured": value, "limit": limit, "holds": "yes" if holds else "NO"}


def result(rounds: dict, rows: list[dict], bounds=(), notes=()) -> dict:
    """A part of the results file."""
    return {"rows": rows, "bounds": list(bounds), "notes": list(notes), "seconds": rounds}


def rows_of(rounds: dict, bases, columns=None, images: dict | None = None) -> list[dict]:
    """A row for each peer: time, images per second where known, ratios to ``bases``, more columns.

    With ``images``, the number that each peer takes in a call, the ratios are of time per image.
    """
    rows = []
    per_image = {
        name: np.divide(each, (images or {}).get(name, 1)) for name, each in rounds.items()
    }
    for name, seconds in rounds.items():
        row = {"peer": name, "ms": 1e3 * statistics.median(seconds)}
        if images is not None:
            row["images/s"] = 1 / statistics.median(per_image[name])
        row |= {f"time / {base}": ratio(per_image[name], per_image[base]) for base in bases}
        rows.append(row | (columns or {}).get(name, {}))
    return rows


def say(text: str) -> None:
    """Logs how far it is."""
    logger.info("  %s %s", time.strftime("%H:%M:%S"), text)


def set_threads(threads: int) -> None:
    """How many threads TensorFlow computes with; to be called before it computes anything."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


# What is written ----------------------------------------------------------------------------------


def machine() -> dict:
    """What the times depend on: processor and cores."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": (named or [platform.processor()])[0], "cores": os.cpu_count()}


def open_results(path: pathlib.Path, settings: dict) -> dict:
    """What is in the file already, if it is of the same settings, versions and machine."""
    new = {"settings": settings, "versions": run_folder.versions("torch"), "machine": machine()}
    if not path.exists():
        return new | {"parts": {}}
    old = json.loads(path.read_text())
    differs = differences({name: old.get(name) for name in new}, new)
    if differs:
        raise ValueError(
            f"{path} is of other settings, versions or another machine ({differs}). Choose another "
            "--output_dir, or delete the file."
        )
    return old


def text_of(value) -> str:
    """A cell of a table, of a ratio with its interval."""
    if isinstance(value, dict):
        return f"{value['median']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return tables.text_of(value)


def markdown(results: dict) -> str:
    """The results file for people."""
    described = [f"{name} {value}" for name, value in results["versions"].items()]
    header = "{cpu}, {cores} cores; ".format(**results["machine"]) + ", ".join(described)
    reading = (
        "Ratios: median of the rounds [10th, 90th percentile]. A bound holds if the median is "
        "within it; one 'within its spread' if the nearer end of the interval is."
    )
    blocks = [f"# Benchmark\n\n{header}\n\n{reading}"]
    for name, part in results["parts"].items():
        blocks.append(f"## {name}\n\n{part['title']} `{part['command']}`, {part['date']}")
        if part["load_before"] > 0.5:
            blocks.append(f"Other programs were running: load {part['load_before']:.1f} before.")
        if "error" in part:
            blocks.append(f"Failed: {part['error']}")
            continue
        written = [part[key] for key in ("rows", "bounds") if part[key]]
        blocks += [tables.markdown(rows, text=text_of) for rows in written]
        blocks.append("\n".join(f"- {note}" for note in part["notes"]))
    return "\n\n".join(block for block in blocks if block) + "\n"


def write(folder: pathlib.Path, results: dict) -> None:
    """Writes results.json and table.md."""
    files.write_json(folder / "results.json", results, indent=1)
    files.write_whole(folder / "table.md", markdown(results))
