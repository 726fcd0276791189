"""Methods whose weights are real-valued for most of the training and become binary by and by.

They are two stages. The first trains real-valued weights under binary activations, with a rule that
drives them towards -1 and +1. The second takes their signs, freezes them, and trains the rest of
the network on. Rejected: one stage that freezes itself; a run of it could not be looked at before
its weights are made binary, which is where such methods lose accuracy.
"""

from collections.abc import Callable

from larq_filter import latent_rules
from larq_filter._keras import keras
from larq_filter.experiments.methods import latent, latent_free

schedules = keras.optimizers.schedules


def _relaxed(rules: Callable) -> Callable:
    """``prepare`` of a first stage: Adam on real-valued weights, and rules."""

    def prepare(model, knobs, steps, earlier, seed):
        model, _ = latent.binary_activations(model, knobs, steps, earlier, seed)
        return model, latent.optimizer_for(
            knobs, steps, lambda rate: latent.make_adam(knobs, rate), rules(steps, knobs)
        )

    return prepare


def _prox(steps, knobs):
    """The distance grows from 0 to 2 % of the learning rate, as published after 200 epochs.

    In a run too short for that it grows to ``2 / steps``: so far that over the whole run a weight
    without a gradient comes from 0 to its side.
    """
    end = max(0.02 * knobs.kernel_learning_rate, 2 / steps)
    return latent_rules.Prox(schedules.PolynomialDecay(0.0, steps, end)), latent_rules.Clip(1.0)


def _mirror(steps, knobs):
    """As published over 100,000 steps: beta grows by 1 % a thousand times, from 1 to 21,000."""
    return (latent_rules.Mirror(schedules.ExponentialDecay(1.0, steps / 1000, 1.01)),)


def _concave(steps, knobs):
    """The published size depends on the script; this one makes a weight grow by e^10 over a run."""
    growth = schedules.PolynomialDecay(0.0, steps, 10.0 / steps)
    return latent_rules.Concave(growth), latent_rules.Clip(1.0)


proxquant, md_tanh, bnew = _relaxed(_prox), _relaxed(_mirror), _relaxed(_concave)


def signs_of(stage: str) -> Callable:
    """``prepare`` of a second stage: the signs of what ``stage`` has trained, never changed."""

    def prepare(model, knobs, steps, earlier, seed):
        latent.copy_weights(earlier, model, stage)
        return latent_free.frozen(model, knobs, steps, earlier, seed)

    return prepare
