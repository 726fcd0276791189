"""What tests of optimizers share: a small network, and a step on several replicas."""

from larq_filter import binary
from larq_filter._keras import keras, tf

import larq as lq


def small_network(normalization):
    """8 numbers in, 3 classes out, two latent-free layers; not compiled.

    ``normalization``: makes a layer for after each of them, or returns None.
    """
    binary_layer = {
        "kernel_quantizer": lq.quantizers.NoOp(precision=1),
        "kernel_initializer": binary.RandomSign(1),
        "use_bias": False,
    }
    layers = [
        keras.Input((8,)),
        lq.layers.QuantDense(16, **binary_layer),
        normalization(),
        lq.layers.QuantDense(8, input_quantizer="ste_sign", **binary_layer),
        normalization(),
        keras.layers.Dense(3),
        keras.layers.Activation("softmax", dtype="float32"),
    ]
    return keras.Sequential([layer for layer in layers if layer is not None])


def kernel(shape):
    """A latent-free kernel of a dense layer."""
    layer = lq.layers.QuantDense(
        shape[1],
        kernel_quantizer=lq.quantizers.NoOp(precision=1),
        kernel_initializer=binary.RandomSign(0),
        use_bias=False,
    )
    layer.build((None, shape[0]))
    return layer.kernel


def step_on_replicas(strategy, optimizer, variables):
    """A compiled step; it takes, for each variable, the gradients of all replicas as one tensor."""

    @tf.function
    def step(*gradients):
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            mine = [tf.gather(gradient, number) for gradient in gradients]
            optimizer.apply_gradients(zip(mine, variables, strict=True))

        strategy.run(replica)

    return step
