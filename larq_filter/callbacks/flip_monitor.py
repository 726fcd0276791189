"""What binary weights do during training: into Keras' logs, a CSV file and TensorBoard.

Everything is counted inside the training step: a callback is called once per
``steps_per_execution`` steps and would miss weights that flip and flip back. Chosen over a counter
in the optimizer, which could not measure latent training, the method to compare with.
"""

import collections
import contextlib
import csv
import dataclasses
import importlib.util
import math
import os
import pathlib

import numpy as np

from larq_filter import analysis, binary, filters, flips
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer

HISTOGRAM_WEIGHTS = 100_000
PREDICTED_STEPS = 16  # of an epoch, at which the prediction is computed


def has_tensorboard() -> bool:
    """Whether TensorBoard is installed, which newer versions of TensorFlow do not bring."""
    return importlib.util.find_spec("tensorboard") is not None


@dataclasses.dataclass(frozen=True)
class Activity:
    """What the weights of one layer, or of all layers, did in one epoch.

    Attributes:
        weights: number of binary weights.
        flip_ratio: share of the weights that changed sign in a step, mean over the epoch's steps.
        flip_ratio_epoch: share whose sign at the end of the epoch differs from that at its start.
        flip_flop: share of the epoch's flips that the epoch itself took back, in [0, 1); 0 if no
            weight flipped.
        never_flipped: share that has not changed sign since training began.
        signal: mean absolute filter signal in the epoch's last step, in units of the gradient; NaN
            without a ``FilterOptimizer``.
    """

    weights: int
    flip_ratio: float
    flip_ratio_epoch: float
    flip_flop: float
    never_flipped: float
    signal: float


