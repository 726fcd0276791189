"""Notices that somebody else changes a kernel: ``set_weights``, ``load_weights``, a callback.

All of them end at a method of the variable behind the kernel (``assign``, ``assign_add``, ...), so
that the methods of that one object are put behind a listener. Other optimizers of Keras, which may
train the same kernels in turn, come here too; one of this package says so by ``step``. A step of
the optimizer itself does not come here (``write``) and costs nothing more.

Rejected, all measured on 13 million weights: a checksum of the kernel in each step (the step takes
1.4 to 8 times as long: XLA on a CPU does not sum in the loop that writes), one of a sample (8 %,
1.4 times for 300 kernels, and blind to a few weights), comparing weight and signal in the loop of
the state (18 %, and right for one flip rule only), and a copy of the kernels.

Not noticed, as no such method is called: a ``tf.train.Checkpoint`` that holds the model without
its optimizer, operations on the handle of a variable (updates of Keras' optimizers that XLA
compiles are such), and what is done on replicas. Nor are the steps of a function that was traced
before the optimizer was built, its assignments included: two optimizers that take turns are both
built first.
"""

import contextlib
import warnings
import weakref

from larq_filter import binary
from larq_filter._keras import tf

_SCATTERS = ("add", "div", "max", "min", "mul", "sub", "update")
_SCATTERS_ND = ("add", "max", "min", "sub", "update")
_METHODS = (
    *("assign", "assign_add", "assign_sub", "batch_scatter_update"),
    *(f"scatter_{name}" for name in _SCATTERS),
    *(f"scatter_nd_{name}" for name in _SCATTERS_ND),
    "_strided_slice_assign",  # variable[0].assign
)


def write(variable, value) -> None:
    """``variable.assign(value)`` that no listener hears."""
    variable = binary.stored(variable)
    type(variable).assign(variable, value)


def listen(variable, listener) -> None:
    """Has ``listener(before, by_optimizer)`` called after each later change from outside.

    Args:
        variable: a binary kernel.
        listener: a bound method, whose object is not kept alive. It gets what ``negative`` was
            before, and whether ``step`` tells of the change.
    """
    variable = binary.stored(variable)
    if not isinstance(vars(variable).get("assign"), _Method):
        watch = _Watch()
        for name in _METHODS:
            if hasattr(type(variable), name):
                setattr(variable, name, _Method(variable, name, watch))
    variable.assign.watch.listeners.append(weakref.WeakMethod(listener))


@contextlib.contextmanager
def step(variables, own):
    """Tells the listeners of others that kernels change inside of the context.

    Args:
        variables: binary kernels.
        own: objects that are not told.
    """
    told = []
    for variable in map(binary.stored, variables):
        method = vars(variable).get("assign")
        known = method.watch.living() if isinstance(method, _Method) and not _on_replica() else []
        others = [each for each in known if each.__self__ not in own]
        if others:
            told.append((others, negative(variable)))
    yield
    for others, before in told:
        for each in others:
            each(before, True)


def is_heard_by_others(variable, own) -> bool:
    """Whether others than the objects ``own`` listen to a kernel."""
    method = vars(binary.stored(variable)).get("assign")
    living = method.watch.living() if isinstance(method, _Method) else []
    return any(each.__self__ not in own for each in living)


def _on_replica() -> bool:
    return tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()


def negative(variable) -> list:
    """Where a kernel is -1, one tensor of bool for each replica; twenty times as fast as signs."""
    return [binary.latent(copy) < 0 for copy in binary.replicas(binary.stored(variable))]


class _Watch:
    """The listeners of one variable."""

    def __init__(self):
        self.listeners = []
        self.busy = False  # a method that calls another is one change

    def living(self) -> list:
        self.listeners = [each for each in self.listeners if each() is not None]
        return [each() for each in self.listeners]


class _Method:
    """Stands in the place of ``variable.assign`` and the like."""

    def __init__(self, variable, name: str, watch: _Watch):
        self._variable, self._name, self.watch = weakref.ref(variable), name, watch

    def __call__(self, *args, **kwargs):
        variable = self._variable()
        method = getattr(type(variable), self._name)
        listeners = self.watch.living()
        if self.watch.busy or not listeners or _on_replica():
            return method(variable, *args, **kwargs)
        before, self.watch.busy = negative(variable), True
        try:
            result = method(variable, *args, **kwargs)
        finally:
            self.watch.busy = False
        for each in listeners:
            each(before, False)
        return result


def report(weights: int, kernels: int, had_memory: bool, keeps_memory: bool) -> None:
    """Says that somebody changed weights, if anybody did.

    Args:
        weights: how many.
        kernels: how many kernels they are in.
        had_memory: whether the filter remembered gradients of any of them.
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
    became = (
        f"Training has gone on from them: what the filter remembered of these weights {kept}. "
        "optimizer.reset_filters() forgets everything instead."
        if had_memory
        else "The filter remembered nothing of them, so nothing has held them against the first "
        "gradients. To go on from such weights load them again, with "
        "FilterOptimizer(..., warm_start=0.3)."
    )
    warnings.warn(
        f"{weights:,} weights of {kernels} binary kernels had been changed from outside "
        f"(set_weights, load_weights, a callback). {became}",
        stacklevel=4,
    )
