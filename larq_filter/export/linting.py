"""What Larq Compute Engine (LCE) will not run on bits, not run fast, or not run right.

To be asked before training: most fixes change the network. Every rule is one function of a call of
a layer with a binary kernel, and each says what was measured with LCE 0.16 on the flatbuffer or on
its output. What would spoil training is ``larq_filter.binary.checks``'.
"""

import dataclasses

import numpy as np

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.binary import binary_kernels_of, quantized_kernels_of
from larq_filter.export import causes, graphs, kernels

import larq

_layers = keras.layers

WRONG = "wrong"
"""Severity: the default kernel of LCE gives wrong outputs, or refuses."""
FLOAT = "float"
"""Severity: the layer is not accelerated, 32 bits a weight."""
SLOW = "slow"
"""Severity: the layer is accelerated, less than it could be."""


@dataclasses.dataclass(frozen=True)
class LintFinding:
    """Something about a layer that export would meet.

    Attributes:
        layer: its name; of a nested one, after the names of the models that it is in.
        problem: what it is.
        fix: what to change.
        severity: ``wrong``: the default kernel gives wrong outputs or refuses; ``float``: the layer
            is not accelerated, 32 bits a weight; ``slow``: it is, but less than it could be.
    """

    layer: str
    problem: str
    fix: str
    severity: str

    def __str__(self) -> str:
        return f"{self.severity:<5}  {self.layer}: {self.problem}. Fix: {self.fix}."


def lint(model: keras.Model) -> list[LintFinding]:
    """What would go wrong or be lost in an export, layer by layer, and what to do.

    Looks at the network, not at the values of its weights: for use before training. Of layers
    without a quantized kernel only those are named that are called with ``training=True``; of those
    inside a custom layer, whose connections are not known, only what they are themselves is.

    Args:
        model: a built functional or sequential model.

    Returns:
        The findings in the order of the layers; the worst of a layer first. Empty: every binary
        layer will run on bits, fused with what follows.

    Raises:
        TypeError: a subclassed model.
        ValueError: not built, or several inputs or outputs.
    """
    graphs.require(model)
    findings = []
    for call in _calls_and_parts(model):
        for finding in findings_of(call):
            if finding not in findings:  # a shared layer is called more than once
                findings.append(finding)
    return findings


def binary_calls_of(model) -> list:
    """The calls of layers with binary kernels, those inside custom layers too."""
    return [call for call in quantized_calls_of(model) if has_binary_kernel(call.layer)]


def quantized_calls_of(model) -> list:
    """The calls of layers with quantized kernels, those inside custom layers too."""
    return [call for call in _calls_and_parts(model) if _quantized(call.layer)]


def _calls_and_parts(model):
    """All calls of layers; after that of a custom layer those with quantized kernels inside it."""
    for call in graphs.calls_of(model):
        yield call
        if not _quantized(call.layer):
            for part in call.layer._flatten_layers(include_self=False):
                if _quantized(part):
                    name = f"{call.name}/{part.name}"
                    yield dataclasses.replace(
                        call, name=name, layer=part, trains=False, holder=call
                    )


def findings_of(call) -> list[LintFinding]:
    """The findings of one call of a layer."""
    if call.trains:
        problem = (
            "it is called with training=True, itself or the model that it is in, so that its "
            "outputs depend on the batch or on chance"
        )
        return [LintFinding(call.name, problem, "leave training=True out of the call", WRONG)]
    if not has_binary_kernel(call.layer):
        return [
            LintFinding(call.name, *_more_bits(quantizer, kernel), FLOAT)
            for quantizer, kernel in _quantized(call.layer)[:1]
        ]
    kind = _kind(call) or (call.holder and _hidden_input(call))
    if kind is not None:
        return [LintFinding(call.name, *kind, FLOAT)]
    if call.holder is not None:
        return []
    found = [
        LintFinding(call.name, *result, severity)
        for severity, rules in _RULES.items()
        for result in (rule(call) for rule in rules)
        if result is not None
    ]
    # What stays float has no speed to lose.
    stays_float = any(finding.severity == FLOAT for finding in found)
    return [f for f in found if not (stays_float and f.severity != FLOAT)]


def causes_of(calls: list) -> str:
    """What is wrong about calls of one layer, all that may be, and what to do; may be empty."""
    found = [f for call in calls for f in findings_of(call) if f.severity == WRONG]
    return "; and: ".join(dict.fromkeys(f"{f.problem}; fix: {f.fix}" for f in found))


def has_binary_kernel(layer) -> bool:
    """Whether a layer, or the one that it wraps, has a kernel that Larq marks as 1 bit wide."""
    return any(True for part in _parts(layer) for _ in binary_kernels_of(part))


