"""Training methods by name: from a latent Larq model to a compiled one.

Every method gets the same network, data and budget; what differs is who trains the binary kernels.
The real-valued rest is trained by Adam at the knob ``learning_rate``. With ``rest="same"`` latent
methods train it by the optimizer of the kernels, as the publications do.

| method | binary kernels |
|---|---|
| ``filter`` | latent-free: gradient filter of Quist et al. 2023 |
| ``bop`` ... ``equal_bits`` | latent-free: ``larq_filter.presets`` of that name |
| ``bayes_binn``, ``dqt``, ``fgd_ma``, ``fgd_ar``, ``fgd_kalman`` | the same |
| ``erlang`` | latent-free: a filter of this project, whose memory rises before it falls |
| ``translated`` | latent-free: the filter that ``momentum`` with the same knobs is, unclipped |
| ``larq_bop`` | latent-free: Larq's own ``Bop`` in a ``CaseOptimizer``; legacy Adam for the rest |
| ``sgd``, ``momentum`` | latent: SGD of momentum 0 and 0.9 (or Nesterov's), L2 on the kernels |
| ``sgdw`` | latent: SGD with momentum, decoupled decay |
| ``adam`` | latent: Adam |
| ``standardized`` | latent: ``momentum`` on kernels standardised before the sign |
| ``two_step`` | latent: real weights for half the budget, then ``adam`` on their signs |
| ``one_step`` | latent-free: ``filter`` for the whole budget, with the rates of ``two_step`` |
| ``distilled`` | latent-free: ``one_step`` from a real-valued teacher's distribution |
| ``real_to_binary`` | latent: a chain of three teachers, then ``adam`` on the signs of the last |
| ``frozen`` | random and never changed: the control |
| ``binary_activations`` | real-valued weights: the first step of ``two_step`` |
| ``real`` | real-valued weights and activations: the teacher of ``distilled`` |
| ``distilled_tanh``, ``distilled_activations`` | real-valued: teachers in ``real_to_binary`` |

A method of two stages is two runs in a row: ``first_stage`` says which method comes before, and
``compile_for`` gets the model it trained. That method may have a first stage itself: a chain.
Rejected: methods as lists of callbacks that rewire a model while it trains; such a run can't be
resumed, and its first stage can't be looked at or used twice.
"""

import dataclasses
import difflib
import math
from typing import Any

from larq_filter import binary, quantizers
from larq_filter._keras import keras
from larq_filter.experiments.methods import (
    attention,
    distillation,
    inputs,
    latent,
    latent_free,
    published,
    real_to_binary,
)
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.methods.method import Method, Stage
from larq_filter.filters import shown

GROUPS = ("all", "latent", "latent_free")
"""What ``names`` can be asked for."""


def names(group: str = "all") -> tuple[str, ...]:
    """The methods that end in a binary network: all but teachers and first steps.

    Args:
        group: of ``GROUPS``: those that train through latent weights, or those that do not.
    """
    chosen = {"all": (True, False), "latent": (True,), "latent_free": (False,)}[group]
    return tuple(
        name for name, each in METHODS.items() if not each.stage_only and each.is_latent in chosen
    )


def resolve(method: str, knobs: Knobs) -> Knobs:
    """All knobs of ``method``: what is given, and its defaults.

    Raises:
        ValueError: unknown method, or a knob that it does not read.
    """
    if not isinstance(method, str) or method not in METHODS:
        close = difflib.get_close_matches(str(method), METHODS, 1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(METHODS)}."
        raise ValueError(f"Unknown method {shown(method)}; {hint}")
    if not isinstance(knobs, Knobs):
        raise TypeError(f"`knobs` must be a larq_filter.methods.Knobs(...), not {shown(knobs)}.")
    return knobs.resolve(method, METHODS[method].knobs)


def first_stage(method: str, knobs: Knobs, epochs: int) -> Stage | None:
    """The run that comes before that of ``method``; None if there is none.

    Args:
        method: a name from ``METHODS``.
        knobs: the method's.
        epochs: budget of the method.

    Raises:
        ValueError: unknown method, a knob that it does not read, too few epochs for two stages.
    """
    stage = METHODS[method].first_stage(resolve(method, knobs), epochs)
    if stage is not None and min(stage.epochs, stage.own_epochs) < 1:
        raise ValueError(f"{method} trains twice, so epochs must be at least 2; received {epochs}.")
    return stage


