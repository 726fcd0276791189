"""Which layer of a converted model is wrong, and whether the model or the kernel is at fault.

Comparing the outputs of whole networks finds that something differs, not where: after a wrong
layer all others differ too, and so they do after a rounding that turned the sign of an activation
close to zero. So the model is converted once more, with the input and the output of each binary
layer as outputs. Each layer is then run by Keras on the very input that the interpreter gave it,
and what it should have given is known exactly.
"""

import dataclasses

import numpy as np

from larq_filter._keras import tf
from larq_filter.export import conversions, engine, graphs, linting

_TOLERANCE = 1e-3  # relative to the largest value; a wrong bit changes it by 2 of some hundred


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What was found, layer by layer.

    Attributes:
        layers: how many binary layers were looked at.
        wrong: the names of those that give wrong outputs with the default kernel, first one first.
        wrong_with_reference: the same with the reference kernel.
        cause: of the first wrong layer, with its cure; None if it is not known.
    """

    layers: int
    wrong: tuple[str, ...]
    wrong_with_reference: tuple[str, ...]
    cause: str | None

    def __str__(self) -> str:
        if not self.wrong:
            return (
                f"each of the {self.layers} binary layers, run by itself on the interpreter's own "
                "input, is right"
            )
        who = (
            "the conversion is wrong: LCE's reference kernel gives the same"
            if self.wrong[0] in self.wrong_with_reference
            else "the converted model is right and LCE's default kernel is wrong: the reference "
            "kernel gives what Keras gives"
        )
        others = f", the first of {len(self.wrong)}" if len(self.wrong) > 1 else ""
        return (
            f"the first wrong layer is {self.wrong[0]}{others} of {self.layers} binary layers; "
            f"{who}; cause: {self.cause or 'not known'}"
        )


def diagnose(model, inputs) -> Diagnosis:
    """Looks at each binary layer of ``model`` by itself.

    Args:
        model: in float32, functional or sequential.
        inputs: some of its inputs, (n, ...); 8 are plenty.

    Raises:
        larq_filter.export.engine.Refused: the interpreter does not run the model.
    """
    probe = _Probe(model)
    flatbuffer = conversions.to_flatbuffer(probe, model)
    wrong = [
        probe.wrong_layers(flatbuffer, inputs, reference=reference) for reference in (False, True)
    ]
    cause = None
    if wrong[0]:
        calls = [call for call in graphs.calls_of(model) if call.name == wrong[0][0]]
        findings = [f for call in calls for f in linting.findings_of(call)]
        causes = [f for f in findings if f.severity == linting.WRONG]
        cause = f"{causes[0].problem}; cure: {causes[0].cure}" if causes else None
    return Diagnosis(len(probe.names), tuple(wrong[0]), tuple(wrong[1]), cause)


class _Probe:
    """A function that gives what goes into each binary layer of a model, and what comes out."""

    def __init__(self, model):
        self.model = model
        self.names = []
        self.layers = []

    def __call__(self, inputs) -> dict:
        outputs = {}
        self.names, self.layers = [], []

        def visit(name, layer, taken, output):
            if linting.has_binary_kernel(layer):
                key = f"{len(self.names):04d}"
                # The input of the model is known already, and is no output of an operator.
                if taken[0] is not inputs:
                    outputs[f"{key}_in"] = taken[0]
                outputs[f"{key}_out"] = output
                self.names.append(name)
                self.layers.append(layer)

        graphs.replay(self.model, inputs, visit)
        return outputs

    def wrong_layers(self, flatbuffer: bytes, inputs, reference: bool) -> list[str]:
        given = engine.Interpreter(flatbuffer, reference=reference).predict(inputs)
        places = engine.positions_of_outputs(flatbuffer)
        outputs = {name: given[place] for name, place in places.items()}
        wrong = []
        for index, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
            taken = outputs.get(f"{index:04d}_in", np.asarray(inputs, np.float32))
            expected = layer(tf.constant(taken)).numpy()
            scale = np.abs(expected).max()
            if np.abs(outputs[f"{index:04d}_out"] - expected).max() > _TOLERANCE * scale:
                wrong.append(name)
        return wrong
