"""Training without latent weights: the presets, Larq's own Bop, and the control."""

import inspect
from collections.abc import Callable

from larq_filter import binary, filters, hyperparameters, presets
from larq_filter._keras import keras
from larq_filter._validation import one_minus
from larq_filter.conversion import to_latent_free
from larq_filter.experiments.methods import distillation
from larq_filter.experiments.methods.knobs import Knobs, schedule
from larq_filter.optimizers import FilterOptimizer, default_alpha

import larq  # isort: skip


KEPT = 0.3
"""The ``warm_start`` that keeps a trained model in place (docs/using.md)."""


def _alpha(knobs: Knobs, steps: int):
    """The adaptation rate over the run, as number or schedule."""
    if knobs.alpha_schedule == "default":
        halving = knobs.alpha_halving_steps
        return default_alpha(knobs.alpha, **({} if halving is None else {"halving_steps": halving}))
    return schedule(knobs.alpha_schedule, knobs.alpha, steps=steps)


def _adam(knobs: Knobs, steps: int, kind=keras.optimizers.Adam):
    """Adam for the real-valued variables."""
    return kind(schedule(knobs.learning_rate_schedule, knobs.learning_rate, steps=steps))


class Preset:
    """A preset as a method: ``prepare``, and the defaults of its knobs from its signature.

    Publications name one thing differently; knobs have one name for it. ``names`` is the one place
    where the first become the second.

    Args:
        make: the preset.
        names: for each knob the argument that it is: ``"gamma"``, or ``"1 - beta1"``.
        own: further arguments, by the number of steps.
        is_random: whether it takes a seed.
    """

    def __init__(self, make: Callable, names: dict[str, str], own=None, is_random=False):
        self._make, self._names, self._own, self._is_random = make, names, own, is_random
        published = inspect.signature(make).parameters
        self.defaults = {}
        for knob, argument in names.items():
            value = published[argument.removeprefix("1 - ")].default
            self.defaults[knob] = one_minus(value) if argument.startswith("1 - ") else value

    def __call__(self, model, knobs: Knobs, steps: int, earlier, seed: int):
        own = {} if self._own is None else self._own(steps)
        if self._is_random:
            own["seed"] = seed
        for knob, argument in self._names.items():
            if argument.startswith("1 - "):
                own[argument.removeprefix("1 - ")] = one_minus(getattr(knobs, knob))
            else:
                own[argument] = _over_the_run(knob, knobs, steps)
        own["default_optimizer"] = _adam(knobs, steps)
        if knobs.warm_start is not None:
            optimizer = self._make(**own, warm_start=knobs.warm_start)
        else:
            optimizer = self._warm(own) if binary.is_trained(model) else self._make(**own)
        model = to_latent_free(model)
        optimizer.build(model.trainable_variables)
        return model, optimizer

    def _warm(self, own: dict):
        """For a model that was trained before: from its kernels, where the filter can."""
        try:
            return self._make(**own, warm_start=KEPT)
        except ValueError:  # it is not linear
            return self._make(**own)


def _over_the_run(knob: str, knobs: Knobs, steps: int):
    """A knob as number, or as the schedule that it follows.

    Where a publication has a learning rate for binary weights, the gain, that is what decays.
    """
    if knob == "alpha":
        return _alpha(knobs, steps)
    value = getattr(knobs, knob)
    return schedule(knobs.alpha_schedule, value, steps=steps) if knob == "gain" else value


_AVERAGES = {"alpha": "alpha", "gamma": "gamma"}
_BOP = {"alpha": "gamma", "threshold": "threshold"}

quist2023 = Preset(presets.quist2023, _AVERAGES)
bop = Preset(presets.bop, _BOP)
bop_second_order = Preset(presets.bop_second_order, {**_BOP, "sigma": "sigma"})
diode = Preset(
    presets.diode,
    {"alpha": "1 - beta2", "gamma": "1 - beta1", "gain": "binary_learning_rate"},
    is_random=True,
)
sgdat = Preset(presets.sgdat, {"gain": "binary_learning_rate", "threshold": "threshold"})
boat = Preset(presets.boat, {"leak": "leak", "hysteresis": "eta"})
bold = Preset(presets.bold, {"gain": "binary_learning_rate"})
prob_bop = Preset(
    presets.prob_bop,
    {**_BOP, "probability_decay": "a"},
    lambda steps: {"steps_per_epoch": steps / 500},  # the published run has 500 epochs
    is_random=True,
)
equal_bits = Preset(presets.equal_bits, _AVERAGES)
bayes_binn = Preset(presets.bayes_binn, {"alpha": "binary_learning_rate"})
dqt = Preset(
    presets.dqt, {"gamma": "1 - beta1", "sigma": "1 - beta2", "gain": "rate"}, is_random=True
)
fgd_ma, fgd_ar, fgd_kalman = (
    Preset(make, {"alpha": "alpha"})
    for make in (presets.fgd_ma, presets.fgd_ar, presets.fgd_kalman)
)


def _erlang(*, alpha=2e-2, gamma=0.1, **kwargs) -> FilterOptimizer:
    """Smoothing, then two equal averages: their impulse response rises before it falls.

    At the same mean delay ``gamma`` and one average flip five times as often on white noise (delay
    of 1,000 steps, gamma 0.1: 3.3e-3 against 6.3e-4 of the weights per step). Not published.
    """
    averages = [filters.EMA(rate) for rate in (gamma, alpha, alpha)]
    return FilterOptimizer(filters.Cascade(averages), **kwargs)


erlang = Preset(_erlang, _AVERAGES)


def translated(model, knobs, steps, earlier, seed):
    """``prepare`` of the filter that latent SGD with the knobs of ``momentum`` is.

    It starts where the latent weights of ``model`` would. The binary weights are those of
    ``momentum`` with ``weight_clip=inf`` and ``quantizer="identity"``, which nothing clips.
    """
    rate = schedule(knobs.learning_rate_schedule, knobs.kernel_learning_rate, steps=steps)
    translation = hyperparameters.filter_from_sgd(
        rate, knobs.weight_decay, knobs.momentum, nesterov=knobs.nesterov == "yes"
    )
    states = [
        translation.initial_state(binary.latent(kernel))
        for _, kernel in binary.binary_kernels(model)
    ]
    model = to_latent_free(model)
    optimizer = FilterOptimizer(translation.filter, default_optimizer=_adam(knobs, steps))
    optimizer.build(model.trainable_variables)
    for (_, kernel), state in zip(binary.binary_kernels(model), states, strict=True):
        optimizer.set_filter_state(kernel, state)
    return model, optimizer


def larq_bop(model, knobs, steps, earlier, seed):
    """``prepare`` of Larq's own Bop, which needs legacy optimizers beside it."""
    bop = larq.optimizers.Bop(threshold=knobs.threshold, gamma=_alpha(knobs, steps))
    adam = _adam(knobs, steps, keras.optimizers.legacy.Adam)
    case = (larq.optimizers.Bop.is_binary_variable, bop)
    return to_latent_free(model), larq.optimizers.CaseOptimizer(case, default_optimizer=adam)


def frozen(model, knobs, steps, earlier, seed):
    """``prepare`` of the control: layers with binary kernels, their biases included, stay."""
    model = to_latent_free(model)
    for layer, _ in binary.binary_kernels(model):
        layer.trainable = False
    return model, _adam(knobs, steps)


def distilled(model, knobs, steps, earlier, seed):
    """``prepare`` of the filter beside the teacher ``earlier``."""
    distillation.require_teacher("distilled", model, earlier)
    return quist2023(model, knobs, steps, earlier, seed)
