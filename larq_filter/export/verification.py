"""Whether a converted model is the model: run by the real interpreter, claim by claim."""

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from larq_filter import binary
from larq_filter._validation import shown
from larq_filter.binary import binary_kernels_of
from larq_filter.export import causes, conversions, engine, graphs, kernels, linting, reports
from larq_filter.export.diagnosis import diagnose
from larq_filter.export.distances import differences, distances, is_constant, spread
from larq_filter.export.reports import Claim, Report

CLOSE = 1e-3  # of the spread; measured: 1e-4 and less where no sign turned
_FAR = 0.1  # of the spread: half of the inputs must be closer, even if each layer is right
_MOST = 0.9  # share of the inputs with equal top-1: where a sign turned, the class may too
_ACCURACY = 0.02  # those inputs are right or wrong by chance
_CHANCE = 3.84  # of the square of their surplus over their number: above it by chance in one of 20
_DIAGNOSED = 8  # inputs


def verify(
    model: Any, flatbuffer: bytes, inputs: Any, labels: Any = None, allow_float: Sequence[str] = ()
) -> Report:
    """Runs the converted model by LCE's interpreter and compares it with the Keras model.

    The claims: the kernels are binary; a model of another precision gives in float32 what it gives
    itself, within 0.1 of the spread at the median input; each layer with a quantized kernel has an
    operator on bits with its very kernel; the outputs agree; so do the predicted classes, those of
    the model in its own precision, of which there must be 3 or all, else the claim is not tested (a
    constant answer would agree too); the accuracy, where there are labels, within 2 percentage
    points or what chance gives (near-ties become right and wrong alike); the file is smaller than
    TFLite's.

    Outputs agree if every output column of every input is within 0.001 of the column's own spread
    over the inputs (``distances.spread``: outliers do not widen it). Rounding differs between Keras
    and the interpreter, and can turn the sign of an activation that is almost zero, after which
    that input's outputs differ visibly. So where some differ, and where ``lint`` calls a layer
    wrong, there is a closer look at the 8 inputs that differ most: each layer, binary or not, is
    run by itself on the interpreter's own input; the wrong ones are named, and it is said whether
    the model or the kernel is at fault. The outputs then agree if no layer is wrong, the file gives
    for all inputs that differ what a new conversion of the model gives, and half of all inputs are
    within 0.1 of the spread.

    Args:
        model: what ``convert`` was given. Of mixed precision: outputs are compared with its float32
            copy, classes and accuracy with the model itself.
        flatbuffer: what ``convert`` gave, bytes.
        inputs: array (n, ...) of real inputs, as in training, n >= 2; a hundred say more. In a
            dict, if the model has its input in one.
        labels: their labels, whole numbers (n,) from 0 to the number of classes - 1, or None. A
            model with one output between 0 and 1 has the classes 0 and 1.
        allow_float: names of quantized layers that may stay float, as a QuantDense and kernels of
            more than 1 bit do; of one inside a custom layer, after the name of that one:
            "block/conv".

    Raises:
        ImportError: the extra ``lce`` is not installed.
        TypeError: a subclassed model; a flatbuffer that isn't bytes; inputs that are no array.
        ValueError: a wrong shape, NaN or infinity in the inputs, labels that are no classes of this
            model, ``allow_float`` names a layer that isn't quantized, or a flatbuffer that is no
            whole .tflite file.
    """
    engine.load()  # if it is not installed, that is said at once
    graphs.require(model)
    inputs, labels = _checked_inputs(model, inputs), _checked_labels(model, labels, inputs)
    original, model = model, conversions.in_float32(model)
    calls = linting.quantized_calls_of(model)
    allow_float = reports.as_names(allow_float)
    _require_known(allow_float, calls)
    floats = _float_layers(calls, flatbuffer)
    claims = [_kernels(model), _operators(calls, floats, flatbuffer, set(allow_float))]
    expected = graphs.predict(lambda x: graphs.output_of(model, x), inputs)
    trained = expected
    if model is not original:
        trained = graphs.predict(lambda x: graphs.output_of(original, x), inputs)
        claims.append(_float32(original, trained, expected))
    if labels is not None:
        _require_classes(model, expected)
    found = None
    try:
        given = _given(model, flatbuffer, inputs, expected)
    except engine.Refused as error:
        claims.append(_refused(error, calls))
    else:
        claim, found = _outputs(model, calls, flatbuffer, inputs, expected, given)
        claims += [claim, *_of_classes(trained, given, labels)]
    claims.append(_sizes(model, flatbuffer))
    return Report(original.name, tuple(claims), floats, found)


