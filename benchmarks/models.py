"""Trains every model for a few steps and says of each whether it works.

    python benchmarks/models.py
    python benchmarks/models.py --models=QuickNet,reactnet_a --dataset=cifar10 --data_dir=DIR
    python benchmarks/models.py --models=all --steps=30 --output_dir=runs/models

Each model is trained by the gradient filter, and once more with its binary kernels frozen at random
on the same images: what the filter adds to the real-valued parameters is the difference of the two
losses. The trained network is saved and loaded again, its optimizer too, and, with the extra lce,
converted for Larq Compute Engine and compared with the original.

The output folder gets table.md, table.csv and the run folders. The same command again continues: a
finished run is looked up, and a finished row is printed as it is. A model that fails gets a row
that says why, and the others go on; the exit status then is 1.
"""

import dataclasses
import functools
import itertools
import json
import pathlib

from absl import flags, logging

import checking
from larq_filter import binary, export, models  # first: tf.keras is Keras 2 then
from larq_filter._keras import keras
from larq_filter._validation import first_line
from larq_filter.cli import command_line
from larq_filter.experiments import methods, run_folder, training
from larq_filter.experiments.methods.knobs import Knobs

FLAGS = flags.FLAGS

# What
flags.DEFINE_list("models", "all", f"all, or some of: {', '.join(models.names())}.")

# Data
OF_RUNS = (*run_folder.DATA[:-1], "batch_size", "seed")  # images fit the model
command_line.define_flags(run_folder.Config, OF_RUNS, batch_size=32)
flags.DEFINE_integer(
    "image_size",
    None,
    "Pixels a side; a model that needs more gets the next multiple of 32 that it takes. Default: "
    "for each model the smallest multiple of 32 at which lint finds nothing that LCE gets wrong.",
    1,
)

# Budget
flags.DEFINE_integer("steps", 30, "Training steps, in PARTS epochs.", 1)
flags.DEFINE_integer(
    "parts",
    3,
    "The losses are means over the last STEPS/PARTS steps; after each part: validation.",
    1,
)
flags.DEFINE_float("alpha", 0.3, "Of the filter, linear to 0: a memory that begins with 3 steps.")
flags.DEFINE_float("gamma", 0.3, "Of the filter.")
flags.DEFINE_float("learning_rate", 1e-2, "Of Adam, for the real-valued variables, cosine to 0.")
flags.DEFINE_string(
    "settings",
    str(pathlib.Path(__file__).with_name("models.json")),
    "JSON file: for single models other values of alpha, gamma or learning_rate.",
)

# Where
flags.DEFINE_bool("export", True, "Convert for Larq Compute Engine, where the extra lce is there.")
flags.DEFINE_integer("export_images", 64, "Validation images to compare the converted model on.", 2)
flags.DEFINE_string("output_dir", "runs/models", "Folder of the tables and the runs.")

SETTINGS = ("alpha", "gamma", "learning_rate")
COLUMNS = {
    "model": "model",
    "image_size": "image",
    "learning_rate": "learning rate",
    "binary_kernels": "binary kernels",
    "binary_weights": "binary weights",
    "loss": "loss",
    "frozen_loss": "frozen",
    "flipped": "layers that flipped",
    "reloads": "reloads",
    "converted": "on bits in LCE",
    "keras_bytes": "Keras file",
    "lce_bytes": "LCE file",
    "output_difference": "output difference",
    "top1_agreement": "top-1 agreement",
    "trouble": "trouble",
}
READING = """\
- loss: cross-entropy of the filter's run in nats, mean over its last steps; frozen: the same
  network and images with random binary kernels.
- reloads: predictions, weights and optimizer state come back from a .keras file bit for bit.
- on bits in LCE: binary operators of the converted model, of so many calls of binary layers.
- output difference: median over the images of the largest difference between Keras and Larq Compute
  Engine, relative to each output's own spread over the images.
"""


