"""Files that are not the trained model, and what verify says; right files that look wrong."""

import re

import numpy as np
import pytest

from larq_filter import export
from larq_filter._keras import keras, tf
from larq_filter.export import conversions, distances, verification
from lce_networks import chain, claim, classifier, conv, inputs_of, only, settled

import larq

layers = keras.layers
pytestmark = pytest.mark.extras


def beside_large_values(layer, shape, probabilities=1):
    """Probabilities that come from ``layer``, in one output with values of 1000."""
    image = keras.Input(shape)
    x = layers.BatchNormalization()(layer(image))
    small = layers.Dense(probabilities, activation="sigmoid")(layers.Flatten()(x))
    large = layers.Rescaling(1000.0)(layers.Dense(2)(layers.Flatten()(image)))
    return settled(keras.Model(image, layers.Concatenate()([small, large])))


def small_units():
    """LCE's default kernel is wrong for zero padding on 2x2 maps; a pooled spread hides it."""
    model = beside_large_values(conv(pad_values=0, name="small"), (2, 2, 32))
    return model, export.convert(model)


def small_share():
    """The same kernel, and a share in the output of one millionth."""
    image = keras.Input((2, 2, 32))
    wrong = layers.Rescaling(1e-6)(conv(pad_values=0, name="small")(image))
    right = layers.BatchNormalization()(conv()(image))
    x = layers.Flatten()(layers.Concatenate()([wrong, right]))
    model = settled(keras.Model(image, layers.Dense(5)(x)))
    return model, export.convert(model)


def few_inputs():
    """Zeros among the signs, which LCE takes for bits, in a few of the inputs only."""
    ternary = larq.quantizers.SteTern(threshold_value=1e-4)
    first = conv(input_quantizer=ternary, name="ternary")
    model = settled(classifier(first, layers.BatchNormalization(), conv(8)))
    return model, export.convert(model)


def swapped_columns():
    model = beside_large_values(conv(), (6, 6, 32), probabilities=2)
    order = [1, 0, 2, 3]

    def swapped(x):
        return {"y": tf.gather(model(x, training=False), order, axis=1)}

    return model, conversions.to_flatbuffer(swapped, model)


def other_weights():
    """Converted, and then a bias was trained on by a twentieth of the outputs' spread."""
    model = settled(classifier(conv(), layers.BatchNormalization(), conv(8)))
    flatbuffer = export.convert(model)
    model.layers[-2].bias.assign_add([0.05, 0, 0, 0, 0])
    return model, flatbuffer


class Unsteady(layers.Layer):
    """Computes something else in a graph, which is what gets converted, than eagerly."""

    def call(self, inputs):
        return inputs * 1.02 if tf.inside_function() else inputs


def float_layer():
    model = classifier(conv(), layers.BatchNormalization(), conv(8), Unsteady(name="unsteady"))
    return settled(model), export.convert(model)


KERNEL = "the first wrong layer is small of .* LCE's default kernel is wrong: .* 2x2 maps, smaller"
CONVERTED = "each of the . layers, .*, is right; the file does not give what a new conversion gives"


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, found",
    [
        (small_units, KERNEL),
        (small_share, KERNEL),
        (few_inputs, "the first wrong layer is ternary of .* the conversion is wrong: .* zeros"),
        (swapped_columns, CONVERTED),
        (other_weights, CONVERTED),
        (float_layer, "the first wrong layer is unsteady of .* the conversion is wrong"),
    ],
)
def test_wrong_files_are_found_and_explained(build, found):
    model, flatbuffer = build()
    assert [f.severity for f in export.lint(model) if f.severity == "wrong"] == ["wrong"] * (
        build in (small_units, small_share, few_inputs)
    )
    report = export.verify(model, flatbuffer, inputs_of(model, 64))
    assert not report.ok
    outputs = claim(report, "outputs")
    assert outputs.ok is False
    assert re.search(found, outputs.details), outputs.details