def _quantized(layer) -> list[tuple]:
    """The quantizers and kernels of a layer, or the one that it wraps, of less than 32 bits."""
    found = [each[1:] for part in _parts(layer) for each in quantized_kernels_of(part)]
    return [(quantizer, kernel) for quantizer, kernel in found if (kernel.precision or 1) < 32]


def is_binary_convolution(layer) -> bool:
    """Whether it is the kind of layer for which LCE has a binary operator."""
    return isinstance(layer, _layers.Conv2D) and not isinstance(
        layer, (_layers.Conv2DTranspose, _layers.DepthwiseConv2D)
    )


def summary(findings) -> list[str]:
    """The findings, the worst first, one for each cause; for people."""
    return [
        causes.wrapped(f"{severity:<5}  {text}", 7)
        for severity in (WRONG, FLOAT, SLOW)
        for text in causes.by_cause(
            (f.layer, f"{f.problem}. Fix: {f.fix}.") for f in findings if f.severity == severity
        )
    ]


def padding_problems(model) -> list[tuple[str, str]]:
    """The binary convolutions that pad with what a bit cannot hold: name, problem and fix."""
    found = []
    for call in binary_calls_of(model):
        if is_binary_convolution(call.layer):
            result = _padding_value(call)
            if result:
                found.append((call.name, f"{result[0]}. Fix: {result[1]}."))
    return found


# Rules: (problem, fix) or None.


def _kind(call):
    layer = call.layer
    if isinstance(layer, _layers.Dense):
        return (
            "QuantDense is never accelerated",
            "use a 1x1 QuantConv2D between Reshape((1, 1, -1)) and Flatten()",
        )
    if isinstance(layer, _layers.DepthwiseConv2D):
        return "depthwise convolutions are never accelerated", "use QuantConv2D"
    if isinstance(layer, (_layers.SeparableConv1D, _layers.SeparableConv2D)):
        return (
            "separable convolutions are never accelerated",
            "use QuantConv2D, or a real DepthwiseConv2D and a 1x1 QuantConv2D",
        )
    if isinstance(layer, (_layers.Conv2DTranspose, _layers.Conv3DTranspose)):
        return "transposed convolutions are never accelerated", "use UpSampling2D and QuantConv2D"
    if isinstance(layer, _layers.Conv1D):
        return (
            "QuantConv1D is never accelerated",
            "use QuantConv2D with a kernel of size (1, length) on maps of height 1",
        )
    if not is_binary_convolution(layer):
        return f"{type(layer).__name__} is never accelerated", "use QuantConv2D"
    return None


def _more_bits(quantizer, kernel):
    name, bits = binary.name_of(quantizer), kernel.precision
    return (
        f"its kernel_quantizer {name} has {f'{bits} bits' if bits else 'no `precision`'}, and LCE "
        "runs kernels of 1 bit",
        'use a quantizer of -1 and +1, "ste_sign" for one; a function of your own that gives '
        "them gets the attribute precision = 1",
    )


def _ternary_input(call):
    quantizer = call.layer.input_quantizer
    if quantizer is None:
        return None
    values = _values(quantizer, call.input_shape)
    if len(values) == 3 and values[0] == -values[2] and values[1] == 0:
        return (
            f"its input_quantizer {binary.name_of(quantizer)} gives zeros besides -1 and +1, and "
            "LCE takes them for bits: wrong values with every kernel",
            'use a sign, "ste_sign" or "approx_sign"',
        )
    return None


def _input_values(call):
    quantizer = call.layer.input_quantizer
    if quantizer is not None:
        if _binarises(quantizer, call.input_shape) or _ternary_input(call):
            return None
        return (
            f"its input_quantizer {binary.name_of(quantizer)} gives other values than -1 and +1",
            'use a sign, "ste_sign" or "approx_sign"',
        )
    source = call.sources[0]
    while source is not None and isinstance(source.layer, _layers.Dropout):
        source = source.sources[0]
    if source is None:
        return (
            "its input is that of the model, real values",
            "leave the first layer in full precision, or accept that it stays float",
        )
    is_quantizer = hasattr(source.layer, "precision")
    function = source.layer if is_quantizer else getattr(source.layer, "activation", None)
    if function is not None and _binarises(function, source.output_shape):
        return None
    return (
        f"its input comes from {source.name} ({type(source.layer).__name__}), not from a sign",
        'set input_quantizer="ste_sign": even padding between a sign and the convolution keeps it '
        "from being recognised",
    )


