"""Latent methods as published: an optimizer, a quantizer and rules, a row each.

Numbers are those of the publication's code or text, for CIFAR-10 where it has such, in the row.
What differs alike everywhere: the real-valued rest is trained by Adam (``rest="same"`` is the
publications' way), all start from the same initial weights, learning rates fall by a cosine where
theirs fall by steps.
"""

import math

from larq_filter import latent_rules
from larq_filter._keras import keras
from larq_filter.experiments.methods import latent, relaxed
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.methods.method import Method, Stage

_REST = {"learning_rate": 1e-2, "learning_rate_schedule": "cosine", "rest": "adam"}
_FREE = {"weight_clip": math.inf, "weight_decay": 0.0}


def _sgd(weight_decay: float, quantizer: str | None, inputs: str | None = None) -> dict:
    """SGD 0.1 with momentum 0.9, cosine: the recipe of most."""
    return {
        "kernel_learning_rate": 0.1,
        **_REST,
        "momentum": 0.9,
        **_FREE,
        "weight_decay": weight_decay,
        "quantizer": quantizer,
        "input_quantizer": inputs,
    }


def _adam(rate: float, quantizer: str | None, inputs: str | None = None, **changes) -> dict:
    own = {"quantizer": quantizer, "input_quantizer": inputs, **changes}
    return {"kernel_learning_rate": rate, **_REST, **_FREE, **own}


def _two_steps(weight_decay: float) -> dict:
    own = {"weight_decay": weight_decay, "weight_clip": math.inf, "quantizer": "bireal"}
    return {**latent.BINARY_ACTIVATIONS, **own}


def _first(stage: str):
    """``first_stage`` of a method whose relaxed stage has two thirds of the epochs."""

    def first_stage(knobs: Knobs, epochs: int) -> Stage:
        before = min(round(2 * epochs / 3), epochs - 1)
        return Stage("relaxed", stage, knobs.only(METHODS[stage].knobs), before, epochs - before)

    return first_stage


def _relaxed_knobs(rate: float) -> dict:
    return {"kernel_learning_rate": rate, **_REST, "weight_decay": 0.0, "input_quantizer": None}


def _stage(summary: str, prepare, rate: float) -> Method:
    return Method(summary, _relaxed_knobs(rate), prepare, stage_only=True)


def _finished(summary: str, stage: str, rate: float) -> Method:
    return Method(summary, _relaxed_knobs(rate), relaxed.signs_of(stage), _first(stage))


METHODS: dict[str, Method] = {
    "xnor": Method(
        "XNOR-Net: centred, mean magnitude (Rastegari et al. 2016)",
        _adam(1e-2, "xnor", weight_decay=1e-5, weight_clip=1.0),
        latent.adam,
    ),
    "bireal": Method(
        "Bi-Real: gradient not scaled, parabola (Liu et al. 2018)",
        _adam(1e-3, "bireal", "bireal", learning_rate_schedule="linear"),
        latent.adam,
    ),
    "ir_net": Method(
        "IR-Net: standardised, sharpening tanh (Qin et al. 2020)",
        _sgd(1e-4, "ir_net", "ir_net"),
        latent.sgd,
    ),
    "recu": Method(
        "ReCU: no gradient for the largest weights (Xu et al. 2021)",
        _sgd(5e-4, "recu", "recu"),
        latent.sgd,
    ),
    "rbnn": Method(
        "RBNN: weights rotated towards their signs (Lin et al. 2020)",
        _sgd(1e-4, "rbnn", "rbnn"),
        latent.sgd,
    ),
    "ewgs": Method(
        "EWGS: gradient by the distance to the sign (Lee et al. 2021)",
        _adam(1e-3, "ewgs", "ewgs", weight_decay=1e-4),
        latent.adam,
    ),
    "reste": Method(
        "ReSTE: power function that becomes the sign (Wu et al. 2023)",
        _sgd(1e-4, "reste", "reste"),
        latent.sgd,
    ),
    "daq": Method(
        "DAQ: gradient by the distances to both levels (Kim et al. 2021)",
        _sgd(1e-4, "daq", "daq"),
        latent.sgd,
    ),
    "poke": Method(
        "PokeBNN's quantizers: gradient 1 up to 3 (Zhang et al. 2022)",
        _adam(1e-3, "poke", "poke", weight_decay=5e-5),
        latent.trained_by(lambda knobs, rate: keras.optimizers.Adam(rate, beta_2=0.99)),
    ),
    "lab": Method(
        "LAB: scale by curvature (Hou et al. 2017)",
        _adam(2e-2, "lab", weight_clip=1.0),
        latent.adam,
    ),
    "equal_bits_latent": Method(
        "half of the bits +1, with latent weights as published (Li et al. 2022)",
        _sgd(5e-4, "equal_bits"),
        latent.sgd,
    ),
    "bnn_bn": Method(
        "standardised by fan-in, gradients clipped by unit (Chen et al. 2021)",
        _adam(5e-4, "bnn_bn", learning_rate_schedule="linear"),
        latent.trained_by(latent.make_adam, lambda steps: (latent_rules.AdaptiveClipping(0.02),)),
    ),
    "binaryconnect": Method(
        "BinaryConnect: random signs, rates by shape (Courbariaux et al. 2015)",
        _adam(3e-3, "binaryconnect", learning_rate_schedule="linear"),
        latent.trained_by(
            latent.make_adam,
            lambda steps: (latent_rules.GlorotScale(), latent_rules.Clip(1.0)),
        ),
    ),
    "tang": Method(
        "decay of negative sign, unverified (Tang et al. 2017)",
        _adam(1e-4, None),
        latent.trained_by(
            latent.make_adam, lambda steps: (latent_rules.Bipolar(5e-7), latent_rules.Clip(1.0))
        ),
    ),
    "ovsw": Method(
        "OvSW: weights that never flip are woken (Xiang et al. 2024)",
        _sgd(5e-4, None),
        latent.trained_by(latent.make_sgd, lambda steps: (latent_rules.SilentWeights(),)),
    ),
    "metaplastic": Method(
        "large weights shrink slowly (Laborieux et al. 2021)",
        _adam(5e-3, None, weight_decay=1e-7),
        latent.trained_by(latent.make_adam, lambda steps: (latent_rules.Metaplastic(1.35),)),
    ),
    "reactnet": Method(
        "ReActNet's two steps, gradient not scaled (Liu et al. 2020)",
        _two_steps(1e-5),
        latent.two_step,
        latent.binary_activations_first,
    ),
    "adam_bnn": Method(
        "AdamBNN's two steps (Liu et al. 2021)",
        _two_steps(5e-6),
        latent.two_step,
        latent.binary_activations_first,
    ),
    "proxquant": _finished(
        "ProxQuant, then its signs (Bai et al. 2019)", "proxquant_relaxed", 1e-2
    ),
    "md_tanh": _finished(
        "mirror descent, then its signs (Ajanthan et al. 2021)", "md_tanh_relaxed", 1e-3
    ),
    "bnew": _finished(
        "concave penalty, then its signs (Paren and Poudel 2022)", "bnew_relaxed", 1e-2
    ),
    "proxquant_relaxed": _stage("first stage of proxquant", relaxed.proxquant, 1e-2),
    "md_tanh_relaxed": _stage("first stage of md_tanh", relaxed.md_tanh, 1e-3),
    "bnew_relaxed": _stage("first stage of bnew", relaxed.bnew, 1e-2),
}
