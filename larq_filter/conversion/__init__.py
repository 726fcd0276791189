"""From latent weights to none, and back: ``to_latent_free`` and ``to_latent``.

latent     both ways
folding    the scales of quantizers find a new home in the batch normalisation that follows
rebuild    a copy of a model, some of whose layers have other options
"""

from larq_filter.conversion.latent import to_latent, to_latent_free
from larq_filter.conversion.rebuild import with_kernel_options

__all__ = ["to_latent", "to_latent_free", "with_kernel_options"]