def compile_for(
    method: str, model: Any, knobs: Knobs, steps: int, earlier: Any = None, seed: int = 0
) -> Any:
    """Compiles ``model`` for a method, converted to what the method trains.

    Args:
        method: a name from ``METHODS``.
        model: a built latent Larq model that ends in a softmax.
        knobs: the hyperparameters.
        steps: training steps of this stage; the schedules' horizon.
        earlier: the model that the stage before has trained (``first_stage``).
        seed: of what the method itself draws at random (``diode``, ``prob_bop``).

    Returns:
        The compiled model: ``model`` itself or a copy of it. Train it on ``dataset_for(...)``. The
        network to keep is ``network_of(...)`` it: another one where a method learns attention.

    Raises:
        ValueError: unknown method, a knob that it does not read, a model without binary kernels,
            ``earlier`` missing or unfit.
    """
    knobs = resolve(method, knobs)
    if not binary.binary_kernels(model):
        raise ValueError(f"The model {model.name} has {binary.NO_BINARY_KERNEL}")
    way = METHODS[method]
    way.needs(model, earlier)
    model = inputs.quantized(model, knobs.input_quantizer)
    model, optimizer = way.prepare(model, knobs, steps, earlier, seed)
    # A metric by name gets its variables in the first step, which TensorFlow then traces twice.
    accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
    loss, metrics = "sparse_categorical_crossentropy", [accuracy]
    if way.lessons is not None:
        model, loss, metrics = attention.taught(model, way.lessons)
    elif way.distils:
        loss = distillation.distributional_loss
        metrics = [distillation.accuracy, distillation.cross_entropy]
    elif model.losses:  # the loss then holds the penalty of the weights
        metrics = [accuracy, distillation.cross_entropy]
    model.compile(optimizer, loss, metrics=metrics)
    quantizers.connect(model, steps)
    return model


def dataset_for(method: str, dataset: Any, earlier: Any = None) -> Any:
    """``dataset`` as ``method`` trains on it: with what it learns from the model before.

    Args:
        method: a name from ``METHODS``.
        dataset: a ``tf.data.Dataset`` of batches: images, integer labels of shape (batch,).
        earlier: the model that the stage before has trained, or the teacher.

    Raises:
        ValueError: ``earlier`` has no blocks whose attention could be learned.
    """
    way = METHODS[method]
    if not way.distils:
        return dataset
    if way.lessons is not None and way.lessons.attention:
        earlier = attention.watched(earlier)
    return distillation.with_soft_targets(dataset, earlier)


# The table ----------------------------------------------------------------------------------------

_REST = {"learning_rate": 1e-2, "learning_rate_schedule": "cosine"}
_LINEAR = {"alpha_schedule": "linear", "alpha_halving_steps": None}
_DECAY = {"alpha_schedule": "linear"}  # of the gain
_WARM = {"warm_start": None}  # of those that can start anywhere
_QUIST = {**latent_free.quist2023.defaults, "alpha": 1e-2}  # published without a number
_CLIP = {"weight_clip": None, "standardization": "none", "quantizer": None}
_SGD = {"kernel_learning_rate": 0.1, **_REST, "rest": "adam", "weight_decay": None, **_CLIP}
_MOMENTUM = {"momentum": 0.9, "nesterov": "no"}
_FREE = {"weight_clip": math.inf, "standardization": "zscore"}
_ADAM = {**_SGD, "kernel_learning_rate": 1e-3}
_RECIPE = {"learning_rate": 1e-3, "learning_rate_schedule": "linear"}  # ReActNet's

