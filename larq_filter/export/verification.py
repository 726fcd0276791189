"""Whether a converted model is the model: run by the real interpreter, claim by claim."""

import dataclasses
import os
import tempfile

import numpy as np

from larq_filter import binary
from larq_filter.export import conversions, engine, graphs, kernels, linting
from larq_filter.export.diagnosis import Diagnosis, diagnose
from larq_filter.folding import binary_kernels_of

_CLOSE = 1e-3  # of the spread; measured: 1e-4 and less where no sign turned
_MOST = 0.9  # share of the inputs that must be that close (else each layer is looked at), and of
# those with equal top-1: where a sign turned, the class may too
_FAR = 0.1  # of the spread: half of the inputs must be closer, even if each layer is right
_ACCURACY = 0.02  # those inputs are right or wrong by chance
_DIAGNOSED = 8  # inputs


@dataclasses.dataclass(frozen=True)
class Claim:
    """One thing that has to hold.

    Attributes:
        name: what is claimed.
        ok: whether it holds; None: these inputs can't tell.
        details: what was found, for people.
        numbers: what was found, for programs.
    """

    name: str
    ok: bool | None
    details: str
    numbers: dict = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        state = {True: "ok", False: "FAILED", None: "NOT TESTED"}[self.ok]
        return f"{state:<10}  {self.name}: {self.details}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``verify`` found.

    Attributes:
        model: name of the model.
        claims: all claims.
        float_layers: the layers with binary kernels that stay float, with the reason.
        diagnosis: which layers are wrong; None if the outputs agree without a closer look.
    """

    model: str
    claims: tuple[Claim, ...]
    float_layers: dict[str, str]
    diagnosis: Diagnosis | None = None

    @property
    def ok(self) -> bool:
        """Whether every claim holds; one that could not be tested does not."""
        return all(claim.ok is True for claim in self.claims)

    def __str__(self) -> str:
        verdict = "every claim holds" if self.ok else "not every claim holds"
        return "\n".join(
            [f"{self.model} for Larq Compute Engine: {verdict}", *map(str, self.claims)]
        )

    def to_dict(self) -> dict:
        """Everything, ready for JSON."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def verify(model, flatbuffer: bytes, inputs, labels=None, allow_float=()) -> Report:
    """Runs the converted model by LCE's interpreter and compares it with the Keras model.

    The claims: the kernels are binary; each binary layer has an operator on bits with its very
    kernel; the outputs agree; so do the predicted classes, of which there must be 3 or all, else
    the claim is not tested (a constant answer would agree too); the accuracy, where there are
    labels, within 2 percentage points; the file is smaller than that of TFLite.

    Rounding differs between Keras and the interpreter, and can turn the sign of an activation that
    is almost zero, after which that input's outputs differ visibly. So nine of ten inputs have to
    agree within 0.001 of the outputs' spread. Where they don't, each binary layer is looked at by
    itself, the wrong ones are named, and it is said whether the model or the kernel is at fault;
    if all are right (a network with so many activations that some sign turns for each input), half
    of the inputs have to agree within 0.1.

    Args:
        model: what ``convert`` was given. Mixed precision is compared in float32.
        flatbuffer: what ``convert`` gave.
        inputs: array (n, ...) of real inputs, as in training, n >= 2; a hundred say more.
        labels: their labels, integers (n,), or None.
        allow_float: names of binary layers that may stay float, as a QuantDense does.

    Raises:
        ImportError: the extra ``lce`` is not installed.
        TypeError: a subclassed model.
        ValueError: a wrong shape, or ``allow_float`` names a layer that isn't binary.
    """
    engine.load()  # if it is not installed, that is said at once
    graphs.require(model)
    inputs = _checked(model, inputs, labels)
    original, model = model, conversions.in_float32(model)
    calls = [c for c in graphs.calls_of(model) if linting.has_binary_kernel(c.layer)]
    unknown = set(allow_float) - {call.name for call in calls}
    if unknown:
        raise ValueError(
            f"`allow_float` names {', '.join(sorted(unknown))}; the layers with binary kernels "
            f"are {', '.join(call.name for call in calls)}."
        )
    floats = _float_layers(calls, flatbuffer)
    claims = [_kernels(model), _operators(calls, floats, flatbuffer, set(allow_float))]
    expected = graphs.predict(lambda x: model(x, training=False), inputs)
    found = None
    try:
        given = engine.Interpreter(flatbuffer).predict(inputs)[0]
    except engine.Refused as error:
        claims.append(_refused(error, calls))
    else:
        claim, found = _outputs(model, flatbuffer, inputs, expected, given)
        claims.append(claim)
        if expected.ndim == 2 and expected.shape[1] > 1:
            claims.append(_top1(expected, given))
            if labels is not None:
                claims.append(_accuracy(expected, given, np.asarray(labels)))
    claims.append(_sizes(model, flatbuffer))
    return Report(original.name, tuple(claims), floats, found)


def _checked(model, inputs, labels) -> np.ndarray:
    inputs = np.asarray(inputs, np.float32)
    if inputs.shape[1:] != model.input_shape[1:] or len(inputs) < 2:
        raise ValueError(
            f"`inputs` has the shape {inputs.shape}; at least 2 inputs of shape "
            f"{model.input_shape[1:]} are needed."
        )
    if labels is not None and np.shape(labels) != (len(inputs),):
        raise ValueError(
            f"`labels` has the shape {np.shape(labels)}; one integer for each of the {len(inputs)} "
            "inputs is needed."
        )
    return inputs


def _kernels(model) -> Claim:
    found = kernels.problems(model)
    count = sum(1 for layer in binary.layers_of(model) for _ in binary_kernels_of(layer))
    numbers = {"kernels": count, "problems": found}
    if not count:
        return Claim("binary kernels", False, "the model has none", numbers)
    details = "; ".join(found) or f"all {count} hold -1 and +1, up to a scale per output channel"
    return Claim("binary kernels", not found, details, numbers)


