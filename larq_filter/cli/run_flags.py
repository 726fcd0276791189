"""Flags of data, model and budget, which the commands share.

None is written here: each is a field of ``experiments.run_folder.Config``, hyperparameters of
``experiments.methods.knobs.Knobs``. A new flag is a new field there.
"""

import dataclasses
import pathlib
import tempfile

from absl import flags

from larq_filter.cli import command_line
from larq_filter.experiments import files, run_folder

FLAGS = flags.FLAGS

OTHERS = ("method", "knobs", "seed")  # not every command has them, or has them alike
NAMES = [field.name for field in dataclasses.fields(run_folder.Config) if field.name not in OTHERS]
command_line.define_flags(run_folder.Config, NAMES)


def config(**others) -> run_folder.Config:
    """The config of a run; ``others``: its method, knobs and seed, which have no flags here."""
    return run_folder.Config(**{name: FLAGS[name].value for name in NAMES}, **others)


def dataset_name() -> str:
    """Short name of the data set, for folders and sections: the last part of a path."""
    return pathlib.Path(FLAGS.dataset).name


def output_folder(given: str | None, *names) -> pathlib.Path:
    """The folder of ``--output_dir``, else one in ``runs``, whatever the names hold.

    One that is not there is not made yet: a command that fails before it has anything to write
    leaves nothing behind. That it can be made is tried beside it.

    Raises:
        files.NotWritable: it can't be made, or is a file.
    """
    folder = pathlib.Path(given or pathlib.Path("runs", files.name_of(*names)))
    try:
        place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not place.is_dir():
            raise files.NotWritable(
                f"--output_dir={folder}: {place} is a file. Give the name of a folder; it is made "
                "if it is not there."
            )
        if place != folder:
            tempfile.TemporaryDirectory(dir=place).cleanup()
    except files.NotWritable:
        raise
    except OSError as error:
        raise files.NotWritable(
            f"--output_dir={folder} can't be made: {error.strerror}. Choose another folder, or "
            "make this one writable."
        ) from None
    return folder


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
