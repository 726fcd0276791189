"""A process that trains many networks gives back the memory of those that it has trained.

TensorFlow registers every custom gradient that a graph is traced with, such as those of Larq's
quantizers, under a name of its own, and keeps it, with the whole graph behind it, until the process
ends. Rejected: a process for each run, which would import TensorFlow and load the data again each
time.
"""

import contextlib

from tensorflow.python.framework import ops  # it has no public name

_PREFIX = "CustomGradient-"  # of the names that `tf.custom_gradient` makes up


def _names() -> set[str]:
    return {name for name in ops.gradient_registry.list() if name.startswith(_PREFIX)}


@contextlib.contextmanager
def graphs_forgotten():
    """At its end drops the gradients of all graphs that were traced inside of it.

    Models that were built inside can't be trained afterwards; so none may leave.
    """
    before = _names()
    try:
        yield
    finally:
        for name in _names() - before:
            del ops.gradient_registry._registry[name]
