"""What a run is, what came out of it, and the files that say so.

    config.json     the config, the knobs with the method's defaults, the versions of the packages,
                    the command line; written first
    classes.json    the names of the classes, in the order of the model's outputs
    model.images.json   how model.keras takes images: size, classes, mean, deviation
    result.json     the result; its presence says that the run is finished; written last

Both are JSON, so that people and other programs can read them; a damaged one is told from a missing
one. Rejected: to keep them in the checkpoints, which only TensorFlow reads and which are removed.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import os
import pathlib
import platform
import sys
import zipfile
from collections.abc import Callable
from typing import get_args

from larq_filter import datasets, models
from larq_filter._validation import validate_flag, validate_integer, validate_text
from larq_filter.datasets import preparation, splits
from larq_filter.experiments import files, methods, user_inputs
from larq_filter.experiments.checkpoints import differences

logger = logging.getLogger(__name__)


def setting(default, text: str, low: int = 1, high: int = 10**12):
    """A field with a default, which is a flag of commands too: ``text`` is its help.

    ``low`` and ``high``: of an integer.
    """
    return dataclasses.field(default=default, metadata={"help": text, "low": low, "high": high})


def _validated(field: dataclasses.Field, value):
    """``value`` if it is of the field's type: str, bool, int, or one of these or None.

    Raises:
        TypeError: of another type.
        ValueError: an integer outside the field's interval.
    """
    kind, *others = get_args(field.type) or (field.type,)
    if value is None and others:
        return None
    if kind is int:
        return validate_integer(field.name, value, field.metadata["low"], field.metadata["high"])
    return {str: validate_text, bool: validate_flag}[kind](field.name, value)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that determines a run. Two runs of one config on one machine are the same run.

    Each field is a flag of the commands, with the default and the help that stand here. Raises
    TypeError and ValueError for what is of another type, outside its interval, or unknown. A field
    that is added later defaults to None: else earlier run folders are those of another config.
    """

    dataset: str = setting(
        "digits",
        "digits (embedded); a folder with a folder of images for each class, or with such folders "
        "in train, validation and test; an .npz file with x_train and y_train; a "
        "tensorflow-datasets name, or a prepared folder.",
    )
    data_dir: str | None = setting(None, "Folder of tensorflow-datasets' prepared data sets.")
    download: bool = setting(False, "Let tensorflow-datasets download what is missing.")
    train_examples: int | None = setting(
        None, "Use only so many of the training images left after the holding out. Default: all."
    )
    validation_examples: int | None = setting(
        None, "Use only so many validation images. Default: all."
    )
    image_size: int | None = setting(None, "Resize images to this many pixels a side.")
    model: str = setting(
        "birealnet20",
        f"One of: {', '.join(models.names())}; or a .keras file; or module:function, a function of "
        "input_shape and num_classes, imported only if it stands on this command line.",
    )
    width: int | None = setting(None, "Channels of the first stage, where the model has it.")
    method: str = setting("filter", "Who trains the binary kernels; ``methods.METHODS``.")
    knobs: methods.Knobs = dataclasses.field(default_factory=methods.Knobs)
    batch_size: int = setting(50, "Images per step.")
    epochs: int = setting(
        20,
        "Passes over the training images, the first step of a two-step method included, the "
        "training of a teacher not.",
    )
    steps_per_epoch: int | None = setting(None, "Steps per epoch. Default: a whole pass.")
    seed: int = setting(
        0, "Of initialisation, data order, augmentation and what the method draws.", 0, 2**32 - 1
    )
    augment: bool = setting(True, "Random crops; mirror images too if the images have colours.")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name != "knobs":
                value = _validated(field, getattr(self, field.name))
                object.__setattr__(self, field.name, value)
        object.__setattr__(self, "dataset", _tidy(self.dataset))
        methods.resolve(self.method, self.knobs)


def _tidy(dataset: str) -> str:
    """The name of a folder without what shells complete it with: ./pets/ is pets."""
    return os.path.normpath(dataset) if "/" in dataset and "://" not in dataset else dataset