class FlipMonitor(keras.callbacks.Callback):
    """Measures flips for any optimizer, and what the filter says of them for ``FilterOptimizer``.

    A flip is a change of the weight that the network computes with: the sign of a latent weight, or
    what else its quantizer looks at. Scaled kernels are measured like plain ones, from the first
    step on. Under a distribution strategy the first replica is read.
    Costs 6 bytes per binary weight, signs and counts. A model that has no variables yet is built
    for the first batch, and counted from its first step on.

    Adds to the logs of each epoch, over all binary kernels: ``flip_ratio``, ``flip_ratio_epoch``,
    ``flip_flop``, ``never_flipped`` (see ``Activity``); with a ``FilterOptimizer`` also ``signal``,
    ``skipped_steps`` (so far, because of gradients that were not finite),
    every rate of filter and flip rule under its name (``alpha``), ``time_constant`` (steps) and,
    for a linear filter with ``flips.Sign``, ``predicted_flip_ratio``: that of white noise, at the
    rates of 16 steps of the epoch, their mean; NaN where a rate is 0. Steps at which a filter never
    forgets, as the first of a Kalman filter, are left out of it.
    Put it before ``CSVLogger`` and ``TensorBoard`` in the list of callbacks: they write the logs.

    Args:
        csv_path: also write one row per epoch and layer there; rows are appended. Missing folders
            are made.
        tensorboard_dir: also write, per layer, the scalars of ``Activity`` and a histogram of
            flips per weight since training began (of 100,000 weights of a kernel at most).

    Attributes:
        per_layer: dict from layer name to its ``Activity`` in the last epoch. The second layer of
            one name, as nested models may have, is there as ``name (2)``.
        total: ``Activity`` of all layers together.

    Raises:
        ImportError: ``tensorboard_dir`` is given, and TensorBoard is not installed.
        ValueError: at the start of training, if the model has no binary kernel.
        OSError: at the start of training, if ``csv_path`` or ``tensorboard_dir`` can't be written.
    """

    def __init__(
        self,
        csv_path: str | os.PathLike[str] | None = None,
        tensorboard_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if tensorboard_dir is not None and not has_tensorboard():
            raise ImportError(
                "`tensorboard_dir` needs the package tensorboard, which newer versions of "
                'TensorFlow do not bring. Type: pip install "larq_filter[tensorboard]", or leave '
                "the argument out."
            )
        self.csv_path = None if csv_path is None else pathlib.Path(csv_path)
        self.tensorboard_dir = tensorboard_dir
        self.per_layer: dict[str, Activity] = {}
        self.total: Activity | None = None
        self.counters = tf.Module()
        self._counters: list[_Counter] = []
        self._writer = None
        self._filtered = None
        self._attached_to = None

    def attach(self, model: keras.Model) -> None:
        """Creates the counters for ``model``; ``fit`` does so itself.

        Call it before training to restore them: ``tf.train.Checkpoint(flips=monitor.counters)``.
        """
        binary.require_built(model)
        kernels = binary.binary_kernels(model, trainable_only=False)
        if not kernels:
            raise ValueError(
                f"FlipMonitor has nothing to count in {model.name}: the model has "
                f"{binary.NO_BINARY_KERNEL}"
            )
        with model.distribute_strategy.scope():
            names = _names([layer for layer, _ in kernels])
            self._counters = [_Counter(names[layer], variable) for layer, variable in kernels]
        self.counters.list = self._counters
        self._attached_to = model

    def set_model(self, model):
        super().set_model(model)
        self._prepare_files()
        if self._attached_to is not model:
            self._counters = []
            if model.built:
                self.attach(model)
        self._count_in_train_step(model)
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self._filtered = optimizer if isinstance(optimizer, FilterOptimizer) else None
        if self._filtered is not None:
            self._filtered.observe_signals(self._note_signal)

    def _prepare_files(self):
        """Finds out now, and not after the first epoch, what can't be written."""
        try:
            if self.csv_path is not None:
                self.csv_path.parent.mkdir(parents=True, exist_ok=True)
                self.csv_path.open("a").close()
            if self.tensorboard_dir is not None:
                pathlib.Path(self.tensorboard_dir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"FlipMonitor can't write {error.filename}: {error.strerror}. Give another "
                "csv_path or tensorboard_dir, or make this one writable."
            ) from error

    def _note_signal(self, position, signal):
        """Called by the optimizer, in the graph, with the signal of the kernel at ``position``."""
        for counter in self._counters:
            if self._filtered.position_of(counter.kernel) == position:
                counter.signal.assign(tf.cast(tf.reduce_mean(tf.abs(signal)), tf.float32))

    def _count_in_train_step(self, model):
        """Wraps ``model.train_step`` until training ends, and has Keras trace it anew."""
        self.detach(model)  # an interrupted training may have left the wrapper
        inner = model.train_step
        if hasattr(inner, "monitor"):
            raise ValueError(
                f"{model.name} has a FlipMonitor already: one is enough. If an interrupted "
                "training left it there, call its detach(model), or `del model.train_step`."
            )

        def train_step(data):
            if self._attached_to is not model:
                x, *_ = keras.utils.unpack_x_y_sample_weight(data)
                context = tf.distribute.get_replica_context()
                context.merge_call(lambda *_: self._build_and_attach(model, x))
            logs = inner(data)
            for counter in self._counters:
                counter.count()
            return logs

        train_step.monitor, train_step.inner = self, vars(model).get("train_step")
        model.train_step = train_step
        model.train_function = None

    @tf.autograph.experimental.do_not_convert
    def _build_and_attach(self, model, x):
        """Before the first step: later, the signs that it began with would be gone."""

        def spec(tensor):
            return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)

        with tf.init_scope(), model.distribute_strategy.scope():
            forward = tf.function(lambda x: model(x, training=False))
            forward.get_concrete_function(tf.nest.map_structure(spec, x))
            self.attach(model)
            self.on_epoch_begin(None)

    def detach(self, model: keras.Model) -> None:
        """Gives ``model`` its own ``train_step`` back; training that ends does so by itself."""
        wrapper = vars(model).get("train_step")
        if getattr(wrapper, "monitor", None) is not self:
            return
        del model.train_step
        if wrapper.inner is not None:
            model.train_step = wrapper.inner
        model.train_function = None
        if self._filtered is not None:
            self._filtered.observe_signals(None)

    def flipped_layers(self) -> dict[str, bool]:
        """For each binary layer whether a weight of it has flipped since training began."""
        flipped = {}
        for counter in self._counters:
            any_flip = int(tf.math.count_nonzero(counter.flips)) > 0
            flipped[counter.layer] = flipped.get(counter.layer, False) or any_flip
        return flipped

    def flips_per_weight(self) -> float:
        """How often a binary weight has flipped since training began, on average.

        Raises:
            RuntimeError: no training has begun, and ``attach`` was not called.
        """
        if not self._counters:
            raise RuntimeError("FlipMonitor counts nothing yet: give it to fit, or call attach.")
        flips = sum(counter.all_flips() for counter in self._counters)
        return flips / sum(counter.size for counter in self._counters)

    def on_train_end(self, logs=None):
        self.detach(self.model)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def on_epoch_begin(self, epoch, logs=None):
        for counter in self._counters:
            counter.begin_epoch()

    def on_epoch_end(self, epoch, logs=None):
        layers = {}
        for counter in self._counters:
            layers.setdefault(counter.layer, []).append(counter)
        self.per_layer = {name: _activity(counters) for name, counters in layers.items()}
        self.total = _activity(self._counters)
        if logs is not None:
            logs.update(self._scalars())
        if self.csv_path is not None:
            self._write_csv(epoch)
        if self.tensorboard_dir is not None:
            self._write_tensorboard(epoch, layers)

    def _scalars(self) -> dict[str, float]:
        """What goes into the logs of an epoch."""
        scalars = dataclasses.asdict(self.total)
        del scalars["weights"]
        if self._filtered is None:
            del scalars["signal"]
            return scalars
        last_step = max(int(self._filtered.iterations.numpy()) - 1, 0)
        scalars["skipped_steps"] = int(self._filtered.skipped_steps.numpy())
        scalars.update(self._filtered.rate_values())
        if not self._filtered.gradient_filter.is_linear:
            return scalars
        predicts = isinstance(self._filtered.flip_rule, flips.Sign)
        scalars["time_constant"] = math.nan
        if predicts:
            scalars["predicted_flip_ratio"] = math.nan
        try:
            gradient_filter = self._filtered.current_filter()
        except ValueError:  # a callback has set a rate that is no filter's, 0 at the end of a decay
            return scalars
        scalars["time_constant"] = analysis.time_constant(gradient_filter, last_step)
        if predicts and np.isfinite(scalars["time_constant"]):
            scalars["predicted_flip_ratio"] = self._predicted(gradient_filter, last_step)
        return scalars

    def _predicted(self, f, last_step: int) -> float:
        """The expected flip ratio, the mean over the epoch: in the last one alpha may fall to 0."""
        if not any(map(filters.is_schedule, f.rates().values())):
            return analysis.expected_flip_ratio(f, last_step)
        count = min(int(self._counters[0].steps.numpy()), last_step + 1)
        middles = (np.arange(PREDICTED_STEPS) + 0.5) / PREDICTED_STEPS
        predictions = []
        for step in sorted({last_step - math.floor(count * share) for share in middles}):
            with contextlib.suppress(ValueError):  # a step at which it never forgets
                predictions.append(analysis.expected_flip_ratio(f, step))
        return float(np.mean(predictions)) if predictions else math.nan

    def _write_csv(self, epoch: int) -> None:
        columns = ["epoch", "layer", *(field.name for field in dataclasses.fields(Activity))]
        new = not self.csv_path.exists() or not self.csv_path.stat().st_size
        with self.csv_path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            if new:
                writer.writeheader()
            for name, activity in self.per_layer.items():
                writer.writerow({"epoch": epoch, "layer": name, **dataclasses.asdict(activity)})

    def _write_tensorboard(self, epoch: int, layers: dict) -> None:
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.tensorboard_dir))
        with self._writer.as_default(step=epoch):
            for name, activity in self.per_layer.items():
                for quantity, value in dataclasses.asdict(activity).items():
                    if quantity != "weights" and np.isfinite(value):
                        tf.summary.scalar(f"{quantity}/{name}", value)
                # Counting takes TensorFlow 240 bytes a number, 9 GB for a large dense layer.
                sample = tf.concat([counter.sample() for counter in layers[name]], 0)
                tf.summary.histogram(f"flips_per_weight/{name}", sample)
        self._writer.flush()


