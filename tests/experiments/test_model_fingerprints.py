"""A model function is known by what it makes: an edit makes another model, a comment does not."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from larq_filter._keras import keras
from larq_filter.experiments import model_fingerprints

SOURCE = '''
import functools
import larq as lq
import tensorflow as tf
from larq_filter._keras import keras


class Scale(keras.layers.Layer):
    """Without get_config."""

    def __init__(self, by, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, x):
        return x * self.by


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


def threshold(at):
    def sign(x):
        kind = "float32" if x.dtype.name in {"float32", "a", "b", "c", "d"} else None
        return lq.math.sign(tf.cast(x - at, kind or x.dtype))

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
    x = middle = Scale(2.0)(x)
    x = lq.layers.QuantConv2D(4, 3, padding="same", kernel_quantizer=Sign(1.0))(x)
    x = lq.layers.QuantConv2D(4, 3, padding="same", kernel_quantizer=threshold(0.25))(x)
    x = lq.layers.QuantConv2D(4, 3, padding="same", kernel_quantizer=wrapped)(x)
    x = keras.layers.Activation(lambda x: x + 0.5)(x)
    x = keras.layers.Lambda(lambda x: tf.abs(x))(x)
    x = keras.layers.add([x, start]) * 3.0
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
    "an own layer's argument": ("Scale(2.0)", "Scale(3.0)"),
    "an own layer's code": ("return x * self.by", "return x + self.by"),
    "a lambda": ("x + 0.5", "x + 0.25"),
    "code of a Lambda": ("tf.abs(x))(x)", "tf.square(x))(x)"),
    "an own quantizer's argument": ("Sign(1.0)", "Sign(1.5)"),
    "an own quantizer's gradient": ("tf.abs(x) <", "tf.abs(x) <="),
    "a value closed over": ("threshold(0.25)", "threshold(0.5)"),
    "code of a function": ("x - at", "x + at"),
    "code under a wrapper": ("dy * 1.5", "dy * 2.5"),
}
ALIKE = {
    "nothing": ("", ""),
    "lines": ("class Scale", "\n\n\nclass Scale"),
    "comments": ("return x * self.by", "return x * self.by  # scaled"),
    "docstrings": ("With a gradient", "With its own gradient"),
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
    return model_fingerprints.fingerprint(made())


@pytest.mark.parametrize("change", CHANGES)
def test_what_makes_another_model(change, plain, made):
    found = model_fingerprints.fingerprint(made(*CHANGES[change]))
    assert found["built"] != plain["built"]


@pytest.mark.parametrize("change", ALIKE)
def test_what_does_not(change, plain, made):
    keras.layers.Dense(1)  # Keras numbers the next ones otherwise
    assert model_fingerprints.fingerprint(made(*ALIKE[change])) == plain


def test_counts_are_for_people(plain, made):
    model = made()
    assert plain["weights"] == sum(int(np.prod(v.shape)) for v in model.variables)
    inside = [each for each in model.submodules if isinstance(each, keras.layers.Layer)]
    assert plain["layers"] == 1 + len(inside)


def test_another_process_finds_the_same(plain, tmp_path):
    """Sets have another order there, and objects other addresses."""
    (tmp_path / "mymodels.py").write_text(SOURCE)
    code = "import larq_filter, mymodels; from larq_filter.experiments import model_fingerprints; "
    code += "print(model_fingerprints.fingerprint(mymodels.build())['built'])"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == plain["built"]


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
    one, same = (model_fingerprints.fingerprint(made(source=source)) for _ in range(2))
    other = model_fingerprints.fingerprint(made("self.b(self.a(x))", "self.a(self.b(x))", source))
    assert one == same and one["weights"] == other["weights"] and one["built"] != other["built"]


def test_no_library_is_read():
    """Its code may change with its version; configs and shapes remain."""
    for module in (keras.layers, np, pathlib):
        thing = next(v for v in vars(module).values() if isinstance(v, type))
        assert not model_fingerprints._is_own(thing)
