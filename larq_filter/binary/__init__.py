"""Binary kernels: which they are, in which layers, and whether they can be trained latent-free.

kernels    one kernel: told, read, set and drawn
layers     the layers of a model that have some
checks     what keeps a filter from training them (an error, which ends a run before it begins), or
           from training them well (a warning): a new check of a model goes there
copies     what a copy of a layer needs besides config and values
"""

from larq_filter.binary.checks import (
    ERROR,
    NO_BINARY_KERNEL,
    WARNING,
    Finding,
    check,
    is_trained,
    probe,
    probe_unmarked,
)
from larq_filter.binary.kernels import (
    RandomSign,
    binarize,
    fresh,
    holds_signs,
    is_binary,
    is_low,
    is_quantized,
    latent,
    name_of,
    replicas,
    sign,
    stored,
    without_constraint,
)
from larq_filter.binary.layers import (
    binary_kernels,
    binary_kernels_of,
    describe,
    layers_of,
    nodes_of,
    quantized_kernels,
    quantized_kernels_of,
    require_built,
)

__all__ = [
    "ERROR",
    "NO_BINARY_KERNEL",
    "WARNING",
    "Finding",
    "RandomSign",
    "binarize",
    "binary_kernels",
    "binary_kernels_of",
    "check",
    "describe",
    "fresh",
    "holds_signs",
    "is_binary",
    "is_low",
    "is_quantized",
    "is_trained",
    "latent",
    "layers_of",
    "name_of",
    "nodes_of",
    "probe",
    "probe_unmarked",
    "quantized_kernels",
    "quantized_kernels_of",
    "replicas",
    "require_built",
    "sign",
    "stored",
    "without_constraint",
]
