"""What results/cifar10/PROTOCOL.md asked before the first run, answered from the finished ones.

Test accuracy after 20 epochs, over the seeds that both rows have. The spread is the larger of the
two rows' standard deviations over their seeds; of one seed there is none, and it counts as 0.

Rejected: the answers as prose, which would have to be written again with every run.
"""

import numpy as np

import cifar10_numbers as numbers
from larq_filter.experiments.comparison import summaries

OUR, LATENT, RIVALS = "filter", ("adam", "momentum"), ("adam", "bop")


def rows() -> list[dict]:
    """What would speak against the claim, whether it happened, and the numbers of that."""
    return [
        _below(numbers.REFERENCE, "the spread", None),
        _below("two_step_20+20", "a point", numbers.NEAR),
        _harder_to_tune(),
        _uninteresting(),
    ]


def _row(asked: str, answer: bool | None, found: list[str], seeds: int | None = None) -> dict:
    """``answer`` None: not known; it stands for good when all seeds are there."""
    text = {None: "not known yet", True: "yes", False: "no"}[answer]
    if answer is not None and seeds is not None and seeds < len(numbers.SEEDS):
        text += " so far"
    return {"asked": asked, "answer": text, "numbers": "; ".join(found)}


def _apart(other: str) -> tuple[float, float, int]:
    """How far the filter is above ``other``, the spread, and of how many seeds that is."""
    ours, theirs = (numbers.results(row, "test_accuracy") for row in (OUR, other))
    difference = summaries.paired_difference(ours, theirs)
    spreads = [summaries.Spread.of(list(each.values())) for each in (ours, theirs)]
    return difference.mean, max(s.deviation if s.n > 1 else 0.0 for s in spreads), difference.n


def _below(other: str, what: str, margin: float | None) -> dict:
    """``margin`` None: the spread."""
    asked = f"Against the claim: `{OUR}` below `{other}` by more than {what}"
    mean, spread, seeds = _apart(other)
    if not seeds:
        return _row(asked, None, [])
    found = [f"above it {mean:+.4f}, {_of(seeds)}"] + ([f"spread {spread:.4f}"] if spread else [])
    return _row(asked, mean < -(spread if margin is None else margin), found, seeds)


def _of(seeds: int) -> str:
    return f"{seeds} seed" + "s" * (seeds > 1)


def _near() -> dict[str, int]:
    """Row to how many of its trials are within one point of the best."""
    return {
        row: int(np.sum(each >= each.max() - numbers.NEAR))
        for row, each in numbers.searched().items()
    }


def _harder_to_tune() -> dict:
    near = _near()
    asked = f"Against the claim: fewer trials of `{OUR}` within a point of its best than of "
    asked += " or ".join(f"`{row}`" for row in LATENT)
    if not {OUR, *LATENT} <= {*near}:
        return _row(asked, None, [])
    found = ", ".join(f"`{row}` {near[row]}" for row in (OUR, *LATENT))
    return _row(asked, any(near[OUR] < near[row] for row in LATENT), [f"{found}, of 12"])


def _uninteresting() -> dict:
    asked = "Uninteresting: " + " or ".join(f"`{row}`" for row in RIVALS) + f" as good as `{OUR}` "
    asked += "within the spread, and as many of its trials within a point of its best"
    near, apart = _near(), {row: _apart(row) for row in RIVALS}
    seeds = min(n for _, _, n in apart.values())
    if not seeds or not {OUR, *RIVALS} <= {*near}:
        return _row(asked, None, [])
    answer = any(
        mean <= spread and near[row] >= near[OUR] for row, (mean, spread, _) in apart.items()
    )
    found = [
        f"above `{row}` {mean:+.4f}, {_of(n)}, {near[row]} of 12 trials"
        for row, (mean, _, n) in apart.items()
    ]
    return _row(asked, answer, found, seeds)
