"""Training without latent weights: the presets, Larq's own Bop, and the control."""

from collections.abc import Callable

from larq_filter import binary, filters, presets
from larq_filter._keras import keras
from larq_filter.conversion import to_latent_free
from larq_filter.experiments.methods.knobs import Knobs, schedule
from larq_filter.optimizers import FilterOptimizer, default_alpha

import larq  # isort: skip


def _alpha(knobs: Knobs, steps: int):
    """The adaptation rate over the run, as number or schedule."""
    if knobs.alpha_schedule == "default":
        halving = knobs.alpha_halving_steps
        return default_alpha(knobs.alpha, **({} if halving is None else {"halving_steps": halving}))
    return schedule(knobs.alpha_schedule, knobs.alpha, steps=steps)


def _gain(knobs: Knobs, steps: int):
    """The gain over the run: where a publication has a learning rate, that is what decays."""
    return schedule(knobs.alpha_schedule, knobs.gain, steps=steps)


def _adam(knobs: Knobs, steps: int, kind=keras.optimizers.Adam):
    """Adam for the real-valued variables."""
    return kind(schedule(knobs.learning_rate_schedule, knobs.learning_rate, steps=steps))


def preset(make: Callable, arguments: Callable, is_random: bool = False) -> Callable:
    """``prepare`` of the preset ``make`` with ``arguments(knobs, steps)``; its seed if it draws."""

    def prepare(model, knobs, steps, earlier, seed):
        own = arguments(knobs, steps) | ({"seed": seed} if is_random else {})
        optimizer = make(**own, default_optimizer=_adam(knobs, steps))
        model = to_latent_free(model)
        optimizer.build(model.trainable_variables)
        return model, optimizer

    return prepare


quist2023 = preset(presets.quist2023, lambda k, n: {"alpha": _alpha(k, n), "gamma": k.gamma})
bop = preset(presets.bop, lambda k, n: {"gamma": _alpha(k, n), "threshold": k.threshold})
bop_second_order = preset(
    presets.bop_second_order,
    lambda k, n: {"gamma": _alpha(k, n), "sigma": k.sigma, "threshold": k.threshold},
)
diode = preset(
    presets.diode,
    lambda k, n: {
        "beta1": 1 - k.gamma,
        "beta2": 1 - k.alpha,
        "binary_learning_rate": _gain(k, n),
    },
    is_random=True,
)
sgdat = preset(
    presets.sgdat, lambda k, n: {"binary_learning_rate": _gain(k, n), "threshold": k.threshold}
)
boat = preset(presets.boat, lambda k, n: {"leak": k.leak, "eta": k.hysteresis})
bold = preset(presets.bold, lambda k, n: {"binary_learning_rate": _gain(k, n)})
prob_bop = preset(
    presets.prob_bop,
    lambda k, n: {
        "steps_per_epoch": n / 500,  # the published run has 500 epochs
        "gamma": _alpha(k, n),
        "threshold": k.threshold,
        "a": k.probability_decay,
    },
    is_random=True,
)


def _erlang(*, alpha, gamma, default_optimizer) -> FilterOptimizer:
    """Smoothing, then two equal averages: their impulse response rises before it falls.

    At the same mean delay ``gamma`` and one average flip five times as often on white noise (delay
    of 1,000 steps, gamma 0.1: 3.3e-3 against 6.3e-4 of the weights per step). Not published.
    """
    averages = [filters.EMA(rate) for rate in (gamma, alpha, alpha)]
    return FilterOptimizer(filters.Cascade(averages), default_optimizer=default_optimizer)


erlang = preset(_erlang, lambda k, n: {"alpha": _alpha(k, n), "gamma": k.gamma})
equal_bits = preset(presets.equal_bits, lambda k, n: {"alpha": _alpha(k, n), "gamma": k.gamma})


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
    if earlier is None:
        raise ValueError(
            "The method distilled needs a teacher: train one with the method real and pass it as "
            "`earlier`, or name a saved model by the knob teacher."
        )
    if earlier.output_shape != model.output_shape or earlier.input_shape != model.input_shape:
        raise ValueError(
            f"The teacher maps {earlier.input_shape} to {earlier.output_shape}, the network "
            f"{model.input_shape} to {model.output_shape}: they must agree."
        )
    return quist2023(model, knobs, steps, earlier, seed)
