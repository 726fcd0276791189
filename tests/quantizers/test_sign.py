"""Quantizers of the family in models: trained, saved, resumed, converted, exported."""

import contextlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

from larq_filter import binary, conversion, export, quantizers
from larq_filter._keras import keras, tf
from larq_filter.optimizers import LatentOptimizer

import larq as lq

layers = keras.layers
SHAPE = (6, 6, 8)


def conv(kernel_quantizer, input_quantizer="ste_sign", **options):
    return lq.layers.QuantConv2D(
        4,
        3,
        padding="same",
        pad_values=1,
        input_quantizer=input_quantizer,
        kernel_quantizer=kernel_quantizer,
        kernel_constraint=lq.constraints.WeightClip(1.25),
        use_bias=False,
        **options,
    )


def network(*names, seed=0):
    """A branch with each named quantizer, and those for activations that have its name."""
    keras.utils.set_random_seed(seed)
    image = layers.Input(SHAPE)
    branches = []
    for name in names:
        inputs = quantizers.get(name, inputs=True) if name in quantizers.INPUTS else "ste_sign"
        x = conv(quantizers.get(name), inputs, name=name)(image)
        x = layers.BatchNormalization(momentum=0.5, epsilon=1e-5)(x)
        branches.append(layers.GlobalAveragePooling2D()(x))
    x = layers.Concatenate()(branches) if len(branches) > 1 else branches[0]
    x = layers.Activation("softmax", dtype="float32")(layers.Dense(3)(x))
    return keras.Model(image, x)


def data(count=64):
    random = np.random.default_rng(0)
    x = random.normal(size=(count, *SHAPE)).astype(np.float32)
    return x, random.integers(0, 3, count)


def compiled(model, steps=12):
    optimizer = LatentOptimizer(keras.optimizers.Adam(0.02), keras.optimizers.Adam(0.01))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    quantizers.connect(model, steps)
    return model


def trained(model, epochs=2, **arguments):
    x, y = data()
    model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **arguments)
    return model


def latents(model):
    return {v.name: binary.latent(v).numpy() for v in model.weights}


@pytest.fixture(scope="module")
def everything():
    """One network with all quantizers, trained for eight steps."""
    model = compiled(network(*quantizers.KERNELS))
    start = latents(model)
    return trained(model), start


def test_all_train(everything):
    """Each kernel has moved; what follows the kernel too; the counter is the optimizer's."""
    model, start = everything
    for layer, kernel in binary.binary_kernels(model):
        assert np.abs(binary.latent(kernel) - start[kernel.name]).max() > 1e-3, layer.name
    lab = model.get_layer("lab").kernel_quantizer
    assert 0 < float(lab.weights[0]) < 1
    rbnn = model.get_layer("rbnn").kernel_quantizer
    assert [v.trainable for v in rbnn.weights] == [True, False, False]
    assert np.abs(rbnn.trainable_weights[0] - np.pi / 6).max() > 1e-3
    names = {variable.name for variable in model.weights}
    assert {v.name for v in [*lab.weights, *rbnn.weights]} <= names


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.keras", "model.h5", "model"])
def test_files_hold_quantizers_and_their_variables(everything, tmp_path, file):
    names = list(quantizers.KERNELS) if file == "model.keras" else ["ir_net", "rbnn", "lab"]
    if file == "model.h5":
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
    model = everything[0] if file == "model.keras" else trained(compiled(network(*names)))
    model.save(tmp_path / file)
    begins_anew = pytest.warns(UserWarning, match="begins anew")
    with begins_anew if file == "model" else contextlib.nullcontext():
        copy = keras.models.load_model(tmp_path / file)
    x, _ = data()
    np.testing.assert_array_equal(copy.predict(x, verbose=0), model.predict(x, verbose=0))
    for name in names:
        old, new = (m.get_layer(name).kernel_quantizer for m in (model, copy))
        assert type(new) is quantizers.Sign and new.parts == old.parts
        assert new.gradient == old.gradient
        for mine, theirs in zip(new.weights, old.weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_latent_free_it_computes_the_same(everything):
    model, _ = everything
    free = conversion.to_latent_free(model)
    x, _ = data(256)
    np.testing.assert_allclose(free.predict(x, verbose=0), model.predict(x, verbose=0), atol=2e-6)
    assert all(binary.holds_signs(kernel) for _, kernel in binary.binary_kernels(free))


@pytest.mark.slow
def test_a_copy_has_the_variables_of_its_quantizers(everything):
    model, _ = everything
    same = conversion.with_kernel_options(model, lambda *_: {})
    x, _ = data()
    np.testing.assert_array_equal(same.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.slow
@pytest.mark.extras
def test_all_names_export(everything):
    model, _ = everything
    x, _ = data(64)
    report = export.verify(model, export.convert(model), x)
    assert report.ok, str(report)


# Progress -----------------------------------------------------------------------------------------


def steepest(model):
    """The slope of IR-Net's activations at 0, which is 10 when the training is over."""
    quantizer = model.get_layer("ir_net").input_quantizer
    z = tf.zeros([1, 1])
    with tf.GradientTape() as tape:
        tape.watch(z)
        y = quantizer(z, training=True)
    return tape.gradient(y, z).numpy().item()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"steps_per_execution": 4}, {"run_eagerly": True}])
