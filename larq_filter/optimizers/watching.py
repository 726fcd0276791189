"""Notices that somebody else assigns to a kernel: ``set_weights``, ``load_weights``, a callback.

All of them end at the ``assign`` of the variable behind the kernel, so that one method of that one
object is put behind a listener. A step of the optimizer does not come here (``write``) and costs
nothing more.

Rejected, all measured on 13 million weights: a checksum of the kernel in each step (the step takes
1.4 to 8 times as long: XLA on a CPU does not sum in the loop that writes), one of a sample (8 %,
1.4 times for 300 kernels, and blind to a few weights), comparing weight and signal in the loop of
the state (18 %, and right for one flip rule only), and a copy of the kernels.

Not noticed, as nothing in Python is called: a ``tf.train.Checkpoint`` that holds the model without
its optimizer, ``assign_add`` and ``scatter_update``, and assignments of replicas of their own.
"""

import warnings
import weakref

from larq_filter import binary
from larq_filter._keras import tf


def write(variable, value) -> None:
    """``variable.assign(value)`` that no listener hears."""
    variable = binary.stored(variable)
    type(variable).assign(variable, value)


def listen(variable, listener) -> None:
    """Has ``listener(before)`` called after each later assignment from outside.

    Args:
        variable: a binary kernel.
        listener: a bound method, whose object is not kept alive. It gets the signs of before, one
            tensor for each replica.
    """
    variable = binary.stored(variable)
    if not isinstance(vars(variable).get("assign"), _Assign):
        variable.assign = _Assign(variable)
    variable.assign.listeners.append(weakref.WeakMethod(listener))


class _Assign:
    """Stands in the place of ``variable.assign``."""

    def __init__(self, variable):
        self._variable = weakref.ref(variable)
        self.listeners = []

    def __call__(self, *args, **kwargs):
        variable = self._variable()
        method = type(variable).assign
        self.listeners = [each for each in self.listeners if each() is not None]
        if (
            not self.listeners
            or not tf.distribute.in_cross_replica_context()
            and (tf.distribute.has_strategy())
        ):
            return method(variable, *args, **kwargs)
        before = [binary.sign(binary.latent(copy)) for copy in binary.replicas(variable)]
        result = method(variable, *args, **kwargs)
        for each in self.listeners:
            each()(before)
        return result


def report(weights: int, kernels: int, keeps_memory: bool) -> None:
    """Says that somebody changed weights, if anybody did.

    Args:
        weights: how many.
        kernels: how many kernels they are in.
        keeps_memory: whether the filter goes on from what it remembered of them.

    Warns:
        UserWarning: there are some.
    """
    if not weights:
        return
    kept = (
        "has been turned with them"
        if keeps_memory
        else "starts at zero, as this filter does not treat gradients of both signs alike"
    )
    warnings.warn(
        f"{weights:,} weights of {kernels} binary kernels had been changed from outside "
        "(set_weights, load_weights, a callback). Training has gone on from them: what the "
        f"filter remembered of these weights {kept}. optimizer.reset_filters() forgets "
        "everything instead.",
        stacklevel=4,
    )
