"""What saves a run after each epoch, and brings it back: a callback for either kind of run.

One process keeps ``checkpoints``; several machines share one backup of Keras. Both hold model,
optimizer, flip counters, tables and wall time, and say after how many epochs they stopped.
"""

import pathlib
import time

from larq_filter._keras import keras, tf
from larq_filter._validation import first_line
from larq_filter.experiments import strategies
from larq_filter.experiments.checkpoints import Checkpoints, Tables, read_all

_EPOCH = "ckpt_saved_epoch/.ATTRIBUTES/VARIABLE_VALUE"  # in a backup of Keras


def saver(model, counters, tables: Tables, folder: pathlib.Path, config: dict):
    """The callback for the strategy that the compiled ``model`` was made under.

    Args:
        model: the compiled model.
        counters: of ``FlipMonitor``, a ``tf.Module``.
        tables: that get a row an epoch.
        folder: the run folder.
        config: tells the run from others.
    """
    if strategies.workers(model.distribute_strategy) == 1:
        return Progress(model, counters, tables, folder, config)
    return Backup(model, counters, tables, folder)


class Progress(keras.callbacks.Callback):
    """Saves model, optimizer, epoch, tables and wall time after each epoch, and restores them."""

    def __init__(self, compiled_model, counters, tables: Tables, folder, config: dict):
        super().__init__()
        _build_optimizer(compiled_model)
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.seconds = tf.Variable(0.0, dtype=tf.float64)
        self.checkpoints = Checkpoints(
            folder / "checkpoints",
            config,
            model=compiled_model,
            optimizer=compiled_model.optimizer,
            epoch=self.epoch,
            seconds=self.seconds,
            flips=counters,
            tables=tables,
        )

    def restore(self) -> int:
        """Restores the newest good checkpoint; returns its number of epochs, 0 if there is none.

        Raises:
            RuntimeError: there are checkpoints and none of them can be used.
        """
        self.checkpoints.restore()
        return int(self.epoch)

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.assign(epoch + 1)
        self.seconds.assign_add(time.monotonic() - self._began)
        self.checkpoints.save(epoch + 1)


def _build_optimizer(model) -> None:
    """Creates the optimizer's states, which would else wait for the first step to be restored.

    A run whose last epoch was saved takes no step any more. Larq's ``CaseOptimizer`` is of the
    old kind and can't be built, but its states aren't saved with the model either.
    """
    if isinstance(model.optimizer, keras.optimizers.Optimizer):
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)


class Backup(keras.callbacks.BackupAndRestore):
    """Keras' own fault tolerance, for a run folder that all workers share.

    The first worker writes after each epoch, all restore what it wrote. Flip counters, tables and
    wall time travel with the model, as dependencies of it.

    Args:
        model: the compiled model.
        counters: a ``tf.Module`` of what else is to be restored.
        tables: of this worker, which get the rows of the first one; ``checkpoints.Tables``.
        folder: the run folder, on a file system that all workers see.
    """

    def __init__(self, model, counters, tables, folder: pathlib.Path):
        super().__init__(str(folder / "backup"), delete_checkpoint=False)
        self.run_model, self._restored = model, False
        self.seconds = tf.Variable(0.0, dtype=tf.float64)
        model.run_state = tf.train.Checkpoint(flips=counters, tables=tables, seconds=self.seconds)

    def restore(self) -> int:
        """Restores the backup; returns its number of epochs, 0 if there is none.

        ``fit`` would do so too, but too late to choose the epoch that the data begin with.

        Raises:
            RuntimeError: there is a backup that can't be read.
        """
        folder = pathlib.Path(self.backup_dir, "chief")
        try:
            path = tf.train.latest_checkpoint(str(folder))
            if path is None:
                # The first without the file `checkpoint` is a save that was interrupted.
                if set(folder.glob("ckpt-*")) - set(folder.glob("ckpt-1.*")):
                    raise ValueError("the file `checkpoint` is missing, which names the newest")
                return 0
            epoch = int(read_all(path).get_tensor(_EPOCH))
        except Exception as error:  # the reader of damaged files raises a dozen types
            raise RuntimeError(
                f"The backup in {folder} can't be read ({first_line(error)}), so the run can't be "
                "continued. Choose another output_dir, or remove the folder to start again."
            ) from error
        with self.run_model.distribute_strategy.scope():
            if callable(getattr(self.run_model.optimizer, "build", None)):  # Keras 2.15 does not
                self.run_model.optimizer.build(self.run_model.trainable_variables)
            self.set_model(self.run_model)
            self.on_train_begin()
        self._restored = True
        return epoch + 1

    def on_train_begin(self, logs=None):
        if not self._restored:
            super().on_train_begin(logs)
        self._restored = False  # done once: the loggers have opened their tables by now

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.assign_add(time.monotonic() - self._began)
        super().on_epoch_end(epoch, logs)
