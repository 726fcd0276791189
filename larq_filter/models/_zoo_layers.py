"""Stand-ins for what larq-zoo's models hold and a `.keras` file can not bring back.

Some layers there are a `Lambda` around a function written on the spot, which Keras refuses to load;
others name a function that only a program with larq-zoo imported knows. The layers below compute
the same from a config alone.
"""

import numpy as np

from larq_filter._keras import keras, tf

layers = keras.layers


@keras.utils.register_keras_serializable(package="larq_filter")
class SplitChannels(layers.Layer):
    """A list of `groups` equal parts of the channels."""

    def __init__(self, groups, **kwargs):
        super().__init__(**kwargs)
        self.groups = int(groups)

    def call(self, inputs):
        return tf.split(inputs, self.groups, axis=-1)

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}


@keras.utils.register_keras_serializable(package="larq_filter")
class AddToLastChannels(layers.Layer):
    """`x` with `y`, which has fewer channels, added to its last ones. Inputs `[x, y]`."""

    def call(self, inputs):
        x, y = inputs
        missing = x.shape[-1] - y.shape[-1]
        return x + tf.pad(y, [[0, 0], [0, 0], [0, 0], [missing, 0]])


@keras.utils.register_keras_serializable(package="larq_filter")
class Blur(keras.initializers.Initializer):
    """Binomial kernels of sum 1, (size, size, channels, 1): [1, 2, 1] / 4 each way for size 3."""

    def __call__(self, shape, dtype=None, **kwargs):
        row = (np.poly1d([1, 1]) ** (shape[0] - 1)).coeffs
        kernel = np.outer(row, row) / row.sum() ** 2
        kernel = np.broadcast_to(kernel[:, :, None, None], shape)
        return tf.constant(kernel, dtype or keras.backend.floatx())


def portable(model):
    """A model of larq-zoo whose files load wherever larq_filter is imported.

    Kernels of larq-zoo's own quantizers (latent `XNORNet` and `DoReFaNet`) still need larq-zoo to
    be imported; `to_latent_free` has no use for them.

    Args:
        model: what a factory of larq-zoo gives.

    Returns:
        `model` itself, or a copy with the same values of all variables.
    """
    for layer in model.layers:
        # A function as initializer makes Keras warn when it saves.
        initializer = getattr(layer, "depthwise_initializer", None)
        if getattr(initializer, "__name__", "") == "blurpool_initializer":
            layer.depthwise_initializer = Blur()
    if not any(_stand_in(layer) for layer in model.layers):
        return model
    copy = keras.models.clone_model(
        model,
        clone_function=lambda layer: (
            _stand_in(layer) or type(layer).from_config(layer.get_config())
        ),
    )
    copy.set_weights(model.get_weights())
    return copy


def _stand_in(layer):
    """A new layer that does what `layer` does; None if a file can hold `layer` itself."""
    name = layer.name
    if isinstance(layer, layers.Activation):
        if getattr(layer.activation, "__name__", "") == "clip_by_value_activation":
            return layers.ReLU(max_value=1.0, name=name)
    elif type(layer) is layers.Lambda:
        if name.endswith("_split"):
            return SplitChannels(len(layer.output), name=name)
        if name.endswith("_concat"):
            return layers.Concatenate(name=name)
        if name.endswith("_merge"):
            return AddToLastChannels(name=name)
        if name.endswith("_out"):
            return layers.Activation("linear", name=name)
    return None
