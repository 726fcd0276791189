"""What results/cifar10/PROTOCOL.md asked before the first run, answered from the finished ones.

Accuracy is that on test images after 20 epochs, compared over the seeds that both rows have. The
spread is the larger of the two rows' standard deviations over these seeds; of one seed there is
none. How near trials come to the best of their row is counted in validation images.

Rejected: the answers as prose, which would have to be written again with every run.
"""

import dataclasses

import cifar10
import cifar10_numbers as numbers
from larq_filter.experiments.comparison import summaries

OUR, LATENT, RIVALS = "filter", ("adam", "momentum"), ("adam", "bop")
POINT = 0.01
POINTS = (0.5, 1, 2)  # the protocol asks for one


@dataclasses.dataclass(frozen=True)
class Apart:
    """How far the filter is above another row.

    Attributes:
        other: the row.
        mean: of the differences.
        spread: None for fewer than two seeds.
        seeds: that both rows have.
    """

    other: str
    mean: float
    spread: float | None
    seeds: int

    @classmethod
    def from_row(cls, other: str) -> "Apart":
        ours, theirs = (numbers.results(row, "test_accuracy") for row in (OUR, other))
        both = {*ours} & {*theirs}
        deviations = [summaries.Spread.of([r[s] for s in both]).deviation for r in (ours, theirs)]
        mean = summaries.paired_difference(ours, theirs).mean
        return cls(other, mean, max(deviations) if len(both) > 1 else None, len(both))

    @property
    def is_final(self) -> bool:
        """Whether no run of the other row is missing."""
        names = [job.name for job in cifar10.jobs()]
        return self.seeds == sum(name.startswith(f"main/{self.other}-seed") for name in names)

    def __str__(self) -> str:
        seeds = f"{self.seeds} seed" + "s" * (self.seeds > 1)
        spread = "" if self.spread is None else f", spread {self.spread:.4f}"
        return f"minus `{self.other}` {self.mean:+.4f}, {seeds}{spread}"


def twice_is_better(twice: Apart) -> bool:
    """Whether two-step training in twice the epochs is so far ahead that it counts."""
    return twice.mean < -POINT


def rows() -> list[dict]:
    """What would speak against the claim, whether it happened, and the numbers of that."""
    twice = Apart.from_row("two_step_20+20")
    same = Apart.from_row(numbers.REFERENCE)
    return [
        _below(same, same.spread, "the spread"),
        _below(twice, POINT, "a point"),
        _harder_to_tune(),
        _uninteresting(),
    ]


def _row(asked: str, answer: bool | None, found: list[str], final: bool = True) -> dict:
    """``answer`` None: not known yet; ``final``: no run of it is missing."""
    text = {None: "not known yet", True: "yes", False: "no"}[answer]
    so_far = "" if final or answer is None else ", so far"
    happened = text + so_far
    return {"against the claim": asked, "did it happen?": happened, "numbers": "; ".join(found)}


def _below(apart: Apart, margin: float | None, what: str) -> dict:
    """``margin`` None: not known."""
    asked = f"`{OUR}` is below `{apart.other}` by more than {what}"
    known = apart.seeds > 0 and margin is not None
    found = [str(apart)] if apart.seeds else []
    return _row(asked, apart.mean < -margin if known else None, found, apart.is_final)


def _harder_to_tune() -> dict:
    asked = f"Fewer trials of `{OUR}` are within a point of its best than of "
    asked += " or ".join(f"`{row}`" for row in LATENT)
    searched = numbers.searched()
    if not {OUR, *LATENT} <= {*searched}:
        return _row(asked, None, [])
    near = {row: [numbers.near(searched[row], each) for each in POINTS] for row in (OUR, *LATENT)}
    here = POINTS.index(1)
    words = ", ".join(f"`{row}` {'/'.join(map(str, each))}" for row, each in near.items())
    words += f" of {cifar10.TRIALS} within {'/'.join(map(str, POINTS))} points"
    return _row(asked, any(near[OUR][here] < near[row][here] for row in LATENT), [words])


def _trials_near() -> dict[str, int]:
    """Trials within a point of the best of ``OUR`` and its rivals; empty until all are searched."""
    searched = numbers.searched()
    if not {OUR, *RIVALS} <= {*searched}:
        return {}
    return {row: numbers.near(searched[row], 1) for row in (OUR, *RIVALS)}


def as_good() -> list[Apart]:
    """The rivals that are known to be as good as ``OUR`` within the spread, and as easy to tune."""
    near = _trials_near()
    return [
        apart
        for apart in map(Apart.from_row, RIVALS if near else ())
        if apart.spread is not None
        and apart.mean <= apart.spread
        and near[apart.other] >= near[OUR]
    ]


def _uninteresting() -> dict:
    asked = " or ".join(f"`{row}`" for row in RIVALS) + f" is as good as `{OUR}` within the "
    asked += "spread, and as many of its trials are within a point of its best: not against the "
    asked += "claim, but it would make it uninteresting"
    near = _trials_near()
    if not near:
        return _row(asked, None, [])
    rivals, good = [Apart.from_row(row) for row in RIVALS], as_good()
    found = [f"{a}, {near[a.other]} of {cifar10.TRIALS} trials" for a in rivals if a.seeds]
    if good:  # one is enough, whatever is known of the other
        return _row(asked, True, found, any(apart.is_final for apart in good))
    if any(apart.spread is None for apart in rivals):
        return _row(asked, None, found)
    return _row(asked, False, found, all(apart.is_final for apart in rivals))
