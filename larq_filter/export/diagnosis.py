"""Which layer of a converted model is wrong, and whether the model or the kernel is at fault.

Comparing the outputs of whole networks finds that something differs, not where: after a wrong
layer all others differ too, and so they do after a rounding that turned the sign of an activation
close to zero. So the model is converted once more, with the inputs and outputs of every layer as
outputs. Each layer is then run by Keras on the very input that the interpreter gave it, and what it
should have given is known exactly.
"""

import dataclasses
from typing import Any

import numpy as np

from larq_filter._keras import keras, tf
from larq_filter.export import conversions, engine, graphs, linting

_TOLERANCE = 1e-3  # of a channel's largest value; a wrong bit changes it by 2 of some hundred
_ROUNDING = 1e-5  # of a channel's largest value: what rounding leaves of a sum, and more
_SMALLEST = 1e-3  # of a layer's largest value; what a channel below that holds may be all rounding


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What was found, layer by layer.

    Attributes:
        layers: how many layers were looked at, the float ones too.
        wrong: the names of those that give wrong outputs with the default kernel, first one first.
        wrong_with_reference: the same with the reference kernel; None if that refuses the model.
        cause: of the first wrong layer, all that may be, and what to do; None if it is not known.
    """

    layers: int
    wrong: tuple[str, ...]
    wrong_with_reference: tuple[str, ...] | None
    cause: str | None

    def __str__(self) -> str:
        if not self.wrong:
            return (
                f"each of the {self.layers} layers, run by itself on the interpreter's own input, "
                "is right"
            )
        if self.wrong_with_reference is None:
            who = "LCE's reference kernel refuses the model: it is wrong, or the default kernel is"
        elif self.wrong[0] in self.wrong_with_reference:
            who = "the conversion is wrong: LCE's reference kernel gives the same"
        else:
            who = (
                "the converted model is right and LCE's default kernel is wrong: the reference "
                "kernel gives what Keras gives"
            )
        others = f", the first of {len(self.wrong)}" if len(self.wrong) > 1 else ""
        return (
            f"the first wrong layer is {self.wrong[0]}{others} of {self.layers} layers; "
            f"{who}; cause: {self.cause or 'not known'}"
        )


def diagnose(model: keras.Model, inputs: Any) -> Diagnosis:
    """Looks at each layer of ``model`` by itself.

    Layers that take or give anything but float32 values for each input are not looked at.

    Args:
        model: in float32, functional or sequential.
        inputs: some of its inputs, (n, ...): those whose outputs differ most; 8 are plenty.

    Raises:
        larq_filter.export.engine.Refused: the default kernel does not run the model.
    """
    probe = _Probe(model)
    flatbuffer = conversions.to_flatbuffer(probe, model)
    wrong = tuple(probe.wrong_layers(flatbuffer, inputs, reference=False))
    try:
        with_reference = tuple(probe.wrong_layers(flatbuffer, inputs, reference=True))
    except engine.Refused:
        with_reference = None
    cause = None
    if wrong:
        calls = [call for call in graphs.calls_of(model) if call.name == wrong[0]]
        cause = linting.causes_of(calls) or None
    return Diagnosis(len(probe.looked_at), wrong, with_reference, cause)


class _Probe:
    """A function that gives what goes into each layer of a model, and what comes out of it."""

    def __init__(self, model):
        self.model = model
        self.looked_at = []  # (step, keys of its inputs, keys of its outputs)

    def __call__(self, inputs) -> dict:
        # The input of the model is known already, and is no output of an operator.
        keys, outputs = {id(inputs): "input"}, {}
        self.looked_at = []

        def key_of(tensor) -> str:
            key = keys.setdefault(id(tensor), f"{len(keys):04d}")
            if tensor is not inputs:
                outputs[key] = tensor
            return key

        def visit(step):
            if all(map(_is_comparable, [*step.inputs, *step.outputs])):
                places = [list(map(key_of, each)) for each in (step.inputs, step.outputs)]
                self.looked_at.append((step, *places))

        graphs.replay(self.model, inputs, visit)
        return outputs

    def wrong_layers(self, flatbuffer: bytes, inputs, reference: bool) -> list[str]:
        given = engine.Interpreter(flatbuffer, reference=reference).predict(inputs)
        places = engine.positions_of_outputs(flatbuffer)
        values = {name: given[place] for name, place in places.items()}
        values["input"] = np.asarray(inputs, np.float32)
        wrong = []
        for step, taken, gave in self.looked_at:
            tensors = [tf.constant(values[key]) for key in taken]
            expected, found = step.compute(tensors), [values[key] for key in gave]
            pairs = zip(expected, found, strict=True)
            if any(_differ([each.numpy()], value) for each, value in pairs):
                rounded = _off_by_rounding(step, tensors, expected)
                if not rounded or _differ(rounded, found[0]):
                    wrong.append(step.name)
        return wrong


def _is_comparable(tensor) -> bool:
    """Whether it has float32 values for each input of a batch, whose number is not known."""
    return tensor.dtype == tf.float32 and tensor.shape.rank and tensor.shape[0] is None


def _off_by_rounding(step, tensors: list, expected: list) -> list:
    """What a layer may give whose sums are off by rounding before its activation takes them.

    An activation with steps (a sign, a quantizer of 2 bits) turns what is almost on one of them.
    Empty if the layer has no activation, or does something else after it.
    """
    layer = step.layer
    activation = vars(layer).get("activation")
    if activation is None or isinstance(layer, keras.layers.Activation):
        return []  # of the latter the interpreter's own values are taken: nothing is rounded before
    layer.activation = keras.activations.linear
    try:
        before = step.compute(tensors)[0]
    finally:
        layer.activation = activation
    sizes = tf.reduce_max(tf.abs(before), list(range(before.shape.rank - 1)), keepdims=True)
    given = [activation(before + off * sizes).numpy() for off in (0, -_ROUNDING, _ROUNDING)]
    return given if np.array_equal(given[0], expected[0]) else []


def _differ(possible: list, given) -> bool:
    """Whether an output differs by more than rounding, in any channel (last axis).

    Args:
        possible: what it may be, a list; all between the smallest and the largest is right too.
        given: what it is.
    """
    *possible, given = [np.reshape(each, (-1, each.shape[-1])) for each in (*possible, given)]
    sizes = np.abs(possible[0]).max(axis=0)
    tolerance = _TOLERANCE * np.maximum(sizes, _SMALLEST * sizes.max())
    low, high = np.min(possible, axis=0), np.max(possible, axis=0)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        close = (given >= low - tolerance) & (given <= high + tolerance)  # NaN compares as False
    return not np.all(close | (possible[0] == given))