def refused(model, reason: str) -> Report:
    """The report of a model that ``convert`` refuses: what is wrong with its kernels, and why.

    Args:
        model: what ``convert`` was given.
        reason: what it said.
    """
    found = _kernels(model)
    if found.ok is not True:  # that is the reason
        reason = "not tried before the kernels are binary"
    return Report(model.name, (found, Claim("conversion", False, reason)), {})


def _of_classes(expected, given, labels) -> list[Claim]:
    """The claims about predicted classes, as far as there are classes and labels."""
    claims = [_top1(expected, given)] if expected.ndim == 2 and expected.shape[1] > 1 else []
    return claims if labels is None else [*claims, _accuracy(expected, given, labels)]


def _require_known(allow_float, calls: list) -> None:
    unknown = set(allow_float) - {call.name for call in calls}
    if unknown:
        raise ValueError(
            f"`allow_float` names {', '.join(sorted(unknown))}; the layers with quantized kernels "
            f"are {', '.join(call.name for call in calls)}."
        )


def _checked_inputs(model, inputs) -> np.ndarray:
    if isinstance(inputs, dict) and len(inputs) == 1:
        (inputs,) = inputs.values()
    size = graphs.input_size(model)
    try:
        inputs = np.asarray(inputs, np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`inputs` is {shown(inputs)}; an array of numbers of shape {('n', *size)} is needed. "
            "Batches of a tf.data.Dataset: np.concatenate([x for x, y in dataset])."
        ) from error
    if inputs.shape[1:] != size or len(inputs) < 2:
        raise ValueError(
            f"`inputs` has the shape {inputs.shape}; at least 2 inputs of shape {size} are needed."
        )
    bad = np.argwhere(~np.isfinite(inputs))
    if len(bad):
        raise ValueError(
            f"`inputs` holds {inputs[tuple(bad[0])]} in input {bad[0][0]}, at {len(bad)} "
            f"place{'s' * (len(bad) > 1)} in all; finite numbers are needed, as in training."
        )
    return inputs


def _checked_labels(model, labels, inputs) -> np.ndarray | None:
    if labels is None:
        return None
    labels, shape, count = np.asarray(labels), tuple(model.outputs[0].shape), len(inputs)
    if labels.shape != (count,):
        raise ValueError(
            f"`labels` has the shape {labels.shape}; one whole number for each of the {count} "
            "inputs is needed."
        )
    if len(shape) != 2:
        raise ValueError(
            f"`labels` are for a model with one row of classes for each input; {model.name} gives "
            f"outputs of shape {shape}: leave them out."
        )
    last = max(shape[1], 2) - 1
    classes = set(range(last + 1))
    strange = [label for label in labels.tolist() if label not in classes]
    if strange:
        raise ValueError(
            f"`labels` holds {strange[0]!r}; classes are needed, whole numbers from 0 to {last}, "
            f"since {model.name} gives outputs of shape {shape}."
        )
    return labels.astype(np.int64)


def _require_classes(model, expected: np.ndarray) -> None:
    if expected.shape[1] == 1 and not _are_probabilities(expected):
        raise ValueError(
            f"`labels` were given, and {model.name} has one output, from {expected.min():.3g} to "
            f"{expected.max():.3g}, so it is no probability and says no class: leave them out."
        )


def _kernels(model) -> Claim:
    found = [*kernels.problems(model), *kernels.unmarked(model)]
    count = sum(1 for layer in binary.layers_of(model) for _ in binary_kernels_of(layer))
    numbers = {"kernels": count, "problems": found}
    if not count and not found:
        details = (
            "the model has none: no layer has a kernel_quantizer that gives -1 and +1 (ste_sign, "
            "for one), or kernels of the optimizer's"
        )
        return Claim("binary kernels", False, details, numbers)
    details = " ".join(causes.by_cause(found)) or (
        f"all {count} hold -1 and +1, up to a scale per output channel"
    )
    return Claim("binary kernels", not found, details, numbers)


def _float32(original, trained, expected) -> Claim:
    """Whether a model of another precision computes what its copy in float32 does, ``expected``."""
    median = float(np.median(distances(expected, trained, spread(expected))))
    details = f"exported in float32, which changes outputs by {median:.2g} of a column's spread"
    if not median <= _FAR:
        details += (
            f", more than {_FAR:g}: half precision decides what this model gives, or a layer's "
            f"get_config leaves something out. Build {original.name} under the float32 policy, "
            "give it the weights (set_weights), see how accurate it is, and export that one"
        )
    return Claim("precision", median <= _FAR, details, {"median": median})


