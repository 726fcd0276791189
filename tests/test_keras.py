"""Import orders and missing packages, each in a Python process of its own."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from larq_filter._keras import tf
from paths import ROOT

TF_MINOR = int(tf.__version__.split(".")[1])

ships_keras_2 = pytest.mark.skipif(TF_MINOR > 15, reason="this TensorFlow ships Keras 3")
ships_keras_3 = pytest.mark.skipif(TF_MINOR < 16, reason="this TensorFlow ships Keras 2")
needs_tf_keras = pytest.mark.skipif(
    importlib.util.find_spec("tf_keras") is None, reason="tf-keras is not installed"
)

AGREE = """
import larq_filter, larq
import tensorflow as tf
from larq_filter._keras import keras
from tensorflow import keras as from_tensorflow
from tensorflow.keras import layers
from tensorflow.keras.optimizers import Adam

assert not hasattr(keras, "__version__"), keras.__version__  # only Keras 3 has it
assert layers.Dense is keras.layers.Dense is tf.keras.layers.Dense
assert from_tensorflow.layers.Dense is keras.layers.Dense
assert Adam is keras.optimizers.Adam is tf.keras.optimizers.Adam is tf.optimizers.Adam
assert issubclass(larq.layers.QuantConv2D, keras.layers.Conv2D)
assert issubclass(larq_filter.FilterOptimizer, keras.optimizers.Optimizer)
print("agreed")
"""

# What a process would find installed: other versions, or nothing at all.
INSTALLED = """
import sys
from importlib import metadata

versions, real = {versions!r}, metadata.version

def version(name):
    if name in versions and versions[name] is None:
        raise metadata.PackageNotFoundError(name)
    return versions.get(name) or real(name)

metadata.version = version
for module in {missing!r}:
    sys.modules[module] = None  # importing it fails, and find_spec finds nothing
"""


def python(code, variable=None):
    """Run code in a new process; variable is TF_USE_LEGACY_KERAS."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    if variable is not None:
        environment["TF_USE_LEGACY_KERAS"] = variable
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )


def import_error(code, variable=None):
    """The message of the ImportError that ends the code, without its line breaks."""
    result = python(code, variable)
    last_line = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1, result.stdout + result.stderr
    assert last_line.startswith("ImportError: "), result.stderr
    return last_line


def error_where(*, versions=None, missing=(), variable=None):
    setup = INSTALLED.format(versions=versions or {}, missing=missing)
    return import_error(setup + "import larq_filter", variable)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first, variable",
    [
        ("import larq_filter", None),
        ("import tensorflow, keras", None),
        pytest.param("import larq", None, marks=ships_keras_2),
        pytest.param("import tensorflow as tf; tf.keras.layers.Dense", None, marks=ships_keras_2),
        pytest.param("import larq", "1", marks=needs_tf_keras),
        pytest.param("import tensorflow as tf; tf.keras.layers.Dense", "1", marks=needs_tf_keras),
    ],
)
def test_any_import_order_ends_with_one_keras_2(first, variable):
    result = python(first + AGREE, variable)
    assert result.stdout.endswith("agreed\n"), result.stderr


@pytest.mark.slow
@ships_keras_3
def test_the_variable_may_be_set_after_tensorflow_is_imported():
    result = python(
        'import os, tensorflow; os.environ["TF_USE_LEGACY_KERAS"] = "true"; import larq_filter'
        + AGREE
    )
    assert result.stdout.endswith("agreed\n"), result.stderr


@pytest.mark.slow
@ships_keras_3
@pytest.mark.parametrize(
    "touch",
    [
        "from tensorflow.keras.layers import Dense",
        "import tensorflow as tf; tf.losses.Loss",
        "try: import larq\nexcept AttributeError: pass",
    ],
    ids=["tensorflow.keras", "tf.losses", "larq"],
)
def test_keras_3_already_loaded(touch):
    check = """
import os
try:
    import larq_filter
finally:
    assert "TF_USE_LEGACY_KERAS" not in os.environ
"""
    message = import_error(touch + check)
    assert re.search(r"Keras 3\.\d+\.\d+ is already loaded as tf\.keras", message)
    assert "import larq_filter before tf.keras is first used" in message
    assert "set TF_USE_LEGACY_KERAS=1 before TensorFlow is first imported" in message


@ships_keras_3
@pytest.mark.parametrize("value", ["0", "TRUE"])
def test_a_variable_that_tensorflow_reads_as_off(value):
    message = error_where(variable=value)
    assert f"TF_USE_LEGACY_KERAS={value} keeps Keras 3" in message
    assert "Unset TF_USE_LEGACY_KERAS, or set it to 1" in message


def test_tf_keras_missing():
    message = error_where(versions={"tensorflow": "2.19.1"}, missing=["tf_keras"])
    assert "TensorFlow 2.19.1 ships Keras 3" in message
    assert message.endswith('Type: pip install "tf-keras~=2.19.0"')


@needs_tf_keras
@pytest.mark.parametrize("tensorflow, pin", [("2.18.1", "2.18.0"), ("2.20.0rc0", "2.20.0")])
def test_tf_keras_of_another_minor_version(tensorflow, pin):
    message = error_where(versions={"tensorflow": tensorflow, "tf-keras": "2.17.0"})
    assert f"tf-keras 2.17.0 does not fit TensorFlow {tensorflow}" in message
    assert message.endswith(f'Type: pip install "tf-keras~={pin}"')


def test_variable_set_where_tensorflow_ships_keras_2():
    message = error_where(
        versions={"tensorflow": "2.15.1", "keras": "2.15.0"}, missing=["tf_keras"], variable="1"
    )
    assert "TF_USE_LEGACY_KERAS=1 asks for the package tf-keras" in message
    assert "TensorFlow 2.15.1 ships Keras 2 itself: unset TF_USE_LEGACY_KERAS" in message
    assert message.endswith('pip install "tf-keras~=2.15.0"')


def test_keras_3_beside_tensorflow_2_15():
    message = error_where(versions={"tensorflow": "2.15.1", "keras": "3.0.5"}, missing=["tf_keras"])
    assert message.endswith('Type: pip install "tf-keras~=2.15.0"')


def test_tensorflow_too_old():
    message = error_where(versions={"tensorflow": "2.13.1"})
    assert "needs TensorFlow 2.15 or later, and found 2.13.1" in message
    assert message.endswith('Type: pip install "tensorflow>=2.15" "tf-keras>=2.15"')


def test_tensorflow_from_a_distribution_of_another_name():
    stub = """
import importlib.machinery, types
sys.modules["tensorflow"] = types.ModuleType("tensorflow")
sys.modules["tensorflow"].__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
sys.modules["tensorflow"].__version__ = "2.14.0"
"""
    setup = INSTALLED.format(versions={"tensorflow": None}, missing=[])
    message = import_error(setup + stub + "import larq_filter")
    assert "needs TensorFlow 2.15 or later, and found 2.14.0" in message


def test_tensorflow_missing():
    message = error_where(missing=["tensorflow"])
    assert "needs TensorFlow 2.15 or later, and found none" in message
    assert message.endswith('Type: pip install "tensorflow>=2.15" "tf-keras>=2.15"')


def test_larq_missing():
    message = error_where(missing=["larq"])
    assert message.endswith('needs Larq, and found none. Type: pip install "larq>=0.14"')
