"""What results/cifar10/PROTOCOL.md asked before the first run, answered from the finished ones.

Accuracy is that on test images after 20 epochs, compared over the seeds that both rows have. The
spread is the larger of the two rows' standard deviations over these seeds; of one seed there is
none. How near trials come to the best of their row is counted in validation images.

Rejected: the answers as prose, which would have to be written again with every run.
"""

import numpy as np

import cifar10
import cifar10_numbers as numbers
from larq_filter.experiments.comparison import summaries

OUR, LATENT, RIVALS = "filter", ("adam", "momentum"), ("adam", "bop")
IMAGES = 5000  # of the validation
POINTS = (0.5, 1, 2)  # the protocol asks for one


def rows() -> list[dict]:
    """What would speak against the claim, whether it happened, and the numbers of that."""
    return [
        _below(numbers.REFERENCE, "the spread", None),
        _below("two_step_20+20", "a point", numbers.NEAR),
        _harder_to_tune(),
        _uninteresting(),
    ]


def _row(asked: str, answer: bool | None, found: list[str], final: bool = True) -> dict:
    """``answer`` None: not known yet; ``final``: no run of it is missing."""
    text = {None: "not known yet", True: "yes", False: "no"}[answer]
    so_far = "" if final or answer is None else ", so far"
    return {"asked": asked, "answer": text + so_far, "numbers": "; ".join(found)}


def _apart(other: str) -> tuple[float, float | None, str, bool]:
    """How far the filter is above ``other``, the spread, both in words; if all runs are there."""
    ours, theirs = (numbers.results(row, "test_accuracy") for row in (OUR, other))
    both = sorted({*ours} & {*theirs})
    mean = summaries.paired_difference(ours, theirs).mean
    spread, words = None, f"minus `{other}` {mean:+.4f}, {len(both)} seed{'s' * (len(both) > 1)}"
    if len(both) > 1:
        deviations = [summaries.Spread.of([r[s] for s in both]).deviation for r in (ours, theirs)]
        spread = max(deviations)
        words += f", spread {spread:.4f}"
    return mean, spread, words if both else "", len(both) == _planned(other)


def _planned(row: str) -> int:
    """Seeds of a row in the list of runs."""
    return sum(job.name.startswith(f"main/{row}-seed") for job in cifar10.jobs())


def _below(other: str, what: str, margin: float | None) -> dict:
    """``margin`` None: the spread."""
    asked = f"Against the claim: `{OUR}` below `{other}` by more than {what}"
    mean, spread, words, final = _apart(other)
    margin = spread if margin is None else margin
    if not words or margin is None:
        return _row(asked, None, [words])
    return _row(asked, mean < -margin, [words], final)


def near(row: str, points: float) -> int | None:
    """How many of the first trials are within so many points of their best; None until known."""
    accuracies = numbers.searched().get(row)
    if accuracies is None:
        return None
    right = np.rint(accuracies * IMAGES)
    return int(np.sum(right >= right.max() - points / 100 * IMAGES))


def _harder_to_tune() -> dict:
    asked = f"Against the claim: fewer trials of `{OUR}` within a point of its best than of "
    asked += " or ".join(f"`{row}`" for row in LATENT)
    found = {row: [near(row, points) for points in POINTS] for row in (OUR, *LATENT)}
    if any(None in each for each in found.values()):
        return _row(asked, None, [])
    here = POINTS.index(1)
    words = ", ".join(f"`{row}` {'/'.join(map(str, each))}" for row, each in found.items())
    words += f" of {cifar10.TRIALS} within {'/'.join(map(str, POINTS))} points"
    return _row(asked, any(found[OUR][here] < found[row][here] for row in LATENT), [words])


def _uninteresting() -> dict:
    asked = "Uninteresting: " + " or ".join(f"`{row}`" for row in RIVALS) + f" as good as `{OUR}` "
    asked += "within the spread, and as many of its trials within a point of its best"
    apart, trials = {row: _apart(row) for row in RIVALS}, {r: near(r, 1) for r in (OUR, *RIVALS)}
    found = [
        f"{words}, {trials[row]} of {cifar10.TRIALS} trials"
        for row, (_, _, words, _) in apart.items()
        if words
    ]
    if None in trials.values() or any(spread is None for _, spread, _, _ in apart.values()):
        return _row(asked, None, found)
    answer = any(
        mean <= spread and trials[row] >= trials[OUR] for row, (mean, spread, *_) in apart.items()
    )
    return _row(asked, answer, found, all(final for *_, final in apart.values()))
