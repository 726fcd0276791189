"""Writes the files beside this one, once for a release; ``test_saving.py`` reads them.

    python tests/saved/write.py

A later release has to read them: do not write them again to make a test pass. The gradients are
small integers and every rate is a power of two, so that each value is exact in float32, whatever
the processor: only plain SGD is asked of the real-valued variables.
"""

import contextlib
import json
import pathlib
import shutil

import numpy as np

from larq_filter import binary, filters, flips
from larq_filter._keras import keras, tf
from larq_filter.experiments import run_folder, training
from larq_filter.optimizers import FilterOptimizer
from larq_filter.quantizers import StandardizedSign

import larq as lq

FOLDER = pathlib.Path(__file__).parent
FORMATS = ("model.keras", "model.h5", "all.weights.h5", "checkpoint")
STEPS = 3


def build():
    """A model of 176 weights and an optimizer with each kind of state."""
    layer = {
        "kernel_quantizer": lq.quantizers.NoOp(precision=1),
        "kernel_initializer": binary.RandomSign(0),
        "use_bias": False,
    }
    model = keras.Sequential(
        [
            lq.layers.QuantDense(8, input_shape=(8,), name="first", **layer),
            lq.layers.QuantDense(8, input_quantizer="ste_sign", name="second", **layer),
            keras.layers.Dense(4, kernel_initializer="ones", name="head"),
        ]
    )
    optimizer = FilterOptimizer(
        filters.Cascade([filters.EMA(0.5), filters.EMA(0.25)]),
        flips.GrowingThreshold(0.125),
        keras.optimizers.SGD(0.5, momentum=0.5),
        warm_start=1.0,
        jit_compile=False,
    )
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    return model


def step(model, first: int, last: int) -> None:
    """Gradients that no forward pass has rounded; at step 0 all are -1 or +1, with an rms of 1."""
    random = np.random.default_rng(0)
    for index in range(last):
        pairs = [
            (random.integers(0, 2, size=v.shape) * 2.0 - 1.0, v) for v in model.trainable_variables
        ]
        if index >= first:
            model.optimizer.apply_gradients([(tf.constant(g, tf.float32), v) for g, v in pairs])


def values_of(model) -> dict[str, np.ndarray]:
    """Every value by its position, and the names of those that have no meaning without one."""
    optimizer = model.optimizer
    names = ("iterations", "skipped_steps", "alpha_0", "alpha_1", "threshold", "learning_rate")
    variables = [*model.variables, *optimizer.variables]
    found = {f"variable_{index}": v.numpy() for index, v in enumerate(variables)}
    return {**found, **{name: np.asarray(getattr(optimizer, name)) for name in names}}


def assert_same(model, saved: dict, when: str) -> None:
    found = values_of(model)
    wanted = {key.split("/")[1]: v for key, v in saved.items() if key.startswith(f"{when}/")}
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=f"{name} {when}")


def read(name: str):
    """A model that goes on from the file."""
    if name in ("model.keras", "model.h5"):
        return keras.models.load_model(FOLDER / name)
    model = build()
    if name == "checkpoint":
        tf.train.Checkpoint(model=model).read(str(FOLDER / name)).assert_existing_objects_matched()
    else:
        model.load_weights(FOLDER / name)
    return model


def main() -> None:
    model = build()
    step(model, 0, STEPS)
    model.optimizer.alpha_1 = 0.125
    model.optimizer.learning_rate = 0.25
    values = {f"saved/{name}": value for name, value in values_of(model).items()}
    model.save(FOLDER / "model.keras")
    model.save(FOLDER / "model.h5")
    model.save_weights(FOLDER / "all.weights.h5")
    tf.train.Checkpoint(model=model).write(str(FOLDER / "checkpoint"))
    step(model, STEPS, 2 * STEPS)
    values |= {f"after/{name}": value for name, value in values_of(model).items()}
    np.savez_compressed(FOLDER / "values.npz", **values)
    write_standardized()
    write_run()


def write_standardized() -> None:
    """A latent model under each form of ``StandardizedSign``, and what it makes of its kernels."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            lq.layers.QuantDense(
                8, kernel_quantizer=StandardizedSign(scaled=scaled), kernel_constraint="weight_clip"
            )
            for scaled in (False, True)
        ]
    )
    model.build((None, 8))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.save(FOLDER / "standardized.keras")
    binary = [layer.kernel_quantizer(layer.get_weights()[0]).numpy() for layer in model.layers]
    np.savez_compressed(FOLDER / "standardized.npz", *binary)


class Killed(Exception):
    """Stands for the end of the process."""


RUN = run_folder.Config(model="mlp", width=8, epochs=3, train_examples=100, batch_size=50)


def write_run() -> None:
    """A run folder whose process ended after two of three epochs."""
    folder = FOLDER / "run"

    def kill(epoch, logs):
        if epoch == 1:
            raise Killed

    with contextlib.suppress(Killed):
        training.run(RUN, folder, verbose=0, report=kill)
    shutil.rmtree(folder / "tensorboard")
    config = json.loads((folder / "config.json").read_text())
    config["command"] = ["write.py"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for path in (folder / "checkpoints").glob("ckpt-1.*"):
        path.unlink()


if __name__ == "__main__":
    main()
