"""The lines of a training: what they hold, when they come, how long they are."""

import numpy as np

from larq_filter._keras import keras
from larq_filter.experiments import epoch_lines
from larq_filter.experiments.epoch_lines import EpochLines, duration


class Clock:
    """Goes on by a second whenever somebody looks."""

    now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def lines_of(said, epochs, steps, **options):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.ones((4 * steps, 3)), np.arange(4 * steps) % 2
    logged = EpochLines(Clock())
    history = model.fit(x, y, batch_size=4, epochs=epochs, verbose=0, callbacks=[logged], **options)
    return list(said), history.history


def test_a_line_an_epoch(said):
    lines, history = lines_of(said, 3, 2, validation_split=0.25)
    assert [line.split(":")[0] for line in lines] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    for index, line in enumerate(lines):
        assert f"loss {history['loss'][index]:.4f}, " in line
        assert f"validation {history['val_accuracy'][index]:.4f}" in line
        assert len(line) <= 160
    assert [" left" in line for line in lines] == [True, True, False]


def test_lines_within_a_long_epoch(said, monkeypatch):
    monkeypatch.setattr(epoch_lines, "PERIOD", 4.0)
    lines, _ = lines_of(said, 1, 10)
    assert [line.partition(", loss")[0] for line in lines[:2]] == [
        "Epoch 1/1: step 4/10",
        "Epoch 1/1: step 8/10",
    ]
    assert len(lines) == 3 and lines[1].endswith("left of it")


def test_flips_and_skipped_steps_are_told(said):
    line = EpochLines(Clock())
    line.set_params({"epochs": 2, "steps": 3})
    line.on_train_begin()
    line.on_epoch_begin(0)
    line.on_epoch_end(0, {"loss": 1.0, "flip_ratio": 1.234e-3, "skipped_steps": 2.0, "signal": 7.0})
    assert said[-1].startswith("Epoch 1/2: loss 1.0000, flips 1.2e-03, 2 steps skipped, ")
    assert "signal" not in said[-1]


def test_durations():
    seconds = [0.4, 12, 89, 90, 600, 5399, 5400, 100_000]
    words = ["0 s", "12 s", "89 s", "2 min", "10 min", "1 h 30 min", "1 h 30 min", "27 h 47 min"]
    assert [duration(each) for each in seconds] == words
