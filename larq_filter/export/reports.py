"""What ``verify`` found, claim by claim, for people and for programs."""

import dataclasses
from collections.abc import Collection

from larq_filter.export import causes
from larq_filter.export.diagnosis import Diagnosis

ALLOWABLE = ("precision", "outputs", "top-1", "accuracy", "size")
"""The claims that somebody may do without, who knows why they fail. Not those about the kernels: a
file with floats in place of bits is not what anybody exports for; layers that may be floats are
named by ``verify(allow_float=)``."""


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
        return causes.wrapped(f"{state:<10}  {self.name}: {self.details}", 12)


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``verify`` found.

    Attributes:
        model: name of the model.
        claims: all claims.
        float_layers: the layers with quantized kernels that stay float, with the reason.
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

    def missing(self, allowed: Collection[str] = ()) -> tuple[str, ...]:
        """The names of the claims that don't hold, or could not be tested, but for ``allowed``.

        Raises:
            ValueError: ``allowed`` has a name that is not in ``ALLOWABLE``.
        """
        allowed = as_names(allowed)
        require_allowable(allowed)
        failed = [claim.name for claim in self.claims if claim.ok is not True]
        return tuple(name for name in failed if name not in allowed)

    def __str__(self) -> str:
        verdict = "every claim holds" if self.ok else "not every claim holds"
        return "\n".join(
            [f"{self.model} for Larq Compute Engine: {verdict}", *map(str, self.claims)]
        )

    def to_dict(self) -> dict:
        """Everything, ready for JSON."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def as_names(names: Collection[str]) -> Collection[str]:
    """Names as they were given; a text is one name."""
    return (names,) if isinstance(names, str) else names


def require_allowable(names: Collection[str]) -> None:
    """Raises ValueError if a claim is named that nobody may do without, or that there is not."""
    unknown = [name for name in names if name not in ALLOWABLE]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} can't be allowed to fail. What can: {', '.join(ALLOWABLE)}. "
            "Kernels have to be binary; layers that may stay float are named by `allow_float`."
        )