_LATENT_FREE = {
    "filter": Method(
        "gradient filter, latent-free (Quist et al. 2023)",
        {**_QUIST, **_LINEAR, **_REST, **_WARM},
        latent_free.quist2023,
    ),
    "bop": Method(
        "average and threshold (Helwegen et al. 2019)",
        {**latent_free.bop.defaults, **_LINEAR, **_REST, **_WARM},
        latent_free.bop,
    ),
    "bop_second_order": Method(
        "normalised average and threshold (Suarez-Ramirez et al. 2021)",
        {**latent_free.bop_second_order.defaults, **_LINEAR, **_REST},
        latent_free.bop_second_order,
    ),
    "diode": Method(
        "average of signs of an average (Guo et al. 2024)",
        {**latent_free.diode.defaults, **_DECAY, **_REST, **_WARM},
        latent_free.diode,
    ),
    "sgdat": Method(
        "sum and a threshold that grows with each flip (Shan et al. 2023)",
        {**latent_free.sgdat.defaults, **_DECAY, **_REST, **_WARM},
        latent_free.sgdat,
    ),
    "boat": Method(
        "leaky sum and a hysteresis that grows (2025)",
        {**latent_free.boat.defaults, **_REST, **_WARM},
        latent_free.boat,
    ),
    "bold": Method(
        "integrate and fire (Nguyen et al. 2024)",
        {**latent_free.bold.defaults, **_DECAY, **_REST, **_WARM},
        latent_free.bold,
    ),
    "prob_bop": Method(
        "average and a random threshold (He et al. 2025)",
        {**latent_free.prob_bop.defaults, **_LINEAR, **_REST, **_WARM},
        latent_free.prob_bop,
    ),
    "equal_bits": Method(
        "filter, half of the bits of each output filter +1 (Li et al. 2022)",
        {**latent_free.equal_bits.defaults, **_LINEAR, **_REST, **_WARM},
        latent_free.equal_bits,
    ),
    "bayes_binn": Method(
        "average of the gradients, Bayesian (Meng et al. 2020)",
        {**latent_free.bayes_binn.defaults, **_LINEAR, **_REST, **_WARM},
        latent_free.bayes_binn,
    ),
    "dqt": Method(
        "Adam's step rounded at random (Direct Quantized Training, 2024)",
        {**latent_free.dqt.defaults, **_DECAY, **_REST},
        latent_free.dqt,
    ),
    "fgd_ma": Method(
        "moving sum, then average (filter gradient descent, Yang 2020)",
        {"alpha": 1e-2, **_LINEAR, **_REST, **_WARM},
        latent_free.fgd_ma,
    ),
    "fgd_ar": Method(
        "autoregressive filter, then average (filter gradient descent, Yang 2020)",
        {"alpha": 1e-2, **_LINEAR, **_REST, **_WARM},
        latent_free.fgd_ar,
    ),
    "fgd_kalman": Method(
        "Kalman filter, then average (filter gradient descent, Yang 2020)",
        {"alpha": 1e-2, **_LINEAR, **_REST, **_WARM},
        latent_free.fgd_kalman,
    ),
    "erlang": Method(
        "filter whose memory is two equal averages; not published",
        {**latent_free.erlang.defaults, **_LINEAR, **_REST, **_WARM},
        latent_free.erlang,
    ),
    "translated": Method(
        "the filter that latent SGD with these knobs is",
        {**_REST, "kernel_learning_rate": 0.1, "weight_decay": 0.0, **_MOMENTUM},
        latent_free.translated,
        keeps_kernels=True,
    ),
    "larq_bop": Method(
        "Larq's own Bop",
        {**latent_free.bop.defaults, **_LINEAR, **_REST},
        latent_free.larq_bop,
        keeps_kernels=False,
    ),
    "one_step": Method(
        "gradient filter with the rates of two_step",
        {**_QUIST, **_LINEAR, **_RECIPE, **_WARM},
        latent_free.quist2023,
    ),
    "distilled": Method(
        "one_step with a real-valued teacher",
        {**_QUIST, **_LINEAR, **_RECIPE, "teacher": None},
        latent_free.distilled,
        latent.teacher_first,
        distils=True,
    ),
    "frozen": Method("binary kernels random and never changed", _REST, latent_free.frozen),
}
_LATENT = {
    "sgd": Method("latent SGD", {**_SGD, "momentum": 0.0}, latent.sgd),
    "momentum": Method(
        "latent SGD with momentum, Nesterov's if asked for",
        {**_SGD, **_MOMENTUM},
        latent.sgd,
    ),
    "sgdw": Method(
        "latent SGD with momentum and decoupled weight decay",
        {**_SGD, "momentum": 0.9, "weight_decay": 5e-4},
        latent.sgdw,
    ),
    "adam": Method("latent Adam", _ADAM, latent.adam),
    "standardized": Method(
        "latent SGD with momentum, kernels standardised (IR-Net)",
        {**_SGD, "momentum": 0.9, "weight_decay": 1e-4, **_FREE},
        latent.sgd,
    ),
    "two_step": Method(
        "real weights first, then latent Adam (ReActNet, AdamBNN)",
        {**latent.BINARY_ACTIVATIONS, **_CLIP},
        latent.two_step,
        latent.binary_activations_first,
    ),
}
_STAGES = {
    "binary_activations": Method(
        "binary activations, real-valued weights",
        latent.BINARY_ACTIVATIONS,
        latent.binary_activations,
        stage_only=True,
    ),
    "real": Method(
        "real-valued weights and activations",
        latent.REAL,
        latent.real,
        stage_only=True,
    ),
}
_LATENT |= published.METHODS | real_to_binary.METHODS


def _row(method: Method, **changes) -> Method:
    """With the knob that all methods with binary activations have."""
    knobs = {**method.knobs}
    if method not in (_STAGES["real"], _LATENT["distilled_tanh"]):
        knobs.setdefault("input_quantizer", None)
    return dataclasses.replace(method, knobs=knobs, **changes)


METHODS: dict[str, Method] = {
    **{name: _row(method) for name, method in _LATENT_FREE.items()},
    **{name: _row(method, is_latent=True) for name, method in _LATENT.items()},
    **{name: _row(method) for name, method in _STAGES.items()},
}
"""The methods by name; docs/methods.md says what each is as a filter."""
