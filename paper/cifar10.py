"""The runs of results/cifar10/PROTOCOL.md: which they are, and one command that makes them.

    python paper/cifar10.py --data_dir=DIR --output_dir=RUNS     # all that is missing, in order
    python paper/cifar10.py --data_dir=DIR --output_dir=RUNS --job=main/filter-seed0  # one of them
    python paper/cifar10.py --list
    python paper/cifar10.py --data_dir=DIR --output_dir=RUNS --dataset=cifar10  # of another copy

The same command again goes on: a finished run is a file in results/cifar10 and is not repeated, an
unfinished one continues from its last checkpoint. Each run is a process of one thread; as many as
--workers run side by side, which on two cores trains 15 % more images per second than one process
of two threads. What a run is may depend on earlier ones (the best of a search): such a run waits.
On another copy of the images all is made anew, searches included, in a folder of RUNS of its own,
whose `results` has the files.

Rejected: ``compare`` and ``sweep``. A comparison holds one config a method and a search one
method; here the order of all runs matters, so that what is finished is worth reading at any time.
"""

import csv
import dataclasses
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
from absl import app, flags
from scipy.stats import qmc

FLAGS = flags.FLAGS

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "cifar10"
DATASET, NETWORK = "cifar10_jpeg", "birealnet20"
FORMAT = 1  # of the files in results/

TRIALS, WIDENED = 12, 4
SEARCH_STEPS, EPOCH_STEPS = 500, 351  # 2 epochs of 250 steps; 45,000 images in batches of 128
REST_RATES = (1e-3, 3e-3, 1e-2, 3e-2)