def chosen_models() -> list[str]:
    names = models.names() if FLAGS.models == ["all"] else FLAGS.models
    for name in names:
        models.smallest_image(name)  # raises for an unknown name, before any training
    return list(names)


def image_size_of(name: str) -> int:
    """As large as asked for, or as the model needs."""
    smallest = models.smallest_image(name)
    if FLAGS.image_size is not None:
        return FLAGS.image_size if FLAGS.image_size >= smallest else -(-smallest // 32) * 32
    sizes = [size for size in range(32, 257, 32) if size >= smallest]
    return next((size for size in sizes if is_safe(name, size)), sizes[0])


def is_safe(name: str, size: int) -> bool:
    """Whether the default kernels of Larq Compute Engine are right on maps of such images."""
    model = models.build(name, input_shape=(size, size, 3), num_classes=10)
    return not any(finding.severity == export.WRONG for finding in export.lint(model))


def config_of(name: str) -> run_folder.Config:
    """The filter's run."""
    own = {key: FLAGS[key].value for key in SETTINGS} | own_settings().get(name, {})
    return run_folder.Config(
        **{name: FLAGS[name].value for name in OF_RUNS},
        image_size=image_size_of(name),
        model=name,
        knobs=Knobs(**own),
        epochs=FLAGS.parts,
        steps_per_epoch=max(1, FLAGS.steps // FLAGS.parts),
    )


@functools.cache
def own_settings() -> dict[str, dict]:
    """What the file of settings says, by model."""
    found = json.loads(pathlib.Path(FLAGS.settings).read_text())["models"]
    for name, values in found.items():
        models.smallest_image(name)  # raises for an unknown name
        if unknown := set(values) - set(SETTINGS):
            raise ValueError(f"{FLAGS.settings}: {name} has {unknown}; known are {SETTINGS}.")
    return found


def row_of(config: run_folder.Config, folder: pathlib.Path) -> dict:
    """Everything about one model, from its run folders or by training it."""
    result = training.run(config, folder / "filter", verbose=0)
    knobs = config.knobs.only(methods.METHODS["frozen"].knobs)
    frozen = dataclasses.replace(config, method="frozen", knobs=knobs)
    control = training.run(frozen, folder / "frozen", verbose=0)
    keras.backend.clear_session()
    model = keras.models.load_model(folder / "filter" / "model.keras")
    images, labels = checking.some_images(config, FLAGS.export_images)
    kernels = [kernel for _, kernel in binary.binary_kernels(model)]
    return {
        "model": config.model,
        "image_size": config.image_size,
        "learning_rate": config.knobs.learning_rate,
        "binary_kernels": len(kernels),
        "binary_weights": sum(int(kernel.shape.num_elements()) for kernel in kernels),
        "loss": result.train_loss,
        "frozen_loss": control.train_loss,
        "flipped": "{} of {}".format(*result.flipped_layers),
        "reloads": "yes" if checking.reloads(model, images) else "no",
        **(checking.exported(model, images, labels) if FLAGS.export else {}),
    }


def configs_of(names):
    """The configs, by image size, so that data are loaded once a size; and rows of no config."""
    configs, rows = [], []
    for name in names:
        try:
            configs.append((name, config_of(name)))
        except ImportError as error:  # larq-zoo is an extra
            logging.exception("%s can't be built", name)
            rows.append({"model": name, "trouble": first_line(error)})
    return sorted(configs, key=lambda pair: pair[1].image_size), rows


def main():
    folder = checking.made(FLAGS.output_dir)
    configs, failed = configs_of(chosen_models())
    name = pathlib.Path(FLAGS.dataset).name
    title = f"# {name}, {FLAGS.steps} steps of {FLAGS.batch_size} images, seed {FLAGS.seed}"
    key = {"export": FLAGS.export}
    found = checking.rows("model", configs, row_of, folder, key)
    checking.report(itertools.chain(failed, found), COLUMNS, title, READING, folder)


if __name__ == "__main__":
    command_line.start(main, "The same command continues.")