def _float_layers(calls: list, flatbuffer: bytes) -> dict[str, str]:
    """The layers whose kernels no binary operator of the flatbuffer has, with the reason."""
    left, floats = engine.binary_kernels(flatbuffer), {}
    for call in calls:
        match = None
        if linting.is_binary_convolution(call.layer):
            ((_, quantizer, kernel),) = binary_kernels_of(call.layer)
            bits = kernels.signs_in_file(call.layer, quantizer, kernel)
            same = (i for i, k in enumerate(left) if kernels.equal_but_for_negation(bits, k))
            match = next(same, None)
        if match is None:
            reasons = [f.problem for f in linting.findings_of(call) if f.severity == linting.FLOAT]
            floats[call.name] = "; ".join(reasons) or (
                "the converter did not recognise it: something stands between the sign and the "
                "convolution, or its kernel is not in the file"
            )
        else:
            del left[match]
    return floats


def _operators(calls: list, floats: dict, flatbuffer: bytes, allowed: set) -> Claim:
    count = engine.operators(flatbuffer).count(engine.BINARY_CONVOLUTION)
    details = f"{count} {engine.BINARY_CONVOLUTION} for {len(calls)} calls of binary layers"
    for name, reason in floats.items():
        details += f"\n              {name} stays float{' (allowed)' * (name in allowed)}: {reason}"
    numbers = {"operators": count, "binary_layers": len(calls), "float_layers": floats}
    return Claim("operators on bits", set(floats) <= allowed, details, numbers)


def _refused(error, calls: list) -> Claim:
    findings = [str(f) for c in calls for f in linting.findings_of(c) if f.severity == "wrong"]
    return Claim("outputs", False, f"{error} {' '.join(findings)}".strip())


def _distances(expected, given) -> np.ndarray:
    """The largest difference for each input, relative to the spread over the inputs."""
    spread = np.sqrt(np.var(expected, axis=0, dtype=np.float64).mean())
    differences = np.abs(expected.astype(np.float64) - given).reshape(len(expected), -1)
    return differences.max(axis=1) / spread if spread else np.full(len(expected), np.nan)


def _outputs(model, flatbuffer, inputs, expected, given) -> tuple:
    """The claim, and the diagnosis if there was need for one."""
    distances = _distances(expected, given)
    if np.isnan(expected).any():
        return Claim("outputs", False, "Keras gives NaN: the model is broken"), None
    if np.isnan(distances[0]):
        details = "the model gives the same for all inputs: pass other inputs, or train the model"
        return Claim("outputs", None, details), None
    close = float(np.mean(distances <= _CLOSE))
    numbers = {"largest": float(distances.max()), "median": float(np.median(distances))}
    numbers["close"] = close
    details = (
        f"largest difference {distances.max():.2g} of the spread, median {np.median(distances):.2g}"
    )
    if close < 1:
        differ = int(np.sum(distances > _CLOSE))
        details += f"; {differ} of {len(inputs)} inputs differ by more than {_CLOSE:g}"
    if close >= _MOST:
        details += ": a rounding turned the sign of an activation" * (close < 1)
        return Claim("outputs", True, details, numbers), None
    reference = engine.Interpreter(flatbuffer, reference=True).predict(inputs)[0]
    numbers["median_of_reference_kernel"] = float(np.median(_distances(expected, reference)))
    details += (
        f"; with LCE's reference kernel the median is {numbers['median_of_reference_kernel']:.2g}"
    )
    found = diagnose(model, inputs[:_DIAGNOSED])
    ok = not found.wrong and np.median(distances) <= _FAR
    return Claim("outputs", bool(ok), f"{details}; {found}", numbers), found


def _top1(expected, given) -> Claim:
    ours, theirs = expected.argmax(axis=1), given.argmax(axis=1)
    same, classes = float(np.mean(ours == theirs)), len(np.unique(ours))
    needed = min(3, expected.shape[1])
    details = f"equal for {same:.1%} of {len(ours)} inputs, {classes} classes predicted"
    numbers = {"equal": same, "classes": classes, "inputs": len(ours)}
    if classes < needed:
        details += f", fewer than {needed}: pass more inputs, or train the model"
        return Claim("top-1", None, details, numbers)
    ok = same >= _MOST or np.sum(ours != theirs) <= 1
    return Claim("top-1", bool(ok), details, numbers)


def _accuracy(expected, given, labels) -> Claim:
    keras, lce = (float(np.mean(y.argmax(axis=1) == labels)) for y in (expected, given))
    details = f"{keras:.2%} with Keras, {lce:.2%} with LCE, on {len(labels)} inputs"
    ok = abs(keras - lce) <= max(_ACCURACY, 1.01 / len(labels))
    return Claim("accuracy", ok, details, {"keras": keras, "lce": lce})


def _sizes(model, flatbuffer: bytes) -> Claim:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        conversions.float32_copy(model).save(path)  # a copy: without the state of an optimizer
        keras = os.path.getsize(path)
    plain = len(conversions.to_float_flatbuffer(model))
    weights = [k for _, k in binary.binary_kernels(model, trainable_only=False)]
    bits = sum(int(kernel.shape.num_elements()) for kernel in weights)
    numbers = {"keras": keras, "tflite": plain, "lce": len(flatbuffer), "binary_kernels": bits / 8}
    details = (
        f"LCE {len(flatbuffer):,} bytes; TFLite with floats {plain:,}; Keras file {keras:,}; the "
        f"binary kernels alone, at a bit a weight, {bits / 8:,.0f}"
    )
    return Claim("size", len(flatbuffer) < plain, details, numbers)
