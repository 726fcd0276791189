"""Kernels that hold -1 and +1: how they are told, read, set and drawn.

Larq marks a kernel by wrapping it in a ``QuantizedVariable`` whose quantizer has ``precision`` 1.
"""

from typing import Any

from larq_filter import serialization
from larq_filter._keras import keras, tf
from larq_filter._validation import validate_seed

# Larq's own import needs Keras 2, which the line above made sure of.
import larq  # isort: skip
from larq.quantized_variable import QuantizedVariable  # isort: skip


def is_binary(variable: Any) -> bool:
    """Whether Larq marks ``variable`` as 1 bit wide: a quantizer of ``precision`` 1 is attached."""
    return isinstance(variable, QuantizedVariable) and variable.precision == 1


def is_quantized(variable) -> bool:
    """Whether Larq attaches a quantizer to ``variable``, of 1 bit or more."""
    return isinstance(variable, QuantizedVariable)


def sign(values: Any) -> Any:
    """-1 where ``values`` is negative, else +1 (Larq's convention for zero); a tensor."""
    values = tf.convert_to_tensor(values)
    one = tf.ones_like(values)
    return tf.where(values < 0, -one, one)


def replicas(variable) -> tuple:
    """The variable's copies, one per replica; the variable itself when there is no strategy."""
    if isinstance(variable, tf.distribute.DistributedValues):
        return tuple(variable.values)
    return (variable,)


def binarize(variable: Any) -> None:
    """Sets ``variable`` to its signs, on every replica.

    An assignment to a distributed variable inside a replica reaches that replica only; this one is
    made on each copy.
    """
    for copy in replicas(variable):
        copy.assign(sign(latent(copy)))


def latent(variable: Any) -> Any:
    """The stored values of ``variable`` as a tensor: never what its quantizer makes of them."""
    stored = getattr(variable, "latent_variable", variable)
    return tf.convert_to_tensor(stored)


def stored(variable: Any) -> Any:
    """The plain ``tf.Variable`` behind what Larq and mixed precision wrap around it."""
    variable = getattr(variable, "latent_variable", variable)
    return getattr(variable, "_variable", variable)


class _WithoutConstraint(QuantizedVariable):
    """The same variable, for whoever applies constraints at a time that is too early."""

    @property
    def constraint(self):
        return None


def without_constraint(variable):
    """A quantized ``variable`` whose ``constraint`` is None; values and identity are the same."""
    return _WithoutConstraint.from_variable(
        variable.latent_variable, variable.quantizer, variable.precision
    )


def is_low(variable: Any) -> Any:
    """True where a binary kernel is the lower of its two values, a tensor of its shape.

    The sign of latent weights alone would be wrong for a quantizer that centres them first.
    """
    stored, quantizer = latent(variable), variable.quantizer
    if isinstance(quantizer, larq.quantizers.NoOp):
        return stored < 0
    return fresh(quantizer)(stored) <= 0


def holds_signs(variable) -> bool:
    """Whether every stored value is exactly -1 or +1, on every replica. Needs eager execution."""
    return all(
        bool(tf.reduce_all(tf.equal(tf.abs(latent(copy)), 1))) for copy in replicas(variable)
    )


def fresh(quantizer, **options):
    """A quantizer of its own for each use: no metrics, so that trying it counts no flips.

    One with variables, or a plain function, comes back as it is. ``options`` go into its config.
    """
    if isinstance(quantizer, keras.layers.Layer) and not quantizer.weights:
        return type(quantizer).from_config({**quantizer.get_config(), **options})
    return quantizer


def name_of(function) -> str:
    """The name of a function, or of an object's class."""
    return getattr(function, "__name__", type(function).__name__)


@serialization.register
class RandomSign(keras.initializers.Initializer):
    """Each weight is -1 or +1 with equal probability.

    For latent-free kernels: ``QuantDense(..., kernel_quantizer=NoOp(precision=1),
    kernel_initializer=RandomSign())``. An ordinary initializer gives such a kernel real values, and
    the first forward pass would be in full precision.

    Args:
        seed: integer, the same signs at every call of one shape; None, new signs at every call.

    Raises:
        TypeError: the seed is neither an integer nor None.
        ValueError: a seed of more than 32 bits; called for a dtype that is not floating-point.
    """

    def __init__(self, seed: int | None = None):
        self.seed = validate_seed("seed", seed)

    def __call__(self, shape, dtype=None, **kwargs):
        dtype = tf.as_dtype(dtype or keras.backend.floatx())
        if not dtype.is_floating:
            raise ValueError(f"RandomSign makes floating-point kernels, not dtype {dtype.name}.")
        uniform = keras.initializers.RandomUniform(-1.0, 1.0, seed=self.seed)
        draw = uniform(shape, dtype=dtype, **kwargs)
        return tf.where(draw < 0, -tf.ones_like(draw), tf.ones_like(draw))

    def get_config(self) -> dict:
        return {"seed": self.seed}
