"""Optimizers inside an optimizer: their counters of steps, and what Keras' files leave out of them.

Each counts its own steps, as its bias correction needs: one whose state a file did not have begins
at 0, as Keras' own would. Only where somebody moves the outer counter alone (a step that a loss
scale skips, ``iterations.assign``) do the others move along, by as much: a checkpoint moves all.
Rejected: to set them to the outer counter, which gave an Adam without moments the bias correction
of step 2,000, and first steps of three times the learning rate; to save what was seen, which files
of before do not have.
"""

import contextlib
import warnings
from collections.abc import Callable

import numpy as np

from larq_filter._keras import tf

_IN_FILES = "nested.{}.{}"


class Counters:
    """Has nested optimizers follow where only the outer counter is moved; saved in no file.

    Args:
        outer: the outer optimizer's counter.
        others: those of the nested ones.

    Attributes:
        seen: what the outer counter, then the others are while nobody moves them.
    """

    def __init__(self, outer, others):
        with tf.init_scope():
            once = tf.VariableAggregation.ONLY_FIRST_REPLICA  # as Keras' own counters
            self.seen = [
                tf.Variable(each.read_value(), trainable=False, aggregation=once)
                for each in [outer, *others]
            ]

    def follow(self, outer, others) -> None:
        """At the start of a step: moves the others by as much as the outer one was moved alone."""
        seen, *each_seen = self.seen
        moved = outer - seen
        for each, before in zip(others, each_seen, strict=True):
            each.assign_add(tf.where(each == before, moved, tf.zeros_like(moved)))

    def take(self, outer, others) -> None:
        """After a step or a file: what the counters say now is no reason to follow."""
        for seen, now in zip(self.seen, [outer, *others], strict=True):
            seen.assign(now)


def learning_rate_of(optimizer):
    """The variable, which Keras' files leave out; None if the learning rate is a schedule."""
    learning_rate = getattr(optimizer, "_learning_rate", None)
    return learning_rate if isinstance(learning_rate, tf.Variable) else None


@contextlib.contextmanager
def rates_of_file(rates: Callable[[], dict], name: str, silent: bool):
    """Says which rates are set inside, by a file or a list, that differ from those before.

    Args:
        rates: gives them by name, as variables; None is left out.
        name: of the optimizer, for people.
        silent: if it was made from a config itself, whose rates nobody has chosen just now.

    Warns:
        UserWarning: some are others than before.
    """

    def values():
        return {rate: float(v.numpy()) for rate, v in rates().items() if v is not None}

    before = values()
    yield
    after = values()
    changed = [
        f"{rate} {after[rate]:g}, not {before[rate]:g}"
        for rate in sorted(before.keys() & after.keys())
        if abs(after[rate] - before[rate]) > 1e-6 * abs(before[rate])
    ]
    if changed and not silent:
        warnings.warn(
            f"{name} goes on with the rates that were loaded: {'; '.join(changed)}. To train with "
            "others set them after loading.",
            stacklevel=4,
        )


def write(store, optimizers: dict) -> None:
    """Notes learning rates, and how many variables each has, whose values Keras saves.

    Args:
        store: a mapping that is written: an HDF5 group.
        optimizers: by name.
    """
    for name, optimizer in optimizers.items():
        store[_IN_FILES.format(name, "variables")] = np.int64(len(optimizer.variables))
        if (learning_rate := learning_rate_of(optimizer)) is not None:
            store[_IN_FILES.format(name, "learning_rate")] = learning_rate.numpy()


def read(store, optimizers: dict, name: str) -> None:
    """Sets the learning rates that ``write`` noted.

    Args:
        store: as for ``write``.
        optimizers: likewise.
        name: of the outer optimizer, for people.

    Warns:
        UserWarning: the file was written with other variables to train; Keras then loads no state.
    """
    anew = []
    for part, optimizer in optimizers.items():
        count, rate = (_IN_FILES.format(part, what) for what in ("variables", "learning_rate"))
        if count in store and int(store[count][()]) != len(optimizer.variables):
            anew.append(f"{part} ({type(optimizer).__name__})")
        if rate in store and (learning_rate := learning_rate_of(optimizer)) is not None:
            learning_rate.assign(store[rate][()])
    if anew:
        warnings.warn(
            "The file was written by an optimizer that trained other variables than this one (were "
            f"layers frozen since?): {name} leaves out the state of {' and '.join(anew)}, which "
            "begins anew. Weights, and the state of all else that it trains, come from the file.",
            stacklevel=3,
        )
