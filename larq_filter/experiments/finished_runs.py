"""What may be missing in the folder of a finished run, and whether it can be made again."""

import logging
import pathlib
from collections.abc import Callable

from larq_filter.datasets import preparation
from larq_filter.experiments import run_data, run_folder

logger = logging.getLogger(__name__)


def have_own_images(config: run_folder.Config, folder: pathlib.Path) -> bool:
    """Whether the run had images of the user's own, which are still where they were."""
    known = "data" in run_folder.read_described(folder)
    return known and pathlib.Path(config.dataset).expanduser().exists()


def restore_preparation(
    config: run_folder.Config, folder: pathlib.Path, data, write: Callable
) -> None:
    """Writes anew how the model takes images, by ``write(data)``; says if the images are gone."""
    path = preparation.beside(folder / "model.keras")
    try:
        data = run_data.load(config) if data is None else data
    except (ValueError, OSError, ImportError) as error:
        logger.warning("%s can't be made again without the images: %s", path, error)
        return
    path.unlink(missing_ok=True)
    write(data)


def is_to_be_saved_again(config: run_folder.Config, folder: pathlib.Path, result) -> bool:
    """Whether the model is lost, and its last checkpoint has it; says so."""
    if run_folder.has_model(folder):
        return False
    # A training that a callback ended would go on, and its weights may be those of another epoch.
    possible = result.epochs == config.epochs and (folder / "checkpoints").is_dir()
    logger.warning(
        "%s is missing or damaged. %s",
        folder / "model.keras",
        "It is made again from the last checkpoint."
        if possible
        else "Put it back from a copy; no checkpoint is sure to hold it.",
    )
    return possible
