"""Damaged files and full disks: each is told, and the run ends as the uninterrupted one did."""

import contextlib
import dataclasses
import itertools
import pathlib
import random
import resource
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helpers"))
import interrupted  # noqa: E402
from larq_filter.experiments import (
    files,  # noqa: E402
    run_folder,
    training,
)
from larq_filter.experiments.checkpoints import Checkpoints  # noqa: E402
from larq_filter.experiments.methods.knobs import Knobs  # noqa: E402
from listening import listening  # noqa: E402

SMALL = run_folder.Config(model="mlp", width=16, epochs=4, train_examples=300)
FLAGS = ["--model=mlp", "--width=16", "--epochs=4", "--train_examples=300", "--control=no"]
OTHERS = {
    "filter": dataclasses.replace(SMALL, knobs=Knobs(gamma=0.5)),
    "seed": dataclasses.replace(SMALL, seed=1),
    "method": dataclasses.replace(SMALL, method="prob_bop"),
    "model": dataclasses.replace(SMALL, width=8),
}


def crashed_after(epochs, config, folder):
    """A run that has stopped once so many epochs were saved."""
    with contextlib.suppress(interrupted.Stop):
        training.run(config, folder, verbose=0, report=interrupted.stop_after(epochs))
    return folder


def ending(folder, expected):
    """Continues a run; what differs at its end, and what it said."""
    with listening() as said:
        try:
            training.run(SMALL, folder, verbose=0)
        except Exception as error:  # whatever it is: the run was to be continued
            return f"{type(error).__name__}: {error}", "\n".join(said)
    return interrupted.difference(expected, interrupted.left_behind(folder)), "\n".join(said)


def whole_and_crashed(folder):
    training.run(SMALL, folder / "whole", verbose=0)
    crashed_after(3, SMALL, folder / "crashed")
    return interrupted.left_behind(folder / "whole"), folder / "crashed"


def bits(folder, seed):
    """Every bit of an index and many of the data: told, or without effect. A try is 1000 bytes."""
    _, crashed = whole_and_crashed(folder)
    rng = random.Random(seed)
    checkpoints = Checkpoints(crashed / "checkpoints", run_folder.as_json(SMALL))
    good = interrupted.tensors(crashed / "checkpoints" / "ckpt-3")
    for suffix, share in ((".index", 1.0), (".data-00000-of-00001", 0.02)):
        path = crashed / "checkpoints" / f"ckpt-3{suffix}"
        content, lost = path.read_bytes(), []
        for place, bit in itertools.product(range(len(content)), range(8)):
            if rng.random() < share:
                interrupted.flip(path, place, bit)
                if checkpoints.flaw(3) is None:
                    if interrupted.tensors(crashed / "checkpoints" / "ckpt-3") != good:
                        lost.append(f"bit {bit} of byte {place} of {path.name}")
                path.write_bytes(content)
            if (place, bit) == (len(content) - 1, 7) or (place % 1000, bit) == (999, 7):
                yield f"accepted: {', '.join(lost)}" if lost else None
                lost = []


def one_file(folder, seed):
    """One file of an interrupted run, harmed at random."""
    expected, crashed = whole_and_crashed(folder)
    rng = random.Random(seed)
    kinds = {"ckpt-3.index": 8, "ckpt-3.data-00000-of-00001": 8, "checkpoint": 3}
    kinds |= {"metrics.csv": 3, "flips.csv": 3}
    for name, tries in kinds.items():
        for _ in range(tries):
            run = shutil.copytree(crashed, folder / "run")
            path = next(run.rglob(name))
            harm = rng.choice(list(interrupted.HARMS))
            interrupted.HARMS[harm](path, rng)
            flaw = Checkpoints(run / "checkpoints", run_folder.as_json(SMALL)).flaw(3)
            lost, said = ending(run, expected)
            epoch = 2 if flaw else 3
            if f"after epoch {epoch} of" not in said:
                lost = lost or f"continued from another epoch than {epoch}: {said}"
            if flaw and path.exists() and "ckpt-3 can't be read" not in said:
                lost = lost or f"the damage was not named: {said}"
            yield lost and f"{name} {harm}: {lost}"
            shutil.rmtree(run)


def foreign(folder, seed):
    """Checkpoints of other runs in place of the newest, of the newest two, and of all."""
    expected, crashed = whole_and_crashed(folder)
    for name, other in OTHERS.items():
        theirs = crashed_after(3, other, folder / name) / "checkpoints"
        for replaced in (1, 2, 3):
            run = shutil.copytree(crashed, folder / "run")
            for number in (3, 2, 1)[:replaced]:
                for path in theirs.glob(f"ckpt-{number}.*"):
                    shutil.copy(path, run / "checkpoints")
            if replaced < 3:
                lost, said = ending(run, expected)
                told = "ckpt-3 is of another run" in said
            else:  # nothing is left to continue from
                lost, said = None, ending(run, expected)[0] or ""
                told = "No checkpoint" in said
            yield lost or (None if told else f"{name}, {replaced} foreign: {said}")
            shutil.rmtree(run)


def files_too_large(folder, seed):
    """From a random epoch on no file can become larger than a random size."""
    rng, before = random.Random(seed), resource.getrlimit(resource.RLIMIT_FSIZE)
    expected, _ = whole_and_crashed(folder)
    for _ in range(12):
        size, epoch = rng.choice([10, 500, 3000, 20_000, 40_000]), rng.randrange(4)
        run = folder / "x"

        def report(now, logs, size=size, epoch=epoch):
            if now == epoch:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

        lost = "it did not fail"
        try:
            training.run(SMALL, run, verbose=0, report=report)
        except files.NotWritable:
            lost = None
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        lost = lost or ending(run, expected)[0]
        yield lost and f"{size} bytes after epoch {epoch}: {lost}"
        shutil.rmtree(run)


# Needs a disk of its own, which Linux gives to whoever may mount one.
DISK = """
mount -t tmpfs -o size={size}k none {folder} || exit 77
{command}; first=$?
mount -o remount,size=100m {folder}
{command}; second=$?
cp -r {folder}/run {copy}
exit $((first * 10 + second))
"""


def full_disk(folder, seed):
    """The script on a disk that is full at a random moment, and again when there is room."""
    expected, _ = whole_and_crashed(folder)
    for number in range(6):
        size = random.Random(f"{seed} {number}").randrange(12, 200, 4)
        disk, copy = folder / "disk", folder / "copy"
        disk.mkdir()
        script = interrupted.ROOT / "examples" / "train.py"
        command = " ".join([sys.executable, str(script), f"--output_dir={disk}/run", *FLAGS])
        text = DISK.format(size=size, folder=disk, command=command, copy=copy)
        done = subprocess.run(["unshare", "-m", "sh", "-c", text], capture_output=True, text=True)
        lost = None
        if done.returncode != 10 or "error: " not in done.stderr or "Traceback" in done.stderr:
            lost = f"exit status {done.returncode}: {done.stderr[-300:]}"
        lost = lost or interrupted.difference(expected, interrupted.left_behind(copy))
        yield lost and f"disk of {size} kB: {lost}"
        shutil.rmtree(copy, ignore_errors=True)
        disk.rmdir()


def _may_mount() -> bool:
    try:
        command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


CASES = {
    "damage: bits of a checkpoint": bits,
    "damage: one file": one_file,
    "damage: foreign checkpoints": foreign,
    "damage: files too large": files_too_large,
}
if _may_mount():
    CASES["damage: full disk"] = full_disk
