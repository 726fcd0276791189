"""Export to Larq Compute Engine: the real converter, the real interpreter, on tiny networks."""

import hashlib
import json
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest

from html_reading import Page
from larq_filter import binary, datasets, export
from larq_filter._keras import keras, tf
from larq_filter.export import conversions, engine, graphs, verification
from lce_networks import NOOP, chain, claim, classifier, conv, inputs_of, only, settled
from paths import ROOT

import larq

layers = keras.layers
# Each test of convert or verify needs larq_compute_engine; `lint` does without.
extras = pytest.mark.extras


# Conversion


@extras
@pytest.mark.parametrize("quantizer", ["ste_sign", "magnitude_aware_sign", "approx_sign", NOOP])
def test_the_file_holds_the_signs_of_the_kernel(quantizer):
    model = classifier(conv(kernel_quantizer=quantizer, name="binary"))
    kernel = model.get_layer("binary").kernel
    if quantizer is NOOP:
        binary.binarize(kernel)
    flatbuffer = export.convert(settled(model))
    signs = np.moveaxis(binary.latent(kernel).numpy() < 0, -1, 0)
    np.testing.assert_array_equal(only(engine.binary_kernels(flatbuffer)), signs)
    x = inputs_of(model)
    given = export.Interpreter(flatbuffer).predict(x)[0]
    np.testing.assert_allclose(given, model(x, training=False), rtol=0, atol=1e-5)


@extras
def test_a_good_model_passes_claim_by_claim():
    model = settled(classifier(conv(), layers.BatchNormalization(), conv(8)))
    x = inputs_of(model)
    labels = np.asarray(model(x)).argmax(axis=1)
    before = [v.numpy() for v in model.weights]
    report = export.verify(model, export.convert(model), x, labels)
    assert report.ok, str(report)
    assert [claim.name for claim in report.claims] == [
        "binary kernels",
        "operators on bits",
        "outputs",
        "top-1",
        "accuracy",
        "size",
    ]
    assert claim(report, "operators on bits").numbers["operators"] == 2
    assert claim(report, "outputs").numbers["largest"] < 1e-3
    assert claim(report, "accuracy").numbers["lce"] == 1
    sizes = claim(report, "size").numbers
    assert sizes["binary_kernels"] == 9 * 32 * (32 + 8) / 8
    assert sizes["binary_kernels"] < sizes["lce"] < sizes["tflite"]
    assert report.float_layers == {} and report.diagnosis is None
    assert "every claim holds" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["ok"]
    for value, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(value, variable)


def latent_free(**options):
    model = classifier(conv(kernel_quantizer=NOOP, name="first"), conv(name="second", **options))
    binary.binarize(model.get_layer("first").kernel)
    return settled(model)


def with_one_zero():
    model = latent_free()
    kernel = model.get_layer("first").kernel
    values = binary.latent(kernel).numpy()
    values[1, 2, 3, 4] = 0
    kernel.assign(values)
    return model


def untrained():
    return settled(classifier(conv(kernel_quantizer=NOOP, name="first"), conv(name="second")))


@extras
@pytest.mark.parametrize(
    "build, found",
    [
        (with_one_zero, r"first: .* 1 zero \(the first at \(1, 2, 3, 4\)\) .* Fix: .*FilterOpt"),
        (untrained, r"first: .*NoOp\(precision=1\) holds .* different values .*Fix: .*to_laten"),
        (lambda: latent_free(pad_values=-1), r"second: pad_values=-1, .* Fix: use pad_values=1"),
        (
            lambda: latent_free(kernel_quantizer="ste_heaviside"),
            r"second: its quantizer SteHeaviside gives 0 and 1,.* Fix: use a quantizer",
        ),
    ],
)
def test_what_would_silently_become_a_float_layer_is_named_before(build, found, monkeypatch):
    monkeypatch.setattr(engine, "to_flatbuffer", lambda *_: pytest.fail("it was converted"))
    with pytest.raises(ValueError, match=found) as error:
        export.convert(build())
    assert str(error.value).count("Fix") == 1  # the other layer is right


@pytest.mark.slow
@extras
def test_one_zero_in_a_file_from_elsewhere_fails_two_claims():
    model = with_one_zero()
    flatbuffer = conversions.to_flatbuffer(lambda x: model(x, training=False), model)
    assert engine.operators(flatbuffer).count("LceBconv2d") == 1  # what LCE says nothing about
    report = export.verify(model, flatbuffer, inputs_of(model))
    assert not report.ok
    failed = [claim.name for claim in report.claims if claim.ok is not True]
    assert failed == ["binary kernels", "operators on bits"]
    assert list(report.float_layers) == ["first"]


@pytest.mark.slow
@extras
def test_a_file_of_another_model_fails():
    one, other = settled(classifier(conv(name="binary"))), settled(classifier(conv()))
    report = export.verify(one, export.convert(other), inputs_of(one))
    assert "binary" in report.float_layers and "not in the file" in report.float_layers["binary"]
    assert claim(report, "outputs").ok is False


