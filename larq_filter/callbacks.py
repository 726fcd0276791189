"""What binary weights do during training, in Keras' logs.

The flips are counted inside the training step: a callback is called once per
``steps_per_execution`` steps and would miss weights that flip and flip back. Chosen over a counter
in the optimizer, which could not measure latent training, the method to compare with.
"""

from larq_filter import binary
from larq_filter._keras import keras, tf


class FlipRatio(keras.callbacks.Callback):
    """Share of the binary weights that change sign in a step, averaged over the steps of an epoch.

    Works for latent weights too (a flip is a change of sign), for every optimizer and under a
    distribution strategy (replicas agree; the first one is read). Costs one byte per binary weight.
    Put it before ``CSVLogger`` and ``TensorBoard`` in the list of callbacks: they write what is in
    the logs when they are called.

    Adds to the logs of each epoch: ``flip_ratio``, over all binary kernels, in [0, 1] per step.

    Attributes:
        per_layer: dict from layer name to the flip ratio of its kernels in the last epoch.

    Raises:
        ValueError: at the start of training, if the model has no binary kernel.
    """

    def __init__(self):
        super().__init__()
        self.per_layer: dict[str, float] = {}
        self._counters: list[_Counter] = []

    def set_model(self, model):
        super().set_model(model)
        kernels = binary.binary_kernels(model, trainable_only=False)
        if not kernels:
            raise ValueError(
                f"FlipRatio has nothing to count in {model.name}: the model has "
                f"{binary.NO_BINARY_KERNEL}"
            )
        with model.distribute_strategy.scope():
            self._counters = [_Counter(layer.name, variable) for layer, variable in kernels]
        self._count_in_train_step(model)

    def _count_in_train_step(self, model):
        """Wraps ``model.train_step`` until training ends, and has Keras trace it anew."""
        step = type(model).train_step.__get__(model)

        def train_step(data):
            logs = step(data)
            for counter in self._counters:
                counter.count()
            return logs

        model.train_step = train_step
        model.train_function = None

    def on_train_end(self, logs=None):
        del self.model.train_step
        self.model.train_function = None

    def on_epoch_begin(self, epoch, logs=None):
        for counter in self._counters:
            counter.reset()

    def on_epoch_end(self, epoch, logs=None):
        flips = {}
        for counter in self._counters:
            counted, weights = flips.get(counter.name, (0, 0))
            flips[counter.name] = (counted + counter.flips_per_step(), weights + counter.size)
        self.per_layer = {name: counted / weights for name, (counted, weights) in flips.items()}
        total = sum(counted for counted, _ in flips.values())
        if logs is not None:
            logs["flip_ratio"] = total / sum(weights for _, weights in flips.values())


class _Counter:
    """Counts the sign changes of one kernel from step to step, in the graph."""

    def __init__(self, name: str, kernel):
        self.name = name
        self.kernel = kernel
        self.size = int(kernel.shape.num_elements())
        shared = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        self.negative = tf.Variable(tf.zeros(kernel.shape, tf.bool), **shared)
        self.flips = tf.Variable(tf.zeros([], tf.int64), **shared)
        self.steps = tf.Variable(tf.zeros([], tf.int64), **shared)

    def reset(self):
        self.negative.assign(binary.latent(self.kernel) < 0)
        self.flips.assign(0)
        self.steps.assign(0)

    def count(self):
        negative = binary.latent(self.kernel) < 0
        changed = tf.math.count_nonzero(tf.not_equal(negative, self.negative))
        self.flips.assign_add(changed)
        self.steps.assign_add(1)
        self.negative.assign(negative)

    def flips_per_step(self) -> float:
        return int(self.flips.numpy()) / max(int(self.steps.numpy()), 1)
