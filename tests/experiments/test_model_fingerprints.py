"""A model function is known by what it makes: an edit makes another model, a comment does not."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from larq_filter._keras import keras, tf
from larq_filter.experiments import model_fingerprints, own_code

import larq as lq

SOURCE = '''
import larq as lq
import numpy as np
import tensorflow as tf
from larq_filter._keras import keras


CLIP = 1.3


class Scale(keras.layers.Layer):
    """Without get_config."""

    FACTOR = 0.75

    def __init__(self, by, after, **kwargs):
        super().__init__(**kwargs)
        self.by, self._after = by, after

    def call(self, x):
        shifted = self._shift(x)
        return self._after(shifted * self.by * self.FACTOR)

    def _shift(self, x):
        return x + 0.125


def clip(x):
    return tf.clip_by_value(x, -CLIP, CLIP)


class Sign:
    """A quantizer without get_config."""

    precision = 1

    def __init__(self, width):
        self.width = width

    def __call__(self, x):
        @tf.custom_gradient
        def sign(x):
            return tf.sign(x), lambda dy: dy * tf.cast(tf.abs(x) < self.width, dy.dtype)

        return sign(x)


def threshold(at, bounds=(0.0, np.float32(1.0))):
    def sign(x):
        kind = "float32" if x.dtype.name in {"float32", "a", "b", "c", "d"} else None
        low, high = bounds
        return lq.math.sign(tf.cast(clip(x) - at - low * high, kind or x.dtype))

    sign.precision = 1
    return sign


@tf.custom_gradient
def wrapped(x):
    """With a gradient."""
    return tf.sign(x), lambda dy: dy * 1.5


def build(input_shape=(8, 8, 1), num_classes=3):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, name="first")(image)
    start = keras.layers.GaussianNoise(0.1)(x)
    x = lq.layers.QuantConv2D(
        4, 3, padding="same", kernel_quantizer="ste_sign", kernel_initializer=keras.initializers.
        RandomNormal(seed=3),
    )(start)
    x = middle = Scale(2.0, tf.nn.relu)(x)
    x = lq.layers.QuantConv2D(4, 3, padding="same", kernel_quantizer=Sign(1.0))(x)
    x = lq.layers.QuantConv2D(4, 3, padding="same", kernel_quantizer=threshold(0.25))(x)
    x = lq.layers.QuantConv2D(4, 3, padding="same", kernel_quantizer=wrapped)(x)
    x = keras.layers.Activation(lambda x: x + 0.5)(x)
    x = keras.layers.Lambda(lambda x: tf.abs(x))(x)
    x = keras.layers.Lambda(lambda x: x, output_shape=lambda shape: shape)(x)
    x = keras.layers.add([x, start]) * 3.0
    one, other = tf.split(tf.cast(x, tf.float32), 2, axis=-1)
    x = tf.concat([one, other], axis=-1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(num_classes)])
    return keras.Model(image, keras.layers.Softmax()(inner(x)))
'''
CHANGES = {
    "a quantizer": ('quantizer="ste_sign"', 'quantizer="approx_sign"'),
    "a layer": ("x = keras.layers.add", "x = keras.layers.ReLU()(x)\n    x = keras.layers.add"),
    "a setting": ("GaussianNoise(0.1)", "GaussianNoise(0.2)"),
    "a width": ("Conv2D(4, 3, name", "Conv2D(4, 1, name"),
    "wiring": ("add([x, start])", "add([x, middle])"),
    "a constant of the graph": ("* 3.0", "* 4.0"),
    "a frozen layer": (
        "keras.layers.Dense(num_classes)",
        "keras.layers.Dense(num_classes, trainable=False)",
    ),
    "the other output of a layer": ("concat([one, other]", "concat([other, one]"),
    "a type": ("tf.cast(x, tf.float32)", "tf.cast(x, tf.float64)"),
    "an own layer's argument": ("Scale(2.0", "Scale(3.0"),
    "an own layer's private argument": ("tf.nn.relu)", "tf.nn.tanh)"),
    "an own layer's code": ("shifted * self.by", "shifted + self.by"),
    "an own layer's method": ("return x + 0.125", "return x + 0.25"),
    "an own class's attribute": ("FACTOR = 0.75", "FACTOR = -3.0"),
    "a constant of the module": ("CLIP = 1.3", "CLIP = 0.05"),
    "code that own code calls": ("(x, -CLIP, CLIP)", "(x, -CLIP, 2 * CLIP)"),
    "a default": ("np.float32(1.0)", "np.float32(2.0)"),
    "a lambda": ("x + 0.5", "x + 0.25"),
    "code of a Lambda": ("tf.abs(x))(x)", "tf.square(x))(x)"),
    "an own quantizer's argument": ("Sign(1.0)", "Sign(1.5)"),
    "an own quantizer's gradient": ("tf.abs(x) <", "tf.abs(x) <="),
    "a value closed over": ("threshold(0.25)", "threshold(0.5)"),
    "code of a function": (") - at", ") + at"),
    "code under a wrapper": ("dy * 1.5", "dy * 2.5"),
}
ALIKE = {
    "nothing": ("", ""),
    "lines": ("class Scale", "\n\n\nclass Scale"),
    "comments": ("return x + 0.125", "return x + 0.125  # shifted"),
    "docstrings": ("With a gradient", "With its own gradient"),
    "a new docstring": ("def call(self, x):", 'def call(self, x):\n        """Scaled."""'),
    "lines within a call": ("Lambda(lambda x: x, ", "Lambda(\n        lambda x: x,\n        "),
    "names of variables": ("shifted", "moved"),
    "code that nothing calls": ("CLIP = 1.3", "CLIP = 1.3\nOTHER = 2\ndef f(x):\n    return x"),
    "names of layers": ('name="first"', 'name="one"'),
    "seeds": ("seed=3", "seed=4"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function that gives the model of the source with one change."""

    def make(old="", new="", source=SOURCE):
        path = tmp_path_factory.mktemp("modules") / "mymodels.py"
        assert old in source
        path.write_text(source.replace(old, new))
        spec = importlib.util.spec_from_file_location("mymodels", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.build()

    return make


@pytest.fixture(scope="module")
def plain(made):
    return model_fingerprints.fingerprint([made()])


@pytest.mark.parametrize("change", CHANGES)
def test_what_makes_another_model(change, plain, made):
    found = model_fingerprints.fingerprint([made(*CHANGES[change])])
    assert found != plain


@pytest.mark.parametrize("change", ALIKE)
def test_what_does_not(change, plain, made):
    keras.layers.Dense(1)  # Keras numbers the next ones otherwise
    assert model_fingerprints.fingerprint([made(*ALIKE[change])]) == plain


def test_counts_are_for_people(plain, made):
    model = made()
    assert plain["weights"] == sum(int(np.prod(v.shape)) for v in model.variables)
    inside = [each for each in model.submodules if isinstance(each, keras.layers.Layer)]
    assert plain["layers"] == 1 + len(inside)


@pytest.mark.slow
def test_another_process_finds_the_same(plain, tmp_path):
    """Sets have another order there, and objects other addresses."""
    (tmp_path / "mymodels.py").write_text(SOURCE)
    code = "import larq_filter, mymodels; from larq_filter.experiments import model_fingerprints; "
    code += "print(model_fingerprints.fingerprint([mymodels.build()]))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(found.stdout) == plain


def test_a_subclassed_model_is_known_by_its_code(made):
    source = """
from larq_filter._keras import keras

class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.a, self.b = keras.layers.Dense(4), keras.layers.Dense(4)

    def call(self, x):
        return self.b(self.a(x))

def build():
    model = Net()
    model.build((None, 4))
    return model
"""
    one, same = (model_fingerprints.fingerprint([made(source=source)]) for _ in range(2))
    other = model_fingerprints.fingerprint([made("self.b(self.a(x))", "self.a(self.b(x))", source)])
    assert one == same and one["structure"] == other["structure"] and one != other


class Numbered(keras.layers.Layer):
    """Counts its layers, and has a name of Keras under a key of its own."""

    COUNT = 0

    def __init__(self, power=1, partner=None, **kwargs):
        super().__init__(**kwargs)
        self.power, self.partner = power, partner or keras.layers.ReLU().name
        Numbered.COUNT += 1
        self.number = Numbered.COUNT

    def call(self, x):
        return x**self.power

    def get_config(self):
        return {**super().get_config(), "power": self.power, "partner": self.partner}


def test_what_counts_itself_does_not_count():
    def twice(power=1):
        networks = (keras.Sequential([keras.Input((4,)), Numbered(power)]) for _ in range(2))
        return model_fingerprints.fingerprint(networks)

    first = twice()
    assert first == twice() and first != twice(power=2)


def test_code_of_libraries_is_not_read():
    """It may change with their versions; configs and shapes remain."""
    layers = [keras.layers.Dense(1), lq.layers.QuantDense(1, kernel_quantizer="ste_sign")]
    assert own_code.of([*layers, tf.nn.relu, np.float32(1), pathlib.Path(), 3, "text"]) == []


def test_a_closure_that_is_not_filled_yet():
    def outer():
        def inner():
            return later

        found = own_code.of([inner])
        later = 1
        return found, own_code.of([inner]), later

    before, after, _ = outer()
    assert before and before != after
