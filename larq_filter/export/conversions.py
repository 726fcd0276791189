"""From a Keras model to a flatbuffer: of Larq Compute Engine, or the float one of TFLite."""

import contextlib
import re
import tempfile
from collections.abc import Callable

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter._validation import first_line
from larq_filter.binary import copies
from larq_filter.export import causes, engine, graphs, kernels, linting


def convert(model: keras.Model) -> bytes:
    """The flatbuffer of Larq Compute Engine for ``model``.

    Latent models are exported with their binarised kernels (the converter folds the quantizer of a
    kernel into it), latent-free ones as they are; of a mixed-precision model a float32 copy is
    converted. Whether the result computes the same, ``verify`` finds out.

    Args:
        model: a built functional or sequential model with one input and one output.

    Returns:
        The content of a ``.tflite`` file.

    Raises:
        ImportError: the extra ``lce`` is not installed.
        TypeError: a subclassed model.
        ValueError: a kernel that is not binary (one zero is enough, or an untrained NoOp kernel),
            padding with values that a bit cannot hold, sizes that are not known, an input whose
            name a SavedModel cannot have, or a model that LCE cannot convert: the layer is named.
    """
    engine.load()  # if it is not installed, that is said at once
    graphs.require(model)
    _require_name(model.input_names[0])
    found = kernels.problems(model) + linting.padding_problems(model)
    if found:
        raise ValueError(
            f"{model.name} would be converted with layers that are not binary:\n  "
            + "\n  ".join(causes.by_cause(found))
        )
    model = in_float32(model)
    try:
        return converted(model)
    except ValueError as error:
        raise ValueError(f"{error}{_unconvertible(model)}") from error


def _require_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", name):
        raise ValueError(
            f"the input of the model is named {name!r}; in a file for a device names begin with a "
            "letter or a digit, and have no other characters than these and _ . - /. Give it "
            "another input: image = keras.Input(model.input_shape[1:]), and export "
            "keras.Model(image, model(image))."
        )


def _unconvertible(model) -> str:
    """The first layer of a model that can't be converted by itself either, and what to do."""
    steps = []
    graphs.replay(model, tf.zeros((1, *graphs.input_size(model))), steps.append)
    step = next((step for step in steps if not _is_convertible(step)), None)
    if step is None:
        return ""
    calls = [call for call in graphs.calls_of(model) if call.name == step.name]
    fix = linting.causes_of(calls) or (
        "build the model without it, give that one the weights (set_weights), and export it; what "
        "makes images ready can be done before the model"
    )
    return f" It is the layer {step.name} ({type(step.layer).__name__}): {fix}."


def _is_convertible(step) -> bool:
    specs = [tf.TensorSpec(x.shape, x.dtype, f"x{i}") for i, x in enumerate(step.inputs)]

    def compute(*inputs):
        return {f"y{i}": y for i, y in enumerate(step.compute(list(inputs)))}

    try:
        with _saved(compute, step.layer, specs) as folder:
            engine.to_flatbuffer(folder)
    except ValueError:
        return False
    return True


def converted(model) -> bytes:
    """What ``convert`` gives for a model in float32, without looking at it first."""
    return to_flatbuffer(lambda x: {model.output_names[0]: graphs.output_of(model, x)}, model)


def to_flatbuffer(function, model) -> bytes:
    """The flatbuffer of LCE for a function of the inputs of ``model`` that gives named outputs."""
    with _saved(function, model, [_spec_of(model)]) as folder:
        return engine.to_flatbuffer(folder)


def to_float_flatbuffer(model: keras.Model) -> bytes:
    """The flatbuffer that TFLite itself makes of the same network: 32 bits a weight.

    For any number of inputs, as that of LCE, or for one: where that number is not known TFLite no
    longer knows the channels after a ``Reshape((1, 1, -1))``, and a convolution is too much for it.

    Raises:
        ValueError: TFLite cannot convert it for one input either.
    """
    model = in_float32(model)
    for count in (None, 1):
        spec = _spec_of(model, count)
        with _saved(lambda x: graphs.output_of(model, x), model, [spec]) as folder:
            try:
                return tf.lite.TFLiteConverter.from_saved_model(folder).convert()
            except Exception as error:  # the converter's errors have no class of their own
                reason = error
    raise ValueError(f"TFLite cannot convert {model.name}: {first_line(reason)}") from reason


def _spec_of(model, count=None):
    """Of ``count`` inputs; None: any number, as the interpreter chooses, whatever the model has."""
    return tf.TensorSpec((count, *graphs.input_size(model)), tf.float32, name=model.input_names[0])


@contextlib.contextmanager
def _saved(function, layer, signature: list):
    """The folder of a SavedModel that computes ``function`` with the variables of ``layer``."""
    module = tf.Module()
    module.weights_of_layer = layer.variables
    module.compute = tf.function(function, input_signature=signature, autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        try:
            tf.saved_model.save(module, folder, signatures={"serving_default": module.compute})
        except AssertionError as error:
            raise ValueError(
                f"TensorFlow cannot save {layer.name}: a layer has variables that Keras does not "
                "list, such as the state of a random generator."
            ) from error
        yield folder


def in_float32(model):
    """``model`` if all its layers compute in float32, else a copy in which they do."""
    policies = {layer.dtype_policy.name for layer in [model, *binary.layers_of(model)]}
    return model if policies == {"float32"} else float32_copy(model)


def float32_copy(model: keras.Model) -> keras.Model:
    """An uncompiled copy of ``model``, its values in float32 and computed with in float32.

    Raises:
        TypeError: a layer that can't be copied.
        ValueError: the layers don't fit together in float32.
    """
    pairs = {}

    def copy(layer):
        if id(layer) not in pairs:
            if isinstance(layer, keras.Model):
                clone = keras.models.clone_model(layer, clone_function=copy)
            else:
                clone = copies.remake(layer, _in_float32(copies.config_of(layer)))
            pairs[id(layer)] = layer, clone
        return pairs[id(layer)][1]

    with _global_policy("float32"):  # a Model takes that of the moment
        new = _connected(copy, model)
        if not new.built:
            new.build(model.input_shape)
    copies.freeze_alike(list(pairs.values()))
    for old, clone in pairs.values():
        if not isinstance(old, keras.Model):
            for source, target in zip(old.weights, clone.weights, strict=True):
                target.assign(tf.cast(binary.latent(source), target.dtype))
            copies.settle(clone)
    return new


def _connected(copy: Callable, model):
    try:
        return copy(model)
    except TypeError as error:
        lines = [line for line in str(error).splitlines() if "float32" in line]
        if not lines:
            raise
        raise ValueError(  # of an operation of TensorFlow, whose numbers keep their precision
            f"{model.name} computes with another precision than float32 outside of its layers "
            f"({lines[0]}): build it under the float32 policy, give it the weights (set_weights), "
            "and export that one."
        ) from error


def _in_float32(config):
    """``config`` with float32 for every dtype policy of another name, at any depth."""
    if isinstance(config, dict):
        return {
            key: "float32" if key == "dtype" and _is_policy(value) else _in_float32(value)
            for key, value in config.items()
        }
    if isinstance(config, list):  # or a list that TensorFlow tracks
        return [_in_float32(value) for value in config]
    if isinstance(config, tuple):
        return tuple(map(_in_float32, config))
    return config


def _is_policy(value) -> bool:
    if isinstance(value, dict):  # a serialised policy
        return True
    return value in ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")


@contextlib.contextmanager
def _global_policy(name: str):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
