"""Real-to-binary: a chain of networks, each of which teaches the next (Martinez et al. 2020).

| run | weights | activations | learns from | what, beside the labels |
|---|---|---|---|---|
| ``real`` | real | clipped | - | - |
| ``distilled_tanh`` | real | tanh | ``real`` | attention, distribution |
| ``distilled_activations`` | real | binary | ``distilled_tanh`` | attention, distribution |
| ``real_to_binary`` | binary | binary | ``distilled_activations`` | distribution |

All are one architecture. The last starts from the weights of its teacher, the others from those of
every method. Each run is the stage before the next one's own, so folders nest:
``step1/teacher/teacher/`` is the first network's. Of E epochs the last two runs have half each, as
in ``two_step``, and each teacher as many as its student.

Numbers are those of Larq Zoo's training: Adam at 1e-3, in the last run 2e-4; L2; m 3, then 0.8;
attention 30, then 0; temperature 1; 75 epochs a run. Differences: learning rates fall by a cosine
and not by steps after a warm-up; no decay in the last run, as in ``two_step``; the first network
clips its activations and is trained by Adam at the rates of the others, where theirs is a ResNet-18
trained by SGD. The scale of a convolution that is computed from its input is a part of the zoo's
``RealToBinaryNet``, not of ``birealnet20``.
"""

import dataclasses

from larq_filter.experiments.methods import attention, distillation, latent
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.methods.method import Method, Stage

FASTER = 5.0
"""Learning rates of the stages before, over those of the last run."""

_TANH = {
    "learning_rate": 1e-3,
    "learning_rate_schedule": "cosine",
    "weight_decay": 1e-5,
    "teacher": None,
}
_ACTIVATIONS = {
    "kernel_learning_rate": 1e-3,
    **_TANH,
    "rest": "adam",
    "input_quantizer": None,
}
_BINARY = {
    **_ACTIVATIONS,
    "kernel_learning_rate": 1e-3 / FASTER,
    "learning_rate": 1e-3 / FASTER,
    "weight_clip": None,
    "standardization": "none",
    "quantizer": None,
}


def _activations_first(knobs: Knobs, epochs: int) -> Stage:
    faster = {
        name: FASTER * getattr(knobs, name) for name in ("kernel_learning_rate", "learning_rate")
    }
    own = dataclasses.replace(knobs, **faster).only(_ACTIVATIONS)
    return Stage("step1", "distilled_activations", own, epochs // 2, epochs - epochs // 2)


def _tanh_first(knobs: Knobs, epochs: int) -> Stage:
    return Stage("teacher", "distilled_tanh", knobs.only(_TANH), epochs, epochs)


def _taught(method: str, prepare):
    """``prepare`` that first looks at the teacher."""

    def checked(model, knobs, steps, earlier, seed):
        distillation.require_teacher(method, model, earlier)
        return prepare(model, knobs, steps, earlier, seed)

    return checked


METHODS: dict[str, Method] = {
    "real_to_binary": Method(
        "chain of teachers from real to binary (Martinez et al. 2020)",
        _BINARY,
        _taught("real_to_binary", latent.on_weights_of("distilled_activations")),
        _activations_first,
        distils=True,
        lessons=attention.Lessons(distribution=0.8),
        needs=attention.require_alike,
    ),
    "distilled_activations": Method(
        "binary activations, real-valued weights, taught where to look",
        _ACTIVATIONS,
        _taught("distilled_activations", latent.binary_activations),
        _tanh_first,
        stage_only=True,
        distils=True,
        lessons=attention.Lessons(distribution=3.0, attention=30.0),
        needs=attention.require_alike,
    ),
    "distilled_tanh": Method(
        "real-valued weights, tanh as activation, taught where to look",
        _TANH,
        _taught("distilled_tanh", latent.real_tanh),
        latent.teacher_first,
        stage_only=True,
        distils=True,
        lessons=attention.Lessons(distribution=3.0, attention=30.0),
        needs=attention.require_alike,
    ),
}
