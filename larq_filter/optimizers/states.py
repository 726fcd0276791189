"""What filter and flip rule remember of each binary kernel, and where that starts.

The arrays are variables of the optimizer, made by the function that it hands over, so that Keras
saves them and puts a copy on every replica. Rejected: arrays kept by the filters. A filter is a
value, and one filter serves all kernels.

A warm start by an initializer is known when the kernel is. One relative to the gradient waits for
the first gradient that is not all zero, and ``started`` tells whether that has come.
"""

import gc
import zlib
from typing import NamedTuple

import numpy as np

from larq_filter import binary, filters, flips
from larq_filter._keras import tf
from larq_filter._validation import shown
from larq_filter.optimizers import watching

_SEED_STRIDE = 1_000_003  # between the seeds of two kernels


class KernelState(NamedTuple):
    """Of one kernel.

    Attributes:
        position: counts the binary kernels, in the order of the variables given to ``build``.
        filter: the variables of the filter, shaped as its ``zero_state``.
        flip: those of the flip rule.
        started: 0 or 1, of shape (): whether a warm start has come; None where none is awaited.
    """

    position: int
    filter: list
    flip: list
    started: tf.Variable | None = None


class KernelStates:
    """The states of all binary kernels of one optimizer.

    Args:
        gradient_filter: the filter.
        flip_rule: the flip rule.
        warm_start: as for ``FilterOptimizer``.
        key_of: tells variables apart, ``key_of(variable)``.
        add_variable: ``add_variable(variable, name, shape, initial_value)`` creates and tracks
            one that lies where ``variable`` does.
        count: ``count()`` is the variable that counts steps.
    """

    def __init__(
        self,
        gradient_filter: filters.Filter,
        flip_rule: flips.FlipRule,
        warm_start,
        key_of,
        add_variable,
        count,
    ):
        self._filter, self._flip_rule, self._warm_start = gradient_filter, flip_rule, warm_start
        self._key_of, self._add_variable, self._count = key_of, add_variable, count
        self._states: dict[str, KernelState] = {}
        self._kernels = []
        self._listeners = []  # the only strong references: kernels outlive an optimizer
        self._changed = {}  # positions of kernels changed from outside: where, a tensor of bool
        self._origins = {}  # positions of kernels changed from outside: step, signs and state then
        self._had_memory = False  # of any of them when it was changed
        self._awaited_at, self._arrived = -1, None
        self._awaited = {}  # positions of kernels that a file is to bring: the signature, or None
        self._signal_of = {}  # positions of kernels whose states were set by hand: a function
        self._unstarted = set()  # keys of kernels that a file gave values after they were built

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self):
        return iter(self._states.values())

    def of(self, variable) -> KernelState | None:
        """The state of a kernel; None for a variable that is none of ours."""
        return self._states.get(self._key_of(variable))

    def create(self, kernels) -> None:
        """Makes all kernels binary and gives each a state."""
        if any(watching.is_heard_by_others(variable, ()) for variable in kernels):
            gc.collect()  # an optimizer that nobody has any more is in a cycle, and would be told
        for position, variable in enumerate(kernels):
            binary.binarize(variable)
            state = self._states[self._key_of(variable)] = self._create(variable, position)
            self._kernels.append(variable)
            self._listeners.append(_Listener(self, variable, state))

    def _create(self, variable, position: int) -> KernelState:
        prefix = f"kernel_{position}"  # the names of two kernels may be equal, and .h5 needs them
        parts = [
            [
                self._add_variable(variable, f"{prefix}_{part}_{index}", tf.shape(value), value)
                for index, value in enumerate(values)
            ]
            for part, values in self._first_values(variable, position).items()
        ]
        started = None
        if isinstance(self._warm_start, float):
            started = self._add_variable(variable, f"{prefix}_started", shape=[])
        return KernelState(position, *parts, started)

    def _first_values(self, variable, position: int) -> dict[str, tuple]:
        """The values before the first step, by part."""
        like = tf.zeros(variable.shape, variable.dtype)
        return {
            "filter": self._first_filter_state(variable, like, position),
            "flip": self._flip_rule.zero_state(like, tf),
        }

    def _first_filter_state(self, variable, like, position: int) -> tuple:
        """Zero; or against the weights if their magnitudes are given."""
        if not callable(self._warm_start):
            return self._filter.zero_state(like, tf)
        config = self._warm_start.get_config()
        if "seed" in config:  # a seed for each kernel, the same on every replica
            config["seed"] = (config["seed"] or 0) + _SEED_STRIDE * position
        initializer = type(self._warm_start).from_config(config)
        magnitudes = tf.abs(initializer(like.shape, like.dtype))
        weight = binary.sign(binary.latent(binary.replicas(variable)[0]))
        return self._filter.state_from_output(-magnitudes * weight, tf)

    # Starting again -------------------------------------------------------------------------------

    @property
    def unstarted(self) -> bool:
        """Whether some kernel has values from a file of before the first step."""
        return bool(self._unstarted)

    def await_start(self) -> None:
        """For a file from before the first step: its kernels are still to be made binary."""
        self._unstarted = set(self._states)

    def skip_start(self) -> None:
        """For a file from after a step: its kernels and states are used as they come."""
        self._unstarted = set()

    def start_again(self, variables) -> None:
        """Does what ``create`` did for those of ``variables`` that wait for it."""
        for variable in variables:
            if self._key_of(variable) in self._unstarted:
                self._start(variable)

    def _start(self, variable) -> None:
        self._unstarted.discard(self._key_of(variable))
        binary.binarize(variable)
        state = self.of(variable)
        for part, values in self._first_values(variable, state.position).items():
            for array, value in zip(getattr(state, part), values, strict=True):
                for copy in binary.replicas(array):
                    copy.assign(value)

    def set_filter_state(self, variable, values) -> None:
        """As ``FilterOptimizer.set_filter_state``."""
        state = self.of(variable) if binary.is_quantized(variable) else None
        if state is None:
            raise ValueError(
                f"{getattr(variable, 'name', shown(variable))} is no binary kernel that this "
                "optimizer was built with: call optimizer.build(model.trainable_variables) first."
            )
        self.start_again([variable])
        arrays = list(state.filter)
        shapes = [tuple(tf.shape(value).numpy()) for value in values]
        wanted = [tuple(array.shape) for array in arrays]
        if shapes != wanted:
            raise ValueError(
                f"The state of {type(self._filter).__name__} for {variable.name} is "
                f"{len(wanted)} arrays of shapes {wanted}; received shapes {shapes}."
            )
        if not all(bool(tf.reduce_all(tf.math.is_finite(tf.cast(v, "float64")))) for v in values):
            raise ValueError(
                f"The state for {variable.name} holds NaN or Inf, from which no weight would ever "
                "flip; give finite numbers."
            )
        self._origins.pop(state.position, None)
        if state.started is not None:  # no warm start is to come any more
            arrays, values = [*arrays, state.started], [*values, 1.0]
        for array, value in zip(arrays, values, strict=True):
            for copy in binary.replicas(array):
                copy.assign(tf.cast(value, copy.dtype))

    def reset(self) -> None:
        """As ``FilterOptimizer.reset_filters``."""
        self.forget_changes()
        for variable, state in zip(self._kernels, self._states.values(), strict=True):
            self._start(variable)
            if state.started is not None:
                for copy in binary.replicas(state.started):
                    copy.assign(0.0)

    # Kernels changed from outside -----------------------------------------------------------------

    def telling_others(self, pairs):
        """A context for the step of these gradients and kernels, which others may train in turn."""
        return watching.step([variable for _, variable in pairs], self._listeners)

    def turn(self, variable, state: KernelState, before, by_optimizer: bool) -> None:
        """Has weights that somebody turned over take their memory with them.

        What is remembered becomes that of the opposite gradients: the weight is as settled, or as
        close to a flip, as it was on its other side. Turned over and back, by any number of
        assignments between two steps, nothing has changed.

        Args:
            variable: a kernel after the assignment.
            state: of it.
            before: where it was -1 before, one tensor of bool for each replica.
            by_optimizer: another one has taken a step, which is nothing to tell.
        """
        now, values = watching.negative(variable), map(binary.replicas, state.filter)
        turned = [tf.not_equal(*pair) for pair in zip(before, now, strict=True)]
        if tf.executing_eagerly() and not by_optimizer:
            if not bool(tf.reduce_any(turned[0])) or self._is_awaited(state, turned[0]):
                return
            if not self._changed:
                self._changed_at, self._had_memory = int(self._count().numpy()), False
            self._had_memory = self._had_memory or self._has_memory(variable, state)
            known = self._changed.get(state.position, tf.zeros_like(turned[0]))
            self._changed[state.position] = tf.not_equal(known, turned[0])
            before, values = self._origin(state, before)
            turned = [tf.not_equal(*pair) for pair in zip(before, now, strict=True)]
        odd = filters.odd_states(self._filter)
        starts = self._filter.zero_state(tf.zeros(variable.shape, variable.dtype), tf)
        weights = [tf.where(low, -1.0, 1.0) for low in before]
        swaps = [self._flip_rule.swaps(*pair, tf) for pair in zip(weights, turned, strict=True)]
        for index, (array, olds, start) in enumerate(
            zip(state.filter, values, starts, strict=True)
        ):
            if array.shape == variable.shape:
                mirror = (lambda copy, start=start: start) if odd is None else tf.negative
                mirror = mirror if odd is None or odd[index] else tf.identity
                copies = zip(binary.replicas(array), olds, turned, swaps, strict=True)
                for copy, old, where, order in copies:
                    copy.assign(_turned(old, where, order, mirror))

    def _has_memory(self, variable, state: KernelState) -> bool:
        """Whether the filter knows a kernel, or will start from it: else the next step sets it."""
        seen = (
            tf.reduce_any(tf.not_equal(tf.convert_to_tensor(binary.replicas(array)[0]), 0))
            for array in state.filter
            if array.shape == variable.shape
        )
        return self._warm_start is not None or any(map(bool, seen))

    def _origin(self, state: KernelState, before) -> tuple:
        """Signs and filter state of a kernel before all changes from outside since the last step.

        Signs turned over and back are no change of the state. What is swapped or starts again can't
        be told from what comes of it, so that the values themselves are kept until a step is taken.
        """
        swaps = type(self._flip_rule).swaps is not flips.FlipRule.swaps
        if self.keeps_memory and not swaps:
            return before, map(binary.replicas, state.filter)
        count = int(self._count().numpy())
        if self._origins.get(state.position, (None,))[0] != count:
            values = [[tf.identity(copy) for copy in binary.replicas(a)] for a in state.filter]
            self._origins[state.position] = count, before, values
        return self._origins[state.position][1:]

    def name(self, position: int) -> str:
        """The name of a kernel, as its layer gave it."""
        return self._kernels[position].name

    def signature(self, position: int) -> int:
        """A number that tells the signs of a kernel from others."""
        kernel = binary.latent(binary.replicas(self._kernels[position])[0])
        return zlib.crc32(np.packbits(kernel.numpy() < 0).tobytes())

    def await_kernels(self, signatures: dict, arrived=None) -> None:
        """For states that were read from a file, whose kernels may come before them or after.

        Args:
            signatures: that the kernels may have, by position; None where the file has none, and
                then the next assignment is taken for it.
            arrived: called with position and signature of each that comes, or has come.
        """
        self.forget_changes()
        self._awaited_at = int(self._count().numpy())
        self._signal_of = {}
        self._awaited, self._arrived = dict(signatures), arrived
        if arrived is None:
            return
        for position, wanted in signatures.items():
            # It may be so by chance, and is still awaited: constant initializers begin alike.
            if wanted is not None and (signature := self.signature(position)) in wanted:
                arrived(position, signature)

    def await_fitting(self, signal_of) -> None:
        """For states that were set by hand, whose kernels may be there or come after them.

        The next kernel that is set before a step is theirs if most of its changes are on the side
        of their signals.

        Args:
            signal_of: ``signal_of(state, gradient)``, what the filter would give at the next step.
        """
        self.await_kernels({})
        self._signal_of = dict.fromkeys(range(len(self)), signal_of)

    def _is_awaited(self, state: KernelState, turned) -> bool:
        """Whether what was just assigned to a kernel belongs to the states that are there."""
        signal_of = self._signal_of.pop(state.position, None)
        if signal_of is None or int(self._count().numpy()) != self._awaited_at:
            return self._comes_from_file(state.position)
        weight = binary.sign(binary.latent(binary.replicas(self._kernels[state.position])[0]))
        pull = weight * signal_of(state, tf.zeros_like(weight))
        agreeing, opposing = (tf.math.count_nonzero(turned & each) for each in (pull < 0, pull > 0))
        return bool(agreeing > opposing)

    def _comes_from_file(self, position: int) -> bool:
        """Whether what was just assigned to a kernel belongs to the states that are there."""
        if int(self._count().numpy()) != self._awaited_at or position not in self._awaited:
            return False
        wanted, signature = self._awaited.pop(position), self.signature(position)
        comes = wanted is None or signature in wanted
        if comes and self._arrived is not None:
            self._arrived(position, signature)
        if not self._awaited:
            self._arrived = None
        return comes

    @property
    def keeps_memory(self) -> bool:
        """Whether a weight that is turned over keeps its memory, or starts at zero."""
        return filters.odd_states(self._filter) is not None

    def take_changes(self) -> tuple[int, int, bool]:
        """Weights and kernels changed from outside that steps were taken from; each told once.

        And whether the filter knew any of them then.
        """
        if self._arrived is not None and int(self._count().numpy()) != self._awaited_at:
            self._awaited, self._arrived = {}, None  # it holds what was read
        if not self._changed or int(self._count().numpy()) == self._changed_at:
            return 0, 0, False
        counts = [int(tf.math.count_nonzero(where)) for where in self._changed.values()]
        self.forget_changes()
        return sum(counts), sum(count > 0 for count in counts), self._had_memory

    def forget_changes(self) -> None:
        """Also for a file whose kernels and states belong together."""
        self._changed, self._origins = {}, {}

    # Stepping -------------------------------------------------------------------------------------

    def filter_state(self, state: KernelState, gradient, weight) -> tuple:
        """The filter's state for this step; set against the weights when a warm start is due.

        Args:
            state: of the kernel; ``started`` is written.
            gradient: of the kernel.
            weight: -1 or +1, of the gradient's shape.
        """
        values = tuple(tf.convert_to_tensor(array) for array in state.filter)
        if state.started is None:
            return values
        largest = tf.reduce_max(tf.abs(gradient))  # whose square float32 may not hold
        in_units = tf.math.divide_no_nan(gradient, largest)
        size = largest * tf.sqrt(tf.reduce_mean(tf.square(in_units)))
        due = tf.logical_and(tf.equal(state.started, 0), size > 0)
        state.started.assign(tf.where(size > 0, tf.ones_like(size), state.started))
        return tf.cond(
            due,
            lambda: self._filter.state_from_output(-self._warm_start * size * weight, tf),
            lambda: values,
        )


class _Listener:
    """Passes assignments to one kernel on to its state."""

    def __init__(self, states: KernelStates, variable, state: KernelState):
        self._states, self._variable, self._state = states, variable, state
        watching.listen(variable, self.hear)

    def hear(self, before, by_optimizer: bool) -> None:
        self._states.turn(self._variable, self._state, before, by_optimizer)


def _turned(array, where, order, mirror):
    """``array`` with the memory of other weights, by their number in ``order``, or mirrored."""
    array = tf.convert_to_tensor(array)
    if order is None:
        return tf.where(where, mirror(array), array)
    alone = tf.equal(order, tf.reshape(tf.range(tf.size(order)), order.shape))
    swapped = tf.reshape(tf.gather(tf.reshape(array, [-1]), order), array.shape)
    return tf.where(where & alone, mirror(array), swapped)