@pytest.mark.slow
@extras
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_exported_in_float32(policy):
    keras.mixed_precision.set_global_policy(policy)
    inner = chain(conv(name="inside"), layers.BatchNormalization())
    model = settled(classifier(inner, conv(name="outside")))
    assert model.get_layer("outside").dtype_policy.name == policy
    copy = export.float32_copy(model)
    assert {layer.dtype_policy.name for layer in binary.layers_of(copy)} == {"float32"}
    for old, new in zip(model.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(binary.latent(old), binary.latent(new))
    assert keras.mixed_precision.global_policy().name == policy
    if policy == "mixed_float16":
        report = export.verify(model, export.convert(model), inputs_of(model))
        assert report.ok, str(report)


class PartlyFrozen(layers.Layer):
    """Two layers of one shape, the first frozen: ``weights`` lists the second one first."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = layers.Dense(32), layers.Dense(32, activation="relu")

    def call(self, inputs):
        return self.first(inputs) + 2 * self.second(inputs)


def test_a_copy_in_float32_computes_the_same():
    keras.mixed_precision.set_global_policy("mixed_float16")
    normalization = layers.Normalization()
    normalization.adapt(3 + 2 * np.random.default_rng(0).normal(size=(64, 6, 6, 32)))
    parts = PartlyFrozen(), layers.Activation(lambda x: 2 * x)
    model = chain(normalization, *parts)
    parts[0].first.trainable = False
    copy, x = export.float32_copy(model), inputs_of(model)
    assert [w.trainable for w in copy.weights] == [w.trainable for w in model.weights]
    np.testing.assert_allclose(copy(x), model(x), rtol=0.02, atol=0.05)


def test_operations_of_another_precision_are_refused():
    keras.mixed_precision.set_global_policy("mixed_float16")
    image = keras.Input((6, 6, 32))
    model = keras.Model(image, conv()(image) * tf.constant(2, tf.float16) + tf.cast(image, "half"))
    with pytest.raises(ValueError, match="outside of its layers .*float16.*set_weights"):
        export.float32_copy(model)


class Forgetful(layers.Layer):
    """What its configuration leaves out, a copy does not know."""

    def __init__(self, channels=None, **options):
        super().__init__(**options)
        self.channels = channels

    def call(self, inputs):
        return inputs if self.channels is None else tf.gather(inputs, self.channels, axis=-1)

    def get_config(self):
        return super().get_config()


@pytest.mark.slow
@extras
@pytest.mark.parametrize("channels", [None, list(range(31, -1, -1))])
def test_a_copy_that_computes_something_else_is_found(channels):
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = settled(classifier(Forgetful(channels), conv()))
    report = export.verify(model, export.convert(model), inputs_of(model))
    found = claim(report, "precision")
    assert found.ok == report.ok == (channels is None), str(report)
    assert ("a layer's get_config leaves something out" in found.details) == (not found.ok)


class ForgetfulShift(layers.Layer):
    """As ``Forgetful``, and what it leaves out changes little."""

    def __init__(self, by=0.0, **options):
        super().__init__(**options)
        self.by = by

    def call(self, inputs):
        return inputs + tf.cast(self.by, inputs.dtype)

    def get_config(self):
        return super().get_config()


@pytest.mark.slow
@extras
def test_classes_are_those_of_the_model_in_its_own_precision():
    """A copy that computes nearly the same may give other classes."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = settled(classifier(ForgetfulShift(0.005), conv(), layers.BatchNormalization(), conv(8)))
    x = inputs_of(model, 128)
    flatbuffer, own = export.convert(model), np.argmax(model(x, training=False), axis=1)
    theirs = np.argmax(export.Interpreter(flatbuffer).predict(x)[0], axis=1)
    report = export.verify(model, flatbuffer, x, own)
    precision, top1, accuracy = (claim(report, n) for n in ("precision", "top-1", "accuracy"))
    assert 0.1 < precision.numbers["median"] < 0.5 and precision.ok is False
    assert top1.numbers["equal"] == accuracy.numbers["lce"] == np.mean(own == theirs) < 1
    assert accuracy.numbers["keras"] == 1.0


@pytest.mark.slow
@extras
def test_functions_without_a_name_are_exported():
    twice = layers.Activation(lambda x: 2 * x)
    relu = conv(activation=lambda x: tf.nn.relu(x))
    model = settled(classifier(relu, layers.BatchNormalization(), twice, conv(8)))
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert report.ok, str(report)


def trains(layer, nested=False):
    """A model that calls ``layer``, or a model around it, with ``training=True``."""
    before = chain(conv(), layers.BatchNormalization())
    called = chain(layer, layers.ReLU()) if nested else layer
    image = keras.Input((6, 6, 32))
    x = called(before(image), training=True)
    return settled(keras.Model(image, layers.Dense(5)(layers.Flatten()(x))))


@pytest.mark.slow
@extras
@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_that_trains_on_the_device_is_named(nested):
    model = trains(layers.Dropout(0.5, name="drop"), nested)
    finding = only(export.lint(model))
    assert finding.layer.split("/")[-1] == "drop" and "called with training=True" in finding.problem
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert report.diagnosis.wrong[0] == finding.layer
    assert finding.problem in report.diagnosis.cause
    assert "weights changed" not in claim(report, "outputs").details


@extras
@pytest.mark.parametrize(
    "build, found",
    [
        (
            lambda: trains(layers.BatchNormalization(name="norm"), True),
            r"layer .*/norm \(BatchNormalization\): it is called with training=True",
        ),
        (
            lambda: classifier(conv(), layers.RandomCrop(4, 4, name="crop")),
            r"layer crop \(RandomCrop\): build the model without it",
        ),
        (
            lambda: keras.Model(image := keras.Input((6, 6, 32), name="my photo"), conv()(image)),
            r"input of the model is named 'my photo'; .* keras.Model\(image, model\(image\)\)",
        ),
    ],
)
def test_what_cannot_be_converted_is_named(build, found):
    with pytest.raises(ValueError, match=found):
        export.convert(build())


@extras
def test_a_warning_of_the_converter_is_an_error(monkeypatch):
    def convert(folder):
        warnings.warn("conversion failed, falling back", stacklevel=1)

    fake = types.SimpleNamespace(convert_saved_model=convert)
    monkeypatch.setattr(engine, "load", lambda: fake)
    with pytest.raises(ValueError, match="cannot convert the model: conversion failed, falling"):
        export.convert(chain(conv()))


def test_without_the_engine_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    with pytest.raises(ImportError, match=r'pip install "larq_filter\[lce\]"'):
        export.convert(chain(conv()))


# Verification


@pytest.mark.slow
@extras
def test_a_dense_layer_stays_float_unless_that_is_allowed():
    dense = larq.layers.QuantDense(8, input_quantizer="ste_sign", kernel_quantizer="ste_sign")
    model = settled(classifier(conv(), layers.Flatten(), dense))
    flatbuffer, x = export.convert(model), inputs_of(model)
    report = export.verify(model, flatbuffer, x)
    assert not report.ok
    assert report.float_layers == {dense.name: "QuantDense is never accelerated"}
    assert f"{dense.name}: stays float: QuantDense" in claim(report, "operators on bits").details
    assert claim(report, "outputs").ok
    assert export.verify(model, flatbuffer, x, allow_float=[dense.name]).ok
    with pytest.raises(ValueError, match="names dens; the layers .* are quant_conv2d.*, quant_den"):
        export.verify(model, flatbuffer, x, allow_float="dens")


def straight_sign(x):
    return x + tf.stop_gradient(tf.where(x < 0, -1.0, 1.0) - x)


@pytest.mark.slow
@extras
def test_kernels_that_larq_does_not_mark_as_binary_are_seen():
    """Of 2 bits they stay float, at 32 times the size; signs without a mark nobody would check."""
    two_bits = settled(classifier(conv(), conv(kernel_quantizer="ste_tern", name="ternary")))
    x = inputs_of(two_bits)
    assert [f.layer for f in export.lint(two_bits)] == ["ternary"]
    flatbuffer = export.convert(two_bits)
    report = export.verify(two_bits, flatbuffer, x)
    assert report.missing() == ("operators on bits",)
    details = (
        "1 LceBconv2d for 1 calls of binary layers; ternary: stays float: its kernel_quantizer"
    )
    assert details in claim(report, "operators on bits").details
    assert export.verify(two_bits, flatbuffer, x, allow_float=["ternary"]).ok

    unmarked = settled(classifier(conv(), conv(kernel_quantizer=straight_sign, name="own")))
    report = export.verify(unmarked, export.convert(unmarked), x)
    assert report.missing() == ("binary kernels",)
    assert "own: its quantizer straight_sign" in claim(report, "binary kernels").details


class Block(layers.Layer):
    """A binary convolution inside a custom layer, where no graph shows it."""

    def __init__(self, input_quantizer, **options):
        super().__init__(**options)
        self.inside = conv(input_quantizer=input_quantizer, name="inside")

    def call(self, inputs):
        return self.inside(inputs)

    def get_config(self):
        config = super().get_config()
        return {**config, "input_quantizer": self.inside.get_config()["input_quantizer"]}


@pytest.mark.slow
@extras
def test_binary_layers_inside_custom_layers_are_counted():
    """With real-valued inputs one stays float, and nothing in the graph says so."""
    blocks = [Block("ste_sign", name="bits"), Block(None, name="floats")]
    model = settled(classifier(*blocks))
    finding = only(export.lint(model))
    assert finding.layer == "floats/inside" and "no input_quantizer" in finding.problem
    flatbuffer, x = export.convert(model), inputs_of(model)
    report = export.verify(model, flatbuffer, x)
    assert list(report.float_layers) == ["floats/inside"] and not report.ok
    operators = claim(report, "operators on bits")
    assert operators.numbers["operators"] == 1 and operators.numbers["binary_layers"] == 2
    assert export.verify(model, flatbuffer, x, allow_float=["floats/inside"]).ok


def small_maps(**options):
    """Zero padding on 6x6, then 2x2 maps; the last two layers are in a model of their own."""
    inner = keras.Sequential(
        [
            keras.Input((2, 2, 32)),
            conv(name="small", pad_values=0, **options),
            layers.BatchNormalization(),
            conv(name="smaller", pad_values=0, **options),
        ],
        name="inner",
    )
    first = conv(name="large", pad_values=0)
    return settled(classifier(first, layers.BatchNormalization(), layers.AvgPool2D(3), inner))


@pytest.mark.slow
@extras
def test_the_first_wrong_layer_of_a_wrong_kernel_is_named():
    model = small_maps()
    findings = [f for f in export.lint(model) if f.severity == "wrong"]
    assert [finding.layer for finding in findings] == ["inner/small", "inner/smaller"]
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert not report.ok and claim(report, "outputs").ok is False
    found = report.diagnosis
    assert found.layers == 10
    assert found.wrong == ("inner/small", "inner/smaller")
    assert found.wrong_with_reference == ()
    text = claim(report, "outputs").details
    assert "first wrong layer is inner/small" in text
    assert "the converted model is right and LCE's default kernel is wrong" in text
    assert "zero padding on 2x2 maps" in text and "use pad_values=1" in text
    assert claim(report, "outputs").numbers["median_of_reference_kernel"] < 1e-3


@extras
def test_a_wrong_conversion_is_told_from_a_wrong_kernel():
    model = settled(
        classifier(conv(name="right"), conv(name="ternary", input_quantizer="ste_tern"))
    )
    assert only(export.lint(model)).layer == "ternary"
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert not report.ok
    assert report.diagnosis.wrong == report.diagnosis.wrong_with_reference == ("ternary",)
    text = claim(report, "outputs").details
    assert "the conversion is wrong" in text and "gives zeros" in text


@pytest.mark.slow
@extras
def test_signs_turned_by_rounding_are_not_taken_for_a_wrong_layer(monkeypatch):
    model = settled(classifier(conv(), layers.BatchNormalization(), conv(8)))
    flatbuffer, x = export.convert(model), inputs_of(model)
    original = engine.Interpreter.predict

    def predict(self, inputs):
        noise = 0.01 if len(inputs) == len(x) else 0  # all outputs, but not those of the layers
        return [y + noise * np.std(y, axis=0).mean() for y in original(self, inputs)]

    monkeypatch.setattr(engine.Interpreter, "predict", predict)
    report = export.verify(model, flatbuffer, x)
    assert report.diagnosis.wrong == ()
    assert claim(report, "outputs").ok, str(report)
    text = claim(report, "outputs").details  # no large number without its reason
    assert text.startswith(
        "equal for 0 of 24 inputs; in the other 24 rounding, which may turn signs"
    )
    assert "is no error; each of the 7 layers, run by itself" in text


@pytest.mark.slow
@extras
def test_an_operator_that_the_interpreter_refuses_fails():
    model = settled(classifier(conv(64, groups=2), shape=(6, 6, 64)))
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert claim(report, "outputs").ok is False
    assert "2 groups, which the default kernel refuses" in claim(report, "outputs").details


@pytest.mark.slow
@extras
def test_too_few_classes_test_nothing():
    model = settled(classifier(conv()))
    model.layers[-2].bias.assign([100.0, 0, 0, 0, 0])
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert claim(report, "top-1").ok is None and not report.ok
    text = claim(report, "top-1").details
    assert "24 inputs with 1 class of 5" in text and "train it longer" in text
    assert "NOT TESTED" in str(report)
    model.layers[-2].kernel.assign(tf.zeros_like(model.layers[-2].kernel))
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert claim(report, "outputs").ok is None
    assert "the model gives the same for all inputs" in str(report)


@pytest.mark.slow
@extras
def test_shared_layers_have_an_operator_for_each_call():
    shared = conv()
    x = image = keras.Input((6, 6, 32))
    for _ in range(2):
        x = layers.BatchNormalization()(shared(x))
    model = settled(keras.Model(image, layers.Dense(4)(layers.Flatten()(x))))
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert report.ok, str(report)
    assert claim(report, "operators on bits").numbers["operators"] == 2


@pytest.mark.slow
@extras
def test_an_own_quantizer_is_known_by_how_it_is_written():
    def straight_through(x):
        return x + tf.stop_gradient(tf.where(x >= 0, 1.0, -1.0) - x)

    def custom_gradient(x):
        return tf.custom_gradient(
            lambda x: (tf.where(x >= 0, 1.0, -1.0), lambda upstream: upstream)
        )(x)

    straight_through.precision = custom_gradient.precision = 1
    hidden, seen = (conv(input_quantizer=q) for q in (straight_through, custom_gradient))
    model = settled(classifier(hidden, seen))
    assert export.lint(model) == []
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert list(report.float_layers) == [hidden.name]
    assert "your own and hides its sign" in report.float_layers[hidden.name]


@pytest.mark.extras
@pytest.mark.parametrize(
    "inputs, labels, message",
    [
        (np.full((4, 6, 6, 32), np.inf), None, "holds inf in input 0, at 4608 places"),
        (np.zeros((4, 6, 6, 3)), None, r"shape \(4, 6, 6, 3\); at least 2 .* \(6, 6, 32\)"),
        (np.zeros((1, 6, 6, 32)), None, "at least 2 inputs"),
        (np.zeros((4, 6, 6, 32)), np.zeros(3), r"shape \(3,\); one whole number for each of the 4"),
    ],
)
def test_wrong_shapes_are_refused(inputs, labels, message):
    with pytest.raises(ValueError, match=message):
        export.verify(chain(conv()), b"", inputs, labels)


@extras
def test_inputs_that_are_no_arrays_or_of_another_shape_are_refused():
    model = chain(conv())
    x = inputs_of(model)
    with pytest.raises(TypeError, match="BatchDataset.*; an array of numbers .*np.concatenate"):
        export.verify(model, b"", tf.data.Dataset.from_tensor_slices((x, x)).batch(4))
    interpreter = export.Interpreter(export.convert(model))
    for wrong in (x[0], x[..., 0], x[:, :3]):
        with pytest.raises(ValueError, match=r"takes inputs of shape \(n, 6, 6, 32\)") as error:
            interpreter.predict(wrong)
        assert str(wrong.shape) in str(error.value)


@extras
@pytest.mark.parametrize(
    "classes, labels, message",
    [
        (1, [0, 1, 0, 99], r"holds 99; .* from 0 to 1, since sequential.* \(None, 1\)"),
        (5, [0, 1, 2, 5], "holds 5; .* from 0 to 4"),
        (5, [0, -1, 2, 4], "holds -1; .* from 0 to 4"),
        (5, ["cat", "dog", "cat", "dog"], "holds 'cat'; .* whole numbers"),
        (5, [0.0, 1.0, 0.5, 4.0], "holds 0.5; .* whole numbers"),
        (5, [0, 1, 2, np.nan], "holds nan; .* whole numbers"),
        (5, np.eye(5)[:4], r"shape \(4, 5\); one whole number for each of the 4"),
    ],
)
def test_labels_that_are_no_classes_are_refused(classes, labels, message):
    model = classifier(conv(), classes=classes)
    with pytest.raises(ValueError, match=f"`labels` .*{message}"):
        export.verify(model, b"", np.zeros((4, 6, 6, 32)), labels)


@extras
def test_labels_of_a_model_without_classes_are_refused():
    x, labels = np.ones((4, 6, 6, 32)), np.zeros(4)
    with pytest.raises(ValueError, match=r"one row of classes .* \(None, 6, 6, 32\): leave them"):
        export.verify(chain(conv()), b"", x, labels)
    model = chain(conv(), layers.Flatten(), layers.Dense(1, bias_initializer="ones"))
    model.layers[-1].kernel.assign(tf.zeros((6 * 6 * 32, 1)))
    model.layers[-1].bias.assign([3.0])
    with pytest.raises(ValueError, match="has one output, from 3 to 3, so it is no probability"):
        export.verify(model, export.convert(model), x, labels)


@pytest.mark.slow
@extras
def test_the_accuracy_of_one_probability_is_compared():
    model = settled(chain(conv(), layers.Flatten(), layers.Dense(1, activation="sigmoid")))
    x = inputs_of(model)
    labels = np.asarray(model(x) > 0.5)[:, 0].astype("float32")
    labels[:6] = 1 - labels[:6]
    report = export.verify(model, export.convert(model), x, labels)
    assert report.ok, str(report)
    numbers = {"keras": 0.75, "lce": 0.75, "lost": 0, "won": 0}
    assert claim(report, "accuracy").numbers == numbers


@pytest.mark.parametrize(
    "lost, won, inputs, ok",
    [
        (2, 0, 64, True),
        (3, 0, 64, True),
        (5, 0, 64, False),
        (6, 4, 64, True),
        (9, 1, 64, False),
        (19, 0, 1000, True),
        (30, 4, 1000, False),
    ],
)
def test_a_few_near_ties_say_nothing_about_the_accuracy(lost, won, inputs, ok):
    """Of 64 inputs 2 are more than 2 percentage points, and may have changed sides by chance."""
    labels = np.ones(inputs, int)
    expected, given = np.full((2, inputs, 1), 0.9)
    given[:lost] = 0.1
    expected[lost : lost + won] = 0.1
    found = verification._accuracy(expected, given, labels)
    assert found.ok == ok
    assert found.numbers["lost"] == lost and found.numbers["won"] == won
    assert f"{lost} became wrong, {won} right" in found.details


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def two_outputs():
    image = keras.Input((6, 6, 32))
    return keras.Model(image, [conv()(image), conv()(image)])


def two_inputs_in_a_dict():
    images = {name: keras.Input((6, 6, 32), name=name) for name in "ab"}
    return keras.Model(images, conv()(images["a"] + images["b"]))


def counts_on_four():
    image = keras.Input((6, 6, 32), batch_size=4)
    return keras.Model(image, layers.Dense(4)(tf.reshape(conv()(image), (4, -1))))


@pytest.mark.parametrize(
    "build, error, message",
    [
        (two_inputs_in_a_dict, ValueError, "2 inputs and 1 outputs"),
        (counts_on_four, ValueError, "built for batches of 4, and a layer counts on that number"),
        (lambda: "model.keras", TypeError, "Expected a tf.keras.Model, not 'model.keras'"),
        (lambda: keras.Sequential([conv()]), ValueError, "no variables yet"),
        (two_outputs, ValueError, "1 inputs and 2 outputs"),
        (lambda: chain(conv(), shape=(None, None, 32)), ValueError, "has one size"),
    ],
)
def test_models_that_cannot_be_exported_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        export.lint(build())


def test_subclassed_models_are_refused():
    model = Subclassed()
    model.build((None, 6, 6, 32))
    with pytest.raises(TypeError, match="subclassed model"):
        export.lint(model)


def in_a_dict():
    """Input and output are in dicts, those of a nested model too."""
    image = {"pixels": keras.Input((6, 6, 32), name="pixels")}
    inner = keras.Model(image, {"map": conv()(image["pixels"])}, name="inner")
    outer = {"photo": keras.Input((6, 6, 32), name="photo")}
    x = layers.BatchNormalization()(inner({"pixels": outer["photo"]})["map"])
    return keras.Model(outer, {"scores": layers.Dense(4)(layers.Flatten()(x))})


def of_four():
    image = keras.Input((6, 6, 32), batch_size=4)
    return keras.Model(image, [layers.Dense(4)(layers.Flatten()(conv()(image)))])


@pytest.mark.slow
@extras
@pytest.mark.parametrize("build", [in_a_dict, of_four])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_inputs_and_outputs_in_dicts_and_batches_of_one_size(build, policy):
    keras.mixed_precision.set_global_policy(policy)
    model = build()
    x = np.random.default_rng(1).normal(size=(24, 6, 6, 32)).astype("float32")
    assert export.lint(model) == []
    flatbuffer = export.convert(model)
    for given in (x, {"photo": x}):
        report = export.verify(model, flatbuffer, given)
        assert report.ok, str(report)
    assert len(export.diagnose(export.float32_copy(model), x[:8]).wrong) == 0
    assert len(export.to_float_flatbuffer(model)) > len(flatbuffer)


def test_replay_computes_the_model():
    model = small_maps()
    x, seen = inputs_of(model), []
    (output,) = graphs.replay(model, tf.constant(x), lambda step: seen.append(step.name))
    np.testing.assert_array_equal(output, model(x, training=False))
    assert seen == [call.name for call in graphs.calls_of(model)]


# Lint


def test_a_network_made_for_the_engine_has_no_findings():
    valid = conv(padding="valid", pad_values=0)
    model = chain(
        conv(), layers.ReLU(), layers.BatchNormalization(), valid, conv(size=1, pad_values=0)
    )
    assert export.lint(model) == []


def latent(kind, *args, **options):
    return getattr(larq.layers, kind)(*args, input_quantizer="ste_sign", **options)


KERNEL = {"kernel_quantizer": "ste_sign"}
SEPARABLE = {"depthwise_quantizer": "ste_sign", "pointwise_quantizer": "ste_sign"}


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (lambda: latent("QuantDense", 8, **KERNEL), (32,), "QuantDense is never"),
        (lambda: latent("QuantConv1D", 8, 3, **KERNEL), (8, 32), "QuantConv1D is never"),
        (lambda: latent("QuantConv3D", 8, 3, **KERNEL), (8, 8, 8, 32), "QuantConv3D is never"),
        (lambda: latent("QuantConv2DTranspose", 8, 3, **KERNEL), (8, 8, 32), "transposed"),
        (
            lambda: latent("QuantDepthwiseConv2D", 3, depthwise_quantizer="ste_sign"),
            (8, 8, 32),
            "depthwise",
        ),
        (lambda: latent("QuantSeparableConv2D", 8, 3, **SEPARABLE), (8, 8, 32), "separable"),
        (lambda: conv(input_quantizer=None), (8, 8, 32), "real values"),
        (
            lambda: conv(input_quantizer=larq.quantizers.DoReFa(2)),
            (8, 8, 32),
            "input_quantizer DoReFa gives other values",
        ),
        (lambda: conv(input_quantizer="ste_heaviside"), (8, 8, 32), "SteHeaviside gives other"),
        (lambda: conv(kernel_quantizer="ste_heaviside"), (8, 8, 32), "gives 0 and 1"),
        (lambda: conv(kernel_quantizer="ste_tern"), (8, 8, 32), "SteTern has 2 bits"),
        (lambda: conv(pad_values=-1), (8, 8, 32), "pad_values=-1"),
        (lambda: conv(groups=2), (8, 8, 32), "2 groups of 16 input channels"),
        (lambda: conv(data_format="channels_first"), (32, 8, 8), "channels_first"),
    ],
)
def test_what_stays_float(layer, shape, message):
    finding = only(export.lint(chain(layer(), shape=shape)))
    assert finding.severity == "float" and message in finding.problem
    assert finding.fix and str(finding).startswith("float  ")


