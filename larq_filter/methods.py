"""Training methods by name: from a latent Larq model to a compiled one.

Every method gets the same network, data and budget; what differs is who trains the binary kernels.

| method | binary kernels | the rest |
|---|---|---|
| ``filter`` | ``FilterOptimizer``, latent-free | Adam |
| ``bop`` | Larq's own ``Bop``, latent-free | Adam (legacy: ``CaseOptimizer`` takes no other) |
| ``adam`` | Adam on latent weights | the same Adam |
| ``sgd`` | SGD with momentum 0.9 on latent weights | the same SGD |
| ``frozen`` | random and never changed: the control | Adam |
"""

import dataclasses
import math
from collections.abc import Callable

from larq_filter import binary, filters, flips
from larq_filter._keras import keras
from larq_filter.conversion import to_latent_free
from larq_filter.optimizers import FilterOptimizer, default_alpha

import larq

SCHEDULES = ("default", "linear", "cosine", "constant")


def schedule(name: str, start: float = 1e-2, *, steps: int):
    """A rate that begins at ``start`` and ends after ``steps``: a number or a Keras schedule.

    ``linear`` and ``cosine`` fall to 0, ``constant`` stays.

    Raises:
        ValueError: unknown name.
    """
    schedules = keras.optimizers.schedules
    if name == "constant":
        return start
    if name == "linear":
        return schedules.PolynomialDecay(start, steps, end_learning_rate=0.0)
    if name == "cosine":
        return schedules.CosineDecay(start, steps)
    raise ValueError(f"Unknown schedule {name!r}; choose linear, cosine or constant.")


@dataclasses.dataclass(frozen=True)
class Knobs:
    """The hyperparameters of all methods; each method reads its own.

    Attributes:
        alpha: adaptation rate of the filter or of Bop (Bop calls it gamma), in (0, 1]; None: the
            method's default.
        gamma: gradient smoothing of the filter, in (0, 1]; 1 is none.
        alpha_schedule: ``linear`` or ``cosine`` to 0, ``constant``, or ``default``: that of
            ``FilterOptimizer()``, which needs no horizon (for Bop: constant).
        alpha_halving_steps: steps after which the ``default`` alpha has halved; None: its own.
        threshold: Bop's threshold, in units of the gradient.
        learning_rate: of the real-valued variables, and of latent weights; None: 1e-2 without
            latent weights (Helwegen et al. 2019), 1e-3 for ``adam``, 0.1 for ``sgd``.
        learning_rate_schedule: ``linear``, ``cosine`` or ``constant``.
    """

    alpha: float | None = None
    gamma: float = 0.1
    alpha_schedule: str = "linear"
    alpha_halving_steps: int | None = None
    threshold: float = 1e-8
    learning_rate: float | None = None
    learning_rate_schedule: str = "cosine"

    def __post_init__(self):
        if self.alpha_schedule not in SCHEDULES:
            raise ValueError(
                f"alpha_schedule is {self.alpha_schedule!r}; choose one of {', '.join(SCHEDULES)}."
            )
        if self.learning_rate_schedule not in SCHEDULES[1:]:
            raise ValueError(
                f"learning_rate_schedule is {self.learning_rate_schedule!r}; "
                f"choose one of {', '.join(SCHEDULES[1:])}."
            )
        if self.alpha is not None:
            filters.validate_rate("alpha", self.alpha, filters.UP_TO_ONE)
        filters.validate_rate("gamma", self.gamma, filters.UP_TO_ONE)
        flips.Threshold(self.threshold)
        if self.alpha_halving_steps is not None and self.alpha_schedule != "default":
            raise ValueError(
                f"alpha_halving_steps is {self.alpha_halving_steps}, but it only counts with "
                f"alpha_schedule=default, not {self.alpha_schedule}."
            )
        rate = self.learning_rate
        if rate is not None and not 0 < rate < math.inf:
            raise ValueError(f"learning_rate is {rate}; it must lie in (0, inf).")


def compile_for(method: str, model, knobs: Knobs, steps: int):
    """Compiles ``model`` for a method, converted to latent-free where the method asks for it.

    Args:
        method: a name from ``METHODS``.
        model: a built latent Larq model that ends in a softmax.
        knobs: the hyperparameters.
        steps: training steps in all; the schedules' horizon.

    Returns:
        The compiled model: ``model`` itself for latent methods, a latent-free copy for the others.

    Raises:
        ValueError: unknown method, a knob outside its interval, a model without binary kernels.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}; choose one of {', '.join(METHODS)}.")
    if not binary.binary_kernels(model):
        raise ValueError(f"The model {model.name} has {binary.NO_BINARY_KERNEL}")
    model, optimizer = METHODS[method](model, knobs, steps)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _learning_rate(knobs: Knobs, steps: int, default: float = 1e-2):
    start = default if knobs.learning_rate is None else knobs.learning_rate
    return schedule(knobs.learning_rate_schedule, start, steps=steps)


def _filter(model, knobs, steps):
    if knobs.alpha_schedule == "default":
        alpha = default_alpha(**_given(start=knobs.alpha, halving_steps=knobs.alpha_halving_steps))
    else:
        alpha = schedule(knobs.alpha_schedule, **_given(start=knobs.alpha), steps=steps)
    optimizer = FilterOptimizer(
        filters.CascadedEMA(alpha=alpha, gamma=knobs.gamma),
        default_optimizer=keras.optimizers.Adam(_learning_rate(knobs, steps)),
    )
    model = to_latent_free(model)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def _given(**arguments):
    """The arguments that are not None: the others keep their defaults."""
    return {name: value for name, value in arguments.items() if value is not None}


def _bop(model, knobs, steps):
    name = "constant" if knobs.alpha_schedule == "default" else knobs.alpha_schedule
    bop = larq.optimizers.Bop(
        threshold=knobs.threshold,
        gamma=schedule(name, 1e-4 if knobs.alpha is None else knobs.alpha, steps=steps),
    )
    adam = keras.optimizers.legacy.Adam(_learning_rate(knobs, steps))
    case = (larq.optimizers.Bop.is_binary_variable, bop)
    return to_latent_free(model), larq.optimizers.CaseOptimizer(case, default_optimizer=adam)


def _adam(model, knobs, steps):
    return model, keras.optimizers.Adam(_learning_rate(knobs, steps, default=1e-3))


def _sgd(model, knobs, steps):
    return model, keras.optimizers.SGD(_learning_rate(knobs, steps, default=0.1), momentum=0.9)


def _frozen(model, knobs, steps):
    model = to_latent_free(model)
    for layer, _ in binary.binary_kernels(model):
        layer.trainable = False
    return model, keras.optimizers.Adam(_learning_rate(knobs, steps))


METHODS: dict[str, Callable] = {
    "filter": _filter,
    "bop": _bop,
    "adam": _adam,
    "sgd": _sgd,
    "frozen": _frozen,
}
