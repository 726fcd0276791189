"""The rates of filter and flip rule while they train: one scalar variable each.

A schedule writes its variable at the start of a step, a callback writes that of a constant rate. So
a compiled step never holds a stale number, and saving the variables saves what a callback set.

The variable of a scheduled rate is no state: what it was in another training is nothing for a rate
that is constant here. As Keras does with a learning rate, a constant then keeps what it had before
loading. Formats that restore variables by themselves have no moment for that after it, so the value
waits in a variable of its own, and takes its place when somebody looks, or at the next step.
Rejected: no variable for scheduled rates. Files go by the number of variables.
"""

import warnings

import numpy as np

from larq_filter import filters, flips
from larq_filter._keras import tf

_ONE_MINUS = "1 - "


def _validate_aliases(aliases, rates) -> dict[str, str]:
    """``aliases`` as a dict; None is an empty one."""
    if aliases is None:
        return {}
    form = '`rate_aliases` must be a dict such as {"gamma": "alpha", "beta1": "1 - alpha_0"}'
    if not isinstance(aliases, dict) or not all(
        isinstance(e, str) for p in aliases.items() for e in p
    ):
        raise TypeError(f"{form}, not {filters.shown(aliases)}.")
    for name, rate in aliases.items():
        if name in rates or rate.removeprefix(_ONE_MINUS) not in rates:
            raise ValueError(
                f"{form}: new names for the rates {', '.join(rates) or '(there are none)'}, which "
                f"{name!r}: {filters.shown(rate)} is not."
            )
    return dict(aliases)


