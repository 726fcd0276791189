"""Quantizers by the short name of their publication: one for kernels, one for activations.

| name | kernels | activations |
|---|---|---|
| ``ste`` | sign, gradient 1 up to 1 | the same |
| ``identity`` | sign, gradient 1 | the same |
| ``bireal`` | mean magnitude, gradient straight | parabola |
| ``xnor`` | centred over input channels, mean magnitude | ``ste`` |
| ``bnn_plus`` | sign-swish | sign-swish |
| ``ir_net`` | standardised, power of two, sharpening tanh | sharpening tanh |
| ``zscore``, ``scaled`` | standardised only, gradient 1 | - |
| ``recu`` | standardised, no gradient for the largest | parabola in units of the image |
| ``rbnn`` | rotated, sharpening tent | tent |
| ``ewgs`` | gradient by the way to the sign | the same |
| ``reste`` | mean magnitude of the kernel, power function | power function |
| ``daq`` | gradient by the distances to both levels | the same |
| ``equal_bits`` | half of each filter +1 | ``ste`` |
| ``poke`` | largest magnitude, gradient 1 | gradient 1 up to 3 |
| ``lab`` | mean magnitude by curvature | ``ste`` |
| ``bnn_bn`` | standardised by fan-in, mean magnitude | - |
| ``biper`` | sine | - |
| ``binaryconnect`` | random sign, gradient 1 | - |
| ``sa_bnn`` | one gradient for +1, one for -1 | - |
| ``bitnet`` | centred, mean magnitude of the kernel, gradient 1 | - |

Published constants stand here and in the parts' signatures. Learned scales after the layer, which
ReCU, RBNN and EWGS have, are left out: batch normalisation learns the same.
"""

import math
from collections.abc import Callable

from larq_filter._validation import shown
from larq_filter.quantizers import scales, surrogates, transforms
from larq_filter.quantizers.sign import SignQuantizer as Sign

_STRAIGHT = surrogates.Straight(None)

KERNELS: dict[str, Callable] = {
    "ste": lambda **k: Sign(**k),
    "identity": lambda **k: Sign(surrogate=_STRAIGHT, **k),
    "bireal": lambda **k: Sign(scale=scales.MeanAbs(), gradient="straight", **k),
    "xnor": lambda **k: Sign(
        transforms.Centre("input"), surrogates.Fading(), scales.MeanAbs(), **k
    ),
    "bnn_plus": lambda **k: Sign(surrogate=surrogates.Swish(), **k),
    "ir_net": lambda **k: Sign(
        transforms.Standardize(), surrogates.Tanh(), scales.PowerOfTwo(), **k
    ),
    "zscore": lambda **k: Sign(transforms.Standardize(), _STRAIGHT, **k),
    "scaled": lambda **k: Sign(transforms.Standardize(fan_in=True), _STRAIGHT, **k),
    "recu": lambda **k: Sign(
        transforms.Standardize(eps=1e-5, gain=2 * math.sqrt(2)), surrogates.Quantile(), **k
    ),
    "rbnn": lambda **k: Sign(transforms.Rotate(), surrogates.Tent(), **k),
    "ewgs": lambda **k: Sign(
        transforms.Standardize("kernel", gain=1 / 3, centre=False, fixed=True),
        surrogates.ElementWise(),
        **k,
    ),
    "reste": lambda **k: Sign(
        surrogate=surrogates.Power(), scale=scales.MeanAbs("kernel"), gradient="exact", **k
    ),
    "daq": lambda **k: Sign(
        transforms.Standardize("kernel", gain=1 / 3, fixed=True), surrogates.Distance(), **k
    ),
    "equal_bits": lambda **k: Sign(
        transforms.Ranks(), _STRAIGHT, scales.FanIn(), gradient="straight", **k
    ),
    "poke": lambda **k: Sign(surrogate=_STRAIGHT, scale=scales.MaxAbs(), gradient="straight", **k),
    "lab": lambda **k: Sign(
        surrogate=_STRAIGHT, scale=scales.Curvature(), gradient="straight", **k
    ),
    "bnn_bn": lambda **k: Sign(
        transforms.Standardize(eps=1e-10, fan_in=True),
        scale=scales.MeanAbs(),
        gradient="straight",
        **k,
    ),
    "biper": lambda **k: Sign(transforms.Sine(), _STRAIGHT, **k),
    "binaryconnect": lambda **k: Sign(transforms.Dither(), _STRAIGHT, **k),
    "sa_bnn": lambda **k: Sign(surrogate=surrogates.StateAware(), **k),
    "bitnet": lambda **k: Sign(
        transforms.Centre("kernel"), _STRAIGHT, scales.MeanAbs("kernel"), gradient="straight", **k
    ),
}
"""Quantizers of kernels: name to a function of Keras' layer arguments."""

INPUTS: dict[str, Callable] = {
    "ste": lambda **k: Sign(**k),
    "identity": lambda **k: Sign(surrogate=_STRAIGHT, **k),
    "bireal": lambda **k: Sign(surrogate=surrogates.Approx(), **k),
    "bnn_plus": lambda **k: Sign(surrogate=surrogates.Swish(), **k),
    "ir_net": lambda **k: Sign(surrogate=surrogates.Tanh(), **k),
    "recu": lambda **k: Sign(transforms.ImageScale(), surrogates.Approx(), **k),
    "rbnn": lambda **k: Sign(surrogate=surrogates.Tent(least=1.0), **k),
    "ewgs": lambda **k: Sign(surrogate=surrogates.ElementWise(), **k),
    "reste": lambda **k: Sign(surrogate=surrogates.Power(), **k),
    "daq": lambda **k: Sign(surrogate=surrogates.Distance(sigma=2.0), **k),
    "poke": lambda **k: Sign(surrogate=surrogates.Straight(3.0), **k),
}
"""Quantizers of activations: name to a function of Keras' layer arguments."""


def get(name: str, inputs: bool = False, **kwargs) -> Sign:
    """A quantizer by name.

    Args:
        name: of ``KERNELS``, or of ``INPUTS`` for activations.
        inputs: whether it is for activations.
        **kwargs: of a Keras layer, such as ``dtype``.

    Raises:
        ValueError: unknown name.
    """
    table = INPUTS if inputs else KERNELS
    if name not in table:
        raise ValueError(
            f"Unknown quantizer {shown(name)} of {'activations' if inputs else 'kernels'}; choose "
            f"one of {', '.join(table)}."
        )
    return table[name](**kwargs)
