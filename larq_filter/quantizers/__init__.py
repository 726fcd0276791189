"""Quantizers of latent training that Larq does not have: ``Sign(transform, surrogate, scale)``.

    q = scale * sign(transform(x)),  with a surrogate for the derivative of the sign

A model that trains without latent weights needs none of them for its kernels; for activations all
methods do. To add a surrogate of your own write a frozen dataclass with one function, as in
``surrogates``, and decorate it with ``quantizers.register``, so that files find it again.

parts         what transforms, surrogates and scales are
transforms    before the sign: standardised, centred, by rank, rotated ...
surrogates    in place of its derivative
scales        the size of -1 and +1
sign          the quantizer made of these
connecting    quantizers that change over the training follow it
named         those of publications, by name

Example:
    >>> quantizer = lf.quantizers.get("ir_net")  # or of parts:
    >>> quantizer = lf.quantizers.Sign(
    ...     lf.quantizers.Standardize(), lf.quantizers.Tanh(1e-3, 10), lf.quantizers.PowerOfTwo()
    ... )
    >>> layer = larq.layers.QuantConv2D(16, 3, kernel_quantizer=quantizer, ...)
    >>> model.compile(lf.LatentOptimizer("sgd"), loss)
    >>> lf.quantizers.connect(model, steps=35_100)
"""

from larq_filter._keras import keras
from larq_filter.quantizers import scales, surrogates, transforms
from larq_filter.quantizers.connecting import connect, of_model
from larq_filter.quantizers.named import INPUTS, KERNELS, get
from larq_filter.quantizers.parts import Part, Scale, Surrogate, Transform
from larq_filter.quantizers.scales import Curvature, FanIn, MaxAbs, MeanAbs, PowerOfTwo
from larq_filter.quantizers.sign import ClipToUnit, SignQuantizer, StandardizedSign, TanhToUnit
from larq_filter.quantizers.surrogates import (
    Approx,
    Distance,
    ElementWise,
    Fading,
    Power,
    Quantile,
    StateAware,
    Straight,
    Swish,
    Tanh,
    Tent,
)
from larq_filter.quantizers.transforms import (
    Centre,
    Dither,
    Identity,
    ImageScale,
    Ranks,
    Rotate,
    Sine,
    Standardize,
)

Sign = SignQuantizer  # in files the short name is that of the flip rule
"""``SignQuantizer``, by its short name: a transform, the sign, a surrogate gradient, a scale."""


def register(kind: type) -> type:
    """Class decorator for a part of one's own: Keras' files find it by this name.

    Raises:
        TypeError: no part.
    """
    if not (isinstance(kind, type) and issubclass(kind, Part)):
        raise TypeError(f"{kind!r} is no Transform, Surrogate or Scale of larq_filter.quantizers.")
    return keras.utils.register_keras_serializable("larq_filter", f"quantizers.{kind.__name__}")(
        kind
    )


for _module in (transforms, surrogates, scales):
    for _value in list(vars(_module).values()):
        if isinstance(_value, type) and _value.__module__ == _module.__name__:
            register(_value)

__all__ = [
    "INPUTS",
    "KERNELS",
    "Approx",
    "Centre",
    "ClipToUnit",
    "Curvature",
    "Distance",
    "Dither",
    "ElementWise",
    "Fading",
    "FanIn",
    "Identity",
    "ImageScale",
    "MaxAbs",
    "MeanAbs",
    "Part",
    "Power",
    "PowerOfTwo",
    "Quantile",
    "Ranks",
    "Rotate",
    "Scale",
    "Sign",
    "Sine",
    "StandardizedSign",
    "Standardize",
    "StateAware",
    "Straight",
    "Surrogate",
    "Swish",
    "Tanh",
    "TanhToUnit",
    "Tent",
    "Transform",
    "connect",
    "get",
    "of_model",
    "register",
]
