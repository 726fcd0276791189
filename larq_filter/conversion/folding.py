"""Scales of quantizers: found on each latent kernel, moved into the batch normalisation after it.

Some quantizers do more than take signs: ``magnitude_aware_sign`` gives ``s * sign(w)`` with one
``s > 0`` per output channel, the mean magnitude of the latent weights. Without latent weights the
scale needs another home, and the batch normalisation after the layer has one, since it divides by
the scale anyway. With ``x = s * z`` its input before and ``z`` after the conversion,

    gamma * (x - mean) / sqrt(var + eps) + beta  =  gamma' * (z - mean') / sqrt(var' + eps) + beta

    mean'  = mean / s
    var'   = var / s**2
    gamma' = gamma * sqrt((var + s**2 * eps) / (var + eps))

``mean'`` and ``var'`` are the statistics of ``z`` itself, so that training goes on from there;
the small rest, ``eps`` against a variance that has shrunk or grown, goes to ``gamma'``. Without a
gamma (``scale=False``) the variance has to carry it: ``var' = (var + eps) / s**2 - eps``.

No list of quantizers here: each is run on its own latent kernel, and what it gives is taken apart.
"""

import dataclasses

import numpy as np

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.binary import binary_kernels_of, describe, nodes_of
from larq_filter.models.scales import OutputScale

import larq

_layers = keras.layers
_MAPS = tuple(  # work on each channel of the map by itself, and a positive factor passes through
    getattr(_layers, f"{name}{rank}D")
    for rank in (1, 2, 3)
    for name in ("MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling")
    + ("ZeroPadding", "Cropping", "UpSampling")
)
_ANYWHERE = (_layers.PReLU, _layers.Dropout, OutputScale)
_ANYWHERE += (_layers.SpatialDropout1D, _layers.SpatialDropout2D, _layers.SpatialDropout3D)
_ELEMENTWISE = (_layers.Activation, _layers.ReLU, _layers.LeakyReLU)


def analyse(layer, signs: dict, factors: dict) -> None:
    """Runs the quantizers of ``layer``; notes the signs per kernel and the scale per channel."""
    scale = np.ones(1)
    for prefix, quantizer, kernel in binary_kernels_of(layer):
        values = output = binary.latent(kernel)
        if not isinstance(quantizer, larq.quantizers.NoOp):
            output = binary.fresh(quantizer)(values)
            scale = scale * _scale_per_channel(layer, prefix, quantizer, output.numpy())
        signs[id(kernel)] = tf.cast(binary.sign(output), values.dtype)
    if np.any(scale != 1):
        factors[id(layer)] = scale


def _scale_per_channel(layer, prefix: str, quantizer, output: np.ndarray) -> np.ndarray:
    sizes = np.abs(output).astype(np.float64)
    if np.all(sizes == 1):
        return np.ones(1)
    sizes = _per_channel(layer, prefix, sizes)
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    if not (np.all(low > 0) and np.all(high - low <= 1e-5 * high)):  # nor NaN
        raise ValueError(
            f"{layer.name}: its {prefix}_quantizer {binary.name_of(quantizer)} gives "
            f"{describe(output)}, which is not one positive scale per output channel times -1 and "
            "+1, so no latent-free kernel can give the same. Use a quantizer of -1 and +1, "
            '"ste_sign" for one.'
        )
    return high


def _per_channel(layer, prefix: str, sizes: np.ndarray) -> np.ndarray:
    """``sizes`` of a kernel as (weights, output channels); one column if all must be alike."""
    if isinstance(layer, (_layers.SeparableConv1D, _layers.SeparableConv2D)):
        # The pointwise kernel mixes the channels that the depthwise one gives.
        return sizes.reshape(-1, 1 if prefix == "depthwise" else sizes.shape[-1])
    if isinstance(layer, _layers.DepthwiseConv2D):
        return sizes.reshape(-1, sizes.shape[-2] * sizes.shape[-1])
    if isinstance(layer, (_layers.Conv2DTranspose, _layers.Conv3DTranspose)):
        return np.swapaxes(sizes, -1, -2).reshape(-1, sizes.shape[-2])
    if isinstance(layer, (_layers.Dense, _layers.Conv1D, _layers.Conv2D, _layers.Conv3D)):
        return sizes.reshape(-1, sizes.shape[-1])
    raise ValueError(
        f"{layer.name}: a scaled kernel of {type(layer).__name__}, whose output channels "
        'larq_filter does not know. Use a quantizer of -1 and +1, "ste_sign" for one.'
    )


@dataclasses.dataclass(frozen=True)
class _Scale:
    """A tensor of the old model divided by this is the tensor of the new one."""

    values: np.ndarray
    axis: int  # of the channels: 1 or -1
    source: str  # name of the layer whose kernel lost the scale