def _float_layers(calls: list, flatbuffer: bytes) -> dict[str, str]:
    """The layers whose kernels no binary operator of the flatbuffer has, with the reason."""
    left, floats = engine.binary_kernels(flatbuffer), {}
    for call in calls:
        match = None
        if linting.is_binary_convolution(call.layer):
            ((_, quantizer, kernel),) = binary.quantized_kernels_of(call.layer)
            bits = kernels.signs_in_file(call.layer, quantizer, kernel)
            same = (i for i, k in enumerate(left) if kernels.equal_but_for_negation(bits, k))
            match = next(same, None)
        if match is None:
            reasons = [f.problem for f in linting.findings_of(call) if f.severity == linting.FLOAT]
            floats[call.name] = "; ".join(reasons) or (
                "the converter did not recognise it: something stands between the sign and the "
                "convolution, or its input_quantizer is your own and hides its sign from LCE (x + "
                "stop_gradient(sign(x) - x) does; signs under tf.custom_gradient are seen), or its "
                "kernel is not in the file"
            )
        else:
            del left[match]
    return floats


def _operators(calls: list, floats: dict, flatbuffer: bytes, allowed: set) -> Claim:
    count = engine.operators(flatbuffer).count(engine.BINARY_CONVOLUTION)
    binary_calls = sum(linting.has_binary_kernel(call.layer) for call in calls)
    details = f"{count} {engine.BINARY_CONVOLUTION} for {binary_calls} calls of binary layers"
    for ok, word in [(False, "stays float"), (True, "stays float, as allowed")]:
        found = (
            (name, f"{word}: {why}") for name, why in floats.items() if (name in allowed) == ok
        )
        details += "".join(f"; {line}" for line in causes.by_cause(found))
    numbers = {"operators": count, "binary_layers": binary_calls, "float_layers": floats}
    return Claim("operators on bits", set(floats) <= allowed, details, numbers)


def _given(model, flatbuffer, inputs, expected) -> np.ndarray:
    """The outputs of the file; raises ``Refused`` if they are no counterpart of ``expected``."""
    takes, gives = engine.inputs_and_outputs(flatbuffer)
    needed = f"float32 {(1, *graphs.input_size(model))}"
    if takes != [needed]:
        raise engine.Refused(
            f"the file takes {', '.join(takes)}, and {model.name} takes {needed}: it is another "
            "model's, or quantised; use that of `convert`."
        )
    given = engine.Interpreter(flatbuffer).predict(inputs)
    if len(given) != 1 or given[0].shape != expected.shape or given[0].dtype != expected.dtype:
        raise engine.Refused(
            f"the file gives {', '.join(gives)}, and {model.name} gives {expected.dtype.name} "
            f"{(1, *expected.shape[1:])}: it is another model's, or quantised; use that of "
            "`convert`."
        )
    return given[0]


def _refused(error, calls: list) -> Claim:
    found = [(f.layer, f"{f.problem}. Fix: {f.fix}.") for f in _suspects(calls)]
    return Claim("outputs", False, " ".join([str(error), *causes.by_cause(found)]))


def _suspects(calls: list) -> list:
    """What ``lint`` says is wrong."""
    return [f for call in calls for f in linting.findings_of(call) if f.severity == linting.WRONG]


def _outputs(model, calls, flatbuffer, inputs, expected, given) -> tuple:
    """The claim, and the diagnosis if there was need for one."""
    if not np.isfinite(expected).all():
        return Claim("outputs", False, "Keras gives NaN or infinity: the model is broken"), None
    if is_constant(expected):
        details = "the model gives the same for all inputs: pass other inputs, or train the model"
        return Claim("outputs", None, details), None
    unit = spread(expected)
    apart = distances(expected, given, unit)
    largest, median = float(apart.max()), float(np.median(apart))
    numbers = {"largest": largest, "median": median, "close": float(np.mean(apart <= CLOSE))}
    if expected.ndim == 2:
        numbers["largest_per_output"] = differences(expected, given, unit).max(axis=0).tolist()
    differ, suspects = np.flatnonzero(~(apart <= CLOSE)), _suspects(calls)
    details = f"largest difference {largest:.2g} of a column's spread, median {median:.2g}"
    if not len(differ) and not suspects:
        return Claim(
            "outputs", True, f"equal for all {len(inputs)} inputs: {details}", numbers
        ), None
    lint = f"; lint calls {causes.shortened([f.layer for f in suspects])} wrong" if suspects else ""
    worst = np.argsort(apart)[-_DIAGNOSED:]  # NaN is the last
    found = diagnose(model, inputs[worst])
    # All that differ: what a changed weight does may be less than what a turned sign does.
    some = np.union1d(worst, differ)
    same = _is_conversion(model, inputs[some], given[some], unit[some])
    if same and not found.wrong and median <= _FAR:
        details = f"equal for {len(inputs) - len(differ)} of {len(inputs)} inputs"
        if len(differ):
            details += (
                f"; in the other {len(differ)} rounding, which may turn signs, moves outputs by up "
                f"to {largest:.2g} of a column's spread and is no error"
            )
        return Claim("outputs", True, f"{details}{lint}; {found}", numbers), found
    if len(differ):
        details += f"; {len(differ)} of {len(inputs)} inputs differ by more than {CLOSE:g}"
    details += lint
    details += _by_reference_kernel(
        flatbuffer, inputs[worst], expected[worst], unit[worst], numbers
    )
    details += f"; {found}"
    if not same and not found.cause:
        details += (
            "; the file does not give what a new conversion gives: were the weights changed after "
            "it, or is it the file of another model? Convert again"
        )
    elif not found.wrong:
        details += (
            f"; but half of all inputs differ by more than {_FAR:g}: rounding, which may turn "
            "signs, decides what this model gives. Train it longer, and take signs of what comes "
            "from a BatchNormalization"
        )
    return Claim("outputs", False, details, numbers), found


