"""From latent weights to none, and back: ``to_latent_free`` and ``to_latent``.

A Larq model keeps a real-valued *latent* copy of every binary kernel and binarises it in each
forward pass. A latent-free model keeps the signs alone: the kernel holds -1 and +1, and
``NoOp(precision=1)`` marks it as binary. Both compute the same, and a filter needs no more.

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
from collections.abc import Callable

import numpy as np

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.initializers import RandomSign

import larq

_layers = keras.layers
_MAPS = tuple(  # work on each channel of the map by itself, and a positive factor passes through
    getattr(_layers, f"{name}{rank}D")
    for rank in (1, 2, 3)
    for name in ("MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling")
    + ("ZeroPadding", "Cropping", "UpSampling")
)
_ANYWHERE = (_layers.PReLU, _layers.Dropout)
_ANYWHERE += (_layers.SpatialDropout1D, _layers.SpatialDropout2D, _layers.SpatialDropout3D)
_ELEMENTWISE = (_layers.Activation, _layers.ReLU, _layers.LeakyReLU)


def to_latent_free(model, scales: str = "fold"):
    """The same network without latent weights, ready for ``FilterOptimizer``.

    Every 1-bit kernel quantizer (``kernel_quantizer``, ``depthwise_quantizer``,
    ``pointwise_quantizer``) becomes ``NoOp(precision=1)``, its constraint and regularizer go, its
    initializer becomes ``RandomSign``. The kernels hold -1 and +1: the signs of what the quantizer
    gave. All other variables are copied; input quantizers, kernels of more than 1 bit and kernels
    under plain functions without a ``precision`` stay as they are. Nested models, shared layers and
    ``TimeDistributed`` are followed. ``model`` itself is not touched.

    Predictions stay the same: bit for bit for quantizers that give -1 and +1, up to rounding where
    a scale is folded into a batch normalisation (see the module's text); in a deep network that
    rounding can turn the sign of an activation that is almost zero, as another machine can. In
    training, a folded normalisation with a gamma gives the old outputs too while batch and moving
    statistics agree; one without weighs ``epsilon`` differently. A kernel that is marked by
    ``NoOp(precision=1)`` but not binary yet (an ordinary initializer, never trained) is set to its
    signs.

    Args:
        model: a built functional or sequential Keras model with Larq layers.
        scales: what to do with a quantizer's scale per output channel. "fold" keeps the predictions
            and refuses if it can't; "drop" forgets the scales, and the predictions change: for a
            model that is to be trained from the start.

    Returns:
        A new, uncompiled model: optimizer, loss and metrics are not carried over. ``trainable``
        flags are.

    Raises:
        TypeError: a subclassed model, or Larq layers hidden inside a custom layer.
        ValueError: the model is not built or has no binary kernel; a quantizer gives something
            else than a scale per channel times -1 and +1; a scale can't be folded.

    Example:
        >>> free = lf.to_latent_free(larq_zoo.literature.BiRealNet18(weights=None))
        >>> free.compile(optimizer=lf.FilterOptimizer(), loss="categorical_crossentropy")
    """
    if scales not in ("fold", "drop"):
        raise ValueError(f'`scales` is {scales!r}; it must be "fold" or "drop".')
    _require_graph(model)
    signs, factors = {}, {}
    for layer in binary.layers_of(model):
        _analyse(layer, signs, factors)
    if not signs:
        raise ValueError(f"The model {model.name} has {binary.NO_BINARY_KERNEL}")
    folding = _Folding(factors if scales == "fold" else {})
    folding.run(model)
    free, clones = _rebuild(model, _latent_free_options)
    _copy_variables(clones, signs)
    for layer, clone in clones:
        for name, value in folding.new_variables(layer).items():
            getattr(clone, name).assign(value)
    findings = [f for f in binary.check(free) if f.problem != binary.NO_BINARY_KERNEL]
    if findings:
        raise ValueError("Converted, but not trainable:\n" + "\n".join(map(str, findings)))
    return free


def to_latent(
    model,
    kernel_quantizer="ste_sign",
    kernel_constraint="weight_clip",
    magnitude: float = 1.0,
):
    """The way back: every ``NoOp(precision=1)`` kernel becomes a latent kernel.

    The latent weights are ``magnitude`` times the signs; the predictions stay the same. They start
    all alike: an optimizer that is to flip few of them soon wants a smaller ``magnitude`` than 1.

    Args:
        model: a latent-free model, functional or sequential.
        kernel_quantizer: what Larq takes there; ``precision`` 1. Used for depthwise and pointwise
            kernels too.
        kernel_constraint: what Keras takes there, or None.
        magnitude: of the latent weights, positive. Quantizers that scale by the mean magnitude
            (``magnitude_aware_sign``) need 1.

    Returns:
        A new, uncompiled model.

    Raises:
        TypeError: a subclassed model, or Larq layers hidden inside a custom layer.
        ValueError: no latent-free kernel; a quantizer that is none for 1-bit kernels, or that gives
            other values than the signs or no gradient for weights of this magnitude.

    Example:
        >>> model = lf.to_latent(free, kernel_quantizer="approx_sign", magnitude=0.1)
    """
    if not magnitude > 0:
        raise ValueError(f"`magnitude` is {magnitude}; it must be positive.")
    quantizer = larq.quantizers.get(kernel_quantizer)
    if getattr(quantizer, "precision", None) != 1 or isinstance(quantizer, larq.quantizers.NoOp):
        raise ValueError(
            f"`kernel_quantizer` is {kernel_quantizer!r}; it must binarise latent weights and say "
            'so by `precision` 1, as "ste_sign" or larq.quantizers.SteSign(clip_value=1.25) do.'
        )
    _require_graph(model)
    values = {}
    for layer in binary.layers_of(model):
        for _, old, kernel in _binary_kernels_of(layer):
            if isinstance(old, larq.quantizers.NoOp):
                values[id(kernel)] = magnitude * binary.sign(binary.latent(kernel))
                _require_signs(layer, quantizer, values[id(kernel)], magnitude)
    if not values:
        raise ValueError(f"The model {model.name} has no kernel under NoOp(precision=1).")

    def options(layer, old, prefix):
        if not isinstance(old, larq.quantizers.NoOp):
            return {}
        return {
            f"{prefix}_quantizer": _fresh(quantizer, dtype=layer.dtype_policy.name),
            f"{prefix}_constraint": kernel_constraint,
            f"{prefix}_initializer": "glorot_uniform",
        }

    latent, clones = _rebuild(model, options)
    _copy_variables(clones, values)
    return latent


def _latent_free_options(layer, quantizer, prefix: str) -> dict:
    metrics = getattr(quantizer, "_custom_metrics", None)
    # A quantizer casts to its own dtype policy, and the one of this moment may be another.
    noop = larq.quantizers.NoOp(precision=1, metrics=metrics, dtype=layer.dtype_policy.name)
    return {
        f"{prefix}_quantizer": noop,
        f"{prefix}_constraint": None,
        f"{prefix}_regularizer": None,
        f"{prefix}_initializer": RandomSign(),
    }


def _require_signs(layer, quantizer, values, magnitude: float) -> None:
    """Raises unless ``quantizer`` gives the signs of ``values`` and lets gradients through."""
    with tf.GradientTape() as tape:
        tape.watch(values)
        output = _fresh(quantizer)(values)
    gradient = tape.gradient(output, values)
    name = _name(quantizer)
    if not np.array_equal(output, binary.sign(values)):
        raise ValueError(
            f"{layer.name}: {name} gives {_describe(output.numpy())} for latent weights of "
            f"+-{magnitude}, not -1 and +1, and the predictions would change: choose another "
            "quantizer, or magnitude=1."
        )
    if gradient is None or bool(tf.reduce_all(tf.equal(gradient, 0))):
        raise ValueError(
            f"{layer.name}: {name} has gradient 0 for latent weights of +-{magnitude}, so they "
            "could never be trained: choose a smaller `magnitude`, 0.1 say."
        )


# Kernels and their quantizers


def _binary_kernels_of(layer):
    """``(prefix, quantizer, variable)`` for each 1-bit kernel of one layer, by its attributes."""
    for attribute in [key for key in vars(layer) if key.endswith("_quantizer")]:
        prefix = attribute.removesuffix("_quantizer")
        for name in (prefix, f"{prefix}_kernel"):
            variable = getattr(layer, name, None)
            if prefix != "input" and binary.is_binary(variable):
                yield prefix, getattr(layer, attribute), variable


def _analyse(layer, signs: dict, factors: dict) -> None:
    """Runs the quantizers of ``layer``; notes the signs per kernel and the scale per channel."""
    scale = np.ones(1)
    for prefix, quantizer, kernel in _binary_kernels_of(layer):
        values = output = binary.latent(kernel)
        if not isinstance(quantizer, larq.quantizers.NoOp):
            output = _fresh(quantizer)(values)
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
    if np.any(low <= 0) or np.any(high - low > 1e-5 * high):
        raise ValueError(
            f"{layer.name}: its {prefix}_quantizer {_name(quantizer)} gives {_describe(output)}, "
            "which is not one positive scale per output channel times -1 and +1, so no latent-free "
            'kernel can give the same. Use a quantizer of -1 and +1, "ste_sign" for one.'
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


def _fresh(quantizer, **options):
    """A quantizer of its own for each kernel; one with variables, and a function, as it is."""
    if isinstance(quantizer, keras.layers.Layer) and not quantizer.weights:
        return type(quantizer).from_config({**quantizer.get_config(), **options})
    return quantizer


def _name(function) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _describe(output: np.ndarray) -> str:
    values = np.unique(output)
    if len(values) > 4:
        return f"{len(values)} different values from {values[0]:.3g} to {values[-1]:.3g}"
    return " and ".join(f"{value:.3g}" for value in values)


# Where the scales go


@dataclasses.dataclass(frozen=True)
class _Scale:
    """A tensor of the old model divided by this is the tensor of the new one."""

    values: np.ndarray
    axis: int  # of the channels: 1 or -1
    source: str  # name of the layer whose kernel lost the scale


class _Folding:
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
        for node in _nodes(model):
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
            self._reject(scale, f"goes through its activation {_name(layer.activation)}")
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


# The copy


def _require_graph(model) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a tf.keras.Model, not {model!r}.")
    if not model.built:
        raise ValueError(
            f"The model {model.name} has no variables yet: give it an Input or call "
            "model.build(input_shape) first."
        )
    if not model._is_graph_network:
        raise TypeError(
            f"{model.name} ({type(model).__name__}) is a subclassed model: its layers are known, "
            "but not how they are connected, so it can't be rebuilt. Write it with the functional "
            "API, or give its layers NoOp(precision=1) and RandomSign where it is defined."
        )
    called = [id(node.layer) for node in _nodes(model)]
    if isinstance(model, keras.Sequential) and len(called) > len(set(called)):
        raise ValueError(
            f"The sequential model {model.name} calls a layer twice, and Keras forgets the second "
            "call when it copies or saves the model: write it with the functional API."
        )


def _nodes(model) -> list:
    """The calls of layers in the graph of ``model``, each after those whose outputs it takes."""
    by_depth = model._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in nodes if not node.is_input]


def _rebuild(model, options: Callable) -> tuple:
    """A copy of ``model`` with fresh variables, and all pairs ``(layer, its copy)``.

    Args:
        model: a functional or sequential model.
        options: ``options(layer, quantizer, prefix)`` gives what changes in the configuration of
            a layer with a 1-bit kernel.
    """
    pairs = {}

    def copy(layer):
        if id(layer) not in pairs:
            pairs[id(layer)] = layer, _copy_layer(layer, copy, options)
        return pairs[id(layer)][1]

    new = copy(model)
    if not new.built:
        new.build(model.input_shape)
    # `trainable` of a model sets that of everything inside, and a model comes after its layers.
    for old, clone in reversed(pairs.values()):
        clone.trainable = old.trainable
        if not isinstance(old, keras.Model):
            parts = zip(old._flatten_layers(), clone._flatten_layers(), strict=False)
            for part, its_clone in parts:
                its_clone.trainable = part.trainable
    return new, list(pairs.values())


def _copy_layer(layer, copy: Callable, options: Callable):
    if isinstance(layer, keras.Model):
        _require_graph(layer)
        return keras.models.clone_model(layer, clone_function=copy)
    config = layer.get_config()
    if isinstance(layer, _layers.TimeDistributed):
        del config["layer"]
        return type(layer)(copy(layer.layer), **config)
    known = set()
    for key in [key for key in config if key.endswith("_quantizer")]:
        if not isinstance(getattr(layer, key, None), keras.layers.Layer):
            config[key] = getattr(layer, key, config[key])  # a function that may have no name
    for prefix, quantizer, kernel in _binary_kernels_of(layer):
        if f"{prefix}_quantizer" in config:
            new = options(layer, quantizer, prefix)
            config.update({key: value for key, value in new.items() if key in config})
            known.add(id(kernel))
    if any(binary.is_binary(v) and id(v) not in known for v in layer.weights):
        raise TypeError(
            f"{layer.name} ({type(layer).__name__}) holds Larq layers inside, which can't be "
            "exchanged from outside: connect them with the functional API instead."
        )
    return type(layer).from_config(config)


def _copy_variables(pairs: list, values: dict) -> None:
    """Copies the variables of each layer by position; ``values`` by ``id`` come first."""
    for old, new in pairs:
        if isinstance(old, (keras.Model, _layers.TimeDistributed)):
            continue  # their layers have pairs of their own
        for source, target in zip(_own_variables(old), _own_variables(new), strict=True):
            target.assign(values.get(id(source), binary.latent(source)))


def _own_variables(layer) -> list:
    """All variables of ``layer`` but those of its kernel quantizers, which may be exchanged."""
    quantizers = [quantizer for _, quantizer, _ in _binary_kernels_of(layer)]
    hidden = {id(v) for q in quantizers for v in getattr(q, "weights", [])}
    return [variable for variable in layer.weights if id(variable) not in hidden]