@dataclasses.dataclass(frozen=True)
class Result:
    """What came out of a run.

    Attributes:
        output_dir: the run folder.
        epochs: epochs trained in all, those of a first stage included.
        accuracy: of the saved model on the validation images, in [0, 1].
        loss: cross-entropy there, in nats.
        test_accuracy, test_loss: the same on the test images, read once after the last epoch; None
            for a run that is to be chosen from, as those of a search, and for a first stage.
        train_accuracy: on the training images during the last epoch.
        train_loss: cross-entropy there, mean over the last epoch, in nats.
        flip_ratio: share of the binary weights flipped per step, mean over the last epoch.
        flips_per_weight: how often a binary weight flipped in the whole run, on average.
        flipped_layers: binary layers in which a weight flipped in any epoch, of how many.
        seconds: wall time of the training, all parts of a continued run and a first stage together.
        optimizer_bytes_per_weight: what the optimizer keeps for one binary weight; the weight
            itself, latent or not, is 4 bytes more.
        skipped_steps: steps not taken because a gradient was not finite, those of a first stage
            included.
    """

    output_dir: str
    epochs: int
    accuracy: float
    loss: float
    train_accuracy: float
    train_loss: float
    flip_ratio: float
    flips_per_weight: float
    flipped_layers: tuple[int, int]
    seconds: float
    optimizer_bytes_per_weight: float
    skipped_steps: int = 0  # unknown to older folders
    test_accuracy: float | None = None
    test_loss: float | None = None


DATA = ("dataset", "data_dir", "download", "train_examples", "validation_examples", "image_size")
"""The fields of ``Config`` that ``datasets.load`` takes."""


class RunExists(ValueError):
    """The run folder belongs to a run of another config."""


def refuse_other_run(folder: pathlib.Path, config: Config, scale: dict | None = None) -> None:
    """Raises if the folder holds anything but an earlier part of this run.

    Args:
        folder: the run folder.
        config: of the run.
        scale: what ``strategies.describe`` says of its strategy.

    Raises:
        RunExists: it holds a run of another config, or something that is no run.
    """
    path = folder / "config.json"
    if path.exists():
        content = read_config(folder)
        refuse_other_split(content["config"], str(folder))
        found = {**content["config"], "strategy": content.get("strategy")}
        found["dataset"] = _tidy(str(found.get("dataset")))  # written before names were tidied
        differs = differences(found, {**as_json(config), "strategy": scale})
        if differs:
            raise RunExists(
                f"{folder} holds another run ({differs}). Choose another output_dir, "
                "or repeat the command of that run to continue it."
                f"{user_inputs.to_type_again(content['config'])}"
            )
    # A kill at the very start leaves the first file half written.
    elif folder.exists() and {path.name for path in folder.iterdir()} - {"config.part.json"}:
        raise RunExists(f"{folder} is not empty and holds no run. Choose another output_dir.")


def refuse_other_files(folder: pathlib.Path, is_own: Callable[[str], bool], what: str) -> None:
    """Raises if a folder holds files and none of ours: what is written there would replace others.

    Args:
        folder: of results.
        is_own: whether a name in it tells that it holds ...
        what: ..., a search for example.

    Raises:
        RunExists: only files of somebody else; hidden ones are nobody's.
    """
    names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
    if any(not name.startswith(".") for name in names) and not any(map(is_own, names)):
        raise RunExists(f"{folder} is not empty and holds no {what}. Choose another output_dir.")


def refuse_other_own(folder: pathlib.Path, described: dict) -> None:
    """Raises if the run in the folder was begun with other images, another model or teacher.

    Args:
        folder: the run folder.
        described: what ``user_inputs.describe`` says of them now.

    Raises:
        RunExists: others, under the same name.
    """
    found = read_described(folder) if (folder / "config.json").exists() else {}
    for name in sorted({*found} & {*described}):
        # What only one of both knows, such as bytecode of another Python, tells nothing.
        there, now = found[name], described[name]
        common = there.keys() & now.keys()
        differs = differences(
            {key: there[key] for key in common}, {key: now[key] for key in common}
        )
        if differs:
            what = "other images" if name == "data" else f"another {name}"
            raise RunExists(
                f"{folder} was begun with {what} of the same name ({differs}). Choose another "
                "output_dir, or give it what it was begun with."
            )


def refuse_other_split(config: dict, what: str) -> None:
    """Raises if something was begun with another division of the images than ``splits`` makes now.

    Args:
        config: of the run or study, as read from its file.
        what: names it in the error.

    Raises:
        RunExists: another division.
    """
    found = config.get("split", 1)
    if found != splits.SPLIT:
        raise RunExists(
            f"{what} was begun with another division of the images (split {found}, now "
            f"{splits.SPLIT}): its validation images are not those of today, and may have been the "
            "test images. It can be neither continued nor compared. Choose another folder or name."
        )


