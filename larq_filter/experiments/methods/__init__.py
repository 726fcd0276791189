"""Training methods by name: from a latent Larq model to a compiled one.

registry       the table of methods, and how one is compiled
published      rows of the table: latent methods of publications
method         what a method and a stage are
knobs          their hyperparameters, and the schedules these name
latent_free    what trains binary kernels without latent weights
latent         what trains them through latent or real-valued weights
relaxed        what trains real-valued weights that become binary by and by
inputs         quantizers of activations
distillation   the loss of learning from a teacher
attention      the same for where in an image it has large activations
real_to_binary rows of the table: a chain of teachers

A new method that is latent-free: its preset in ``larq_filter.presets``, a line in ``latent_free``,
a row in ``registry``. A latent one: its quantizer in ``larq_filter.quantizers.named`` or its rule
in ``larq_filter.latent_rules``, a row in ``published``. Tuned numbers for a data set, if there are
any: ``larq_filter/cli/settings.json``.
"""

from larq_filter.experiments.methods.attention import network_of
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.methods.method import Method, Stage
from larq_filter.experiments.methods.registry import (
    GROUPS,
    METHODS,
    compile_for,
    dataset_for,
    first_stage,
    names,
    resolve,
)

__all__ = [
    "GROUPS",
    "METHODS",
    "Knobs",
    "Method",
    "Stage",
    "compile_for",
    "dataset_for",
    "first_stage",
    "names",
    "network_of",
    "resolve",
]
