"""Training interrupted through a file: optimizers, formats, and the other process.

    python tests/helpers/saving_cases.py FOLDER  # goes on with the models of FOLDER

``tests/optimizers/test_saving.py`` runs a few of these, ``tests/soak/formats.py`` all of them.
"""

import json
import pathlib
import subprocess
import sys
import warnings

import numpy as np

from larq_filter import binary, filters, flips, presets
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer
from paths import ROOT

import larq as lq

EPOCHS = 4  # of 20 steps; one before the file, three after it

schedules, optimizers = keras.optimizers.schedules, keras.optimizers


def linear(start, end=0.0):
    return schedules.PolynomialDecay(start, 60, end)


def averaged(**kwargs):
    return FilterOptimizer(filters.CascadedEMA(alpha=linear(0.05), gamma=0.2), **kwargs)


def decayed_but_for_some():
    optimizer = averaged(default_optimizer=optimizers.AdamW(1e-2, weight_decay=0.1, use_ema=True))
    optimizer.exclude_from_weight_decay(var_names=["batch_normalization", "bias"])
    return optimizer


OPTIMIZERS = {
    "default": FilterOptimizer,
    "quist2023": lambda: presets.quist2023(alpha=0.05),
    "bop": lambda: presets.bop(gamma=0.1),
    "bop_second_order": lambda: presets.bop_second_order(gamma=0.1, threshold=0.1),
    "bop_second_order unbiased": lambda: presets.bop_second_order(
        gamma=linear(0.2, 0.05), threshold=0.1, unbiased=True
    ),
    "diode": lambda: presets.diode(beta2=0.9, binary_learning_rate=1e-2),
    "sgdat": presets.sgdat,
    "boat": lambda: presets.boat(leak=0.1, eta=1e-2),
    "bold": presets.bold,
    "prob_bop": lambda: presets.prob_bop(steps_per_epoch=2, gamma=0.1, threshold=2e-3),
    "prob_bop counted": lambda: presets.prob_bop(
        steps_per_epoch=2, gamma=0.1, sigma=0.1, threshold=0.1, count_flips=True
    ),
    "equal_bits": lambda: presets.equal_bits(alpha=0.05),
    "bayes_binn": lambda: presets.bayes_binn(binary_learning_rate=0.05),
    "dqt": lambda: presets.dqt(rate=0.05),
    "fgd_kalman": lambda: presets.fgd_kalman(alpha=linear(0.05)),
    "set by a callback": lambda: presets.bop(gamma=0.2),
    "warm start, a number": lambda: averaged(warm_start=0.3),
    "warm start, magnitudes": lambda: averaged(
        warm_start=keras.initializers.RandomNormal(0.0, 1e-3, seed=4)
    ),
    "cascade": lambda: FilterOptimizer(
        filters.Cascade([filters.EMA(0.2), filters.Limiter(), filters.EMA(linear(0.05))]),
        flips.Threshold(1e-4),
    ),
    "parallel": lambda: FilterOptimizer(
        filters.ademamix(fast=0.1, slow=1e-2, gain=5.0), flips.GrowingThreshold(1e-6)
    ),
    "compensated": lambda: FilterOptimizer(filters.CascadedEMA(alpha=1e-6, gamma=0.1)),
    "butterworth": lambda: FilterOptimizer(filters.butterworth(order=2, cutoff=1e-2)),
    "momentum": lambda: averaged(default_optimizer=optimizers.SGD(linear(0.1), momentum=0.9)),
    "decay for some": decayed_but_for_some,
    "loss scale": lambda: keras.mixed_precision.LossScaleOptimizer(
        averaged(), initial_scale=64, dynamic_growth_steps=7
    ),
}


def build(optimizer, kernel_initializer=None, **options):
    """A network of two binary layers and real-valued variables, compiled; ``options``: of both."""
    binary_layer = {
        "kernel_quantizer": lq.quantizers.NoOp(precision=1),
        "kernel_initializer": kernel_initializer or binary.RandomSign(3),
        "use_bias": False,
        **options,
    }
    keras.backend.clear_session()  # names as in a new process
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            lq.layers.QuantDense(16, input_shape=(8,), **binary_layer),
            keras.layers.BatchNormalization(momentum=0.9),
            lq.layers.QuantDense(8, input_quantizer="ste_sign", **binary_layer),
            keras.layers.BatchNormalization(scale=False),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def train(model, first: int, last: int, callbacks=()):
    x = np.random.default_rng(0).normal(size=(160, 8)).astype("float32")
    y = np.argmax(x[:, :3], axis=1)
    span = {"initial_epoch": first, "epochs": last}
    model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=list(callbacks), **span)
    return model


def everything(model) -> list[np.ndarray]:
    """All variables; the scale of a ``LossScaleOptimizer``, and a learning rate, last."""
    optimizer = model.optimizer
    found = [v.numpy() for v in model.variables + list(optimizer.variables)]
    if hasattr(optimizer, "inner_optimizer"):
        found += [optimizer.loss_scale.numpy(), optimizer.dynamic_counter.numpy()]
    return [*found, keras.backend.get_value(optimizer.learning_rate)]


