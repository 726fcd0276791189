"""The rates of filter and flip rule while they train: one scalar variable each.

A schedule writes its variable at the start of a step, a callback writes that of a constant rate. So
a compiled step never holds a stale number, and saving the variables saves what a callback set.
"""

from larq_filter import filters, flips
from larq_filter._keras import tf


class Rates:
    """The scalar variables behind ``optimizer.alpha`` and its like.

    Names are those of the filter's and the rule's ``rates()``; where both have one, the rule's is
    called ``flip_NAME``.

    Args:
        gradient_filter: the filter.
        flip_rule: the flip rule.
        add_variable: creates and tracks a variable, ``add_variable(shape, name=...)``.
        taken: names that the optimizer uses for something else.

    Raises:
        ValueError: a name in ``taken``.
    """

    def __init__(
        self,
        gradient_filter: filters.Filter,
        flip_rule: flips.FlipRule,
        add_variable,
        taken,
    ):
        self._filter, self._flip_rule = gradient_filter, flip_rule
        own, flip = gradient_filter.rates(), flip_rule.rates()
        self._flip_names = {name: f"flip_{name}" if name in own else name for name in flip}
        rates = {**own, **{self._flip_names[name]: rate for name, rate in flip.items()}}
        for name in rates:
            if name in taken:
                raise ValueError(
                    f"The rate name {name!r} is taken by the optimizer itself; "
                    "give the rate of your filter or flip rule another name."
                )
        self._schedules = {n: rate for n, rate in rates.items() if filters.is_schedule(rate)}
        self._variables = {}
        with tf.init_scope():
            for name, rate in rates.items():
                variable = self._variables[name] = add_variable([], name=name)
                # Not tf.cast: it would round a Python number to float32 first.
                start = tf.cast(rate(0), variable.dtype) if name in self._schedules else rate
                variable.assign(start)

    def __contains__(self, name: str) -> bool:
        return name in self._variables

    def read(self, name: str):
        """The variable of a constant rate; a tensor for a scheduled one.

        A tensor can't be assigned to, so a callback can't fight the schedule unnoticed.
        """
        variable = self._variables[name]
        return tf.convert_to_tensor(variable) if name in self._schedules else variable

    def write(self, name: str, value) -> None:
        """Sets a constant rate.

        Raises:
            TypeError: the rate follows a schedule.
            ValueError: the value is outside the rate's interval.
        """
        if name in self._schedules:
            raise TypeError(
                f"`{name}` follows {type(self._schedules[name]).__name__}, so it can't be set. "
                f"Give the filter a constant {name} to set it from a callback."
            )
        # Built only to have the value checked, beside the other rates as they are now.
        if name in self._filter.rates():
            self.current_filter().with_rate(name, float(value))
        else:
            self._flip_rule.with_rate(name.removeprefix("flip_"), float(value))
        self._variables[name].assign(value)

    def variables(self) -> dict:
        """The variable of every rate by its name."""
        return dict(self._variables)

    def values(self) -> dict[str, float]:
        """Every rate by its name as it was at the last step."""
        return {name: float(variable.numpy()) for name, variable in self._variables.items()}

    def current_filter(self):
        """The filter with its constant rates as they are set now; may raise like a new one."""
        values, current = self.values(), self._filter
        for name in self._filter.rates():
            if name not in self._schedules:
                current = current.with_rate(name, values[name])
        return current

    def advance(self, step) -> None:
        """Sets every scheduled rate to its value at ``step``, counted from 0."""
        for name, schedule in self._schedules.items():
            variable = self._variables[name]
            variable.assign(tf.cast(schedule(step), variable.dtype))

    def of_filter(self, dtype) -> dict:
        """This step's numbers for the filter, as tensors of ``dtype``."""
        return {name: tf.cast(self._variables[name], dtype) for name in self._filter.rates()}

    def of_flip_rule(self, dtype) -> dict:
        """This step's numbers for the flip rule, as tensors of ``dtype``."""
        return {n: tf.cast(self._variables[own], dtype) for n, own in self._flip_names.items()}
