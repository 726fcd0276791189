"""Where the package takes `tf.keras` from: Keras 2, or an error that says what to type.

Larq is written for Keras 2. TensorFlow 2.15 ships it. TensorFlow 2.16 and later ship Keras 3 as
`tf.keras` and load Keras 2 from the package tf-keras if `TF_USE_LEGACY_KERAS` is 1 at the moment
`tf.keras` is first used. Importing this module sets the variable in time, and checks the outcome.
Every other module of the package takes `tf` and `keras` from here.
"""

import os
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

_VARIABLE = "TF_USE_LEGACY_KERAS"
_ON = ("1", "true", "True")  # the only values that TensorFlow reads as "on"
_STACK = 'pip install "tensorflow>=2.15" "tf-keras>=2.15"'


def _version(distribution):
    """Version of an installed distribution, None where it is unknown."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _major_minor(version):
    return tuple(int(part) for part in version.split(".")[:2])


def _tensorflow_version():
    """Version of TensorFlow, where possible without the seconds that its import takes."""
    if find_spec("tensorflow") is None:
        raise ImportError(
            f"larq_filter needs TensorFlow 2.15 or later, and found none. Type: {_STACK}"
        )
    # Some builds have a distribution of another name, such as tensorflow-cpu.
    version = _version("tensorflow") or import_module("tensorflow").__version__
    if _major_minor(version) < (2, 15):
        raise ImportError(
            f"larq_filter needs TensorFlow 2.15 or later, and found {version}. Type: {_STACK}"
        )
    return version


def _check_tf_keras(tensorflow, shipped):
    """Raise unless the package tf-keras is there in the version that TensorFlow needs."""
    major, minor = _major_minor(tensorflow)
    install = f'pip install "tf-keras~={major}.{minor}.0"'
    if find_spec("tf_keras") is None:
        if shipped == 2:
            raise ImportError(
                f"{_VARIABLE}={os.environ[_VARIABLE]} asks for the package tf-keras, which is not "
                f"installed. TensorFlow {tensorflow} ships Keras 2 itself: unset {_VARIABLE}. "
                f"To keep the variable, type: {install}"
            )
        raise ImportError(
            f"Larq needs Keras 2. TensorFlow {tensorflow} ships Keras 3, and the package tf-keras, "
            f"which holds Keras 2, is not installed. Type: {install}"
        )
    version = _version("tf-keras")
    if version is not None and _major_minor(version) != (major, minor):
        raise ImportError(
            f"tf-keras {version} does not fit TensorFlow {tensorflow}: the minor versions must be "
            f"equal. Type: {install}"
        )


def _import_tensorflow(shipped):
    """Import TensorFlow, with `tf.keras` bound to Keras 2."""
    asked = os.environ.get(_VARIABLE)
    if shipped == 3:
        if asked and asked not in _ON:
            raise ImportError(
                f"{_VARIABLE}={asked} keeps Keras 3 as tf.keras, and Larq needs Keras 2. "
                f"Unset {_VARIABLE}, or set it to 1."
            )
        os.environ[_VARIABLE] = asked or "1"
    tf = import_module("tensorflow")
    if not _is_keras_2(tf):
        if not asked:
            del os.environ[_VARIABLE]  # the process goes on with Keras 3, as it was
        raise ImportError(
            f"Larq needs Keras 2, and Keras {_version('keras')} is already loaded as tf.keras, or "
            "as a part of it. Start Python again (in a notebook, restart the runtime), and import "
            f"larq_filter before tf.keras is first used, or set {_VARIABLE}=1 before TensorFlow "
            "is first imported."
        )
    if os.environ.get(_VARIABLE) in _ON:
        # `import tensorflow.keras` searches tf.__path__, which TensorFlow fills while it is
        # imported. If that was before the variable was set, the path still leads to Keras 3.
        path = str(Path(import_module("tf_keras").__file__).parent / "api" / "_v2")
        if path not in tf.__path__:
            tf.__path__.insert(0, path)
    return tf


def _is_keras_2(tf):
    """Whether `tf.keras`, and its aliases such as `tf.losses`, all lead to Keras 2.

    Each is bound at its own first use. Only Keras 3 has `tf.keras.__version__`.
    """
    return not hasattr(tf.keras, "__version__") and (
        tf.initializers.Initializer is tf.keras.initializers.Initializer
        and tf.losses.Loss is tf.keras.losses.Loss
        and tf.metrics.Metric is tf.keras.metrics.Metric
        and tf.optimizers.Optimizer is tf.keras.optimizers.Optimizer
    )


def _load():
    """Check what is installed, then import it."""
    tensorflow = _tensorflow_version()
    newer = _major_minor(tensorflow) > (2, 15)
    shipped = 3 if newer or _major_minor(_version("keras") or "2.15") >= (3, 0) else 2
    if shipped == 3 or os.environ.get(_VARIABLE) in _ON:
        _check_tf_keras(tensorflow, shipped)
    if find_spec("larq") is None:
        raise ImportError('larq_filter needs Larq, and found none. Type: pip install "larq>=0.14"')
    return _import_tensorflow(shipped)


tf = _load()
keras = tf.keras
