"""Optimizers of binary networks, and their parts.

filter_optimizer    FilterOptimizer: binary kernels filtered, the rest by a Keras optimizer
latent_optimizer    LatentOptimizer: latent kernels by one Keras optimizer, the rest by another
defaults            the filter that is taken where none is given
delegating          what both have in common
nested              optimizers inside them: counters, learning rates
arguments           what users pass, checked
attributes          what may be read and set on FilterOptimizer
rates               numbers that change during training
states              what is remembered of each kernel
watching            kernels that somebody else assigns to
steps               the one place where a kernel changes
rule_steps          latent rules around the step of a Keras optimizer
rule_files          what a file holds of them
fusion              kernels compiled together
nonfinite           steps that are not taken
saved_layout        what a file has to hold
file_kernels        which kernel of a file is which, where it holds more of them
saving              how FilterOptimizer goes through Keras' files
"""

from larq_filter.optimizers.defaults import default_alpha, default_filter
from larq_filter.optimizers.filter_optimizer import FilterOptimizer
from larq_filter.optimizers.latent_optimizer import LatentOptimizer

__all__ = ["FilterOptimizer", "LatentOptimizer", "default_alpha", "default_filter"]