def test_progress_is_the_optimizers_own(arguments):
    """Bit for bit the same weights, however many steps are launched at once."""
    weights = []
    for options in ({}, arguments):
        model = network("ir_net", "binaryconnect")
        optimizer = LatentOptimizer(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
        model.compile(optimizer, "sparse_categorical_crossentropy", **options)
        quantizers.connect(model, 8)
        weights.append(latents(trained(model)))
    for mine, theirs in zip(*map(dict.values, weights), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert steepest(model) == pytest.approx(10)


@pytest.mark.slow
def test_a_resumed_training_goes_on_where_it_was(tmp_path):
    """The surrogate, the random signs, the angles and rotations of RBNN, the scale of LAB."""
    names = ("ir_net", "recu", "reste", "rbnn", "lab", "binaryconnect")
    whole = trained(compiled(network(*names), 8))
    half = trained(compiled(network(*names), 8), epochs=1)
    half.save(tmp_path / "half.keras")
    resumed = keras.models.load_model(tmp_path / "half.keras")
    with pytest.raises(RuntimeError, match="call larq_filter.quantizers.connect"):
        trained(resumed)
    quantizers.connect(resumed, 8)
    trained(resumed, initial_epoch=1)
    for mine, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    forgetful = keras.models.load_model(tmp_path / "half.keras")
    quantizers.connect(forgetful, 800)
    trained(forgetful, initial_epoch=1)
    assert np.abs(forgetful.get_weights()[0] - whole.get_weights()[0]).max() > 1e-4


@pytest.mark.slow
def test_a_network_that_was_loaded_to_be_used_is_saved_in_any_format(tmp_path):
    """Nobody has connected it: Keras' SavedModel traces its training all the same."""
    trained(compiled(network("ir_net", "binaryconnect", "rbnn"), 8)).save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras", compile=False)
    loaded.save(tmp_path / "folder")
    again = keras.models.load_model(tmp_path / "folder", compile=False)
    x, _ = data()
    expected = loaded.predict(x, verbose=0)
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, rtol=1e-5)
    with pytest.raises(RuntimeError, match="does not know how long it is"):
        loaded(x, training=True)


@pytest.mark.slow
def test_replicas_share_one_training():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = compiled(network("ir_net", "rbnn", "lab"), 8)
    trained(model)
    assert steepest(model) == pytest.approx(10)
    own = [model.get_layer(name).kernel_quantizer.weights for name in ("rbnn", "lab")]
    for variable in [*model.trainable_weights, *own[0], *own[1]]:
        first, second = (binary.latent(copy).numpy() for copy in binary.replicas(variable))
        np.testing.assert_array_equal(first, second)
    assert own[1][0].numpy() > 0


@pytest.mark.slow
def test_other_optimizers_advance_it_too():
    """Larq's CaseOptimizer keeps its own counter at 0; a loss scale is around the optimizer."""
    model = network("ir_net")
    legacy = keras.optimizers.legacy.Adam(0.01)
    model.compile(
        lq.optimizers.CaseOptimizer(
            (lq.optimizers.Bop.is_binary_variable, keras.optimizers.legacy.SGD(0.1)),
            default_optimizer=legacy,
        ),
        "sparse_categorical_crossentropy",
    )
    quantizers.connect(model, 8)
    trained(model)
    assert steepest(model) == pytest.approx(10)
    model = network("ir_net")
    scaled = keras.mixed_precision.LossScaleOptimizer(LatentOptimizer("sgd", "sgd"))
    model.compile(scaled, "sparse_categorical_crossentropy")
    quantizers.connect(model, 8)
    trained(model)
    assert steepest(model) == pytest.approx(10)


@pytest.mark.slow
def test_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = network("ir_net", "rbnn", "lab", "reste", "binaryconnect")
    optimizer = LatentOptimizer(keras.optimizers.Adam(0.02), keras.optimizers.Adam(0.01))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    quantizers.connect(model, 8)
    start = latents(model)
    trained(model)
    for _, kernel in binary.binary_kernels(model):
        assert np.abs(binary.latent(kernel) - start[kernel.name]).max() > 1e-3


# Wrong arguments ----------------------------------------------------------------------------------


def test_a_training_that_does_not_know_its_length_is_refused():
    model = network("ir_net")
    model.compile(LatentOptimizer("sgd", "sgd"), "sparse_categorical_crossentropy")
    x, y = data()
    model.evaluate(x, y, verbose=0)  # no gradient, no progress needed
    with pytest.raises(RuntimeError, match="does not know how long it is"):
        model.fit(x, y, verbose=0)


def test_after_that_error_the_weights_are_still_latent():
    """Raised in a layer's call, it would leave Larq's scope open, in which they read as signs."""
    model = network("binaryconnect")
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.get_weights()
    with pytest.raises(RuntimeError, match="does not know how long it is"):
        model.fit(*data(), verbose=0)
    assert not lq.context.should_quantize()
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_model_that_was_compiled_again_is_to_be_connected_again():
    """Else its surrogate would follow a counter that stands still."""
    model = compiled(network("ir_net"), 8)
    trained(model, epochs=1)
    model.compile(model.optimizer, "sparse_categorical_crossentropy")
    trained(model, epochs=1)  # the same counter
    assert steepest(model) == pytest.approx(10)
    model.compile(LatentOptimizer("sgd", "sgd"), "sparse_categorical_crossentropy")
    with pytest.raises(RuntimeError, match="compiled with before.*call larq_filter.quant"):
        trained(model)
    model.evaluate(*data(), verbose=0)
    quantizers.connect(model, 8)
    trained(model, epochs=1)
    assert steepest(model) < 5  # halfway again


@pytest.mark.parametrize("name", ["lab", "rbnn", "binaryconnect"])
def test_one_quantizer_for_two_kernels_is_refused(name):
    """Its scale, rotation or random numbers would be those of one of them."""
    shared = quantizers.get(name)
    x = image = layers.Input(SHAPE)
    for layer in (conv(shared, name="first"), conv(shared, name="second")):
        x = layer(x)
        x = layers.Concatenate()([x, x])  # as many channels as the image
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    model.compile(LatentOptimizer("adam", "adam"), "sparse_categorical_crossentropy")
    words = "first/kernel.* and second/kernel.* have one quantizer object.*its own"
    with pytest.raises(ValueError, match=words):
        quantizers.connect(model, 8)
    with pytest.raises(ValueError, match=words):
        model.optimizer.build(model.trainable_variables)
    twice = keras.Sequential([lq.layers.QuantDense(4, kernel_quantizer=quantizers.get("lab"))] * 2)
    twice.build((None, 4))
    twice.compile(LatentOptimizer("adam", "adam"), "mse")
    quantizers.connect(twice, 8)  # one layer, used twice, has one kernel


def test_connect_refuses():
    model = network("rbnn")
    with pytest.raises(ValueError, match="not compiled"):
        quantizers.connect(model, 8)
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="only larq_filter.LatentOptimizer"):
        quantizers.connect(model, 8)
    with pytest.raises(ValueError, match="steps"):
        quantizers.connect(model, 0)
    with pytest.raises(TypeError, match="must be a tf.keras.Model, not 'model'"):
        quantizers.connect("model", 8)
    with pytest.raises(ValueError, match=r"Unknown quantizer \['ste'\]"):
        quantizers.get(["ste"])