class _Counter(tf.Module):
    """Counts the sign changes of every weight of one kernel from step to step, in the graph."""

    def __init__(self, name: str, kernel):
        super().__init__()
        self.kernel = kernel
        self.layer = name
        self.size = int(kernel.shape.num_elements())
        shared = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        shape = kernel.shape
        self.before = tf.Variable(tf.zeros(shape, tf.bool), **shared)  # negative one step ago
        self.at_start = tf.Variable(tf.zeros(shape, tf.bool), **shared)  # ... at the epoch's start
        self.flips = tf.Variable(tf.zeros(shape, tf.int32), **shared)  # since training began
        self.flips_before = tf.Variable(tf.zeros([], tf.int64), **shared)  # in earlier epochs
        self.steps = tf.Variable(tf.zeros([], tf.int64), **shared)  # of this epoch
        self.signal = tf.Variable(float("nan"), trainable=False)

    def all_flips(self) -> int:
        return int(tf.reduce_sum(tf.cast(self.flips, tf.int64)))

    def sample(self):
        """Flips of at most ``HISTOGRAM_WEIGHTS`` weights, from all output channels."""
        stride = -(-self.size // HISTOGRAM_WEIGHTS)
        while math.gcd(stride, self.flips.shape[-1]) > 1:
            stride += 1
        return tf.reshape(self.flips, [-1])[::stride]

    def begin_epoch(self):
        negative = binary.is_low(self.kernel)
        self.before.assign(negative)
        self.at_start.assign(negative)
        self.flips_before.assign(self.all_flips())
        self.steps.assign(0)

    def count(self):
        negative = binary.is_low(self.kernel)
        self.flips.assign_add(tf.cast(tf.not_equal(negative, self.before), tf.int32))
        self.before.assign(negative)
        self.steps.assign_add(1)

    def totals(self) -> np.ndarray:
        """Weights, flips per step, flips, net flips, weights that never flipped."""
        flips = self.all_flips() - self.flips_before.numpy()
        net = int(tf.math.count_nonzero(tf.not_equal(self.before, self.at_start)))
        never = self.size - int(tf.math.count_nonzero(self.flips))
        per_step = flips / max(self.steps.numpy(), 1)
        return np.array([self.size, per_step, flips, net, never], np.float64)


def _names(layers: list) -> dict:
    """A name for each layer that no other has."""
    names, times = {}, collections.Counter()
    for layer in dict.fromkeys(layers):
        times[layer.name] += 1
        again = f" ({times[layer.name]})" if times[layer.name] > 1 else ""
        names[layer] = layer.name + again
    return names


def _activity(counters: list[_Counter]) -> Activity:
    """The activity of several kernels together, each counted by its number of weights."""
    weights, per_step, flips, net, never = sum(counter.totals() for counter in counters)
    signals, sizes = np.array([(counter.signal.numpy(), counter.size) for counter in counters]).T
    known = np.isfinite(signals)  # not of frozen kernels
    return Activity(
        weights=int(weights),
        flip_ratio=float(per_step / weights),
        flip_ratio_epoch=float(net / weights),
        flip_flop=float(1 - net / flips) if flips else 0.0,
        never_flipped=float(never / weights),
        signal=float(np.average(signals[known], weights=sizes[known])) if known.any() else math.nan,
    )
