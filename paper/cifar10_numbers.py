"""What the files in results/cifar10 say, as numbers, for page and pictures.

It reads `result` and `metrics` of a run's file, so that later names of flags do not concern it. The
values of a trial are those of its number in the sequence, the time of a step is in `times.json`.
"""

import functools
import json

import numpy as np

import cifar10
from larq_filter import filters

VALIDATION_IMAGES = 5000
SEEDS, REFERENCE = range(3), "two_step"
FRONT = {  # the rows of the README, in plain words
    "filter": "two averages of the gradients, and their sign",
    "first_order": "one average, and its sign",
    "bop": "one average, and a threshold (Bop)",
    "two_step": "real weights for 10 epochs, then latent Adam for 10",
    "adam": "latent Adam",
    "momentum": "latent SGD with momentum",
    "standardized": "latent SGD with momentum on standardised weights, not clipped",
    "frozen": "the control: binary weights as they were drawn",
}
LATENT = ("two_step", "adam", "momentum", "standardized")
MAIN = (*cifar10.ROWS, "two_step_20+20", *cifar10.PUBLISHED)


def read(name: str) -> dict | None:
    """What a run came to, its file's format checked; None if it is not finished."""
    found = cifar10.read(name)
    if found is not None and found.get("format") != cifar10.FORMAT:
        raise ValueError(
            f"results/cifar10/{name}.json has format {found.get('format')}; this program reads "
            f"{cifar10.FORMAT}. Use the program of its time, or teach this one to read it."
        )
    return found


def waves() -> dict[str, tuple[int, int]]:
    """How many runs of each wave are finished, and of how many."""
    found = {}
    for job in cifar10.jobs():
        wave = job.name.split("/")[0]
        done, of = found.get(wave, (0, 0))
        found[wave] = (done + (read(job.name) is not None), of + 1)
    return found


def searched() -> dict[str, np.ndarray]:
    """Row to the validation accuracies of its first trials, for rows that have all of them."""
    found = {}
    for row in cifar10.SPACES:
        runs = [read(trial(row, number)) for number in range(cifar10.TRIALS)]
        if all(runs):
            found[row] = np.array([run["result"]["accuracy"] for run in runs])
    return found


def near(accuracies: np.ndarray, points: float) -> int:
    """How many trials of a row are within so many points of their best, counted in images."""
    right = np.rint(accuracies * VALIDATION_IMAGES)
    return int(np.sum(right >= right.max() - points / 100 * VALIDATION_IMAGES))


def trial(row: str, number: int) -> str:
    """Name of a run of the search."""
    return f"search/{row}-{number:02d}"


def last(name: str, column: str) -> float:
    """A metric of the last epoch of a finished run."""
    return read(name)["metrics"][-1][column][-1]


LINEAR = {  # rows of a linear filter and flips.Sign, and the rates that fall to 0
    "filter": (filters.CascadedEMA, ["alpha"]),
    "first_order": (filters.EMA, ["alpha"]),
    "erlang": (
        lambda alpha, gamma: filters.Cascade([filters.EMA(r) for r in (gamma, alpha, alpha)]),
        ["alpha_1", "alpha_2"],
    ),
}


def flips() -> dict[str, np.ndarray]:
    """Row to flip ratios of its trials in the second epoch, (2, trials): predicted and measured."""
    found, rows = {}, searched()
    for row in (row for row in LINEAR if row in rows):
        predicted = [flips_on_noise(row, number) for number in range(cifar10.TRIALS)]
        measured = [last(trial(row, number), "flip_ratio") for number in range(cifar10.TRIALS)]
        found[row] = np.array([predicted, measured])
    return found


@functools.cache
def flips_on_noise(row: str, number: int, weights: int = 2000) -> float:
    """The flip ratio of a trial's filter in the second epoch, if all gradients were white noise.

    By its steps themselves, with alpha falling to 0. `analysis.expected_flip_ratio`, for a filter
    in balance with constant rates, is too high: the signal still has the size of a larger alpha.
    """
    make, falling = LINEAR[row]
    f = make(**cifar10.points(cifar10.SPACES[row], cifar10.TRIALS)[number])
    random, steps = np.random.default_rng(0), cifar10.SEARCH_STEPS
    signal, flipped, rates = np.zeros(weights), [], f.rates_at(0)
    state = f.zero_state(signal, np)
    for step in range(steps):
        now = {**rates, **{name: rates[name] * (1 - step / steps) for name in falling}}
        before = signal
        signal, state = f.step(random.normal(size=weights), state, now, np)
        flipped.append(np.mean((signal < 0) != (before < 0)))
    return float(np.mean(flipped[steps // 2 :]))


def runs_of(row: str, wave: str = "main") -> dict[int, dict]:
    """Seed to the finished run of a row, of 20 epochs in ``main``."""
    found = {seed: read(f"{wave}/{row}-seed{seed}") for seed in SEEDS}
    return {seed: run for seed, run in found.items() if run is not None}


def results(row: str, part: str, wave: str = "main") -> dict[int, float]:
    """Seed to a number that a run of the row came to."""
    return {seed: run["result"][part] for seed, run in runs_of(row, wave).items()}


def never_flipped(row: str, wave: str) -> float:
    """Share of the binary weights whose sign never changed in the last stage, mean over seeds."""
    runs = runs_of(row, wave).values()
    return float(np.mean([run["metrics"][-1]["never_flipped"][-1] for run in runs]))


def times() -> dict:
    """What a training step of each row takes: what `paper/cifar10_times.py` wrote."""
    return json.loads((cifar10.RESULTS / "times.json").read_text())


def minutes(row: str) -> float:
    """What the training steps of a run of ``main`` take, of all stages together."""
    stages = next(iter(runs_of(row).values()))["metrics"]
    method = row.removesuffix("_20+20")
    names = [f"{method}, first stage", method][-len(stages) :]
    steps = [cifar10.EPOCH_STEPS * len(stage["val_accuracy"]) for stage in stages]
    ms = times()["ms"]
    return sum(ms[name] * count for name, count in zip(names, steps, strict=True)) / 60_000
