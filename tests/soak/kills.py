"""SIGKILL at random and at chosen moments: the same command again ends as if nothing had happened.

Compared with the uninterrupted run are every weight of ``model.keras``, every variable of the kept
checkpoints (model, optimizer, counters of flips), the rows of both tables, the result and the list
of files. Each start must also go on after the last epoch that was saved, not before. A search must
have as many trials as the uninterrupted one, and must have tried the knobs of each killed trial
again; each of its complete runs is compared with the run of its config in a fresh folder.
"""

import contextlib
import csv
import itertools
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helpers"))
import interrupted  # noqa: E402
from larq_filter.experiments import (
    run_folder,
    training,  # noqa: E402
)
from larq_filter.experiments.methods.knobs import Knobs  # noqa: E402

DATA = ["--model=mlp", "--width=16", "--batch_size=10", "--epochs=5"]
SEARCH = ["--knobs=alpha,gamma", "--trials=3", "--heartbeat=1"]
# What to wait for, how often at most, and how many seconds at most to wait after it came.
MOMENTS = {
    "at any time": (None, 0, None),
    "writing a checkpoint": ("**/checkpoints/writing*", 8, 0.01),
    "after a checkpoint": ("**/checkpoints/ckpt-*.index", 4, 0.03),
    "in validation": ("**/tensorboard/validation/*", 1, 0.5),
    "writing the model": ("**/model.part.keras", 1, 0.03),
    "writing the result": ("**/model.keras", 1, 0.01),
    "writing the config": ("**/config*", 1, 0.002),
}
WEIGHTS = [4, 3, 1, 3, 1.5, 1, 0.5]
KILLS_OF_A_RUN = 8


class Lost(Exception):
    """Something did not survive."""


class Killed:
    """A command that is killed again and again until it ends by itself."""

    def __init__(self, log, command, folder, life, rng):
        self.log, self.command, self.folder, self.life, self.rng = log, command, folder, life, rng
        self.saved = self.finished = 0

    def start(self, kill: bool) -> str | None:
        """One process; the moment at which it was killed, None if it has ended before."""
        name = self.rng.choices(list(MOMENTS), WEIGHTS)[0]
        pattern, most, wait = MOMENTS[name]
        sightings = self.rng.randint(1, max(most, 1))
        patience = self.rng.uniform(0, wait or self.life)
        seen = self._there(pattern)
        began = time.monotonic()
        with self.log.open("w") as log:
            process = interrupted.script(*self.command, stdout=log, stderr=subprocess.STDOUT)
            while kill and pattern and process.poll() is None:
                now = self._there(pattern)
                sightings -= bool(now - seen)
                if sightings == 0:
                    break
                seen = now
                time.sleep(0.001)
            if kill:
                time.sleep(patience)
                process.kill()
            status = process.wait()
        said = self.log.read_text()
        self._check(status, said)
        self.saved = self._epochs()
        if status == 0:
            return None
        return f"{name}, after {time.monotonic() - began:.1f} s, {self.saved} epochs saved"

    def _there(self, pattern: str | None) -> set:
        while pattern:
            with contextlib.suppress(FileNotFoundError):  # a folder went while it was looked into
                return set(self.folder.glob(pattern))
        return set()

    def _epochs(self) -> int:
        """Saved by the run that is in work: of several runs one after another the last."""
        runs = [path.parent for path in self.folder.rglob("config.json")]
        runs = [run for run in runs if (run / "checkpoints").exists()]
        if not runs:
            return 0
        latest = max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime_ns)
        names = (path.stem for path in (latest / "checkpoints").glob("ckpt-*.index"))
        return max((int(name.split("-")[1]) for name in names), default=0)

    def _check(self, status: int, said: str) -> None:
        if status not in (0, -9):
            raise Lost(f"exit status {status}: {said[-500:]}")
        if "can't be read" in said or "is damaged" in said:
            raise Lost(f"a kill has left a damaged file: {said[-500:]}")
        for epoch in re.findall(r"Continues the run in .* after epoch (\d+) of", said)[:1]:
            if int(epoch) != self.saved:
                raise Lost(f"{self.saved} epochs were saved, {epoch} found")


def like_the_whole(whole, run) -> str | None:
    """What differs between two commands, of which only one was killed."""
    return interrupted.difference(interrupted.left_behind(whole), interrupted.left_behind(run))


def a_search(whole, run) -> str | None:
    """What a killed search has lost: a trial, the knobs of a killed one, what a run left behind."""
    tables = []
    for folder in (whole, run):
        with (folder / "trials.csv").open() as file:
            tables.append({row["folder"]: row for row in csv.DictReader(file)})
    complete = [[n for n, row in table.items() if row["state"] == "complete"] for table in tables]
    if len(complete[0]) != len(complete[1]):
        return f"{len(complete[1])} trials are complete, not {len(complete[0])}"
    tried = {(row["alpha"], row["gamma"]) for row in tables[1].values()}
    for path in sorted(run.glob("trials/*/*/config.json")):
        name = path.relative_to(run)
        content = json.loads(path.read_text())["config"]
        knobs = content["knobs"]
        if (str(knobs["alpha"]), str(knobs["gamma"])) not in tried:
            return f"{name}: alpha and gamma were not tried again"
        if path.parent.parent.name not in complete[1]:
            continue
        del content["split"]  # is not chosen
        config = run_folder.Config(**{**content, "knobs": Knobs(**knobs)})
        again = run / "again" / name.parent
        training.run(config, again, verbose=0, test=False)
        if lost := like_the_whole(again, path.parent):
            return f"{name.parent}: {lost}"
    return None


def killed(script: str, folder_flag: str, flags: list[str], kills: int, compare=like_the_whole):
    """A case: ``kills`` of one command, run after run until there have been so many.

    ``compare(whole, run)`` says what the killed one in the folder ``run`` has lost.
    """

    def case(folder, seed):
        rng, done, log = random.Random(f"{seed} {flags}"), 0, folder / "log.txt"
        began = time.monotonic()
        whole = folder / "whole"
        status, _, err = interrupted.output_of(script, f"{folder_flag}={whole}", *flags)
        assert status == 0, err
        life = time.monotonic() - began
        for number in itertools.count():
            run = folder / f"run{number}"
            process = Killed(log, (script, f"{folder_flag}={run}", *flags), run, life, rng)
            moments, lost = [], None
            try:
                while moment := process.start(done + len(moments) < kills and _few(moments)):
                    moments.append(moment)
                    print(f"         killed {moment}", flush=True)
                lost = compare(whole, run)
            except Lost as error:
                lost = str(error)
                moments = moments or ["none"]
            for _ in moments:
                yield lost and f"{lost} (killed {'; '.join(moments)}; seed {seed})"
            done += len(moments)
            shutil.rmtree(run)
            if done >= kills:
                return

    return case


def _few(moments) -> bool:
    return len(moments) < KILLS_OF_A_RUN


def train(method: str, kills: int):
    return killed("train.py", "--output_dir", [*DATA, "--control=no", f"--method={method}"], kills)


CASES = {
    "kill train.py, filter": train("filter", 50),
    "kill train.py, two_step": train("two_step", 8),
    "kill train.py, distilled": train("distilled", 8),
    "kill train.py, larq_bop": train("larq_bop", 6),
    "kill compare.py": killed(
        "compare.py", "--output_dir", [*DATA, "--methods=filter,two_step", "--seeds=1"], 8
    ),
    "kill sweep.py": killed("sweep.py", "--output_dir", [*DATA, *SEARCH], 8, a_search),
}
