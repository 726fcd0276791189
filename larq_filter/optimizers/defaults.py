"""The filter of ``FilterOptimizer()``, which knows no horizon. Chosen by runs: docs/defaults.md."""

from larq_filter import filters
from larq_filter._keras import keras
from larq_filter._validation import Rate, validate_constant


def default_alpha(start: float = 1e-2, halving_steps: float = 100) -> Rate:
    """An adaptation rate that decays without knowing when training ends.

        alpha_t = start / (1 + t / halving_steps)

    The memory ``1/alpha_t`` begins at ``1/start`` steps and then is the share
    ``1 / (start * halving_steps)`` of all steps so far. With the default numbers that share is 1:
    from the first 100 steps on the filter is the running mean of all gradients, which is what
    latent training without weight decay is. Chosen by runs: docs/defaults.md.

    Args:
        start: alpha at the first step, in (0, 1].
        halving_steps: steps after which it has halved, in (0, inf).

    float32 needs no compensation for it (``filters.EMA``), though alpha passes 1e-5 after 100,000
    steps: ``filters.compensation`` has the measurement.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument outside its interval.
    """
    start = validate_constant("start", start, filters.UP_TO_ONE)
    halving_steps = validate_constant("halving_steps", halving_steps, filters.POSITIVE)
    return keras.optimizers.schedules.InverseTimeDecay(start, halving_steps, decay_rate=1.0)


def default_filter() -> filters.CascadedEMA:
    """The filter of ``FilterOptimizer()``: ``CascadedEMA(alpha=default_alpha(), gamma=0.1)``."""
    return filters.CascadedEMA(alpha=default_alpha(), gamma=0.1)
