"""From the hyperparameters of latent weights to those of a filter, and back.

Latent training keeps a real-valued w behind each binary weight ``theta = sign(w)`` and moves it by
SGD with the gradient g with respect to theta (straight through: ``SteSign(clip_value=None)``; the
default, which stops the gradient where ``abs(w) > 1``, is a clipping). All that SGD does to w is
linear in the gradients, so ``-w``, times any positive constant, is the signal of a linear filter,
and theta is what ``FilterOptimizer`` with the rule ``flips.Sign`` keeps. With learning rate eps,
weight decay lambda, momentum mu, ``k = eps lambda`` and ``gamma = 1 - mu``:

| latent SGD | filter | output at the start |
|---|---|---|
| no momentum | ``EMA(k)`` | -lambda w_0 |
| decoupled decay | ``CascadedEMA(alpha=k, gamma=gamma)`` | -lambda gamma w_0 (1) |
| decoupled, eps scheduled (2) | ``LeakyIntegrator(eps, gamma)``, ``(lambda, k)`` | -lambda w_0 |
| L2 in the gradient, eps constant | ``CascadedEMA`` (3) | -lambda w_0, both stages |
| L2, eps scheduled or poles complex | ``HeavyBall`` | -lambda w_0 |
| no decay | ``EMA(gamma)``, ``LeakyIntegrator(eps, 0)`` (2) | -gamma w_0 (1) |

(1) With the normalised velocity without the factor gamma. (2) Keras' velocity takes eps inside:
``LeakyIntegrator(eps, gamma)`` comes first, and the start has no factor gamma; for the other
velocities the row above holds with schedules too. (3) ``alpha gamma = k``, ``alpha + gamma = 1 - mu
+ k``: alpha is about ``k / (1 - mu)``, ten times ``k`` at momentum 0.9. The poles are complex when
``(1 - mu + k)^2 < 4 k``. With the normalised velocity ``k = (1 - mu) eps lambda``.

The accumulator of the last row has the signs of the running mean, ``alpha_t = eps_t / sum eps_r``,
which it is up to a positive factor. Rejected: that mean itself, since a schedule would have to sum
the learning rate up from step 0 at each step.

Three conventions of the velocity: "keras", ``u = mu u + eps_t g``; "pytorch", ``u = mu u + g``,
scaled by eps_t when it is added; "normalised", ``u = mu u + (1 - mu) g``, scaled likewise. They
differ in the schedule's place, and the last one in the size of eps. Keras' ``regularizers.l2(c)``
has the gradient ``2 c w``: weight_decay is ``2 * c`` and decoupled False. ``SGD(weight_decay=...)``
of Keras is decoupled; that of PyTorch is inside the gradient.

Clipping is that of ``weight_clip`` and of ``SteSign(clip_value)``; weight decay bounds the weights
as well. Adam's division by the root of the squared gradients is a gain that depends on the
gradients themselves, and has no linear equivalent: start from the SGD recipe of the network, or
from ``suggest``.

Source: Quist, Li and van Gemert, ICLR 2023, arXiv 2303.02452; schedules, L2, Nesterov and initial
states derived here and checked in tests/hyperparameters/test_hyperparameters.py.
"""

import dataclasses
import math

import numpy as np

from larq_filter import binary, filters
from larq_filter._validation import (
    BELOW_ONE,
    NOT_NEGATIVE,
    as_numbers,
    one_minus,
    validate_choice,
    validate_flag,
)
from larq_filter.filters import is_schedule
from larq_filter.hyperparameters.schedules import show, times

EXACT = "exact"
"""Status of a latent hyperparameter: the filter has it too, at every step."""
INITIAL = "initial condition only"
"""Status: it is where the filter starts, and is forgotten as the filter forgets."""
NO_EFFECT = "no effect"
"""Status: it changes no sign."""
NOT_LINEAR = "no linear equivalent"
"""Status: no linear filter does the same."""
VELOCITIES = ("keras", "pytorch", "normalised")
"""The three conventions of momentum that ``filter_from_sgd`` knows; see this module's text."""


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """What became of one latent hyperparameter: its name, its status, and how."""

    name: str
    status: str
    became: str


