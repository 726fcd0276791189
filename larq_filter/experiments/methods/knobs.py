"""The hyperparameters of all training methods in one value, and the schedules they name.

One flat value, not a class for each method: a command line, a search and a table of a comparison
need one name for one thing across methods. Its price, a knob that means nothing to a method, is
paid at once: ``resolve`` refuses it instead of ignoring it.
"""

import dataclasses
import difflib
import math
import numbers
from typing import Any

from larq_filter import filters, quantizers
from larq_filter._keras import keras
from larq_filter._validation import BELOW_ONE, NOT_NEGATIVE, POSITIVE

SCHEDULES = ("linear", "cosine", "constant")
ALPHA_SCHEDULES = (*SCHEDULES, "default")
RESTS = ("adam", "same")
NESTEROV = ("no", "yes")
STANDARDIZATIONS = ("none", "zscore", "scaled")

_POSITIVE_OR_INF = filters.Interval(0.0, math.inf, low_open=True)
_COUNT = filters.Interval(1, 1e12)


def schedule(name: str, start: float, *, steps: int):
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
    raise ValueError(f"Unknown schedule {filters.shown(name)}; choose linear, cosine or constant.")


def _knob(text: str, interval=None, *, choices=None, kind=float):
    metadata = {"help": text, "kind": kind, "interval": interval, "choices": choices}
    return dataclasses.field(default=None, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Knobs:
    """Hyperparameters; None is the method's default (``methods.METHODS[name].knobs``).

    Each field's metadata hold its ``help``, ``kind`` (type), ``interval`` and ``choices``.

    Raises:
        TypeError: a knob of the wrong type.
        ValueError: a number outside its interval, an unknown choice.
    """

    alpha: float | None = _knob(
        "Adaptation rate of the filter's memory per step: 1/alpha is its time constant in steps. "
        "Bop calls it gamma; for bop_second_order the first moment's, for diode 1 - beta_2, for "
        "bayes_binn its learning rate.",
        filters.UP_TO_ONE,
    )
    alpha_schedule: str | None = _knob(
        "Decay of alpha over the run, or of gain for methods that have one: linear (Quist et al. "
        "2023) and cosine end at 0; default is that of FilterOptimizer(), which needs no horizon.",
        choices=ALPHA_SCHEDULES,
        kind=str,
    )
    alpha_halving_steps: int | None = _knob(
        "Steps after which alpha has halved under alpha_schedule=default.", _COUNT, kind=int
    )
    gamma: float | None = _knob(
        "Smoothing of the gradient before alpha; 1 is none. 0.1 is the momentum 0.9 of published "
        "latent recipes (1 - gamma). For diode and dqt 1 - beta_1.",
        filters.UP_TO_ONE,
    )
    sigma: float | None = _knob(
        "Rate of the second moment of bop_second_order and dqt.", filters.UP_TO_ONE
    )
    threshold: float | None = _knob(
        "Signal needed for a flip, in units of the signal (of the gradient, for bop); above 0 for "
        "prob_bop.",
        NOT_NEGATIVE,
    )
    gain: float | None = _knob(
        "Factor on what is accumulated, called learning rate in the publications: of gradients for "
        "sgdat and bold, of signs for diode. For dqt the flips per unit of Adam's step, half of "
        "its learning rate.",
        POSITIVE,
    )
    leak: float | None = _knob("Share of boat's accumulator lost per step.", BELOW_ONE)
    hysteresis: float | None = _knob(
        "boat's eta: growth of the squared threshold with the squared gradient.", NOT_NEGATIVE
    )
    probability_decay: float | None = _knob(
        "prob_bop's a: share of the indecision that is left after a fiftieth of the run.",
        filters.UP_TO_ONE,
    )
    warm_start: float | None = _knob(
        "What the filter remembers of each binary weight as it starts, in root mean squares of "
        "the kernel's first gradient. Default: 0.3 for a model that was trained before, else "
        "the publication's, for most nothing: the first step then sets each weight.",
        POSITIVE,
    )
    learning_rate: float | None = _knob("Of the real-valued variables.", POSITIVE)
    kernel_learning_rate: float | None = _knob(
        "Of latent kernels; under rest=same of all variables.", POSITIVE
    )
    rest: str | None = _knob(
        "Who trains the real-valued variables beside latent kernels: adam, at learning_rate; or "
        "same, the optimizer of the kernels at their rate, as the publications do.",
        choices=RESTS,
        kind=str,
    )
    learning_rate_schedule: str | None = _knob(
        "Decay of the learning rates over the run.", choices=SCHEDULES, kind=str
    )
    momentum: float | None = _knob("Momentum of SGD.", BELOW_ONE)
    nesterov: str | None = _knob(
        "Whether momentum looks one step ahead (Sutskever et al. 2013).", choices=NESTEROV, kind=str
    )
    weight_decay: float | None = _knob(
        "Of latent kernels, per unit of their learning rate: decoupled for sgdw, else L2 in the "
        "gradient (Keras' l2(c) is weight_decay 2 c). For two_step of its first step, for "
        "real_to_binary of all but the last. Default, where no number is named: the model's own "
        "regularizers.",
        NOT_NEGATIVE,
    )
    weight_clip: float | None = _knob(
        "Latent weights are clipped to +- this; inf is no clipping. Default: the model's own.",
        _POSITIVE_OR_INF,
    )
    standardization: str | None = _knob(
        "Latent kernels are standardised per filter before the sign: zscore (IR-Net) or scaled, "
        "divided by the root of the fan-in besides.",
        choices=STANDARDIZATIONS,
        kind=str,
    )
    quantizer: str | None = _knob(
        "Of latent kernels, by the short name of its publication. Default: the model's own.",
        choices=tuple(quantizers.KERNELS),
        kind=str,
    )
    input_quantizer: str | None = _knob(
        "Of the activations before binary kernels, likewise. Default: the model's own.",
        choices=tuple(quantizers.INPUTS),
        kind=str,
    )
    teacher: str | None = _knob(
        "A saved Keras model, or a run folder, of the same inputs and classes to distil from. "
        "Default: the network's "
        "real-valued twin, trained first for as many epochs.",
        kind=str,
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, _validate(field, value))

    def given(self) -> dict[str, Any]:
        """The knobs that are not None."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def only(self, names) -> "Knobs":
        """The same without the knobs that are not in ``names``, or that mean nothing among them."""
        values = {name: value for name, value in self.given().items() if name in names}
        if values.get("rest") == "same":
            values.pop("learning_rate", None)
        return Knobs(**values)

    def resolve(self, method: str, defaults: dict[str, Any]) -> "Knobs":
        """The knobs of a method: ``defaults`` with what is given here in their place.

        Raises:
            ValueError: a knob that is not in ``defaults``, or that means nothing beside another.
        """
        for name, value in self.given().items():
            if name not in defaults:
                raise ValueError(
                    f"{name}={filters.shown(value)} means nothing to the method {method}, which "
                    f"reads {', '.join(defaults)}."
                )
        knobs = Knobs(**{**defaults, **self.given()})
        if knobs.alpha_schedule == "default" and "gain" in defaults:
            raise ValueError(
                f"The method {method} decays its gain, for which alpha_schedule=default means "
                "nothing; choose linear, cosine or constant."
            )
        if self.alpha_halving_steps is not None and knobs.alpha_schedule != "default":
            raise ValueError(
                f"alpha_halving_steps is {self.alpha_halving_steps}, but it only counts with "
                f"alpha_schedule=default, not {knobs.alpha_schedule}."
            )
        if knobs.quantizer is not None and knobs.standardization not in (None, "none"):
            raise ValueError(
                f"quantizer is {knobs.quantizer}, and standardization={knobs.standardization} is "
                "one too: drop one of them."
            )
        if knobs.rest == "same" and self.learning_rate is not None:
            raise ValueError(
                f"learning_rate is {self.learning_rate}, but under rest=same kernel_learning_rate "
                "is that of all variables. Drop learning_rate, or choose rest=adam."
            )
        return knobs


def from_dict(values: dict[str, Any]) -> Knobs:
    """``Knobs(**values)`` with an error for a misspelt name that says the closest one."""
    known = [field.name for field in dataclasses.fields(Knobs)]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"knobs are {', '.join(known)}."
            raise ValueError(f"There is no knob {filters.shown(name)}; {hint}")
    return Knobs(**values)


def _validate(field, value):
    kind, interval = field.metadata["kind"], field.metadata["interval"]
    choices, shown = field.metadata["choices"], filters.shown(value)
    if choices is not None and not (isinstance(value, str) and value in choices):
        raise ValueError(f"{field.name} is {shown}; choose one of {', '.join(choices)}.")
    accepted = {float: numbers.Real, int: numbers.Integral, str: str}[kind]
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise TypeError(f"{field.name} is {shown}; it must be of type {kind.__name__}.")
    if interval is not None and not interval.contains(value):
        raise ValueError(f"{field.name} is {shown}; it must lie in {interval}.")
    try:
        return kind(value)
    except OverflowError:
        raise ValueError(f"{field.name} is {shown}, which is beyond all floats.") from None
