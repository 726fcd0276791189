"""The three knobs to start with, from the length of training alone."""

import dataclasses
import math

from larq_filter import filters
from larq_filter._keras import keras
from larq_filter._validation import validate_integer
from larq_filter.analysis import MOST_STEPS


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Rates to begin with; ``str()`` explains them.

    Attributes:
        alpha: adaptation rate at the first step, in (0, 1].
        gamma: smoothing of the gradient, in (0, 1], constant.
        schedule: how alpha goes on: ``linear``, to 0 at the last step.
        steps: training steps in all, the horizon of the schedule.
        reason: why these numbers.
    """

    alpha: float
    gamma: float
    schedule: str
    steps: int
    reason: str

    def filter(self) -> filters.CascadedEMA:
        """The suggested filter, its alpha a ``PolynomialDecay`` to 0."""
        decay = keras.optimizers.schedules.PolynomialDecay(self.alpha, self.steps, 0.0)
        return filters.CascadedEMA(alpha=decay, gamma=self.gamma)

    def __str__(self) -> str:
        return (
            f"alpha {self.alpha:.3g}, {self.schedule} to 0 over {self.steps:,} steps; "
            f"gamma {self.gamma:g}\n{self.reason}"
        )


def suggest(steps_per_epoch: int, epochs: int) -> Suggestion:
    """Rates for a run of known length: a place to start a search from, not its result.

    The time constant ``1/alpha`` starts between half an epoch and a third of the run, at their
    geometric mean, and grows as alpha falls linearly to 0:

        time constant = sqrt(steps_per_epoch / 2 * steps_per_epoch * epochs / 3)

    gamma is 0.1 (momentum 0.9), or 1 (no smoothing) where that is shorter than the 10 steps
    that 0.1 smooths over.

    Args:
        steps_per_epoch: batches per epoch, an integer in [1, 10^12].
        epochs: an integer in [1, 10^12].

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is not positive; the time constant would be shorter than a step.
    """
    per_epoch = validate_integer("steps_per_epoch", steps_per_epoch, high=MOST_STEPS)
    steps = validate_integer("epochs", epochs, high=MOST_STEPS)
    steps *= per_epoch
    constant = math.sqrt(per_epoch / 2 * steps / 3)
    if constant < 1:
        raise ValueError(
            f"A run of {steps} steps ({per_epoch} an epoch) is too short to average anything; "
            "it must have at least 6/steps_per_epoch^2 epochs."
        )
    gamma, smoothing = (
        0.1,
        (
            "Gamma 0.1 is momentum 0.9, as in the published latent recipes: about four times fewer "
            "flips than without smoothing, at the same time constant."
        ),
    )
    if constant < 10:
        gamma, smoothing = (
            1.0,
            "Gamma 1: so short a time constant leaves no room to smooth before it.",
        )
    reason = (
        f"The time constant 1/alpha starts at {constant:,.0f} steps "
        f"({constant / per_epoch:.2g} epochs), the geometric mean of half an epoch "
        f"({per_epoch / 2:,.0f} steps), to have seen enough of the "
        f"data, and a third of the run ({steps / 3:,.0f} steps), to forget the beginning in time. "
        "As alpha falls to 0 it widens until the weights stand still; at constant alpha they would "
        f"flip to the end. {smoothing}"
    )
    return Suggestion(1 / constant, gamma, "linear", steps, reason)