def _by_reference_kernel(flatbuffer, inputs, expected, unit, numbers: dict) -> str:
    """How far LCE's reference kernel is from Keras, as text; as a number it goes to ``numbers``."""
    try:
        reference = engine.Interpreter(flatbuffer, reference=True).predict(inputs)[0]
    except engine.Refused:  # of zero padding with an odd number of channels, for one
        return "; LCE's reference kernel refuses the file"
    median = float(np.median(distances(expected, reference, unit)))
    numbers["median_of_reference_kernel"] = median
    return (
        f"; at the {len(inputs)} inputs that differ most the median with LCE's reference kernel is "
        f"{median:.2g}"
    )


def _is_conversion(model, inputs, given, unit) -> bool:
    """Whether ``given`` is what the model, converted now, gives for these inputs."""
    new = engine.Interpreter(conversions.converted(model)).predict(inputs)[0]
    return bool(np.all(distances(new, given, unit) <= CLOSE))


def _top1(expected, given) -> Claim:
    ours, theirs = expected.argmax(axis=1), given.argmax(axis=1)
    same, classes = float(np.mean(ours == theirs)), len(np.unique(ours))
    needed = min(3, expected.shape[1])
    details = f"equal for {same:.1%} of {len(ours)} inputs, {classes} classes predicted"
    numbers = {"equal": same, "classes": classes, "inputs": len(ours)}
    if classes < needed:
        of = f"{classes} class{'es' * (classes > 1)}"
        details = (
            f"the model answers {len(ours)} inputs with {of} of {expected.shape[1]}, as one that "
            "has learned little does. A constant answer would agree too, so equal classes prove "
            f"nothing before there are {needed}: train it longer, or pass inputs of more classes"
        )
        return Claim("top-1", None, details, numbers)
    ok = same >= _MOST or np.sum(ours != theirs) <= 1
    return Claim("top-1", bool(ok), details, numbers)


def _classes(outputs) -> np.ndarray:
    return outputs[:, 0] > 0.5 if outputs.shape[1] == 1 else outputs.argmax(axis=1)


def _are_probabilities(outputs) -> bool:
    return bool(np.all((outputs >= 0) & (outputs <= 1)))


def _accuracy(expected, given, labels) -> Claim:
    ours, theirs = (_classes(y) == labels for y in (expected, given))
    keras, lce = float(np.mean(ours)), float(np.mean(theirs))
    lost, won = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    details = f"{keras:.2%} with Keras, {lce:.2%} with LCE, on {len(labels)} inputs"
    if lost or won:
        details += f"; {lost} became wrong, {won} right"
    by_chance = (lost - won) ** 2 <= _CHANCE * (lost + won)
    ok = abs(keras - lce) <= _ACCURACY or by_chance
    return Claim("accuracy", ok, details, {"keras": keras, "lce": lce, "lost": lost, "won": won})


def _sizes(model, flatbuffer: bytes) -> Claim:
    keras = _keras_file(model)
    plain = len(conversions.to_float_flatbuffer(model))
    weights = [k for _, k in binary.binary_kernels(model, trainable_only=False)]
    bits = sum(int(kernel.shape.num_elements()) for kernel in weights)
    numbers = {"keras": keras, "tflite": plain, "lce": len(flatbuffer), "binary_kernels": bits / 8}
    details = (
        f"LCE {len(flatbuffer):,} bytes; TFLite with floats {plain:,}; Keras file "
        f"{'none, Keras cannot save this model' if keras is None else format(keras, ',')}; the "
        f"binary kernels alone, at a bit a weight, {bits / 8:,.0f}"
    )
    return Claim("size", len(flatbuffer) < plain, details, numbers)


def _keras_file(model) -> int | None:
    """The bytes of a .keras file of ``model``; None if Keras can't save it."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        try:
            conversions.float32_copy(model).save(path)  # a copy: without an optimizer's state
        except Exception:  # layers without a config, say; there may be a good .tflite file anyway
            return None
        return os.path.getsize(path)
