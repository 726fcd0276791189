"""What a training method is, and a stage before it."""

import dataclasses
from collections.abc import Callable
from typing import Any

from larq_filter.experiments.methods import attention
from larq_filter.experiments.methods.knobs import Knobs


@dataclasses.dataclass(frozen=True)
class Stage:
    """A run that comes before a method's own.

    Attributes:
        name: of the stage.
        method, knobs, epochs: of its run.
        own_epochs: what is left for the method's own run.
    """

    name: str
    method: str
    knobs: Knobs
    epochs: int
    own_epochs: int


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train a network.

    Attributes:
        summary: one line.
        knobs: the knobs it reads and their defaults.
        prepare: ``prepare(model, knobs, steps, earlier, seed) -> (model, optimizer)``.
        first_stage: ``first_stage(knobs, epochs)`` gives the stage before it, or None.
        stage_only: whether what it trains is no binary network: a teacher or a first step.
        distils: whether it learns from the distribution of the model before.
        lessons: what it learns from that model beside the labels; None for the distribution alone,
            in place of the labels.
        needs: ``needs(model, teacher)`` raises for a network that neither it nor a stage before it
            can train, and for a teacher named by the knob; None is no such teacher.
        is_latent: whether binary kernels are trained through real-valued weights.
        keeps_kernels: whether it goes on from the kernels of a model that was trained before; None:
            if its optimizer has a ``warm_start``, or needs none.
    """

    summary: str
    knobs: dict[str, Any]
    prepare: Callable
    first_stage: Callable = lambda knobs, epochs: None
    stage_only: bool = False
    distils: bool = False
    lessons: attention.Lessons | None = None
    needs: Callable = lambda model, teacher=None: None
    is_latent: bool = False
    keeps_kernels: bool | None = None
