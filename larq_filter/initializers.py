"""Initializers for kernels that are binary from the first forward pass on."""

from larq_filter import configs
from larq_filter._keras import keras, tf
from larq_filter.filters.validation import validate_seed


@configs.register
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
