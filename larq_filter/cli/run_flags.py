"""Flags of data, model and budget, which the example scripts share."""

import pathlib

from absl import flags

from larq_filter import (
    models,
)
from larq_filter.experiments import files, run_folder

FLAGS = flags.FLAGS

# Data
flags.DEFINE_string(
    "dataset", "digits", "digits (embedded), a tensorflow-datasets name, or a prepared folder."
)
flags.DEFINE_string("data_dir", None, "Folder of tensorflow-datasets' prepared data sets.")
flags.DEFINE_bool("download", False, "Let tensorflow-datasets download what is missing.")
flags.DEFINE_integer(
    "train_examples",
    None,
    "Use only so many of the training images left after the holding out. Default: all.",
    1,
)
flags.DEFINE_integer(
    "validation_examples", None, "Use only so many validation images. Default: all.", 1
)
flags.DEFINE_integer("image_size", None, "Resize images to this many pixels a side.", 1)
flags.DEFINE_bool("augment", True, "Random crops; mirror images too if the images have colours.")

# Model
flags.DEFINE_string("model", "birealnet20", f"One of: {', '.join(models.names())}.")
flags.DEFINE_integer("width", None, "Channels of the first stage, where the model has it.", 1)

# Budget
flags.DEFINE_integer("batch_size", 50, "Images per step.", 1)
flags.DEFINE_integer("epochs", 30, "Passes over the training images.", 1)
flags.DEFINE_integer("steps_per_epoch", None, "Steps per epoch. Default: a whole pass.", 1)

NAMES = (
    "dataset data_dir download train_examples validation_examples image_size augment model width "
    "batch_size epochs steps_per_epoch"
).split()


def config(**others) -> run_folder.Config:
    """The config of a run; ``others``: its method, knobs and seed, which have no flags here."""
    return run_folder.Config(**{name: FLAGS[name].value for name in NAMES}, **others)


def dataset_name() -> str:
    """Short name of the data set, for folders and sections: the last part of a path."""
    return pathlib.Path(FLAGS.dataset).name


def default_folder(*names) -> pathlib.Path:
    """A folder in ``runs``, whatever the names hold."""
    return pathlib.Path("runs", files.name_of(*names))


def description() -> str:
    """Data, model and budget in a line."""
    parts = [
        f"{dataset_name()}, {FLAGS.model}" + (f" of width {FLAGS.width}" if FLAGS.width else ""),
        f"{FLAGS.epochs} epochs"
        + (f" of {FLAGS.steps_per_epoch} steps" if FLAGS.steps_per_epoch else ""),
        f"batches of {FLAGS.batch_size}",
    ]
    if FLAGS.train_examples:
        parts.append(f"{FLAGS.train_examples} training images")
    if FLAGS.validation_examples:
        parts.append(f"{FLAGS.validation_examples} validation images")
    if FLAGS.image_size:
        parts.append(f"{FLAGS.image_size} pixels a side")
    if not FLAGS.augment:
        parts.append("no augmentation")
    return ", ".join(parts)
