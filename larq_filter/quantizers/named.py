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
| ``ewgs`` | gradient by the distance to the sign | the same |
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
ReCU, RBNN and EWGS have, are left out: batch normalisation learns the same. So is the
standardisation of activations in each image that one version of RBNN's code has: its mean changes
signs, so that the exported network would have to compute it.
"""

import math

from larq_filter._validation import shown
from larq_filter.quantizers import scales, surrogates, transforms
from larq_filter.quantizers.sign import SignQuantizer as Sign

_ANYWHERE = {"surrogate": surrogates.Straight(None)}
_RELEASED = {"gradient": "straight"}  # as most released code has it

KERNELS = {
    "ste": {},
    "identity": _ANYWHERE,
    "bireal": {"scale": scales.MeanAbs(), **_RELEASED},
    "xnor": {
        "transform": transforms.Centre("input"),
        "surrogate": surrogates.Fading(),
        "scale": scales.MeanAbs(),
    },
    "bnn_plus": {"surrogate": surrogates.Swish()},
    "ir_net": {
        "transform": transforms.Standardize(),
        "surrogate": surrogates.Tanh(),
        "scale": scales.PowerOfTwo(),
    },
    "zscore": {"transform": transforms.Standardize(), **_ANYWHERE},
    "scaled": {"transform": transforms.Standardize(fan_in=True), **_ANYWHERE},
    "recu": {
        "transform": transforms.Standardize(eps=1e-5, gain=2 * math.sqrt(2)),
        "surrogate": surrogates.Quantile(),
    },
    "rbnn": {"transform": transforms.Rotate(), "surrogate": surrogates.Tent()},
    "ewgs": {
        "transform": transforms.Standardize("kernel", gain=1 / 3, centre=False, fixed=True),
        "surrogate": surrogates.ElementWise(),
    },
    "reste": {
        "surrogate": surrogates.Power(),
        "scale": scales.MeanAbs("kernel"),
        "gradient": "exact",
    },
    "daq": {
        "transform": transforms.Standardize("kernel", gain=1 / 3, fixed=True),
        "surrogate": surrogates.Distance(),
    },
    "equal_bits": {
        "transform": transforms.Ranks(),
        "scale": scales.FanIn(),
        **_ANYWHERE,
        **_RELEASED,
    },
    "poke": {"scale": scales.MaxAbs(), **_ANYWHERE, **_RELEASED},
    "lab": {"scale": scales.Curvature(), **_ANYWHERE, **_RELEASED},
    "bnn_bn": {
        "transform": transforms.Standardize(eps=1e-10, fan_in=True),
        "scale": scales.MeanAbs(),
        **_RELEASED,
    },
    "biper": {"transform": transforms.Sine(), **_ANYWHERE},
    "binaryconnect": {"transform": transforms.Dither(), **_ANYWHERE},
    "sa_bnn": {"surrogate": surrogates.StateAware()},
    "bitnet": {
        "transform": transforms.Centre("kernel"),
        "scale": scales.MeanAbs("kernel"),
        **_ANYWHERE,
        **_RELEASED,
    },
}
"""Quantizers of kernels: name to the arguments of ``Sign``."""

INPUTS = {
    "ste": {},
    "identity": _ANYWHERE,
    "bireal": {"surrogate": surrogates.Approx()},
    "bnn_plus": {"surrogate": surrogates.Swish()},
    "ir_net": {"surrogate": surrogates.Tanh()},
    "recu": {"transform": transforms.ImageScale(), "surrogate": surrogates.Approx()},
    "rbnn": {"surrogate": surrogates.Tent(least=1.0)},
    "ewgs": {"surrogate": surrogates.ElementWise()},
    "reste": {"surrogate": surrogates.Power()},
    "daq": {"surrogate": surrogates.Distance(sigma=2.0)},
    "poke": {"surrogate": surrogates.Straight(3.0)},
}
"""Quantizers of activations: name to the arguments of ``Sign``."""


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
    if not isinstance(name, str) or name not in table:
        raise ValueError(
            f"Unknown quantizer {shown(name)} of {'activations' if inputs else 'kernels'}; choose "
            f"one of {', '.join(table)}."
        )
    return Sign(**table[name], **kwargs)