def test_a_curvature_without_adam_is_refused():
    model = network("lab")
    model.compile(LatentOptimizer("sgd", "sgd"), "sparse_categorical_crossentropy")
    quantizers.connect(model, 8)
    with pytest.raises(TypeError, match="second moment of Adam"):
        trained(model)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"transform": quantizers.Approx()}, "`transform` must be a Transform"),
        ({"surrogate": 1.0}, "`surrogate` must be a Surrogate"),
        ({"scale": "mean"}, "`scale` must be a Scale"),
        ({"gradient": "both"}, "gradient"),
    ],
)
def test_wrong_parts_are_refused(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        quantizers.Sign(**arguments)


@pytest.mark.parametrize(
    "make",
    [
        lambda: quantizers.Straight(-1.0),
        lambda: quantizers.Ranks(1.0),
        lambda: quantizers.Quantile(0.4),
        lambda: quantizers.Power(0.5),
        lambda: quantizers.Tanh(0.0),
        lambda: quantizers.ElementWise(3.0),
        lambda: quantizers.Standardize("layer"),
        lambda: quantizers.Rotate(0),
        lambda: quantizers.get("irnet"),
        lambda: quantizers.get("lab", inputs=True),
    ],
)
def test_numbers_outside_their_intervals_are_refused(make):
    with pytest.raises(ValueError, match="must|choose"):
        make()


# One's own ----------------------------------------------------------------------------------------

SURROGATE = """
import dataclasses

import larq_filter as lf


@lf.quantizers.register
@dataclasses.dataclass(frozen=True, eq=False)
class Cauchy(lf.quantizers.Surrogate):
    inputs = ("progress",)
    width: float = 1.0

    def slope(self, z, given, xp):
        return 1 / (1 + (z / (self.width * (1.1 - given["progress"]))) ** 2)
"""

PROGRAM = """
import sys
import numpy as np
import larq_filter as lf
import users_surrogate
from larq_filter._keras import keras
import larq

def network():
    keras.utils.set_random_seed(0)
    quantizer = lf.quantizers.Sign(surrogate=users_surrogate.Cauchy(0.7))
    layer = larq.layers.QuantDense(5, kernel_quantizer=quantizer, kernel_constraint="weight_clip")
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Activation("softmax")])
    model.compile(lf.LatentOptimizer("adam"), "sparse_categorical_crossentropy")
    return model

def train(model, **epochs):
    lf.quantizers.connect(model, 8)
    x = np.random.default_rng(0).normal(size=(16, 4))
    model.fit(x, np.arange(16) % 5, batch_size=4, shuffle=False, verbose=0, **epochs)
    return np.asarray(lf.binary.latent(model.layers[0].kernel))

start = lf.binary.latent(network().layers[0].kernel)
whole = train(network(), epochs=2)
half = network()
train(half, epochs=1)
half.save("half.keras")
resumed = keras.models.load_model("half.keras")
assert np.abs(whole - start).max() > 1e-3
assert np.array_equal(whole, train(resumed, epochs=2, initial_epoch=1))
assert resumed.layers[0].kernel_quantizer.surrogate == users_surrogate.Cauchy(0.7)
"""


@pytest.mark.slow
def test_a_surrogate_of_ones_own_in_a_file_outside_the_package(tmp_path):
    """Ten lines: trained, saved, loaded, resumed bit for bit."""
    assert len([line for line in SURROGATE.splitlines() if line.strip()]) <= 10
    (tmp_path / "users_surrogate.py").write_text(SURROGATE)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
