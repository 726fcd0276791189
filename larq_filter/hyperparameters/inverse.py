"""The way back: the latent training that a filter stands for."""

from larq_filter import filters
from larq_filter._validation import (
    NOT_NEGATIVE,
    one_minus,
    validate_choice,
    validate_flag,
    validate_number,
)
from larq_filter.filters import is_schedule
from larq_filter.hyperparameters.schedules import over
from larq_filter.hyperparameters.translation import VELOCITIES, LatentSGD, validate_latent_number


def sgd_from_filter(
    gradient_filter: filters.Filter,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    decoupled: bool = False,
    velocity: str = "keras",
) -> LatentSGD:
    """Latent SGD with the binary weights of ``gradient_filter`` and the rule ``flips.Sign``.

    A filter only fixes the product of learning rate and weight decay: give one of the two. A filter
    that starts at zero stands for latent weights that start at zero. ``LeakyIntegrator(gain, 0)``
    forgets nothing and is SGD without weight decay, at its own gain: there both stay None.

    Args:
        gradient_filter: ``EMA``, ``CascadedEMA``, ``HeavyBall`` or ``LeakyIntegrator(gain, 0)``.
        learning_rate: of latent SGD; if the filter is scheduled, its value at step 0.
        weight_decay: of latent SGD, instead.
        decoupled: as in ``filter_from_sgd``.
        velocity: as in ``filter_from_sgd``.

    Returns:
        ``LatentSGD``; ``filter_from_sgd(**dataclasses.asdict(it))`` is the filter again. Of a
        ``CascadedEMA`` with ``alpha > gamma`` the two come back swapped without ``decoupled``:
        the same signals, from averages in the other order.

    Raises:
        TypeError: not a filter of these kinds.
        ValueError: no latent SGD of this kind has these binary weights; says which has.
    """
    f = gradient_filter
    validate_choice("velocity", velocity, VELOCITIES)
    validate_flag("decoupled", decoupled)
    if isinstance(f, filters.LeakyIntegrator) and f.leak == 0:
        if learning_rate is not None or weight_decay is not None:
            raise ValueError(
                f"{f!r} is latent SGD at the learning rate {f.gain!r} without weight decay: give "
                f"neither; received learning_rate={filters.shown(learning_rate)}, "
                f"weight_decay={filters.shown(weight_decay)}."
            )
        return LatentSGD(f.gain, 0.0, 0.0, decoupled, velocity)
    if not isinstance(f, filters.EMA | filters.CascadedEMA | filters.HeavyBall):
        raise TypeError(
            "Only EMA, CascadedEMA, HeavyBall and LeakyIntegrator(gain, leak=0) have a known "
            f"latent SGD, not {filters.shown(f)}."
        )
    _validate_one_of(learning_rate, weight_decay)
    per_step, momentum, nesterov = _product(f, decoupled, velocity)
    if weight_decay is None:
        start = per_step(0) if is_schedule(per_step) else per_step
        weight_decay = float(start) / learning_rate
    if not weight_decay > 0:
        raise ValueError(
            f"`weight_decay` is {weight_decay:g}; it must be positive, since the filter forgets "
            "(where a schedule starts at 0 it can't come from a learning rate: give weight_decay)."
        )
    eps = (
        over(per_step, weight_decay)
        if learning_rate is None or is_schedule(per_step)
        else learning_rate
    )
    return LatentSGD(eps, weight_decay, momentum, decoupled, velocity, nesterov)


def _validate_one_of(learning_rate: float | None, weight_decay: float | None) -> None:
    if (learning_rate is None) == (weight_decay is None):
        raise ValueError(
            "The filter fixes the product of learning_rate and weight_decay only: give one of the "
            f"two; received learning_rate={learning_rate}, weight_decay={weight_decay}."
        )
    if learning_rate is not None:
        validate_number("learning_rate", learning_rate, filters.POSITIVE)
    else:
        validate_latent_number("weight_decay", weight_decay, NOT_NEGATIVE)


def _product(
    f: filters.EMA | filters.CascadedEMA | filters.HeavyBall, decoupled: bool, velocity: str
) -> tuple:
    """``eps * lambda`` (a number or a schedule), momentum and nesterov that give the filter."""
    if isinstance(f, filters.EMA):
        return f.alpha, 0.0, False
    if isinstance(f, filters.CascadedEMA):
        scheduled = is_schedule(f.alpha)
        if is_schedule(f.gamma):
            raise ValueError("A scheduled gamma has no latent SGD: its momentum is constant.")
        if f.gamma == 1:
            return f.alpha, 0.0, False
        if decoupled and not (scheduled and velocity == "keras"):
            return f.alpha, one_minus(f.gamma), False
        if scheduled:
            raise ValueError(
                "CascadedEMA with a scheduled alpha is latent SGD with decoupled=True and "
                'velocity="pytorch" or "normalised", whose learning rate stands outside the '
                f"velocity; received decoupled={decoupled}, velocity={velocity!r}."
            )
        k, momentum = f.alpha * f.gamma, (1 - f.alpha) * (1 - f.gamma)
        return (k / (1 - momentum) if velocity == "normalised" else k), momentum, False
    return _product_of_ball(f, decoupled, velocity), one_minus(f.leak), f.nesterov


def _product_of_ball(f: filters.HeavyBall, decoupled: bool, velocity: str):
    if decoupled:
        raise ValueError("HeavyBall is latent SGD with decoupled=False: L2 inside the gradient.")
    if not any(is_schedule(rate) for rate in f.rates().values()):
        k = f.gain * f.rate
        return k / f.leak if velocity == "normalised" else k
    outer = {"keras": (f.rate, 1.0), "pytorch": (f.gain, 1.0), "normalised": (f.gain, f.leak)}
    received, wanted = outer[velocity]
    if is_schedule(f.leak) or received != wanted:
        raise ValueError(
            f'{f!r} is no latent SGD with velocity="{velocity}". It has a constant leak, and the '
            'schedule is the gain, with rate 1 ("keras"), or the rate, with gain 1 ("pytorch") '
            'or gain = leak ("normalised").'
        )
    return f.gain if velocity == "keras" else f.rate