@dataclasses.dataclass(frozen=True)
class LatentSGD:
    """The hyperparameters of SGD on latent weights; the arguments of ``filter_from_sgd``."""

    learning_rate: filters.Rate
    weight_decay: float
    momentum: float = 0.0
    decoupled: bool = False
    velocity: str = "keras"
    nesterov: bool = False

    def __post_init__(self):
        rates = {
            "learning_rate": filters.validate_rate(
                "learning_rate", self.learning_rate, filters.POSITIVE
            ),
            "weight_decay": validate_latent_number("weight_decay", self.weight_decay, NOT_NEGATIVE),
            "momentum": validate_latent_number("momentum", self.momentum, BELOW_ONE),
        }
        for name, rate in rates.items():
            object.__setattr__(self, name, rate)
        validate_choice("velocity", self.velocity, VELOCITIES)
        validate_flag("decoupled", self.decoupled)
        validate_flag("nesterov", self.nesterov)
        start = self.learning_rate(0) if self.scheduled else self.learning_rate
        per_step = float(start) * self.weight_decay
        if per_step > 1 and (self.decoupled or not self.momentum):
            raise ValueError(
                f"learning_rate * weight_decay is {per_step:g}; it must lie in [0, 1]: beyond it "
                "the decay turns the weights round at each step. Lower the weight decay."
            )

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate is a schedule."""
        return is_schedule(self.learning_rate)

    def __str__(self) -> str:
        decay = "decoupled weight decay" if self.decoupled else "L2 inside the gradient"
        nesterov = ", Nesterov" if self.nesterov else ""
        return (
            f"latent SGD: learning rate {show(self.learning_rate)}, {decay} "
            f"{self.weight_decay:g}, momentum {self.momentum:g} ({self.velocity}{nesterov})"
        )


def validate_latent_number(name: str, value, interval: filters.Interval) -> float:
    """``value`` as a float in ``interval``; only the learning rate may be a schedule."""
    if is_schedule(value) or not filters.is_number(value):
        raise TypeError(
            f"`{name}` must be a number in {interval}, not {filters.shown(value)}. Only the "
            "learning rate may be a schedule."
        )
    return filters.validate_rate(name, value, interval)


@dataclasses.dataclass(frozen=True)
class Translation:
    """Latent SGD as a filter: the same binary weights at each step, on the same gradients.

    ``str()`` of it is a table for people.

    Attributes:
        latent: the hyperparameters it was made from.
        filter: for ``FilterOptimizer(translation.filter)`` with the rule ``flips.Sign()``.
        initial_output: what the filter's output starts at, as a factor on the latent w_0.
        initial_inner: the same for the stages before the last.
        counterparts: what became of each of the seven latent hyperparameters.
    """

    latent: LatentSGD
    filter: filters.Filter
    initial_output: float
    initial_inner: float
    counterparts: tuple[Counterpart, ...]

    @property
    def status(self) -> dict[str, str]:
        """Name of each latent hyperparameter to its status."""
        return {each.name: each.status for each in self.counterparts}

    def initial_state(self, w_0: np.ndarray) -> tuple:
        """The filter's state that stands for latent weights ``w_0``.

        Without it the filter starts at zero, as latent weights that are all 0.

        Args:
            w_0: latent weights, an array or a kernel of a Larq layer (its latent values).

        Returns:
            Arrays of the shape and dtype of ``w_0`` for ``optimizer.set_filter_state``.

        Raises:
            TypeError: no numbers.
            ValueError: a kernel that holds signs already: ``optimizer.build`` and
                ``to_latent_free`` forget the magnitudes, so take the state before them.
        """
        if hasattr(w_0, "latent_variable") and binary.holds_signs(w_0):
            raise ValueError(
                f"{w_0.name} holds only -1 and +1, its latent magnitudes are gone. Call "
                "initial_state before to_latent_free or optimizer.build, or pass an array."
            )
        w_0 = np.asarray(binary.latent(w_0) if hasattr(w_0, "latent_variable") else w_0)
        as_numbers(w_0, "`w_0` must be latent weights, an array or the kernel of a layer")
        w_0 = w_0 if np.issubdtype(w_0.dtype, np.floating) else w_0.astype(np.float64)
        if not self.initial_inner:
            return self.filter.state_from_output(self.initial_output * w_0, np)
        inner, last = _stages(self.filter)
        return inner.state_from_output(self.initial_inner * w_0, np) + last.state_from_output(
            self.initial_output * w_0, np
        )

    def __str__(self) -> str:
        width = max(len(each.name) for each in self.counterparts)
        rates = ", ".join(f"{name} {show(rate)}" for name, rate in self.filter.rates().items())
        return "\n".join(
            [str(self.latent), f"filter: {type(self.filter).__name__}: {rates}"]
            + [
                f"  {each.name:<{width}}  {each.status:<22}  {each.became}"
                for each in self.counterparts
            ]
        )


def _stages(cascade: filters.CascadedEMA) -> tuple[filters.EMA, filters.EMA]:
    return tuple(filters.EMA(rate, cascade.compensated) for rate in (cascade.gamma, cascade.alpha))


def filter_from_sgd(
    learning_rate: filters.Rate,
    weight_decay: float,
    momentum: float = 0.0,
    decoupled: bool = False,
    velocity: str = "keras",
    nesterov: bool = False,
) -> Translation:
    """The filter whose signs are the binary weights of latent SGD, at every step.

    Args:
        learning_rate: eps, in (0, inf), or a Keras schedule.
        weight_decay: lambda, in [0, inf); ``2 * c`` for ``regularizers.l2(c)``.
        momentum: mu, in [0, 1).
        decoupled: True: ``w`` shrinks by ``eps_t * lambda`` before the step, as Keras'
            ``SGD(weight_decay=lambda)``. False: ``lambda * w`` is added to the gradient.
        velocity: "keras", "pytorch" or "normalised", see the module's text.
        nesterov: look one step ahead, as ``SGD(nesterov=True)``. Exact, in every case.

    Returns:
        A ``Translation``: ``.filter``, ``.initial_state(w_0)``, ``.status``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number outside its interval, or so large a ``learning_rate * weight_decay``
            that the latent weights themselves would grow without end.

    Example:
        >>> filter_from_sgd(0.1, 5e-4, momentum=0.9).filter
        CascadedEMA(alpha=0.00050227..., gamma=0.09954772..., compensated=None)
    """
    latent = LatentSGD(learning_rate, weight_decay, momentum, decoupled, velocity, nesterov)
    in_series = decoupled or not weight_decay or not momentum
    f, output, inner = _in_series(latent) if in_series else _in_a_loop(latent)
    return Translation(latent, f, output, inner, _counterparts(latent, f, output))


def _in_series(latent: LatentSGD) -> tuple[filters.Filter, float, float]:
    """Decoupled weight decay, or none: momentum, then memory. Filter, initial output and inner."""
    eps, decay, mu = latent.learning_rate, latent.weight_decay, latent.momentum
    gamma, alpha, unit = one_minus(mu), times(eps, decay), decay or 1.0
    ahead = latent.nesterov and mu > 0
    if latent.velocity == "keras" and latent.scheduled and mu:
        # The learning rate goes into the velocity, so it stands first.
        momentum = [filters.LeakyIntegrator(eps, 1.0 if ahead else gamma)]
        momentum += [_lookahead(mu, 1.0)] if ahead else []
        memory = filters.LeakyIntegrator(unit, alpha if decay else 0.0)
        return filters.Cascade([*momentum, memory]), -unit, 0.0
    output = -unit if latent.velocity == "normalised" else -unit * gamma
    if decay and mu and not ahead:
        return filters.CascadedEMA(alpha=alpha, gamma=gamma), output, 0.0
    memory = filters.EMA(alpha) if decay else filters.LeakyIntegrator(eps, 0.0)
    if not mu:
        return memory, output, 0.0
    momentum = _lookahead(mu, gamma) if ahead else filters.EMA(gamma)
    return filters.Cascade([momentum, memory]), output, 0.0


def _lookahead(mu: float, gain: float) -> filters.SecondOrderSections:
    """Nesterov's ``g + mu u`` with ``u = mu u + g``, times ``gain``."""
    return filters.SecondOrderSections([[gain * (1 + mu), -gain * mu, 0.0, 1.0, -mu, 0.0]])