class Folding:
    """Follows the scales through the graph to the batch normalisations that take them.

    Attributes:
        norms: by ``id`` of the layer, the scale a batch normalisation takes (None: none) and its
            new variables by attribute name.
        homeless: by name of the source, why its scale can't be folded.
    """

    def __init__(self, factors: dict):
        self.factors = factors
        self.norms = {}
        self.homeless = {}

    def run(self, model) -> None:
        """Follows all scales of ``model``; raises ValueError if some find no home."""
        for scale in filter(None, self._through_model(model, [None] * len(model.inputs))):
            self._reject(scale, "is an output of the model")
        if self.homeless:
            listed = "\n".join(f"  {name}: its output {why}" for name, why in self.homeless.items())
            raise ValueError(
                "The quantizers of these layers scale the kernel, and no batch normalisation takes "
                f"the scale over:\n{listed}\nPut a BatchNormalization right after each (only "
                "ReLU, pooling, padding and dropout may stand between), or, for a model that is to "
                'be trained from the start, forget the scales with to_latent_free(model, "drop").'
            )

    def new_variables(self, layer) -> dict:
        """What folding changes in ``layer``: new values by attribute name."""
        if id(layer) in self.factors and getattr(layer, "bias", None) is not None:
            return {"bias": np.float64(layer.bias) / self.factors[id(layer)]}
        return self.norms.get(id(layer), (None, {}))[1]

    def _through_model(self, model, inputs: list) -> list:
        """The scales (or None) of the outputs of ``model``, given those of its inputs."""
        scales = dict(zip(map(id, model.inputs), inputs, strict=True))
        for node in nodes_of(model):
            incoming = [scales.get(id(tensor)) for tensor in node.keras_inputs]
            outgoing = self._through(node.layer, incoming)
            outputs = map(id, tf.nest.flatten(node.outputs))
            scales.update(zip(outputs, outgoing, strict=False))
        return [scales.get(id(tensor)) for tensor in model.outputs]

    def _through(self, layer, inputs: list) -> list:
        if isinstance(layer, _layers.TimeDistributed):
            # Inside, axes count differently: only the last one is the same.
            return self._last_axis(self._through(layer.layer, self._last_axis(inputs)))
        if isinstance(layer, keras.Model):
            return self._through_model(layer, inputs)
        if isinstance(layer, _layers.BatchNormalization):
            self._absorb(layer, inputs[0])
            return [None]
        if len(inputs) == 1 and inputs[0] and _commutes(layer, inputs[0]):
            return inputs
        for scale in filter(None, inputs):
            self._reject(scale, f"goes to {layer.name} ({type(layer).__name__})")
        return [self._produced(layer) if id(layer) in self.factors else None]

    def _last_axis(self, scales: list) -> list:
        for scale in scales:
            if scale and scale.axis != -1:
                self._reject(scale, "has its channels first under TimeDistributed")
        return [scale if scale and scale.axis == -1 else None for scale in scales]

    def _produced(self, layer):
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
        scale = _Scale(self.factors[id(layer)], axis, layer.name)
        if not _lets_scales_through(layer.activation):
            self._reject(scale, f"goes through its activation {binary.name_of(layer.activation)}")
            return None
        return scale

    def _absorb(self, norm, scale) -> None:
        known, _ = self.norms.setdefault(id(norm), (scale, {}))
        same = scale is known or (scale and known and np.array_equal(scale.values, known.values))
        if not same:
            for each in filter(None, (scale, known)):
                self._reject(each, f"goes to {norm.name}, which gets inputs of other scales too")
        elif scale:
            if norm.renorm or list(norm.axis) != [scale.axis % norm.input_spec.ndim]:
                self._reject(scale, f"goes to {norm.name}: renorm or another channel axis")
            else:
                self.norms[id(norm)] = scale, self._folded(norm, scale)

    def _folded(self, norm, scale) -> dict:
        """The variables of ``norm`` for an input that is smaller by ``scale``."""
        mean, var = (np.float64(v) for v in (norm.moving_mean, norm.moving_variance))
        s, eps = scale.values, norm.epsilon
        if norm.gamma is not None:
            gamma = np.float64(norm.gamma) * np.sqrt((var + s**2 * eps) / (var + eps))
            return {"moving_mean": mean / s, "moving_variance": var / s**2, "gamma": gamma}
        variance = (var + eps) / s**2 - eps
        if np.any(variance < 0):
            self._reject(scale, f"is above what {norm.name} can take without a gamma")
        return {"moving_mean": mean / s, "moving_variance": variance}

    def _reject(self, scale, why: str) -> None:
        self.homeless.setdefault(scale.source, why)


def _commutes(layer, scale: _Scale) -> bool:
    """Whether a positive factor per channel passes through ``layer``."""
    if isinstance(layer, _MAPS):
        channels_first = getattr(layer, "data_format", None) == "channels_first"
        return channels_first == (scale.axis == 1)
    if isinstance(layer, _ELEMENTWISE):
        return _lets_scales_through(layer.call)
    return isinstance(layer, _ANYWHERE)


def _lets_scales_through(function) -> bool:
    """Tries ``function(s * x) == s * function(x)`` for powers of two, another one each element."""
    x = np.float32([[sign * 10.0**power for power in range(-3, 4) for sign in (-1, 1)]])
    s = np.float32(2.0 ** np.random.default_rng(0).integers(-8, 9, x.shape))
    return bool(np.all(function(tf.constant(s * x)) == s * function(tf.constant(x))))
