"""One step of binary kernels: gradient -> filter -> flip rule -> weight.

``KernelSteps._update`` is the only place where a kernel is changed. It runs in three ways: as plain
operations, compiled for one kernel (a distribution strategy hands kernels over one by one), and
compiled for many together (``fusion``). Rejected: to leave compiling to Keras, whose one program a
kernel is 300 launches a step for 300 kernels.
"""

from larq_filter import binary, filters, flips, stateless_random
from larq_filter._keras import tf
from larq_filter.optimizers import fusion, nonfinite, watching
from larq_filter.optimizers.rates import Rates
from larq_filter.optimizers.states import KernelState, KernelStates


class KernelSteps:
    """Steps the binary kernels of one optimizer.

    Args:
        gradient_filter: the filter.
        flip_rule: the flip rule.
        rates: the numbers of this step, of both.
        states: what both remember.
        count: ``count()`` is the variable that counts steps; for flip rules that draw.
        kept: ``kept(number)`` counts weights whose state would not be finite and is kept; None for
            a filter whose state always is.
    """

    def __init__(
        self,
        gradient_filter: filters.Filter,
        flip_rule: flips.FlipRule,
        rates: Rates,
        states: KernelStates,
        count,
        kept,
    ):
        self._filter, self._flip_rule, self._kept = gradient_filter, flip_rule, kept
        self._rates, self._states, self._count = rates, states, count
        self.observe(None)

    def observe(self, observer) -> None:
        """Has ``observer(position, signal)`` called in every step traced from now on, or nobody."""
        self._observer = observer
        # What is compiled holds whether there is an observer, so it is compiled anew.
        self._together = fusion.FusedUpdates(self._update_compiled)
        self._one = None

    def plain(self, gradient, variable) -> None:
        """Steps one kernel by plain operations."""
        state = self._states.of(variable)
        self._tell(state, self._update(tf.convert_to_tensor(gradient), variable, state))

    def compiled(self, gradient, variable, key) -> None:
        """Steps one kernel of one replica, compiled; ``key`` tells the kernels apart."""
        if self._one is None:
            self._one = tf.function(self._update_one, jit_compile=True, autograph=False)
        self._tell(self._states.of(variable), self._one(gradient, variable, key))

    def together(self, pairs, device: str) -> None:
        """Steps many kernels, compiled.

        Args:
            pairs: gradients and kernels.
            device: where kernels and states lie.
        """
        with tf.device(device):
            signals = self._together([self._row(*pair) for pair in pairs])
        for (_, variable), signal in zip(pairs, signals, strict=True):
            self._tell(self._states.of(variable), signal)

    def _tell(self, state: KernelState, signal) -> None:
        if self._observer is not None:  # outside of programs: an observer may do what it likes
            self._observer(state.position, signal)

    def _row(self, gradient, variable) -> tuple:
        """What the update of one kernel needs, as tensors and variables only."""
        state = self._states.of(variable)
        # IndexedSlices become dense, and a gradient of a Python function gets its shape.
        gradient = tf.ensure_shape(tf.convert_to_tensor(gradient), variable.shape)
        position = tf.constant(state.position, tf.int64)
        return gradient, binary.stored(variable), state._replace(position=position)

    def _update_one(self, gradient, variable, key):
        del key  # of TensorFlow's cache of what it has compiled
        state = self._states.of(variable)
        return self._update_compiled(tf.convert_to_tensor(gradient), variable, state)

    def _update_compiled(self, gradient, variable, state: KernelState):
        """For a compiled program: the update, and the signal if anybody wants it."""
        signal = self._update(gradient, variable, state)
        return tf.zeros([]) if self._observer is None else signal

    def _update(self, gradient, variable, state: KernelState):
        """Takes the step and returns the signal."""
        weight = binary.sign(binary.latent(variable))
        filter_state = self._states.filter_state(state, gradient, weight)
        signal, filter_state = self._filtered(gradient, filter_state)
        flipped, flip_state = self._flip_rule.flip(
            weight,
            signal,
            tuple(tf.convert_to_tensor(array) for array in state.flip),
            self._rates.of_flip_rule(weight.dtype) | self._flip_inputs(state, gradient),
            tf,
        )
        filter_state = self._filter.feedback(filter_state, flipped, tf)
        for array, value in zip(state.filter, filter_state, strict=True):
            array.assign(value)
        for array, value in zip(state.flip, flip_state, strict=True):
            array.assign(value)
        watching.write(variable, tf.where(flipped, -weight, weight))
        return signal

    def _filtered(self, gradient, before: tuple):
        """Signal and new state; of a weight where one of them is not finite 0 and the old state."""
        rates = self._rates.of_filter(gradient.dtype)
        signal, state = self._filter.step(gradient, before, rates, tf)
        if self._kept is None:
            return signal, state
        bad = ~tf.math.is_finite(signal)
        for array in state:
            bad = bad | ~tf.math.is_finite(array)  # a scalar belongs to all
        self._kept(tf.math.count_nonzero(bad))
        pairs = zip(state, before, strict=True)
        kept = tuple(nonfinite.keep_finite(new, old, bad) for new, old in pairs)
        return nonfinite.keep_finite(signal, tf.zeros_like(signal), bad), kept

    def _flip_inputs(self, state: KernelState, gradient) -> dict:
        """What the flip rule asked for beside weight and signal."""
        given = {}
        if "gradient" in self._flip_rule.inputs:
            given["gradient"] = gradient
        if "uniform" in self._flip_rule.inputs:
            seed, step = self._flip_rule.seed, self._count()
            given["uniform"] = stateless_random.uniform(
                gradient.shape, seed, state.position, step, gradient.dtype
            )
        return given