@pytest.mark.parametrize(
    "size, strides, dilation, wrong",
    [
        ((2, 8), 1, 1, True),
        ((8, 1), 1, 1, True),
        ((3, 3), 1, 1, False),
        ((2, 2), 2, 1, True),
        ((4, 4), 1, 2, True),
        ((5, 5), 1, 2, False),
    ],
)
def test_zero_padding_on_maps_smaller_than_the_kernel(size, strides, dilation, wrong):
    for pad in (0, 1):
        layer = conv(pad_values=pad, strides=strides, dilation_rate=dilation)
        severities = [f.severity for f in export.lint(chain(layer, shape=(*size, 32)))]
        assert severities == (["wrong"] * wrong + ["slow"]) * (pad == 0)


@extras
@pytest.mark.parametrize("size, dilation, wrong", [((4, 4), 2, True), ((3, 8), 1, False)])
def test_that_is_where_the_default_kernel_is_wrong(size, dilation, wrong):
    model = chain(conv(pad_values=0, dilation_rate=dilation), shape=(*size, 32))
    x = inputs_of(model, 4)
    flatbuffer = export.convert(model)
    expected = model(x)
    given = [export.Interpreter(flatbuffer, reference=r).predict(x)[0] for r in (False, True)]
    assert np.array_equal(given[0], expected) != wrong
    np.testing.assert_array_equal(given[1], expected)