# What is searched of each row: logarithmic intervals, for a run of SEARCH_STEPS. `1-momentum` is
# momentum. A row is a method, or a method with some knobs fixed.
ALPHA, SMOOTHING = (1e-3, 0.3), (0.03, 1.0)
SGD = {"kernel_learning_rate": (0.03, 10.0), "weight_decay": (1e-6, 1e-2), "1-momentum": SMOOTHING}
SPACES = {
    "filter": {"alpha": ALPHA, "gamma": SMOOTHING},
    "two_step": {"kernel_learning_rate": (3e-4, 1e-1), "weight_decay": (1e-7, 1e-3)},
    "adam": {"kernel_learning_rate": (3e-4, 1e-1), "weight_decay": (1e-7, 1e-3)},
    "momentum": SGD,
    "bop": {"alpha": ALPHA, "threshold": (1e-9, 1e-5)},
    "first_order": {"alpha": ALPHA},
    "bop_second_order": {"alpha": ALPHA, "sigma": ALPHA, "threshold": (1e-5, 1e-1)},
    "diode": {"alpha": ALPHA, "gamma": SMOOTHING, "gain": (1e-5, 1e-1)},
    "erlang": {"alpha": (2e-3, 0.6), "gamma": SMOOTHING},
    "standardized": SGD,
    "ir_net": SGD,
    "recu": SGD,
    "bireal": {"kernel_learning_rate": (3e-4, 1e-1), "weight_decay": (1e-7, 1e-3)},
}
LATER = ("ir_net", "recu", "bireal")  # wave 6, from a tag that has them
CARRIED, PLACES = ("filter", "adam"), range(3)  # searches whose best three are trained for longer
FIRST = ("filter", "two_step", "adam", "momentum", "bop")  # rows that choose how they are carried
LIKE = {  # how the others are carried
    "first_order": "filter",
    "erlang": "filter",
    "diode": "filter",
    "bop_second_order": "bop",
    "standardized": "momentum",
    "ir_net": "momentum",
    "recu": "momentum",
    "bireal": "adam",
}
LONG = {"filter": ("filter", "first_order", "erlang"), "two_step": ("two_step",)}  # wave 3
# Wave 7, made before wave 5: latent SGD that nothing clips (no weight comes near to 1e6), and the
# filter that it is.
TWINS = {
    "latent": ("momentum", {"weight_clip": 1e6, "quantizer": "identity"}),
    "filter": ("translated", {}),
}
# Wave 8, made before wave 5: the filter without a search. `suggest(351, 20)`, with the rate of the
# rest that all rows have and with Adam's own; and `FilterOptimizer()` as it is.
SUGGESTED = {"alpha": 0.00156, "gamma": 0.1, "learning_rate_schedule": "cosine"}
UNTUNED = {
    "suggested": {**SUGGESTED, "learning_rate": 1e-2},
    "suggested_adam": {**SUGGESTED, "learning_rate": 1e-3},
    "untuned": {
        "alpha_schedule": "default",
        "learning_rate": 1e-3,
        "learning_rate_schedule": "constant",
    },
}
# Wave 9: `long/filter` goes on, on all 50,000 images. The knobs are not searched (change 13).
ONCE_MORE = {
    "alpha": 2.5e-5,
    "gamma": 0.117,
    "warm_start": 1.25e-3,
    "learning_rate": 2e-3,
    "learning_rate_schedule": "cosine",
}
ROWS = (*SPACES, "frozen")
METHOD = {"first_order": "filter"}
FIXED = {"first_order": {"gamma": 1.0}}
PUBLISHED = {  # everything by one optimizer at its published rates
    "adam_published": ("adam", {"rest": "same", "kernel_learning_rate": 1e-3}),
    "momentum_published": (
        "momentum",
        {"rest": "same", "kernel_learning_rate": 0.1, "weight_decay": 1e-4},
    ),
}
# How a value found in SEARCH_STEPS is carried to a run of n times as many: times n to this power,
# or to a share of it, the row's own.
CARRY = {"alpha": -1.0, "sigma": -1.0, "kernel_learning_rate": -1.0, "threshold": -0.5}
SHARES = {"0": 1.0, "half": 0.5, "kept": 0.0}  # by the names of their runs


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: ``name`` is its file in results/cifar10; knobs None: not known yet."""

    name: str
    method: str
    knobs: dict | None
    epochs: int
    steps_per_epoch: int | None = None
    seed: int = 0
    test: bool = True
    keep: bool = True  # the model
    all_images: bool = False  # trained on the validation images too
    start: str | None = None  # the network it goes on from, in results/cifar10; None: a new one


def read(name: str) -> dict | None:
    """What came of a run; None if it is not finished."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def points(space: dict, count: int) -> list[dict]:
    """Quasi-random values: the first ``count`` points of a scrambled Halton sequence, seed 0."""
    unit = qmc.Halton(len(space), scramble=True, seed=0).random(count)
    low, high = (np.log([bounds[end] for bounds in space.values()]) for end in (0, 1))
    values = np.exp(low + unit * (high - low))
    return [dict(zip(space, map(_rounded, row), strict=True)) for row in values]


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def knobs_of(
    row: str, values: dict, rest_rate: float, length: float = 1.0, share: float = 1.0
) -> dict:
    """The knobs of a run ``length`` times SEARCH_STEPS long, from values found in SEARCH_STEPS.

    ``share`` is that of the powers of CARRY.
    """
    knobs = {"learning_rate": rest_rate, "learning_rate_schedule": "cosine", **FIXED.get(row, {})}
    for name, value in values.items():
        value = _rounded(value * length ** (share * CARRY.get(name, 0.0)))
        if name == "1-momentum":
            name, value = "momentum", _rounded(1 - value)
        knobs[name] = value
    return knobs


def rest_jobs() -> list[Job]:
    """The rate of Adam for the real-valued rest, on the control and the filter's defaults."""
    return [
        _short(f"rest/{row}-{rate:g}", row, {}, rate) for rate in REST_RATES for row in REST_ROWS
    ]


REST_ROWS = ("frozen", "filter")