@pytest.mark.slow
@pytest.mark.parametrize("build", [small_share, few_inputs])
def test_the_inputs_that_differ_most_are_looked_at(build, monkeypatch):
    """Of 64 inputs the 8 whose outputs differ most, whatever their places."""
    model, flatbuffer = build()
    x, seen = inputs_of(model, 64), []
    given, expected = export.Interpreter(flatbuffer).predict(x)[0], model(x).numpy()
    differences = np.abs((given - expected) / distances.spread(expected)).max(axis=1)
    original = verification.diagnose

    def diagnose(model, inputs):
        seen.append(inputs)
        return original(model, inputs)

    monkeypatch.setattr(verification, "diagnose", diagnose)
    export.verify(model, flatbuffer, x)
    np.testing.assert_array_equal(only(seen)[-1], x[differences.argmax()])
    assert len(only(seen)) == 8


def columns_that_hardly_vary():
    """A constant, one near 1000 whose digits are all rounding, a dead one, a tiny one, a usual."""
    dense = layers.Dense(5)
    model = chain(conv(), layers.BatchNormalization(), layers.Flatten(), dense, layers.ReLU())
    settled(model)
    dense.kernel.assign(dense.kernel * [0, 1e-5, 1, 1e-12, 1])
    dense.bias.assign([100, 1000, -100, 1e-11, 5])
    return model