@pytest.mark.parametrize(
    "parts, shape, message",
    [
        (lambda: [conv(pad_values=0), layers.ReLU()], (8, 8, 32), "ReLU after it from being fused"),
        (lambda: [conv(pad_values=0, activation="relu")], (8, 8, 32), "ReLU after it from being"),
        (lambda: [conv(pad_values=0)], (8, 8, 32), "output from being written as bits"),
        (
            lambda: [conv(), layers.BatchNormalization(), layers.ReLU()],
            (8, 8, 32),
            "an operator of its own",
        ),
        (lambda: [conv()], (8, 8, 40), "40 input channels, computed as 64"),
    ],
)
def test_what_is_slower_than_it_could_be(parts, shape, message):
    finding = only(export.lint(chain(*parts(), shape=shape)))
    assert finding.severity == "slow" and message in finding.problem


@extras
@pytest.mark.parametrize(
    "parts, operators",
    [
        (lambda: [conv(), layers.ReLU(), layers.BatchNormalization()], 2),
        (lambda: [conv(), layers.BatchNormalization(), layers.ReLU()], 3),
        (lambda: [conv(pad_values=0), layers.ReLU(), layers.BatchNormalization()], 5),
        (lambda: [larq.quantizers.SteSign(), layers.Dropout(0.5), conv(input_quantizer=None)], 2),
        (lambda: [layers.Activation(larq.quantizers.SteSign()), conv(input_quantizer=None)], 2),
        (lambda: [layers.Reshape((1, 6, 6, 32)), layers.TimeDistributed(conv())], None),
    ],
)
def test_lint_agrees_with_the_operators_of_the_file(parts, operators):
    model = chain(*parts())
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-1, 1, 32))  # else there is nothing to add
    names = engine.operators(export.convert(model))
    assert len(names) == operators or operators is None
    assert names.count("LceBconv2d") == 1
    assert (export.lint(model) == []) == (operators in (2, None))