def read_described(folder: pathlib.Path) -> dict:
    """What config.json says of data and model of the user's own; empty if nothing."""
    found = read_config(folder).get("own")
    entries = found.items() if isinstance(found, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def read_config(folder: pathlib.Path) -> dict:
    """The content of config.json, the config under "config".

    Raises:
        FileNotFoundError: there is none.
        RunExists: it is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no run folder: it has no config.json.")
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content["config"], dict):
            return content
        reason = "no object of settings"
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise RunExists(
        f"{path} is damaged ({reason}), so nobody knows which run the folder holds. Put the file "
        "back from a copy, or choose another output_dir."
    )


def write_config(
    folder: pathlib.Path,
    config: Config,
    scale: dict | None = None,
    described: dict | None = None,
    images: datasets.Preparation | None = None,
) -> None:
    """Writes config.json, the first file of a run folder, and what the model takes, once.

    Args:
        folder: the run folder; made if need be.
        config: of the run.
        scale: what ``strategies.describe`` says of its strategy.
        described: what ``user_inputs.describe`` says of data and model.
        images: how the model takes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    if not path.exists():
        knobs = methods.resolve(config.method, config.knobs).given()  # the method's defaults too
        content = {
            "config": as_json(config),
            "resolved": {"knobs": knobs},
            "versions": versions(),
            "command": sys.argv,
        }
        if scale is not None:
            content["strategy"] = scale
        if described:
            content["own"] = described
        files.write_json(path, content)
    if images is not None:
        classes, taken = folder / "classes.json", preparation.beside(folder / "model.keras")
        for path, content in ((classes, list(images.class_names)), (taken, images.to_json())):
            if not path.exists():
                files.write_json(path, content)


@contextlib.contextmanager
def alone(folder: pathlib.Path):
    """While inside, no other process trains in the folder, whose config.json is locked for it.

    Raises:
        RunExists: another one does.
    """
    with contextlib.ExitStack() as stack:
        try:
            taken = stack.enter_context(files.locked(folder / "config.json", wait=False))
        except OSError as error:
            taken = True
            logger.info("%s can't be locked (%s): start only one training in it.", folder, error)
        if not taken:
            raise RunExists(
                f"Another process trains in {folder} just now. Wait for its end, after which the "
                "same command goes on or finds the result; or choose another output_dir."
            )
        yield


def as_json(config: Config) -> dict:
    """The config as it comes back from a JSON file, with the division of the images."""
    return json.loads(json.dumps({**dataclasses.asdict(config), "split": splits.SPLIT}))


def versions(*more: str) -> dict[str, str]:
    """Versions of Python and of the packages that decide what comes out, and of ``more``."""
    found = {"python": platform.python_version()}
    for package in ("larq_filter", "tensorflow", "tf_keras", "larq", "numpy", *more):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def write_result(folder: pathlib.Path, result: Result) -> None:
    """Writes result.json, which marks the run as finished."""
    files.write_json(folder / "result.json", dataclasses.asdict(result))


def has_model(folder: pathlib.Path) -> bool:
    """Whether the trained model is there, and whole."""
    return zipfile.is_zipfile(folder / "model.keras")


def lacks_preparation(folder: pathlib.Path) -> bool:
    """Whether the file that says how the model takes images is missing or damaged."""
    try:
        preparation.read(preparation.beside(folder / "model.keras"))
    except FileNotFoundError:
        return True
    except ValueError as error:
        logger.warning("%s", error)
        return True
    return False


def read_result(folder: pathlib.Path) -> Result | None:
    """The result of a finished run; None if there is none that can be read."""
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        content["flipped_layers"] = tuple(content["flipped_layers"])
        result = Result(**{**content, "output_dir": str(folder)})
        values = [*result.flipped_layers, *dataclasses.astuple(result)[1:]]
        wrong = [value for value in values if not isinstance(value, int | float | tuple | None)]
        if not wrong:
            return result
        reason = f"{wrong[0]!r} is no number"
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
    logger.warning("%s is damaged (%s). It is made again from the last checkpoint.", path, reason)
    return None
