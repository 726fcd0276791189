"""What every latent rule is, and several of them in a row."""

import dataclasses
from typing import Any

from larq_filter._validation import Rate, shown
from larq_filter.filters import Value


class Rule(Value):
    """Changes the gradient of a latent weight before the step, or the weight after it.

    A subclass is a frozen dataclass (``eq=False``) that gives ``intervals`` and one of ``before``
    and ``after``, or both. What it does not define passes through, and costs nothing. One of your
    own is saved with the model once ``tf.keras.utils.register_keras_serializable`` knows it.
    """

    @property
    def state_size(self) -> int:
        """State arrays per weight."""
        return 0

    @property
    def has_before(self) -> bool:
        """Whether the rule looks at gradients."""
        return type(self).before is not Rule.before

    @property
    def has_after(self) -> bool:
        """Whether the rule looks at weights after the step; only then old ones are kept for it."""
        return type(self).after is not Rule.after

    def zero_state(self, like, xp) -> tuple:
        """The state of a rule that has seen nothing: zeros shaped like ``like`` by default."""
        return tuple(xp.zeros_like(like) for _ in range(self.state_size))

    def before(self, gradient, weight, state: tuple, rates: dict, xp) -> tuple[Any, tuple]:
        """``gradient, state = before(gradient, weight, state, rates, xp)``.

        Args:
            gradient: of the loss, an array or tensor of any shape.
            weight: the latent weight, same shape.
            state: ``state_size`` arrays, as ``zero_state`` gave them or an earlier call.
            rates: this step's number for every name in ``rates()``.
            xp: ``numpy`` or ``tensorflow``, whichever ``weight`` belongs to.

        Returns:
            What the optimizer takes for the gradient, and the new state.
        """
        return gradient, state

    def after(self, old, new, state: tuple, rates: dict, xp) -> tuple[Any, tuple]:
        """``weight, state = after(old, new, state, rates, xp)``.

        Args:
            old: the latent weight before the step, an array or tensor of any shape.
            new: where the optimizer has taken it, same shape.
            state: as ``before`` left it.
            rates: this step's number for every name in ``rates()``.
            xp: ``numpy`` or ``tensorflow``, whichever ``old`` belongs to.

        Returns:
            The latent weight, and the new state.
        """
        return new, state


@dataclasses.dataclass(frozen=True, eq=False)
class Chain(Rule):
    """Several rules as one: ``before`` of each in their order, then ``after`` of each.

    Every ``after`` gets the weight from before the step for ``old``, and for ``new`` what the rule
    before it made. The rates of rule i are named with its position: ``limit_0``, ``beta_1``, ...

    Args:
        rules: a list of rules; an empty one changes nothing.

    Raises:
        TypeError: no list of rules.
    """

    rules: tuple = ()

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "rules", validate_rules("rules", self.rules))

    @property
    def has_before(self) -> bool:
        return any(rule.has_before for rule in self.rules)

    @property
    def has_after(self) -> bool:
        return any(rule.has_after for rule in self.rules)

    @property
    def state_size(self) -> int:
        return sum(rule.state_size for rule in self.rules)

    def rates(self) -> dict[str, Rate]:
        return {
            f"{name}_{index}": rate
            for index, rule in enumerate(self.rules)
            for name, rate in rule.rates().items()
        }

    def with_rate(self, name: str, rate: Rate) -> "Chain":
        self._require_rate(name)
        own, _, index = name.rpartition("_")
        rules = list(self.rules)
        rules[int(index)] = rules[int(index)].with_rate(own, rate)
        return Chain(rules)

    def zero_state(self, like, xp) -> tuple:
        return sum((rule.zero_state(like, xp) for rule in self.rules), ())

    def before(self, gradient, weight, state, rates, xp):
        states = []
        for rule, own, its_rates in self._each(state, rates):
            gradient, own = rule.before(gradient, weight, own, its_rates, xp)
            states += own
        return gradient, tuple(states)

    def after(self, old, new, state, rates, xp):
        states = []
        for rule, own, its_rates in self._each(state, rates):
            new, own = rule.after(old, new, own, its_rates, xp)
            states += own
        return new, tuple(states)

    def _each(self, state, rates):
        """Each rule with its part of the state, and with its rates by its own names."""
        for index, rule in enumerate(self.rules):
            yield (
                rule,
                state[: rule.state_size],
                {name: rates[f"{name}_{index}"] for name in rule.rates()},
            )
            state = state[rule.state_size :]


def validate_rules(name: str, rules) -> tuple:
    """``rules`` as a tuple.

    Raises:
        TypeError: no list of rules.
    """
    if isinstance(rules, Rule):
        raise TypeError(f"`{name}` must be a list of rules: [{rules!r}], not {rules!r} alone.")
    if not isinstance(rules, list | tuple) or not all(isinstance(rule, Rule) for rule in rules):
        raise TypeError(
            f"`{name}` must be a list of rules from larq_filter.latent_rules, such as [Clip(1.0)], "
            f"not {shown(rules)}."
        )
    return tuple(rules)
