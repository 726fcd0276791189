"""The steps of latent kernels: rules before, a Keras optimizer, rules after, the constraint.

    gradient = rules.before(gradient, old)
    new = the kernel optimizer's step: its own clipping, its decay, its update
    kernel = constraint(rules.after(old, new))

The constraint of the layer comes last and once, so that the kernel keeps it whatever a rule does,
and so that ``new`` is where the optimizer went: of a step that a ``weight_clip`` had cut short
``Mirror`` and ``Metaplastic`` would take the rest for the whole. Keras applies constraints within
``apply_gradients``; for rules after the step it is given the same variables without any. Where no
rule looks at weights after the step, nothing is kept, and Keras applies constraints as always.

Under a strategy every replica does this to its own copy, from gradients that are summed already, as
Keras does with constraints.

Rejected: the steps of Keras' ``apply_gradients`` written again without the constraint. They differ
between versions, and a subclass of the user's may have its own.
"""

from larq_filter import binary
from larq_filter._keras import tf
from larq_filter.latent_rules import Chain
from larq_filter.optimizers.rates import Rates


class RuleSteps:
    """Steps the latent kernels of one optimizer.

    Args:
        rules: the rules.
        rates: their numbers.
        key_of: tells variables apart, ``key_of(variable)``.
        add_variable: ``add_variable(variable, name, shape, initial_value)`` creates and tracks one
            that lies where ``variable`` does.
    """

    def __init__(self, rules: Chain, rates: Rates, key_of, add_variable):
        self._rules, self._rates = rules, rates
        self._key_of, self._add_variable = key_of, add_variable
        self._states: dict[str, list] = {}
        self._free = {}  # the kernels by key, without their constraints

    @property
    def states(self) -> list[list]:
        """The variables of each kernel, in the order of the kernels given to ``create``."""
        return list(self._states.values())

    def create(self, kernels) -> None:
        """Gives each kernel a state."""
        for position, variable in enumerate(kernels):
            like = tf.zeros(variable.shape, getattr(variable, "true_dtype", variable.dtype))
            key = self._key_of(variable)
            self._states[key] = [
                self._add_variable(variable, f"kernel_{position}_rules_{index}", value.shape, value)
                for index, value in enumerate(self._rules.zero_state(like, tf))
            ]
            self._free[key] = binary.without_constraint(variable)

    def step(self, pairs, count, take) -> None:
        """Takes a step.

        Args:
            pairs: gradients and latent kernels.
            count: steps so far, for schedules.
            take: the kernel optimizer's step, ``take(pairs)``.
        """
        self._rates.advance(count)
        if self._rules.has_before:
            pairs = [(self._before(*pair), pair[1]) for pair in pairs]
        if not self._rules.has_after:
            take(pairs)
            return
        old = [binary.latent(variable) for _, variable in pairs]
        take([(gradient, self._free[self._key_of(variable)]) for gradient, variable in pairs])
        for before, (_, variable) in zip(old, pairs, strict=True):
            self._after(before, variable)

    def _before(self, gradient, variable):
        weight, state = binary.latent(variable), self._states[self._key_of(variable)]
        gradient, values = self._rules.before(
            tf.convert_to_tensor(gradient), weight, *self._given(state, weight)
        )
        _assign(state, values)
        return gradient

    def _after(self, old, variable) -> None:
        new, state = binary.latent(variable), self._states[self._key_of(variable)]
        weight, values = self._rules.after(old, new, *self._given(state, new))
        _assign(state, values)
        if variable.constraint is not None:
            weight = variable.constraint(weight)
        variable.assign(weight, read_value=False)

    def _given(self, state, weight) -> tuple:
        """State, rates and library for a rule."""
        values = tuple(tf.convert_to_tensor(array) for array in state)
        return values, self._rates.of_flip_rule(weight.dtype), tf


def _assign(arrays, values) -> None:
    for array, value in zip(arrays, values, strict=True):
        array.assign(value)