def _in_a_loop(latent: LatentSGD) -> tuple[filters.Filter, float, float]:
    """Momentum and L2 inside the gradient. Filter, initial output and inner."""
    gamma = one_minus(latent.momentum)
    per_step = times(latent.learning_rate, latent.weight_decay)
    if not latent.scheduled and not latent.nesterov:
        k = per_step * (gamma if latent.velocity == "normalised" else 1.0)
        discriminant = (gamma + k) ** 2 - 4 * k
        if discriminant >= 0 and k < 1:
            root = (gamma + k + math.sqrt(discriminant)) / 2
            start = -latent.weight_decay
            return filters.CascadedEMA(alpha=k / root, gamma=root), start, start
    gain, rate = {
        "keras": (per_step, 1.0),
        "pytorch": (1.0, per_step),
        "normalised": (gamma, per_step),
    }[latent.velocity]
    ball = filters.HeavyBall(gain=gain, leak=gamma, rate=rate, nesterov=latent.nesterov)
    return ball, -latent.weight_decay, 0.0


def _counterparts(latent: LatentSGD, f: filters.Filter, output: float) -> tuple[Counterpart, ...]:
    """What became of the seven."""
    decay, mu, scheduled = latent.weight_decay, latent.momentum, latent.scheduled
    if decay:
        forgotten = "forgotten as the filter forgets"
        product = "alpha" if latent.decoupled or not mu else "alpha gamma"
        product = "gain rate" if isinstance(f, filters.HeavyBall) else product
        size = times(latent.learning_rate, decay)
        if mu and latent.velocity == "normalised" and not latent.decoupled:
            size = times(size, one_minus(mu))
        rate = EXACT, f"only learning rate * weight decay counts: {product} = {show(size)}"
        decays = EXACT, "the share that is forgotten per step, with the learning rate"
    else:
        forgotten = "outweighed in time; no effect if w_0 = 0"
        rate = EXACT if scheduled else INITIAL, "its size only rescales the initialisation"
        decays = NO_EFFECT, "none: all gradients since the start count alike"
    course = EXACT, "the share decays alike, and the time constant of the filter grows"
    if isinstance(f, filters.CascadedEMA):
        smoothing = f"the gradient is smoothed: gamma = {f.gamma:.6g}"
    else:
        smoothing = f"the gradient is smoothed: 1 - momentum = {one_minus(mu):g}"
    return (
        Counterpart(
            "initialisation", INITIAL, f"the output starts at {output:g} * w_0, {forgotten}"
        ),
        Counterpart("learning rate", *rate),
        Counterpart("lr decay", *(course if scheduled else (NO_EFFECT, "none: constant"))),
        Counterpart("weight decay", *decays),
        Counterpart("momentum", *((EXACT, smoothing) if mu else (NO_EFFECT, "none: gamma = 1"))),
        Counterpart(
            "clipping",
            NOT_LINEAR,
            "none assumed: it saturates, what a gradient does depends on those before it",
        ),
        Counterpart(
            "scaling",
            NO_EFFECT,
            "a factor per filter changes no sign; before batch normalisation it is a gain of "
            "1/mean|w| where its gradient is passed straight, else nothing; without one it counts. "
            "Subtracting the mean changes signs (flips.Balanced)",
        ),
    )
