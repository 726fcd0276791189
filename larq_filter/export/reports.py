"""What ``verify`` found, claim by claim, for people and for programs."""

import dataclasses

from larq_filter.export.diagnosis import Diagnosis


@dataclasses.dataclass(frozen=True)
class Claim:
    """One thing that has to hold.

    Attributes:
        name: what is claimed.
        ok: whether it holds; None: these inputs can't tell.
        details: what was found, for people.
        numbers: what was found, for programs.
    """

    name: str
    ok: bool | None
    details: str
    numbers: dict = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        state = {True: "ok", False: "FAILED", None: "NOT TESTED"}[self.ok]
        return f"{state:<10}  {self.name}: {self.details}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``verify`` found.

    Attributes:
        model: name of the model.
        claims: all claims.
        float_layers: the layers with binary kernels that stay float, with the reason.
        diagnosis: which layers are wrong; None if there was no need for a closer look.
    """

    model: str
    claims: tuple[Claim, ...]
    float_layers: dict[str, str]
    diagnosis: Diagnosis | None = None

    @property
    def ok(self) -> bool:
        """Whether every claim holds; one that could not be tested does not."""
        return all(claim.ok is True for claim in self.claims)

    def __str__(self) -> str:
        verdict = "every claim holds" if self.ok else "not every claim holds"
        return "\n".join(
            [f"{self.model} for Larq Compute Engine: {verdict}", *map(str, self.claims)]
        )

    def to_dict(self) -> dict:
        """Everything, ready for JSON."""
        return {**dataclasses.asdict(self), "ok": self.ok}
