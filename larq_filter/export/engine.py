"""Larq Compute Engine (LCE) itself; the only module that imports it.

What this package needs of it: the converter, the interpreter, and the flatbuffer's own schema, to
read from a converted model which operators it has and the bits of each binary kernel.
"""

import warnings
from typing import Any

import numpy as np

from larq_filter._validation import first_line

BINARY_CONVOLUTION = "LceBconv2d"


class Refused(RuntimeError):
    """The interpreter does not run this flatbuffer."""


def load():
    """The package larq_compute_engine, or an ImportError that names the extra."""
    try:
        import larq_compute_engine
    except ImportError as error:
        raise ImportError(
            'Converting for Larq Compute Engine needs it: pip install "larq_filter[lce]"'
        ) from error
    return larq_compute_engine


def to_flatbuffer(saved_model: str) -> bytes:
    """Converts the SavedModel in the folder ``saved_model``; what LCE warns of is an error.

    LCE's ``convert_keras_model`` has Keras save the model, and where that fails it goes another
    way and warns only. Here there is no other way, and Keras takes five times as long to save.

    Raises:
        ValueError: LCE cannot convert it, or warns.
    """
    engine = load()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return engine.convert_saved_model(saved_model)
    except Exception as error:  # the converter raises bare Exceptions
        reason = first_line(error)
        raise ValueError(f"Larq Compute Engine cannot convert the model: {reason}") from error


class Interpreter:
    """Runs a flatbuffer, one input at a time, on one thread.

    Args:
        flatbuffer: of LCE, or a plain one of TFLite.
        reference: run binary convolutions by LCE's reference kernel, slow and simple, in place of
            the default one.
        xnnpack: run what is not binary by XNNPACK, as TFLite does by default.

    Raises:
        Refused: an operator does not run with this kernel.
        TypeError: the flatbuffer isn't bytes.
        ValueError: it is no whole .tflite file.
    """

    def __init__(self, flatbuffer: bytes, reference: bool = False, xnnpack: bool = False):
        _parse(flatbuffer)  # of half a file LCE may die of a segmentation fault
        try:
            self._interpreter = load().testing.Interpreter(
                flatbuffer, num_threads=1, use_reference_bconv=reference, use_xnnpack=xnnpack
            )
        except RuntimeError as error:
            raise Refused(
                f"LCE's {'reference' if reference else 'default'} kernel refuses an operator of "
                "the flatbuffer; what it is goes to standard error."
            ) from error

    def predict(self, inputs: Any) -> list[np.ndarray]:
        """The outputs for a batch of ``inputs``, in the order of the flatbuffer.

        Raises:
            ValueError: inputs of another shape, or none; a file that takes other numbers.
        """
        kinds = [np.dtype(kind).name for kind in self._interpreter.input_types]
        if kinds != ["float32"]:
            raise ValueError(
                f"the file takes {', '.join(kinds)}: it is quantised, and no file of `convert`."
            )
        inputs, shapes = np.asarray(inputs, np.float32), self._interpreter.input_shapes
        if not len(inputs) or [inputs.shape[1:]] != [tuple(shape[1:]) for shape in shapes]:
            needed = " and ".join(f"(n{''.join(f', {x}' for x in shape[1:])})" for shape in shapes)
            raise ValueError(
                f"`inputs` has the shape {inputs.shape}; the file takes inputs of shape {needed}."
            )
        outputs = self._interpreter.predict(inputs)
        return outputs if isinstance(outputs, list) else [outputs]


def operators(flatbuffer: bytes) -> list[str]:
    """The names of all operators, in the order in which they run."""
    model = _parse(flatbuffer)
    return [_name(model, operator) for operator in model.subgraphs[0].operators]


def binary_kernels(flatbuffer: bytes) -> list[np.ndarray]:
    """For each binary convolution the sign bits of its kernel, True for -1.

    Of shape (outputs, height, width, inputs); a group's inputs only, where there are groups. The
    converter negates whole output channels where that saves it work.
    """
    from flatbuffers import flexbuffers

    model = _parse(flatbuffer)
    graph, kernels = model.subgraphs[0], []
    for operator in graph.operators:
        if _name(model, operator) == BINARY_CONVOLUTION:
            tensor = graph.tensors[operator.inputs[1]]
            words = np.frombuffer(bytes(model.buffers[tensor.buffer].data), "<u4")
            words = words.reshape(tensor.shape)[..., None]
            bits = (words >> np.arange(32, dtype=np.uint32)) & 1
            bits = bits.reshape(*words.shape[:3], -1).astype(bool)
            channels = flexbuffers.Loads(bytes(operator.customOptions))["channels_in"]
            kernels.append(bits[..., :channels])
    return kernels


def inputs_and_outputs(flatbuffer: bytes) -> tuple[list[str], list[str]]:
    """What it takes and what it gives, as ``float32 (1, 32, 32, 3)`` each."""
    model = _parse(flatbuffer)
    graph = model.subgraphs[0]
    return tuple([_kind(graph.tensors[i]) for i in each] for each in (graph.inputs, graph.outputs))


def positions_of_outputs(flatbuffer: bytes) -> dict[str, int]:
    """Where in the list of outputs each one stands, by the signature's names.

    Several names may have one place: the converter merges outputs that are the same.
    """
    model = _parse(flatbuffer)
    places = {index: place for place, index in enumerate(model.subgraphs[0].outputs)}
    named = model.signatureDefs[0].outputs
    return {tensor.name.decode(): places[tensor.tensorIndex] for tensor in named}


def _parse(flatbuffer: bytes):
    load()
    from larq_compute_engine.mlir.python import tflite_schema

    _require_bytes(flatbuffer)
    try:
        return tflite_schema.ModelT.InitFromObj(tflite_schema.Model.GetRootAsModel(flatbuffer, 0))
    except Exception as error:  # the schema follows whatever offsets the bytes give
        raise ValueError(
            f"`flatbuffer` ({len(flatbuffer):,} bytes) is not the whole content of a .tflite file: "
            "it was cut off, or is another file."
        ) from error


def _require_bytes(flatbuffer) -> None:
    if not isinstance(flatbuffer, bytes):
        raise TypeError(
            f"`flatbuffer` is of the type {type(flatbuffer).__name__}; bytes are needed, the "
            "content of a .tflite file, as pathlib.Path.read_bytes gives it."
        )


def _kind(tensor) -> str:
    from larq_compute_engine.mlir.python import tflite_schema

    kinds = vars(tflite_schema.TensorType)
    name = next(name for name, value in kinds.items() if value == tensor.type)
    return f"{name.lower()} {tuple(map(int, tensor.shape))}"


def _name(model, operator) -> str:
    from larq_compute_engine.mlir.python import tflite_schema

    code = model.operatorCodes[operator.opcodeIndex]
    if code.customCode:
        return code.customCode.decode()
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # old files have the latter only
    kinds = vars(tflite_schema.BuiltinOperator)
    return next(name for name, value in kinds.items() if value == number)
