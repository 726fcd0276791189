"""What the flags of ``network_flags`` say: the file of a network, and how its images are scaled."""

import dataclasses
import pathlib

import numpy as np
from absl import flags

FLAGS = flags.FLAGS


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
