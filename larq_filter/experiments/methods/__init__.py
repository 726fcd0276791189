"""Training methods by name: from a latent Larq model to a compiled one.

registry       the table of methods
knobs          their hyperparameters, and the schedules these name
latent_free    what trains binary kernels without latent weights
latent         what trains them through latent or real-valued weights
distillation   the loss of learning from a teacher

A new method: its preset in ``larq_filter.presets`` if it is latent-free, ``latent_free`` or
``latent``, a row in ``registry``, its entry in both sections of ``larq_filter/cli/settings.json``.
"""

from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.methods.registry import (
    METHODS,
    Method,
    Stage,
    compile_for,
    first_stage,
    names,
    resolve,
)

__all__ = [
    "METHODS",
    "Knobs",
    "Method",
    "Stage",
    "compile_for",
    "first_stage",
    "names",
    "resolve",
]
