"""Trains one network by every method for a few steps, and says of each whether it works.

    python benchmarks/methods.py --data_dir=DIR
    python benchmarks/methods.py --methods=latent --steps=300 --output_dir=runs/methods

The table compares nothing: it shows that each method trains. ``compare`` compares. Methods of
several stages get ``--steps`` for each. Methods that train real-valued weights until the end are
judged as they end, with binary ones. The same command again continues.
"""

import dataclasses
import json
import pathlib

import numpy as np
from absl import flags

import checking
from larq_filter import binary, conversion  # first: tf.keras is Keras 2 then
from larq_filter._keras import keras
from larq_filter.cli import command_line
from larq_filter.experiments import methods, run_data, run_folder, training, user_inputs
from larq_filter.experiments.comparison import settings
from larq_filter.experiments.methods.knobs import from_dict

FLAGS = flags.FLAGS

flags.DEFINE_list("methods", "all", f"Groups {', '.join(methods.GROUPS)}, or names of methods.")
OF_RUNS = (*run_folder.DATA, "model", "width", "batch_size", "seed", "augment")
command_line.define_flags(run_folder.Config, OF_RUNS, dataset="cifar10_jpeg", batch_size=64)
flags.DEFINE_integer("steps", 300, "Training steps of each stage, at least, in 3 epochs.", 1)
flags.DEFINE_string(
    "settings",
    str(pathlib.Path(__file__).with_name("methods.json")),
    "JSON file: for single methods knobs that fit a run this short.",
)
flags.DEFINE_integer("export_images", 64, "Validation images to compare the converted model on.", 2)
flags.DEFINE_string("output_dir", "runs/methods", "Folder of the tables and the runs.")
PARTS = 3  # epochs of a stage: the losses are means over the last of them

COLUMNS = {
    "method": "method",
    "loss": "loss",
    "frozen_loss": "frozen",
    "val_accuracy": "validation accuracy",
    "binary": "binary",
    "changed": "layers changed",
    "reloads": "reloads",
    "converted": "on bits in LCE",
    "output_difference": "output difference",
    "trouble": "trouble",
}
READING = """\
- loss: cross-entropy in nats, mean over the last third of the steps; frozen: the same network and
  images with random binary kernels.
- binary: all kernels, as the network computes with them, are -1 and +1 up to a scale per filter.
- layers changed: those whose signs differ from the start.
- reloads: predictions, weights and optimizer state come back from a .keras file bit for bit.
"""


def config_of(name: str) -> run_folder.Config:
    """The run of a method."""
    own = json.loads(pathlib.Path(FLAGS.settings).read_text())["methods"]
    for each in own:
        methods.METHODS[each]  # raises for an unknown name
    knobs = from_dict(own.get(name, {}))
    return run_folder.Config(
        **{name: FLAGS[name].value for name in OF_RUNS},
        method=name,
        knobs=knobs,
        epochs=epochs_of(name, knobs),
        steps_per_epoch=max(1, FLAGS.steps // PARTS),
    )


def epochs_of(name: str, knobs) -> int:
    """As few as give each stage all its steps."""
    for epochs in range(PARTS, 10 * PARTS):
        stage = methods.first_stage(name, knobs, max(epochs, 2))
        if stage is None or min(stage.epochs, stage.own_epochs) >= PARTS:
            return epochs
    raise ValueError(f"{name} gives one of its stages less than a tenth of the epochs.")


def row_of(config: run_folder.Config, folder: pathlib.Path) -> dict:
    """Everything about one method, from its run folder or by training."""
    result = training.run(config, folder / "run", verbose=0, test=False)
    frozen = dataclasses.replace(config, method="frozen", knobs=methods.Knobs(), epochs=PARTS)
    control = training.run(frozen, folder.parent / "frozen" / "run", verbose=0, test=False)
    start = signs(start_of(config))
    keras.backend.clear_session()
    model = keras.models.load_model(folder / "run" / "model.keras")
    end = signs(model)
    images, labels = checking.some_images(config, FLAGS.export_images)
    changed = sum(not np.array_equal(*pair) for pair in zip(start, end, strict=True))
    return {
        "method": config.method,
        "loss": result.train_loss,
        "frozen_loss": control.train_loss,
        "val_accuracy": result.accuracy,
        "binary": "yes" if is_binary(model) else "no",
        "changed": f"{changed} of {len(end)}",
        "reloads": "yes" if checking.reloads(model, images) else "no",
        **{k: v for k, v in checking.exported(model, images, labels).items() if k in COLUMNS},
    }


def start_of(config: run_folder.Config):
    """The network as every method finds it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    return user_inputs.build(config, run_data.load(config))


def signs(model) -> list[np.ndarray]:
    kernels = binary.binary_kernels(model, trainable_only=False)
    return [binary.is_low(kernel).numpy() for _, kernel in kernels]


def is_binary(model) -> bool:
    """Whether a network without latent weights computes the same."""
    try:
        free = conversion.to_latent_free(model)
    except ValueError:
        return False
    kernels = binary.binary_kernels(free, trainable_only=False)
    return all(binary.holds_signs(kernel) for _, kernel in kernels)


def main():
    folder = checking.made(FLAGS.output_dir)
    names = settings.choose_methods(FLAGS.methods)
    configs = [(name, config_of(name)) for name in names]
    data = pathlib.Path(FLAGS.dataset).name
    title = (
        f"# {FLAGS.model} on {data}, {FLAGS.steps} steps of {FLAGS.batch_size} images for each "
        f"stage, seed {FLAGS.seed}"
    )
    rows = checking.rows("method", configs, row_of, folder, {})
    checking.report(rows, COLUMNS, title, READING, folder)


if __name__ == "__main__":
    command_line.start(main, "The same command continues.")
