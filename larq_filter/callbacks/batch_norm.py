"""Statistics of batch normalisation that belong to the weights as they are.

Batch normalisation validates with a moving average over the last steps. While many binary weights
flip, these steps had other weights, and validation is worse than the network is. Precise BN (Wu and
Johnson, arXiv 2105.07576, section 3) takes the statistics anew, over batches that train nothing.

Rejected: a smaller momentum, which takes the average over fewer batches and is noisier; and a
forward pass of 50 batches at the layers' own momentum, whose average is that of the last ten.
"""

import collections
from typing import Any

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter._validation import shown, validate_integer


class PreciseBatchNorm(keras.callbacks.Callback):
    """Takes the statistics of batch normalisation anew before each validation.

    So validation, and what is chosen by it (``EarlyStopping``, ``ModelCheckpoint``), sees the
    network as it is, long before alpha has fallen. It costs ``steps`` forward passes a validation,
    and trains nothing; the model that is saved has the new statistics too.
    Without validation data it does nothing: call ``estimate_batch_norm`` then.

    Args:
        images: a ``tf.data.Dataset`` of batches as in training, augmentation included: of inputs,
            or of tuples that begin with them, as for ``fit``. It is read from its start each time.
            The one that is trained on may be given; if it shuffles, each reading shuffles it anew,
            so the epochs that follow come in another order than without the callback.
        steps: batches of it; fewer if it has fewer.

    Raises:
        TypeError, ValueError: an argument is none of these; at the start of training, if the model
            has no batch normalisation that it can do this for, or one that is called more than
            once (in a subclassed model nobody can know: the last call counts); at validation, if
            there is no batch.
    """

    def __init__(self, images: Any, steps: int = 50) -> None:
        super().__init__()
        _require(images, steps)
        self.images, self.steps = images, steps
        self._estimate = None

    def set_model(self, model):
        super().set_model(model)
        self._estimate = None
        if model.built:
            _refuse_shared(model, _require_layers(model))

    def on_test_begin(self, logs=None):
        if self._estimate is None:
            self._estimate = _Estimate(self.model)
        self._estimate(self.images, self.steps)


def estimate_batch_norm(model: keras.Model, images: Any, steps: int = 50) -> None:
    """Sets the moving statistics of batch normalisation to those of some batches.

    The mean is that over all inputs of a layer, the variance too: that within the batches (of maps
    with Bessel's correction, as Keras' own average) plus that of their means. Inputs are those that
    the model has in training, so a layer sees the outputs of the ones before it normalised by the
    batch. Layers that are not trainable, those with ``renorm`` and ``SyncBatchNormalization`` keep
    what they have. Nothing else of the model changes, but layers that draw at random have drawn.

    Args:
        model: built. Under its distribution strategy each batch is split over the replicas; where
            these normalise each for itself, their statistics are averaged.
        images: see ``PreciseBatchNorm``.
        steps: batches of it; fewer if it has fewer.

    Raises:
        TypeError, ValueError: as for ``PreciseBatchNorm``.
    """
    _require(images, steps)
    _Estimate(model)(images, steps)


class _Estimate:
    """The forward pass of one model in training mode, traced once."""

    def __init__(self, model: keras.Model):
        binary.require_built(model)
        self.layers = _require_layers(model)
        self.strategy = model.distribute_strategy
        _refuse_shared(model, self.layers)
        statistics = {id(each) for layer in self.layers for each in _statistics(layer)}
        self.others = [
            variable
            for variable in model.non_trainable_variables
            if id(variable) not in statistics and not binary.is_quantized(variable)
        ]

        def step(x):
            model(x, training=True)
            return tf.shape(tf.nest.flatten(x)[0])[0]

        @tf.function
        def forward(x):
            return self.strategy.reduce("SUM", self.strategy.run(step, (x,)), axis=None)

        self.forward = forward  # returns how many images the batch has

    def __call__(self, images, steps: int) -> None:
        with self.strategy.scope():
            self._run(images, steps)

    def _run(self, images, steps: int) -> None:
        before = [variable.numpy() for variable in self.others]
        momenta = [layer.momentum for layer in self.layers]
        kept = [[each.numpy() for each in _statistics(layer)] for layer in self.layers]
        count, sums = 0, [[0.0, 0.0] for _ in self.layers]
        try:
            for layer in self.layers:
                layer.momentum = 0.0  # the average is the last batch then
            for batch in self.strategy.experimental_distribute_dataset(images.take(steps)):
                size = int(self.forward(keras.utils.unpack_x_y_sample_weight(batch)[0]))
                count += size
                for total, layer in zip(sums, self.layers, strict=True):
                    mean, variance = (each.numpy().astype("float64") for each in _statistics(layer))
                    total[0] += size * mean
                    total[1] += size * (variance + mean**2)
            if not count:
                raise ValueError("`images` has no batch: batch normalisation can't be estimated.")
        except BaseException:
            for layer, values in zip(self.layers, kept, strict=True):
                _set_statistics(layer, *values)
            raise
        finally:
            for layer, momentum in zip(self.layers, momenta, strict=True):
                layer.momentum = momentum
            for variable, value in zip(self.others, before, strict=True):
                variable.assign(value)
        for (mean, square), layer in zip(sums, self.layers, strict=True):
            _set_statistics(layer, mean / count, square / count - (mean / count) ** 2)


def _statistics(layer) -> tuple:
    return layer.moving_mean, layer.moving_variance


def _set_statistics(layer, mean, variance) -> None:
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)


def _require(images, steps) -> None:
    if not isinstance(images, tf.data.Dataset):
        raise TypeError(
            f"`images` is {shown(images)}; it must be a tf.data.Dataset of batches, as for fit."
        )
    validate_integer("steps", steps)


def _require_layers(model) -> list:
    found = [
        layer
        for layer in binary.layers_of(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.built
        and layer.trainable
        and not layer.renorm
    ]
    if not found:
        raise ValueError(
            f"{model.name} has no trainable BatchNormalization without renorm, so there are no "
            "statistics to take anew: leave it out."
        )
    return found


def _refuse_shared(model, layers) -> None:
    """Raises if the graph of ``model`` calls one of ``layers`` more than once."""
    for part in model._flatten_layers(include_self=True, recursive=True):
        if not getattr(part, "_nodes_by_depth", None):
            continue
        calls = collections.Counter(id(node.layer) for node in binary.nodes_of(part))
        for layer in part._flatten_layers(include_self=False, recursive=True):
            inside = [each for each in layer._flatten_layers() if each in layers]
            if calls[id(layer)] > 1 and inside:
                raise ValueError(
                    f"{inside[0].name} is called more than once in {part.name}; its statistics "
                    "can't be taken anew: leave it out."
                )