def differences(ours, theirs) -> str | None:
    if len(ours) != len(theirs):
        return f"{len(ours)} variables became {len(theirs)}"
    wrong = [
        i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if not np.array_equal(a, b)
    ]
    return f"variables {wrong} of {len(ours)} differ" if wrong else None


# Formats: how a file is written, and how a model is made of it. -----------------------------------


def built(make):
    model = build(make())
    model.optimizer.build(model.trainable_variables)
    return model


def checked(status):
    status.assert_existing_objects_matched()


def stop(epoch, logs):
    if epoch == 1:
        raise KeyboardInterrupt


def backup(model, folder):
    """Written by a training that is stopped; the model is a new one, so begin at the beginning."""
    callbacks = [
        keras.callbacks.BackupAndRestore(str(folder / "backup")),
        keras.callbacks.LambdaCallback(on_epoch_begin=stop),
    ]
    try:
        train(model, 0, EPOCHS, callbacks)
    except KeyboardInterrupt:
        return
    raise RuntimeError("the training was to be interrupted")


def load_saved_model(folder, make):
    model = keras.models.load_model(folder / "saved")
    model.load_weights(folder / "saved")
    return model


def restored(model, folder):
    checked(tf.train.Checkpoint(model=model).read(str(folder / "checkpoint")))
    return model


def with_weights(model, path):
    model.load_weights(path)
    return model


FORMATS = {
    ".keras": (
        lambda model, folder: model.save(folder / "model.keras"),
        lambda folder, make: keras.models.load_model(folder / "model.keras"),
    ),
    ".h5": (
        lambda model, folder: model.save(folder / "model.h5"),
        lambda folder, make: keras.models.load_model(folder / "model.h5"),
    ),
    "SavedModel and load_weights": (
        lambda model, folder: model.save(folder / "saved"),
        load_saved_model,
    ),
    ".weights.h5": (
        lambda model, folder: model.save_weights(folder / "all.weights.h5"),
        lambda folder, make: with_weights(built(make), folder / "all.weights.h5"),
    ),
    "save_weights": (
        lambda model, folder: model.save_weights(folder / "weights"),
        lambda folder, make: with_weights(built(make), folder / "weights"),
    ),
    "save_weights, loaded before build": (
        lambda model, folder: model.save_weights(folder / "weights"),
        lambda folder, make: with_weights(build(make()), folder / "weights"),
    ),
    "Checkpoint": (
        lambda model, folder: tf.train.Checkpoint(model=model).write(str(folder / "checkpoint")),
        lambda folder, make: restored(built(make), folder),
    ),
    "Checkpoint, read before build": (
        lambda model, folder: tf.train.Checkpoint(model=model).write(str(folder / "checkpoint")),
        lambda folder, make: restored(build(make()), folder),
    ),
    "BackupAndRestore": (
        backup,
        lambda folder, make: build(make()),  # restored by the callback, when training begins
    ),
}
KERAS_FILES = (".keras", ".h5", ".weights.h5")  # which leave out the loss scale


def first_part(name: str):
    """A model after its first epoch."""
    model = train(build(OPTIMIZERS[name]()), 0, 1)
    if name == "set by a callback":
        model.optimizer.alpha = 0.03125
        model.optimizer.learning_rate = 0.005
    return model


def uninterrupted(name: str, model, format: str = "") -> list[np.ndarray]:
    """Everything after the rest of the training of ``model``, which ``first_part`` gave.

    What ``BackupAndRestore`` interrupts is one training of all epochs, without what ``first_part``
    and the end of a training (``use_ema``) do between them.
    """
    if format == "BackupAndRestore":
        return everything(train(build(OPTIMIZERS[name]()), 0, EPOCHS))
    return everything(train(model, 1, EPOCHS))


def write(name: str, format: str, folder, model) -> None:
    """Writes ``model``, which ``first_part(name)`` gave."""
    folder.mkdir(parents=True)
    if format == "BackupAndRestore":
        model = build(OPTIMIZERS[name]())
    FORMATS[format][0](model, folder)
    (folder / "case.json").write_text(json.dumps([name, format]))


def go_on(folder) -> list[np.ndarray]:
    """Everything after the rest of the training, from the file on."""
    name, format = json.loads((folder / "case.json").read_text())
    model = FORMATS[format][1](folder, OPTIMIZERS[name])
    if format == "BackupAndRestore":
        callbacks = [keras.callbacks.BackupAndRestore(str(folder / "backup"))]
        return everything(train(model, 0, EPOCHS, callbacks))
    return everything(train(model, 1, EPOCHS))


def in_a_new_process(folder) -> None:
    """Goes on with every model below ``folder``; results lie beside them in ``after.npz``."""
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3000)
    if result.returncode:
        raise RuntimeError(result.stderr[-3000:])


def result_of(folder) -> list[np.ndarray]:
    with np.load(folder / "after.npz", allow_pickle=False) as after:
        return [after[f"arr_{index}"] for index in range(len(after.files))]


def main() -> None:
    warnings.simplefilter("ignore")
    for path in sorted(pathlib.Path(sys.argv[1]).rglob("case.json")):
        np.savez(path.parent / "after.npz", *go_on(path.parent))


if __name__ == "__main__":
    main()
