"""Arithmetic on rates that may be numbers or Keras schedules."""

import math

from larq_filter import filters, serialization
from larq_filter._keras import keras, tf
from larq_filter._validation import validate_number
from larq_filter.filters import is_schedule


@keras.utils.register_keras_serializable(package="larq_filter")
class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a constant: ``factor * schedule(step)``, in float64.

    Args:
        schedule: a Keras schedule.
        factor: a number.
    """

    def __init__(self, schedule, factor: float):
        if not is_schedule(schedule):
            raise TypeError(f"`schedule` must be a Keras schedule, not {filters.shown(schedule)}.")
        every = filters.Interval(-math.inf, math.inf, True, True)
        self.schedule = filters.validate_rate("schedule", schedule, every)
        self.factor = validate_number("factor", factor, every)

    def __call__(self, step):
        return self.factor * tf.cast(self.schedule(step), tf.float64)

    def __repr__(self) -> str:
        return f"{self.factor:.6g} * {show(self.schedule)}"

    def get_config(self) -> dict:
        return {"schedule": serialization.serialize(self.schedule), "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict) -> "Scaled":
        schedule = serialization.revive(config["schedule"], f"The config of {cls.__name__}")
        return cls(schedule, config["factor"])


def times(rate, factor: float):
    """``factor * rate`` of a number or a schedule."""
    if not is_schedule(rate):
        return factor * rate
    if isinstance(rate, Scaled):
        rate, factor = rate.schedule, rate.factor * factor
    return Scaled(rate, factor)


def over(rate, divisor: float):
    """``rate / divisor``; what ``_times`` made is taken apart again without rounding."""
    if isinstance(rate, Scaled):
        factor = rate.factor / divisor
        return rate.schedule if factor == 1 else Scaled(rate.schedule, factor)
    return times(rate, 1 / divisor) if is_schedule(rate) else rate / divisor


def show(rate) -> str:
    """A number to six digits; a schedule with where it starts."""
    if is_schedule(rate):
        return repr(rate) if isinstance(rate, Scaled) else f"{type(rate).__name__}({rate(0):.6g}..)"
    return f"{rate:.6g}"
