"""What every test starts from: Keras 2, two logical CPUs, known seeds, float32."""

import hypothesis
import pytest

from larq_filter._keras import keras, tf  # before any test imports Larq or tf.keras
from larq_filter.experiments import memory
from listening import listening

import larq  # isort: skip

# Two logical devices, so that MirroredStrategy has replicas. TensorFlow takes the number of
# devices only before it computes anything.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


# Examples are not timed: the machine may be doing other work. They are the same in every run: a
# change fails by what it changes, and `make soak` searches for new ones.
hypothesis.settings.register_profile("untimed", deadline=None, derandomize=True)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="module")
def memory_given_back():
    """A worker of the tests builds hundreds of networks."""
    with memory.graphs_forgotten():
        yield


@pytest.fixture(autouse=True)
def seeded():
    """Seed Python, NumPy and TensorFlow, and forget the layers of the test before."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def latent_weights_read_as_they_are():
    """Larq's scope stays open where a layer call raises; the next test finds it closed."""
    with larq.context.quantized_scope(False):
        yield


@pytest.fixture(autouse=True)
def dtypes_restored():
    """A test may change the default dtypes; the next one finds float32."""
    yield
    keras.backend.set_floatx("float32")
    keras.mixed_precision.set_global_policy(None)  # whatever floatx says


@pytest.fixture
def said():
    """What the library logs during the test, a text a message."""
    with listening() as lines:
        yield lines


@pytest.fixture
def strategy():
    """A MirroredStrategy with two replicas."""
    # The default reduction numbers its collectives process-wide, and strategies would collide.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
