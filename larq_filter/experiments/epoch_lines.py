"""A training in lines that people read: one an epoch, and one every half minute within it.

The lines are logged, so that a program which trains decides where they go. All else that is
measured is in the tables of the run folder. Rejected: Keras' own lines, which hold every metric and
are silent within an epoch where there is no terminal.
"""

import logging
import time

from larq_filter._keras import keras

logger = logging.getLogger(__name__)

PERIOD = 30.0  # seconds between two lines within an epoch


class EpochLines(keras.callbacks.Callback):
    """Logs ``Epoch 2/20: loss 1.23, accuracy 0.61, validation 0.58, flips 1.2e-03, 12 s ...``.

    Args:
        clock: gives seconds; for tests.
    """

    _supports_tf_logs = True  # Keras then fetches no number at each step, and these few are ours

    def __init__(self, clock=time.monotonic):
        super().__init__()
        self._clock = clock
        self._epoch, self._done, self._began, self._said = 0, 0, None, 0.0

    def on_train_begin(self, logs=None):
        self._began, self._done = self._clock(), 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._epoch_began = epoch, self._clock()
        self._said = self._epoch_began

    def on_train_batch_end(self, batch, logs=None):
        now = self._clock()
        if now - self._said < PERIOD:
            return
        self._said = now
        steps, step = self.params["steps"], batch + 1
        parts = [f"step {step}/{steps}" if steps else f"step {step}", *_numbers(logs or {})]
        spent = now - self._epoch_began
        if steps:
            parts.append(f"{duration(spent / step * (steps - step))} left of it")
        logger.info("%s: %s", self._title(), ", ".join(parts))

    def on_epoch_end(self, epoch, logs=None):
        now = self._clock()
        self._done += 1
        left = self.params["epochs"] - epoch - 1
        parts = [*_numbers(logs or {}), duration(now - self._epoch_began)]
        if left:
            parts.append(f"{duration((now - self._began) / self._done * left)} left")
        logger.info("%s: %s", self._title(), ", ".join(parts))

    def _title(self) -> str:
        return f"Epoch {self._epoch + 1}/{self.params['epochs']}"


def _numbers(logs) -> list[str]:
    """What is told of an epoch or a part of it: loss, accuracies, flips, skipped steps."""
    named = {
        "loss": ("loss", ".4f"),
        "accuracy": ("accuracy", ".4f"),
        "val_accuracy": ("validation", ".4f"),
        "flip_ratio": ("flips", ".1e"),
    }
    found = [
        f"{word} {float(logs[key]):{form}}" for key, (word, form) in named.items() if key in logs
    ]
    if skipped := float(logs.get("skipped_steps", 0)):
        found.append(f"{skipped:.0f} steps skipped")
    return found


def duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``2 h 05 min``: to the digits that count."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
