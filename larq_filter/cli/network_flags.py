"""Flags of a network that is trained already: which one, and how it takes its images.

``export`` and ``predict`` read them alike. A training of larq-filter leaves ``model.images.json``
beside its model, which says how images are scaled; a model of another training has none.
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags

from larq_filter.cli import command_line

FLAGS = flags.FLAGS

flags.DEFINE_string("run", None, "Run folder of larq-filter train: its model, and its data.")
flags.DEFINE_string("model_file", None, "The file of a trained model, in place of --run.")
command_line.require_one_of("run", "model_file")
flags.DEFINE_string(
    "model",
    None,
    "module:function that the run was trained with, or whose module registers the layers that a "
    ".keras file names. It is imported only if it stands here; as --import.",
)
flags.DEFINE_list(
    "mean",
    None,
    "What the training of --model_file subtracted from the pixels (0 to 255 in image files); a "
    "number, or one a channel. Default: with --std 0; else the mean of the training images.",
)
flags.DEFINE_list(
    "std",
    None,
    "What it divided them by: --std=255 for pixels from 0 to 1. Default: with --mean 1; else the "
    "deviation of the training images.",
)


def source() -> pathlib.Path:
    """The file of the model.

    Raises:
        FileNotFoundError: says what is missing, and of an unfinished run how to go on.
    """
    if FLAGS.run is None:
        path = pathlib.Path(FLAGS.model_file)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}.")
        return path
    run = pathlib.Path(FLAGS.run)
    path = run / "model.keras"
    if not run.is_dir():
        raise FileNotFoundError(f"there is no folder {run}.")
    if not path.is_file() and (run / "config.json").is_file():
        raise FileNotFoundError(
            f"the training in {run} is not finished: the larq-filter train that began it, given "
            "again, continues it."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{run} is no run folder of larq-filter train: no model.keras.")
    return path


def is_scale_given() -> bool:
    """Whether the command line says how images are scaled."""
    return FLAGS.mean is not None or FLAGS.std is not None


def scaled(prepared):
    """``ImageData`` or a ``Preparation`` whose images are scaled as --mean and --std say."""
    if not is_scale_given():
        return prepared
    channels = prepared.input_shape[-1]
    mean, std = (_numbers(name, default, channels) for name, default in (("mean", 0), ("std", 1)))
    if not np.all(std > 0):
        raise ValueError(f"--std={','.join(FLAGS.std)} must be above 0.")
    return dataclasses.replace(prepared, mean=mean, std=std)


def _numbers(name: str, default: float, channels: int) -> np.ndarray:
    given = FLAGS[name].value
    try:
        found = np.array([default] if given is None else given, np.float32)
    except ValueError:
        found = np.array([np.nan])
    if len(found) not in (1, channels) or not np.all(np.isfinite(found)):
        count = "one number" if channels == 1 else f"one number, or {channels}, one a channel,"
        raise ValueError(f"--{name}={','.join(given)}: {count} is needed.")
    return np.broadcast_to(found, channels).copy()