class Rates:
    """The scalar variables behind ``optimizer.alpha`` and its like.

    Names are those of the filter's and the rule's ``rates()``; where both have one, the rule's is
    called ``flip_NAME``.

    Args:
        gradient_filter: the filter.
        flip_rule: the flip rule.
        add_variable: creates and tracks a variable, ``add_variable(shape, name=...)``.
        taken: names that the optimizer uses for something else.
        aliases: further names, as ``FilterOptimizer`` takes them.

    Raises:
        TypeError: ``aliases`` is no dict of strings.
        ValueError: a name in ``taken``, an alias of no rate.
    """

    def __init__(
        self,
        gradient_filter: filters.Filter,
        flip_rule: flips.FlipRule,
        add_variable,
        taken,
        aliases=None,
    ):
        self._filter, self._flip_rule = gradient_filter, flip_rule
        own, flip = gradient_filter.rates(), flip_rule.rates()
        self._flip_names = {name: f"flip_{name}" if name in own else name for name in flip}
        rates = {**own, **{self._flip_names[name]: rate for name, rate in flip.items()}}
        self._aliases = _validate_aliases(aliases, rates)
        for name in (*rates, *self._aliases):
            if name in taken:
                raise ValueError(
                    f"The rate name {name!r} is taken by the optimizer itself; "
                    "give the rate of your filter or flip rule another name."
                )
        self._schedules = {n: rate for n, rate in rates.items() if filters.is_schedule(rate)}
        self._intervals = {}
        for name in rates:
            owner, own_name = self._owner(name)
            self._intervals[name] = owner.intervals_of(own_name)
        self._variables = {}
        with tf.init_scope():
            for name, rate in rates.items():
                variable = self._variables[name] = add_variable([], name=name)
                # Not tf.cast: it would round a Python number to float32 first.
                start = tf.cast(rate(0), variable.dtype) if name in self._schedules else rate
                variable.assign(start)
            once = tf.VariableAggregation.ONLY_FIRST_REPLICA  # as Keras' own counters
            self._nothing = np.full(len(rates), np.nan)  # in float64, which every rate goes into
            self._kept = tf.Variable(self._nothing, trainable=False, aggregation=once)
        self._may_keep = False

    def __contains__(self, name: str) -> bool:
        return name in self._variables or name in self._aliases

    def __str__(self) -> str:
        """The names, for people: ``alpha_0, level_1, beta1 (1 - alpha_0)``."""
        aliases = (f"{name} ({rate})" for name, rate in self._aliases.items())
        return ", ".join([*self._variables, *aliases]) or "none"

    def read(self, name: str):
        """The variable of a constant rate; a tensor for a scheduled one, or for ``1 - rate``.

        The tensor has an ``assign`` for callbacks, which writes, or says why it can't.
        """
        own = self._aliases.get(name, name).removeprefix(_ONE_MINUS)
        self.settle()
        variable, complement = self._variables[own], own != self._aliases.get(name, name)
        if own not in self._schedules and not complement:
            return variable
        value = tf.convert_to_tensor(variable)
        value = 1 - value if complement else tf.identity(value)
        value.assign = lambda new: self.write(name, new)
        return value

    def write(self, name: str, value) -> None:
        """Sets a constant rate.

        Warns:
            UserWarning: a filter of this rate would be compensated, and this one is not.

        Raises:
            TypeError: the rate follows a schedule, or the value is no number.
            ValueError: the value is outside the rate's interval.
            Both as the constructor of the filter or flip rule says it.
        """
        rate = self._aliases.get(name, name)
        own = rate.removeprefix(_ONE_MINUS)
        if own in self._schedules:
            raise TypeError(
                f"`{name}` follows {type(self._schedules[own]).__name__}, so it can't be set. "
                f"Give the filter a constant {name} to set it from a callback."
            )
        if hasattr(value, "dtype") and np.shape(value) == ():
            value = np.asarray(value).item()  # of a scalar tensor, variable or array
        if own != rate and filters.is_number(value):
            value = 1 - value
        try:
            self._check(own, value)
        except (TypeError, ValueError) as error:
            if f"`{name}`" in str(error):
                raise
            # One of a cascade and of a flip rule has another name there, an alias too.
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"`{name}` can't be set so: {error}") from None
        self.settle()
        self._variables[own].assign(value)

    def _check(self, name: str, value) -> None:
        """Has a value checked by the constructor, beside the other rates as they are now."""
        owner, own_name = self._owner(name)
        of_filter = owner is self._filter
        new = (
            self.current_filter(**{name: value}) if of_filter else owner.with_rate(own_name, value)
        )
        if not filters.is_number(value):
            raise TypeError(
                f"`{name}` is set to a number, not {filters.shown(value)}. A schedule is given to "
                f"the constructor of {type(owner).__name__}."
            )
        if of_filter and new.state_size > self._state_size():
            warnings.warn(
                f"`{name}` is set to {value:g}: float32 loses digits of increments so small, "
                "and this filter was made for a larger one, without an array for them. Make "
                "it with compensated=True.",
                stacklevel=5,
            )

    def _state_size(self) -> int:
        """That of the filter as its rates are set, or as made, if one of them is not allowed."""
        try:
            return self.current_filter().state_size
        except ValueError:  # a callback wrote to its variable, past the optimizer
            return self._filter.state_size

    def _owner(self, name: str) -> tuple:
        """Filter or flip rule, and its own name for a rate."""
        if name in self._filter.rates():
            return self._filter, name
        return self._flip_rule, {new: own for own, new in self._flip_names.items()}[name]

    def are_allowed(self, step):
        """Whether each rate at ``step`` is finite and in its interval, or 0; a tensor of bool.

        Schedules may leave an interval after they were checked at their start, and what writes to
        a variable by itself (Larq's ``HyperparameterScheduler``) is not checked at all.
        """
        if not self._variables:
            return tf.ones([0], tf.bool)  # all of none are allowed
        values = tf.stack([value for _, value in self.at(step)])
        low, high = self._ends(values.dtype.as_numpy_dtype).T
        return tf.equal(values, 0) | ((values >= low) & (values <= high))

    def at(self, step) -> list[tuple]:
        """Name and value of each rate at ``step``, the value a tensor."""
        constant = self._settled()
        return [
            (
                name,
                tf.cast(self._schedules[name](step), variable.dtype)
                if name in self._schedules
                else constant[name],
            )
            for name, variable in self._variables.items()
        ]

    def _ends(self, number) -> np.ndarray:
        """The smallest and the largest number of each rate's interval, of the type ``number``."""
        ends, inf = [], number(np.inf)
        for intervals in self._intervals.values():
            low = max((i.low for i in intervals), default=-inf)
            high = min((i.high for i in intervals), default=inf)
            low_open = low == -inf or any(i.low_open and i.low == low for i in intervals)
            high_open = high == inf or any(i.high_open and i.high == high for i in intervals)
            low, high = number(low), number(high)
            with np.errstate(over="ignore"):  # the largest number is next to infinity
                ends.append(
                    (
                        np.nextafter(low, inf) if low_open else low,
                        np.nextafter(high, -inf) if high_open else high,
                    )
                )
        return np.array(ends, number)

    def complaints(self, step) -> list[str]:
        """``alpha is 1.5 at step 40; it must lie in (0, 1]``, of each that is not allowed."""
        found, step = [], tf.constant(step.numpy())
        for (name, value), allowed in zip(self.at(step), self.are_allowed(step), strict=True):
            if not bool(allowed):
                where = " and ".join(map(str, self._intervals[name])) or "(-inf, inf)"
                at = f"{name} is {float(value):g} at step {int(step)}"
                found.append(f"{at}, it must lie in {where} (or be 0)")
        return found or ["it is in its interval again"]

    def variables(self) -> dict:
        """The variable of every rate by its name."""
        self.settle()
        return dict(self._variables)

    def constant(self) -> dict:
        """The variables of those that no schedule gives."""
        return {n: v for n, v in self.variables().items() if n not in self._schedules}

    def scheduled(self) -> list[str]:
        """The names of those that a schedule gives, for files."""
        return [*self._schedules]

    def expect(self, scheduled) -> None:
        """The variables are about to be loaded; those of constant rates in ``scheduled`` stay."""
        values = self.values()
        kept = [
            value if name in scheduled and name not in self._schedules else np.nan
            for name, value in values.items()
        ]
        self._kept.assign(kept)
        self._may_keep = True

    def settle(self) -> None:
        """After loading, outside of graphs: gives constant rates the values that they keep."""
        if self._may_keep and tf.executing_eagerly():
            self._may_keep = False
            self._set_constant()

    def _settled(self) -> dict:
        """The constant rates as tensors, with the values that they keep."""
        kept = zip(tf.unstack(self._kept), self._variables.items(), strict=True)
        return {
            name: tf.where(tf.math.is_nan(value), variable, tf.cast(value, variable.dtype))
            for value, (name, variable) in kept
            if name not in self._schedules
        }

    def _set_constant(self) -> None:
        for name, value in self._settled().items():
            self._variables[name].assign(value)
        self._kept.assign(self._nothing)

    def values(self) -> dict[str, float]:
        """Every rate by its name as it was at the last step."""
        self.settle()
        return {name: float(variable.numpy()) for name, variable in self._variables.items()}

    def current_filter(self, **changed: float):
        """The filter with constant rates as they are set now, or ``changed``; may raise as new."""
        values, current = {**self.values(), **changed}, self._filter
        for name in self._filter.rates():
            if name not in self._schedules:
                current = current.with_rate(name, values[name])
        return current

    def advance(self, step) -> None:
        """Sets every rate for ``step``, counted from 0."""
        self._set_constant()
        for name, schedule in self._schedules.items():
            variable = self._variables[name]
            variable.assign(tf.cast(schedule(step), variable.dtype))

    def of_filter(self, dtype) -> dict:
        """This step's numbers for the filter, as tensors of ``dtype``."""
        return {name: tf.cast(self._variables[name], dtype) for name in self._filter.rates()}

    def of_flip_rule(self, dtype) -> dict:
        """This step's numbers for the flip rule, as tensors of ``dtype``."""
        return {n: tf.cast(self._variables[own], dtype) for n, own in self._flip_names.items()}