def zeros_that_never_come():
    ternary = larq.quantizers.SteTern(threshold_value=1e-7)
    return settled(classifier(conv(input_quantizer=ternary, name="ternary"), conv(8)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, looked_at",
    [
        (lambda: beside_large_values(conv(), (6, 6, 32)), False),
        (columns_that_hardly_vary, False),
        (zeros_that_never_come, True),
    ],
)
def test_right_files_pass(build, looked_at):
    model = build()
    report = export.verify(model, export.convert(model), inputs_of(model, 64))
    outputs = claim(report, "outputs")
    assert outputs.ok, str(report)
    assert (report.diagnosis is not None) == looked_at
    if looked_at:
        assert "lint calls ternary wrong" in outputs.details and "is right" in outputs.details


@pytest.mark.slow
def test_one_huge_input_hides_no_wrong_file():
    image = keras.Input((6, 6, 32))
    x = layers.Add()([layers.BatchNormalization()(conv()(image)), image])
    model = settled(keras.Model(image, layers.Dense(1)(layers.Flatten()(x))))
    flatbuffer, inputs = export.convert(model), inputs_of(model, 64)
    inputs[5] *= 1e4
    report = export.verify(model, flatbuffer, inputs)
    assert report.ok, str(report)
    model.layers[-1].bias.assign_add([0.5 * float(np.std(model(inputs[6:])))])
    outputs = claim(export.verify(model, flatbuffer, inputs), "outputs")
    assert outputs.ok is False and "a new conversion gives" in outputs.details


def test_the_spread_is_that_of_the_usual_inputs():
    usual = np.random.default_rng(0).normal(5, [1.0, 100.0], (95, 2))
    far = np.array([[1e3, 5e4]] * 5)
    unit = distances.spread(np.concatenate([usual, far]))
    np.testing.assert_allclose(unit[:95], np.broadcast_to(usual.std(axis=0), (95, 2)))
    everything = np.concatenate([usual, far]).std(axis=0)
    np.testing.assert_allclose(unit[95:], np.broadcast_to(everything, (5, 2)))
    apart = distances.distances(usual, usual + [0.5, 0.0], unit[:95])
    np.testing.assert_allclose(apart, 0.5 / usual[:, 0].std())
    assert (distances.spread(np.zeros((8, 3))) > 0).all()


def small():
    return settled(classifier(conv()))


def as_file(model, **outputs):
    """The file of a model with these outputs, functions of its own one."""

    def compute(x):
        y = model(x, training=False)
        return {name: output(y) for name, output in outputs.items()}

    return conversions.to_flatbuffer(compute, model)


@pytest.mark.slow
@pytest.mark.parametrize(
    "file, found",
    [
        (lambda m: as_file(m, y=lambda y: y[:, :1]), r"gives float32 \(1, 1\), and .*\(1, 5\)"),
        (lambda m: as_file(m, y=lambda y: y[:, None]), r"gives float32 \(1, 1, 5\), and"),
        (lambda m: as_file(m, y=lambda y: tf.argmax(y, 1)), r"gives int64 \(1,\), and"),
        (lambda m: as_file(m, a=lambda y: y, b=lambda y: 2 * y), r"float32 \(1, 5\), float32 "),
        (
            lambda m: export.convert(classifier(conv(), shape=(5, 5, 32))),
            r"takes float32 \(1, 5, 5, 32\), and .* takes float32 \(1, 6, 6, 32\): it is another",
        ),
    ],
)
def test_files_with_other_inputs_or_outputs_fail(file, found):
    model = small()
    outputs = claim(export.verify(model, file(model), inputs_of(model)), "outputs")
    assert outputs.ok is False
    assert re.search(found, outputs.details), outputs.details


@pytest.mark.slow
def test_equal_columns_do_not_stand_for_one():
    model = settled(chain(conv(), layers.Flatten(), layers.Dense(1, activation="sigmoid")))
    flatbuffer = as_file(model, y=lambda y: tf.tile(y, (1, 3)))
    assert claim(export.verify(model, flatbuffer, inputs_of(model)), "outputs").ok is False


def test_what_is_no_file_is_refused():
    model = small()
    whole, x = export.convert(model), inputs_of(model)
    for wrong in (b"", b"garbage" * 99, whole[: len(whole) // 2]):
        with pytest.raises(ValueError, match=f"{len(wrong):,} bytes. is not the whole content of"):
            export.verify(model, wrong, x)
        with pytest.raises(ValueError, match="not the whole content"):
            export.Interpreter(wrong)  # LCE itself may die of it
    for wrong in ("model.tflite", bytearray(whole), None):
        with pytest.raises(TypeError, match=f"{type(wrong).__name__}; bytes are needed"):
            export.verify(model, wrong, x)


def test_outputs_that_vary_by_rounding_alone_test_nothing():
    model = settled(chain(conv(), layers.Flatten(), layers.Dense(1)))
    model.layers[-1].kernel.assign(1e-8 * model.layers[-1].kernel)
    model.layers[-1].bias.assign([1.0])
    assert len(np.unique(model(inputs_of(model)))) > 1
    outputs = claim(export.verify(model, export.convert(model), inputs_of(model)), "outputs")
    assert outputs.ok is None and "gives the same for all inputs" in outputs.details


def test_an_activation_turned_by_rounding_is_not_a_wrong_layer(monkeypatch):
    """What the first layer gives is a sign of a sum, which rounding may have turned."""
    first = layers.Conv2D(32, 3, activation=larq.quantizers.SteSign(), name="first")
    model = settled(classifier(first, conv(input_quantizer=None)))
    x = inputs_of(model, 8)
    before = tf.nn.conv2d(x, first.kernel, 1, "VALID").numpy()
    channel = int(np.argmax(np.abs(before).max(axis=(0, 1, 2))))
    # One sum of this channel is all but zero, and what the interpreter gives for it is turned.
    bias = np.zeros(32, np.float32)
    bias[channel] = -before[0, 0, 0, channel]
    first.bias.assign(bias)
    expected = first(x).numpy()
    original, turned = export.Interpreter.predict, []

    def predict(self, inputs):
        outputs = original(self, inputs)
        for y in outputs:
            if y.shape[1:] == (4, 4, 32) and np.all(np.abs(y) == 1):
                for place in turned:
                    y[place] = -expected[place]
        return outputs

    monkeypatch.setattr(export.Interpreter, "predict", predict)
    for image, wrong in ((0, False), (1, True)):
        turned[:] = [(image, 0, 0, channel)]
        found = export.diagnose(model, x).wrong  # the next layer does not know what was turned
        assert ("first" in found) == wrong


@pytest.mark.slow
def test_a_reference_kernel_that_refuses_is_no_obstacle():
    """As it does for zero padding with an odd number of channels and no float output."""
    small = conv(pad_values=0, name="small")
    norms = [layers.BatchNormalization() for _ in range(2)]
    model = settled(classifier(conv(31), norms[0], small, norms[1], conv(8), shape=(2, 2, 32)))
    flatbuffer = export.convert(model)
    with pytest.raises(RuntimeError, match="reference kernel refuses"):
        export.Interpreter(flatbuffer, reference=True)
    outputs = claim(export.verify(model, flatbuffer, inputs_of(model, 64)), "outputs")
    assert outputs.ok is False and "reference kernel refuses the file" in outputs.details
    assert "first wrong layer is small" in outputs.details and "2x2 maps" in outputs.details


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True])
def test_a_changed_weight_is_seen_beside_signs_that_rounding_turned(changed, monkeypatch):
    """It matters for one input, and for that less than turned signs do for eight others."""
    units, head = layers.Dense(8, activation="relu"), layers.Dense(5)
    model = settled(chain(conv(), layers.BatchNormalization(), layers.Flatten(), units, head))
    x = inputs_of(model, 64)
    before = keras.Model(model.input, model.layers[-3].output)(x).numpy() @ units.kernel.numpy()
    second, largest = np.sort(before[:, 0])[-2:]
    units.bias.assign([-(second + largest) / 2, *units.bias.numpy()[1:]])  # active for one input
    flatbuffer, old = export.convert(model), model(x).numpy()
    if changed:
        row = old.std(axis=0) * 0.1 / (largest - second)
        head.kernel.assign(head.kernel + np.eye(8)[:, :1] * row)
        assert np.sum(np.any(model(x).numpy() != old, axis=1)) == 1
    turned = np.argsort(before[:, 0])[:8]
    original = export.Interpreter.predict

    def predict(self, inputs):
        outputs = original(self, inputs)
        if len(outputs) == 1:  # the file, or a new conversion, which computes alike
            outputs[0][[any(map(np.array_equal, 8 * [one], x[turned])) for one in inputs]] += 10
        return outputs

    monkeypatch.setattr(export.Interpreter, "predict", predict)
    outputs = claim(export.verify(model, flatbuffer, x), "outputs")
    assert outputs.ok is not changed
    said = (
        "9 of 64 inputs differ"
        if changed
        else "in the other 8 rounding, which may turn signs, moves"
    )
    assert said in outputs.details
    assert ("not give what a new conversion gives" in outputs.details) is changed


@pytest.mark.slow
def test_layers_that_train_by_default_do_not_when_looked_at():
    """Images are augmented by layers of the model: in training only, and so are those inside."""
    augment = keras.Sequential([layers.RandomFlip(), layers.RandomTranslation(0.2, 0.2)])
    inside = layers.TimeDistributed(layers.RandomFlip())
    reshaped = [layers.Reshape(shape) for shape in ((1, 6, 6, 32), (6, 6, 32))]
    model = settled(classifier(augment, reshaped[0], inside, reshaped[1], conv()))
    flatbuffer = export.convert(model)
    assert export.diagnose(model, inputs_of(model, 8)).wrong == ()
    model.layers[-2].bias.assign_add([0.05, 0, 0, 0, 0])
    outputs = claim(export.verify(model, flatbuffer, inputs_of(model)), "outputs")
    assert "is right; the file does not give what a new conversion gives" in outputs.details


@pytest.mark.slow
def test_a_dense_layer_as_a_convolution_passes():
    """As ``lint`` advises; TFLite itself can't convert it for any number of inputs."""
    model = chain(
        conv(),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Reshape((1, 1, -1)),
        conv(16, 1),
        layers.Flatten(),
    )
    settled(model)
    report = export.verify(model, export.convert(model), inputs_of(model))
    assert report.ok, str(report)
    assert claim(report, "operators on bits").numbers["operators"] == 2
