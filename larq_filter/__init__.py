"""Train binary neural networks by filtering gradients, without latent weights.

gradient -> filter -> flip rule -> binary weight

A filter turns the gradients of a binary weight into a signal, and a flip rule decides from the
signal when the weight changes sign. The layers are Larq's, the optimizer is `FilterOptimizer`.
"""

from larq_filter import (
    _keras,  # noqa: F401  first: it makes sure that tf.keras is Keras 2
    analysis,
    binary,
    callbacks,
    conversion,
    datasets,
    export,
    filters,
    flips,
    hyperparameters,
    latent_rules,
    models,
    optimizers,
    plots,
    presets,
    quantizers,
)
from larq_filter.binary import check
from larq_filter.conversion import to_latent, to_latent_free
from larq_filter.experiments import methods, training
from larq_filter.optimizers import FilterOptimizer, LatentOptimizer

__version__ = "0.1.0"

__all__ = [
    "FilterOptimizer",
    "LatentOptimizer",
    "analysis",
    "binary",
    "callbacks",
    "check",
    "conversion",
    "datasets",
    "export",
    "filters",
    "flips",
    "hyperparameters",
    "latent_rules",
    "methods",
    "models",
    "optimizers",
    "plots",
    "presets",
    "quantizers",
    "to_latent",
    "to_latent_free",
    "training",
]
