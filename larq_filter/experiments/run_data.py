"""The images of a run, and how many steps an epoch of them has."""

import functools

from larq_filter import datasets
from larq_filter.datasets import sources
from larq_filter.experiments import run_folder


def load(config: run_folder.Config) -> datasets.ImageData:
    """The data of a run; the last ones loaded are kept for the next run that asks for the same."""
    arguments = {name: getattr(config, name) for name in run_folder.DATA}
    return _data(stamp=sources.stamp(config.dataset, config.data_dir), **arguments)


@functools.lru_cache(maxsize=1)
def _data(dataset: str, stamp: str | None, **arguments) -> datasets.ImageData:
    return datasets.load(dataset, **arguments)


def steps_per_epoch(config: run_folder.Config, data: datasets.ImageData) -> int:
    """Steps of an epoch of ``config`` on ``data``.

    Raises:
        ValueError: a batch larger than the data, or more steps than there are full batches.
    """
    available = data.steps_per_epoch(config.batch_size)
    steps = config.steps_per_epoch or available
    if steps > available:
        raise ValueError(
            f"steps_per_epoch is {steps}, but {data.train_examples} training images make "
            f"{available} full batches of {config.batch_size}. Choose at most {available}, or "
            "smaller batches."
        )
    return steps