def _kernel_values(call):
    # An untrained NoOp kernel is as it should be, before training.
    for _, quantizer, kernel in binary_kernels_of(call.layer):
        if not isinstance(quantizer, larq.quantizers.NoOp):
            values = np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32)
            values = np.asarray(binary.fresh(quantizer)(tf.constant(values)))
            result = kernels.problem(call.layer, quantizer, values)
            if result:
                return result
    return None


def _hidden_input(call):
    if call.layer.input_quantizer is not None:
        return None
    return (
        f"it has no input_quantizer, and what it takes inside of {call.holder.name} is not seen",
        'set input_quantizer="ste_sign", or connect the layers with the functional API',
    )


def _channels_first(call):
    if call.layer.data_format == "channels_first":
        return "channels_first convolutions stay float", 'use data_format="channels_last"'
    return None


def _padding_value(call):
    pad = getattr(call.layer, "pad_values", 0)
    if call.layer.padding == "same" and pad not in (0, 1):
        return (
            f"pad_values={pad:g}, and the convolution stays float with anything but 0 and 1",
            "use pad_values=1",
        )
    return None


def _channels_per_group(call):
    layer = call.layer
    channels = call.input_shape[-1] // layer.groups
    if layer.groups > 1 and channels % 32:
        return (
            f"{layer.groups} groups of {channels} input channels, and groups need a multiple of 32",
            "use groups=1",
        )
    return None


def _groups(call):
    if call.layer.groups > 1:
        return (
            f"{call.layer.groups} groups, which the default kernel refuses to run",
            "use groups=1",
        )
    return None


def _small_map(call):
    layer, sizes = call.layer, call.input_shape[1:3]
    extents = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    pairs = zip(sizes, extents, strict=True)
    if _pads_with_zeros(layer) and any(size is not None and size < k for size, k in pairs):
        return (
            f"zero padding on {sizes[0]}x{sizes[1]} maps, smaller than the {extents[0]}x"
            f"{extents[1]} kernel, where LCE's default convolution gives wrong values",
            "use pad_values=1 and train again, or larger images, so that the maps are at least "
            f"{extents[0]}x{extents[1]}",
        )
    return None


def _zero_padding(call):
    if not _pads_with_zeros(call.layer):
        return None
    cost = "zero padding needs a correction at the border"
    if _is_relu(call.layer.activation) or any(_is_relu_layer(c.layer) for c in call.targets):
        cost += ", and keeps the ReLU after it from being fused"
    else:
        cost += ", and keeps the output from being written as bits"
    return cost, "use pad_values=1"


def _relu_order(call):
    for norm in call.targets:
        if isinstance(norm.layer, _layers.BatchNormalization):
            for relu in norm.targets:
                if _is_relu_layer(relu.layer):
                    return (
                        f"{relu.name} after {norm.name} is an operator of its own",
                        "use the order convolution, ReLU, BatchNormalization, which is fused whole",
                    )
    return None


def _channels(call):
    channels = call.input_shape[-1]
    if channels % 32:
        return (
            f"{channels} input channels, computed as {-(-channels // 32) * 32}",
            "use a multiple of 32",
        )
    return None


_RULES = {
    WRONG: [_small_map, _groups, _ternary_input],
    FLOAT: [_input_values, _kernel_values, _channels_first, _padding_value, _channels_per_group],
    SLOW: [_zero_padding, _relu_order, _channels],
}


def _parts(layer) -> list:
    return [layer.layer] if isinstance(layer, _layers.TimeDistributed) else [layer]


def _pads_with_zeros(layer) -> bool:
    extent = max(layer.kernel_size)
    return layer.padding == "same" and extent > 1 and getattr(layer, "pad_values", 0) == 0


def _binarises(function, shape) -> bool:
    """Whether ``function`` gives -a and +a for real values, with one a."""
    values = _values(function, shape)
    return len(values) == 2 and values[0] == -values[1]


def _values(function, shape) -> np.ndarray:
    """The different values that ``function`` gives for real ones, small and large, in order."""
    random, sizes = np.random.default_rng(0), [size or 8 for size in shape[1:]]
    # A threshold may be small: as many values from each decade, of both signs.
    x = random.choice([-1, 1], size=(1, *sizes)) * 10 ** random.uniform(-8, 3, (1, *sizes))
    return np.unique(binary.fresh(function)(tf.constant(x.astype(np.float32))))


def _is_relu(function) -> bool:
    return function is keras.activations.relu


def _is_relu_layer(layer) -> bool:
    if isinstance(layer, _layers.ReLU):
        return True
    return isinstance(layer, _layers.Activation) and _is_relu(layer.activation)