def _short(name: str, row: str, values: dict, rest_rate: float) -> Job:
    knobs = None if rest_rate is None else knobs_of(row, values, rest_rate)
    method = METHOD.get(row, row)
    return Job(name, method, knobs, 2, SEARCH_STEPS // 2, test=False, keep=False)


def rest_rate() -> float | None:
    """The rate of the best ranks of control and filter together, by validation; None until known.

    A tie goes to the lower rate.
    """
    found = {rate: [read(f"rest/{row}-{rate:g}") for row in REST_ROWS] for rate in REST_RATES}
    if not all(all(pair) for pair in found.values()):
        return None
    places = dict.fromkeys(REST_RATES, 0)
    for row in range(len(REST_ROWS)):
        order = sorted(found, key=lambda rate: -found[rate][row]["result"]["accuracy"])
        for place, rate in enumerate(order):
            places[rate] += place
    return min(places, key=places.get)


def trials(row: str) -> list[tuple[str, dict]]:
    """Names and values of the trials of a row that are known by now: 12, or 16 after a widening."""
    names = [f"search/{row}-{number:02d}" for number in range(TRIALS + WIDENED)]
    values = points(SPACES[row], TRIALS)
    first = list(zip(names, values, strict=False))
    ranked = ranking(first)
    if ranked is None:
        return first
    best = dict(first)[ranked[0]]
    beyond = {name: past for name in best if (past := _beyond(SPACES[row][name], best[name], name))}
    if not beyond:
        return first
    more = [{**best, **point} for point in points(beyond, WIDENED)]
    return [*first, *zip(names[TRIALS:], more, strict=True)]


def _beyond(bounds: tuple, value: float, name: str) -> tuple | None:
    """The interval past the end that ``value`` lies at, half as wide; None if it is inside."""
    low, high = np.log(bounds)
    place = (math.log(value) - low) / (high - low)
    limit = 1.0 if name in ("alpha", "gamma", "sigma", "1-momentum") else math.inf
    if place < 0.1:
        return (_rounded(math.exp(low - (high - low) / 2)), bounds[0])
    if place > 0.9 and bounds[1] < limit:
        return (bounds[1], min(limit, _rounded(math.exp(high + (high - low) / 2))))
    return None


def ranking(known: list[tuple[str, dict]]) -> list[str] | None:
    """Names of trials by falling validation accuracy; None until all of them are finished."""
    found = {name: read(name) for name, _ in known}
    if not all(found.values()):
        return None
    return sorted(found, key=lambda name: -found[name]["result"]["accuracy"])


def best(row: str, place: int = 0) -> dict | None:
    """The values of the best trial of a row, or of the one in ``place``; None until known."""
    if row not in SPACES:
        return {}
    known = trials(row)
    ranked = ranking(known)
    return None if ranked is None else dict(known)[ranked[place]]


def candidates(row: str) -> dict[str, tuple[int, float]]:
    """Names of the 5-epoch runs that a row chooses from: the place in its search and the share."""
    found = {f"carry/{row}-{name}": (0, share) for name, share in SHARES.items()}
    if row in CARRIED:
        found |= {f"carry/{row}-{place}": (place, 1.0) for place in PLACES}
    if row == "adam":  # change 11
        found |= {f"carry/adam-1-{name}": (1, share) for name, share in SHARES.items() if share < 1}
    return found


def chosen(row: str) -> tuple[int, float] | None:
    """The place in its search and the share that a row goes on with; None until known."""
    if row not in SPACES:
        return 0, 1.0
    source = LIKE.get(row, row)
    known = candidates(source)
    found = {name: read(name) for name in known}
    if not all(found.values()):
        return None
    place, share = known[max(found, key=lambda name: found[name]["result"]["accuracy"])]
    return (place if source == row else 0), share


def carried(name: str, row: str, epochs: int, seed: int = 0, how: tuple | None = None) -> Job:
    """A run of whole epochs with the values that the search of its row found.

    ``how`` is the place in the search and the share; left out, what the row has chosen.
    """
    how = how or chosen(row)
    values, rate = best(row, how[0]) if how else None, rest_rate()
    known = values is not None and rate is not None
    length = epochs * EPOCH_STEPS / SEARCH_STEPS
    knobs = knobs_of(row, values, rate, length, how[1]) if known else None
    return Job(name, METHOD.get(row, row), knobs, epochs, seed=seed)


def longest(name: str) -> Job:
    """100 epochs as the best 20-epoch run of seed 0 by validation, those in by_rule among them."""
    known = {f"main/{row}-seed0": (row, None) for row in LONG[name]}
    known[f"by_rule/{name}-seed0"] = (name, (0, 1.0))
    found = {run: read(run) for run in known}
    if not all(found.values()):
        return Job(f"long/{name}", name, None, 100)
    row, how = known[max(found, key=lambda run: found[run]["result"]["accuracy"])]
    return carried(f"long/{name}", row, 100, how=how)


def jobs() -> list[Job]:
    """All runs in their order."""
    listed = rest_jobs()
    rows = [row for row in ROWS if row not in LATER]
    for row in rows[:-1]:  # frozen has nothing to search
        listed += searches(row)
    for row in FIRST:
        listed += [carried(name, row, 5, how=how) for name, how in candidates(row).items()]
    listed += [carried(f"main/{row}-seed0", row, 20) for row in rows]
    listed.append(carried("main/two_step_20+20-seed0", "two_step", 40))
    listed += [
        Job(f"main/{row}-seed0", method, knobs, 20) for row, (method, knobs) in PUBLISHED.items()
    ]
    listed += [carried(f"by_rule/{name}-seed0", name, 20, how=(0, 1.0)) for name in LONG]
    listed.append(carried("by_rule/adam-seed0", "adam", 20, how=(1, 1.0)))
    listed += [longest(name) for name in LONG]
    listed += [carried(f"main/{r}-seed{s}", r, 20, s) for s in (1, 2) for r in FIRST]
    listed.append(once_more())
    listed += [Job(f"defaults/{name}", "filter", knobs, 20) for name, knobs in UNTUNED.items()]
    listed += [twin(name, seed) for seed in range(3) for name in TWINS]
    others = [row for row in rows if row not in FIRST]
    listed += [carried(f"main/{r}-seed{s}", r, 20, s) for s in (1, 2) for r in others]
    for row in LATER:
        listed += searches(row)
    return listed + [carried(f"main/{r}-seed{s}", r, 20, s) for s in range(3) for r in LATER]


def once_more() -> Job:
    """`long/filter` goes on, on all images; waits for its network."""
    start = "long/filter.npz"
    knobs = ONCE_MORE if (RESULTS / start).exists() else None
    return Job("all_images/filter", "filter", knobs, 24, all_images=True, start=start)


def twin(name: str, seed: int) -> Job:
    """5 epochs of the best latent recipe of `momentum`, as it is or translated."""
    method, own = TWINS[name]
    job = carried(f"twins/{name}-seed{seed}", "momentum", 5, seed)
    knobs = None if job.knobs is None else {**job.knobs, **own}
    return dataclasses.replace(job, method=method, knobs=knobs)


def searches(row: str) -> list[Job]:
    """The trials of a row."""
    return [_short(name, row, values, rest_rate()) for name, values in trials(row)]


# Running ------------------------------------------------------------------------------------------


def load_data(dataset: str, data_dir: str | None, all_images: bool = False):
    """The images of a run; ``all_images``: those of validation are trained on too.

    As validation they tell nothing then.
    """
    from larq_filter import datasets

    data = datasets.load(dataset, data_dir=data_dir)
    if not all_images:
        return data
    train, validation, test = (data.arrays(part) for part in ("train", "validation", "test"))
    both = [np.concatenate(pair) for pair in zip(train, validation, strict=True)]
    return datasets.from_arrays(
        both, validation, test, class_names=data.class_names, name=f"{data.name}, all for training"
    )


def network(job: Job):
    """What makes the trained network that a run begins with; named as the network is."""
    from larq_filter import models

    def birealnet20(input_shape, num_classes):
        return models.load(RESULTS / job.start)

    return birealnet20


def make(job: Job) -> None:
    """Trains one run and writes its file."""
    from larq_filter import models, serialization, to_latent_free
    from larq_filter.cli import command_line
    from larq_filter.experiments import files, run_folder, training
    from larq_filter.experiments.methods import knobs

    command_line.show_progress()
    images = {"dataset": FLAGS.dataset, "data_dir": FLAGS.data_dir}
    data = load_data(**images, all_images=True) if job.all_images else None
    model = network(job) if job.start else None
    config = run_folder.Config(
        **({} if job.all_images else images),
        **({} if job.start else {"model": NETWORK}),
        method=job.method,
        knobs=knobs.Knobs(**job.knobs),
        batch_size=128,
        epochs=job.epochs,
        steps_per_epoch=job.steps_per_epoch,
        seed=job.seed,
    )
    folder = pathlib.Path(runs_folder(), *job.name.split("/"))
    result = training.run(config, folder, verbose=2, test=job.test, data=data, model=model)
    saved = json.loads((folder / "config.json").read_text())
    stages = [path for path in (folder / "step1", folder) if (path / "result.json").exists()]
    content = {
        "format": FORMAT,
        "name": job.name,
        "config": {**_without_paths(saved["config"]), "model": NETWORK},
        "versions": saved["versions"],
        "commit": _git("rev-parse", "HEAD"),
        "threads": int(os.environ.get("TF_NUM_INTRAOP_THREADS", "0")),
        "result": _without_paths(dataclasses.asdict(result)),
        "metrics": [_columns(path / "metrics.csv") for path in stages],
    }
    if job.start:
        content["start"] = job.start
    if job.keep:
        content["flips"] = _columns(folder / "flips.csv")
    path = RESULTS / f"{job.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.with_suffix(".npz") == RESULTS / once_more().start:
        trained = to_latent_free(serialization.load_model(folder / "model.keras"))
        about = {"network": NETWORK, "input_shape": [32, 32, 3], "num_classes": 10}
        about["recipe"] = {"run": job.name}
        path.with_suffix(".npz").write_bytes(models.pack(trained, about))
    files.write_json(path, content, indent=None)
    if not job.keep:
        shutil.rmtree(folder)


def _without_paths(values: dict) -> dict:
    return {name: value for name, value in values.items() if name not in ("data_dir", "output_dir")}


def _columns(path: pathlib.Path) -> dict:
    """A CSV file as lists by column, numbers with six digits."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else ())}


def _number(text: str):
    try:
        return float(f"{float(text):.6g}")
    except ValueError:
        return text


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def work() -> None:
    """Runs what is missing, ``--workers`` at a time, until nothing is left."""
    running: dict[str, subprocess.Popen] = {}
    failures: dict[str, int] = {}
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    while True:
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                if process.returncode or read(name) is None:
                    failures[name] = failures.get(name, 0) + 1
                    say(f"{name} ended with {process.returncode}, {failures[name]} times by now")
                else:
                    say(f"{name} validation accuracy {read(name)['result']['accuracy']:.4f}")
        listed = jobs()
        left = [job for job in listed if read(job.name) is None and failures.get(job.name, 0) < 3]
        ready = [job for job in left if job.knobs is not None and job.name not in running]
        if not running and not ready:
            break
        for job in ready[: FLAGS.workers - len(running)]:
            say(f"{job.name} begins, {len(left)} of {len(listed)} left")
            log = pathlib.Path(runs_folder(), "logs", f"{job.name.replace('/', '-')}.txt")
            log.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, __file__, f"--job={job.name}", *shared_flags()]
            with log.open("a") as file:
                running[job.name] = subprocess.Popen(
                    command, stdout=file, stderr=subprocess.STDOUT, env=environment
                )
        while all(process.poll() is None for process in running.values()):
            time.sleep(2)
    say(f"{len(left)} runs are left undone" if left else "All runs are finished")


def runs_folder() -> pathlib.Path:
    """``--output_dir``, and for another copy of the images a folder of its own there."""
    from larq_filter.experiments import files

    copy = [] if FLAGS.dataset == DATASET else [files.name_of(FLAGS.dataset)]
    return pathlib.Path(FLAGS.output_dir, *copy)


def shared_flags() -> list[str]:
    """The flags that a process of one run needs too."""
    names = ("dataset", "data_dir", "output_dir")
    return [f"--{name}={FLAGS[name].value}" for name in names if FLAGS[name].value]


def say(text: str) -> None:
    """A line with the time."""
    print(time.strftime("%m-%d %H:%M:%S"), text, flush=True)


def define_flags() -> None:
    """Those of this command; not at import, where they would meet those of other commands."""
    flags.DEFINE_string("dataset", DATASET, "Which copy of CIFAR-10: as --dataset of train.")
    flags.DEFINE_string("data_dir", None, "Folder that holds the set as tensorflow-datasets.")
    flags.DEFINE_string("output_dir", None, "Run folders: checkpoints, logs, models.")
    flags.DEFINE_integer("workers", 2, "Runs side by side.", 1)
    flags.DEFINE_string("job", None, "Make this one only, here and now.")
    flags.DEFINE_bool("list", False, "Only say which runs there are and what is known of them.")


def main(arguments):
    """Lists, makes one run, or makes all."""
    if len(arguments) > 1:
        raise SystemExit(f"error: {arguments[1]!r} belongs to no flag.")
    if FLAGS.output_dir is None and (FLAGS.dataset != DATASET or not FLAGS.list):
        raise SystemExit("error: --output_dir is needed, a folder for the runs.")
    if FLAGS.dataset != DATASET:
        global RESULTS
        RESULTS = runs_folder() / "results"
    if FLAGS.list:
        for job in jobs():
            found = read(job.name)
            state = f"{found['result']['accuracy']:.4f}" if found else "-"
            print(f"{job.name:<28} {state:<7} {job.knobs if job.knobs is not None else 'waits'}")
        return
    if FLAGS.data_dir is None and not pathlib.Path(FLAGS.dataset).expanduser().exists():
        raise SystemExit(f"error: --data_dir is needed, the folder that holds {FLAGS.dataset}.")
    if FLAGS.job is None:
        work()
        return
    (chosen,) = [job for job in jobs() if job.name == FLAGS.job] or [None]
    if chosen is None or chosen.knobs is None:
        raise SystemExit(f"error: there is no run {FLAGS.job}, or it waits for others: --list.")
    make(chosen)


if __name__ == "__main__":
    define_flags()
    app.run(main)