@extras
def test_a_layer_between_sign_and_convolution_keeps_it_float():
    model = chain(
        larq.quantizers.SteSign(),
        layers.ZeroPadding2D(1),
        conv(input_quantizer=None, padding="valid"),
    )
    assert "comes from zero_padding2d" in only(export.lint(model)).problem
    assert "LceBconv2d" not in engine.operators(export.convert(model))


# The script


def saved_run(folder, first):
    """A run folder as examples/train.py leaves it, of a small network for digits."""
    model = chain(
        layers.Conv2D(32, 3, padding="same", strides=2),
        layers.BatchNormalization(momentum=0.5),
        first,
        layers.BatchNormalization(momentum=0.5),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
        shape=(8, 8, 1),
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    data = datasets.load("digits")
    model.fit(data.train(100, seed=0, epochs=3), epochs=3, steps_per_epoch=14, verbose=0)
    folder.mkdir()
    model.save(folder / "model.keras")
    config = dict(dataset="digits", data_dir=None, image_size=None, train_examples=None)
    (folder / "config.json").write_text(json.dumps({"config": config}))
    return folder


def run_script(*arguments):
    command = [sys.executable, "examples/export.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@extras
def test_the_first_way_to_the_device(tmp_path):
    """Train without a word about the network, export: proven, said shortly, and shown on a page."""
    run = tmp_path / "run"
    train = ["examples/train.py", "--epochs=4", "--control=no", f"--output_dir={run}"]
    assert subprocess.run([sys.executable, *train], cwd=ROOT, capture_output=True).returncode == 0
    before = {path.name for path in run.iterdir()}
    result = run_script(f"--run={run}")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) < 25 and max(map(len, lines)) <= 160
    written = {path.name for path in run.iterdir()} - before
    assert written == {"model.tflite", "model.report.json", "model.report.html"}
    flatbuffer = (run / "model.tflite").read_bytes()
    assert engine.operators(flatbuffer).count("LceBconv2d") == 3
    report = json.loads((run / "model.report.json").read_text())
    assert (report["outcome"], report["not_proven"], len(report["claims"])) == ("proven", [], 6)
    assert report["file"]["sha256"] == hashlib.sha256(flatbuffer).hexdigest()
    page = Page((run / "model.report.html").read_text())
    assert page.verdict.startswith("Proven: every claim holds") and page.images == 2
    assert page.links == []
    claims, numbers, _ = page.tables
    assert claims[1:] == [[each["name"], "holds", each["details"]] for each in report["claims"]]
    assert [float(value) for _, _, value in numbers[1:]] == [
        pytest.approx(value, rel=1e-5)
        for each in report["claims"]
        for value in each["numbers"].values()
        if isinstance(value, int | float)
    ]


@pytest.mark.slow
@extras
def test_script_keeps_what_fails_to_itself(tmp_path):
    run = saved_run(tmp_path / "run", conv(32, size=5, pad_values=0, name="wrong_one"))
    output, report = tmp_path / "out.tflite", tmp_path / "out.report.json"
    output.write_bytes(b"an earlier export")
    report.write_bytes(b"its report")
    flags = [f"--model_file={run / 'model.keras'}", "--dataset=digits", "--images=60"]
    result = run_script(*flags, f"--output={output}")
    assert result.returncode == 1
    said = " ".join(result.stdout.split())
    assert "first wrong layer is wrong_one" in said
    assert "zero padding on 4x4 maps, smaller than the 5x5 kernel" in said
    assert "No model.images.json beside" in said and "(x / 255: --std=255)" in said
    assert f"{output} was not written" in result.stderr and "Traceback" not in result.stderr
    assert "out.tflite that is there is of an earlier export" in result.stderr
    assert (output.read_bytes(), report.read_bytes()) == (b"an earlier export", b"its report")
    found = json.loads((tmp_path / "out.failed.report.json").read_text())
    assert found["outcome"] == "failed" and found["file"] is None
    assert "outputs" in found["not_proven"]
    (advice,) = [line for line in result.stderr.splitlines() if "--allow=" in line]
    assert advice.endswith(f"--allow={','.join(found['not_proven'])}")
    allow = f"--allow={','.join(found['not_proven'])}"
    data = datasets.load("digits")
    scale = [f"--mean={data.mean[0]}", f"--std={data.std[0]}"]
    result = run_script(*flags, *scale, f"--output={output}", allow, "--benchmark", "--repeats=3")
    assert result.returncode == 0, result.stderr
    assert "No model.images.json" not in result.stdout
    prepared = json.loads((tmp_path / "out.unproven.images.json").read_text())
    assert prepared["mean"] + prepared["std"] == pytest.approx([data.mean[0], data.std[0]])
    assert (output.read_bytes(), report.read_bytes()) == (b"an earlier export", b"its report")
    unproven = tmp_path / "out.unproven.tflite"
    assert engine.operators(unproven.read_bytes()).count("LceBconv2d") == 1
    found = json.loads((tmp_path / "out.unproven.report.json").read_text())
    assert (found["outcome"], found["file"]["name"]) == ("unproven", "out.unproven.tflite")
    assert "x86 its kernels are not optimised" in result.stdout
    assert f"adb push {unproven} /data/local/tmp" in result.stdout


@pytest.mark.slow
@extras
def test_script_explains_errors(tmp_path):
    result = run_script(f"--run={tmp_path}")
    assert result.returncode == 1
    assert "is no run folder of larq-filter train" in result.stderr
    assert "Traceback" not in result.stderr
    result = run_script(f"--run={tmp_path}", "--allow=binary kernels")
    assert result.returncode == 1 and "precision, outputs, top-1, accuracy, size" in result.stderr
    assert list(tmp_path.iterdir()) == []
