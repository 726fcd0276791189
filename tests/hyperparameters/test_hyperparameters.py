"""Latent SGD and its filter: the same binary weights at every step.

Open loop: recorded gradients through independent NumPy twins, every convention, float64. Closed
loop: real training of a latent Larq model by Keras' SGD beside its latent-free twin.
"""

import dataclasses
import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import references
from larq_filter import binary, filters, quantizers, to_latent_free
from larq_filter._keras import keras, tf
from larq_filter.filters import EMA, Cascade, CascadedEMA, HeavyBall, LeakyIntegrator
from larq_filter.hyperparameters import (
    EXACT,
    INITIAL,
    NO_EFFECT,
    NOT_LINEAR,
    VELOCITIES,
    LatentSGD,
    Scaled,
    filter_from_sgd,
    sgd_from_filter,
)
from larq_filter.optimizers import FilterOptimizer
from paths import ROOT

import larq as lq

schedules = keras.optimizers.schedules
STEPS, WEIGHTS = 4000, 20
# Keras rounds the constants of an optimizer to float32, in float64 training too.
MOMENTUM, DECAY = float(np.float32(0.9)), float(np.float32(0.01))


def cosine(steps=STEPS, start=0.1):
    return schedules.CosineDecay(start, steps, alpha=1e-3)


RATES = {"constant": lambda: 0.1, "cosine": cosine}


def values_of(rate, steps=STEPS):
    """A rate at every step, float64: a Keras schedule takes all steps at once."""
    if not filters.is_schedule(rate):
        return np.full(steps, rate)
    return rate(tf.range(steps)).numpy().astype(np.float64)


def outputs(f, state, x):
    """The signal of ``f`` from ``state``; like ``f.run`` with the schedules evaluated once."""
    rates = {name: values_of(rate, len(x)) for name, rate in f.rates().items()}
    y = np.empty_like(x)
    for t, gradient in enumerate(x):
        now = {name: rate[t] for name, rate in rates.items()}
        y[t], state = f.step(gradient, state, now, np)
    return y


def recorded(steps=STEPS, weights=WEIGHTS, seed=0):
    """Noise with a slow drift of its own per weight, so that flips are early and late."""
    random = np.random.default_rng(seed)
    drift = 0.1 * np.sin(np.arange(steps)[:, None] / 500 + random.uniform(0, 6, weights))
    return random.normal(size=(steps, weights)) + drift


def latent_weights(seed=1):
    """From those that flip at once to those that take a few hundred steps."""
    random = np.random.default_rng(seed)
    return random.choice([-1, 1], WEIGHTS) * 10.0 ** random.uniform(-3, 0.5, WEIGHTS)


def compare(translation, gradients=None, w_0=None):
    """Mismatches between the twin and the filter, and the share of weights that ever flipped."""
    gradients = recorded() if gradients is None else gradients
    w_0 = latent_weights() if w_0 is None else w_0
    latent = translation.latent
    eps = values_of(latent.learning_rate, len(gradients))
    twin = references.LatentReference(
        w_0,
        lambda t: eps[t],
        latent.weight_decay,
        latent.momentum,
        latent.decoupled,
        latent.velocity,
        latent.nesterov,
    )
    expected = np.array([twin.step(g) for g in gradients])
    signal = outputs(translation.filter, translation.initial_state(w_0), gradients)
    flipped = np.mean(np.any(expected != expected[0], axis=0))
    return np.sum(expected != -np.sign(signal)), flipped


# Every row of the table ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.02, 2.0])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("velocity", VELOCITIES)
@pytest.mark.parametrize("rate", RATES)
def test_same_signs_as_latent_sgd(rate, velocity, decoupled, decay, momentum, nesterov):
    """No mismatch, float64. Decay 2 has complex poles inside the gradient (k = 0.2, mu = 0.9)."""
    translation = filter_from_sgd(RATES[rate](), decay, momentum, decoupled, velocity, nesterov)
    mismatches, flipped = compare(translation)
    assert mismatches == 0
    assert flipped > 0.5


@pytest.mark.parametrize("nesterov", [False, True])
def test_heavy_ball_is_keras_sgd(nesterov):
    """100 steps of SGD with L2 inside the gradient: y = -lambda w at each, float64."""
    keras.backend.set_floatx("float64")
    w_0, gradients, decay = latent_weights(), recorded(100), 0.5
    rate = schedules.PolynomialDecay(0.1, 100, 0.01)
    translation = filter_from_sgd(rate, decay, MOMENTUM, nesterov=nesterov)
    assert isinstance(translation.filter, HeavyBall) and translation.filter.nesterov is nesterov
    variable = tf.Variable(w_0)
    sgd = keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=nesterov)
    signal = outputs(translation.filter, translation.initial_state(w_0), gradients)
    for g, y in zip(gradients, signal, strict=True):
        sgd.apply_gradients([(tf.constant(g) + decay * variable, variable)])
        # A schedule in float32 is within 6e-8 of itself.
        np.testing.assert_allclose(-decay * variable, y, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decoupled", [False, True])
def test_the_general_twin_is_keras_sgd(decoupled, nesterov):
    """100 steps of Keras' own optimizer, float64: the latent weights to 1e-12."""
    keras.backend.set_floatx("float64")
    decay = schedules.PolynomialDecay(0.1, 100, 0.01)
    w_0, gradients = latent_weights(), recorded(100)
    variable = tf.Variable(w_0)
    sgd = keras.optimizers.SGD(
        decay, momentum=MOMENTUM, nesterov=nesterov, weight_decay=0.5 if decoupled else None
    )
    eps = values_of(decay, 100)
    twin = references.LatentReference(
        w_0, lambda t: eps[t], 0.5, MOMENTUM, decoupled, "keras", nesterov
    )
    for g in gradients:
        penalty = 0.0 if decoupled else 0.5 * variable
        sgd.apply_gradients([(tf.constant(g) + penalty, variable)])
        twin.step(g)
    np.testing.assert_allclose(variable.numpy(), twin.w, atol=1e-12)


@pytest.mark.parametrize("rate", RATES)
def test_without_decay_it_is_the_running_weighted_mean(rate):
    """alpha_t = eps_t / sum of eps, from w_0 = 0: no mismatch."""
    translation = filter_from_sgd(RATES[rate](), 0.0)
    gradients = recorded()
    signal = outputs(translation.filter, translation.initial_state(np.zeros(WEIGHTS)), gradients)
    eps = values_of(RATES[rate]())
    mean = references.WeightedMeanReference(WEIGHTS, lambda t: eps[t])
    assert all(
        np.array_equal(mean.step(g), -np.sign(y)) for g, y in zip(gradients, signal, strict=True)
    )


def mismatches_of(translation, w_0=None, **changes):
    return compare(dataclasses.replace(translation, **changes), w_0=w_0)[0]


def test_what_is_not_the_translation_is_seen():
    """The mistakes that the table warns of all change signs."""
    w_0 = 10 * latent_weights()
    ordinary = filter_from_sgd(0.1, 0.05, 0.9, True, "pytorch")
    assert ordinary.initial_output == pytest.approx(-0.05 * 0.1)
    assert mismatches_of(ordinary, w_0) == 0
    assert mismatches_of(ordinary, w_0, initial_output=-0.05) > 0
    inside = filter_from_sgd(0.1, 0.02, 0.9)
    assert (inside.initial_output, inside.initial_inner) == (-0.02, -0.02)
    assert mismatches_of(inside, w_0) == 0
    assert mismatches_of(inside, w_0, initial_inner=0.0) > 0
    velocity = filter_from_sgd(cosine(), 0.05, 0.9, True, "keras")
    average = filter_from_sgd(cosine(), 0.05, 0.9, True, "normalised")
    assert mismatches_of(velocity, w_0, filter=average.filter) > 0


# What the filters are -----------------------------------------------------------------------------


def test_the_filters_of_the_table():
    assert filter_from_sgd(0.1, 5e-4).filter == EMA(0.1 * 5e-4)
    decoupled = filter_from_sgd(0.1, 5e-4, 0.9, decoupled=True)
    assert decoupled.filter == CascadedEMA(alpha=0.1 * 5e-4, gamma=0.1)
    inside = filter_from_sgd(0.1, 5e-4, 0.9).filter
    assert inside.alpha == pytest.approx(5.0227e-4, rel=1e-4)
    assert inside.gamma == pytest.approx(0.099548, rel=1e-4)
    assert inside.alpha * inside.gamma == pytest.approx(5e-5, rel=1e-12)
    assert inside.alpha + inside.gamma == pytest.approx(0.10005, rel=1e-12)
    alpha = Scaled(cosine(), 5e-4)
    scheduled = filter_from_sgd(cosine(), 5e-4, 0.9, True, "pytorch").filter
    assert scheduled == CascadedEMA(alpha=alpha, gamma=0.1)
    assert filter_from_sgd(cosine(), 5e-4, 0.9).filter == HeavyBall(gain=alpha, leak=0.1)
    velocity = filter_from_sgd(cosine(), 5e-4, 0.9, True).filter
    assert velocity == Cascade([LeakyIntegrator(cosine(), 0.1), LeakyIntegrator(5e-4, alpha)])


@keras.utils.register_keras_serializable("tests")
class Falling(schedules.LearningRateSchedule):
    """A schedule of the user's own."""

    def __init__(self, start):
        self.start = start

    def __call__(self, step):
        return self.start / (1.0 + step)

    def get_config(self):
        return {"start": self.start}


def test_a_scaled_schedule_comes_back_from_text():
    """As HDF5 files have it; of one's own too."""
    for schedule in (cosine(), Falling(0.5)):
        text = json.dumps(Scaled(schedule, 2.0).get_config())
        again = Scaled.from_config(json.loads(text))
        assert type(again.schedule) is type(schedule)
        for step in (0, 3):
            assert float(again(step)) == pytest.approx(2 * float(schedule(step)))


def test_complex_poles_are_a_heavy_ball_and_real_ones_two_averages():
    """(1 - mu + k)^2 < 4 k, at mu 0.9 from k = 2.6e-3 to 3.8."""
    assert isinstance(filter_from_sgd(0.1, 0.026, 0.9).filter, CascadedEMA)
    ball = filter_from_sgd(0.1, 0.027, 0.9).filter
    assert isinstance(ball, HeavyBall)
    assert np.all(np.abs(np.roots(ball.sos()[0, 3:]).imag) > 0)
    with pytest.raises(ValueError, match="inside the unit circle"):
        filter_from_sgd(1.0, 3.81, 0.9)


def test_the_recursion_of_rates_is_the_heavy_ball():
    """The rejected form, alpha_t and gamma_t that remember each other: the same signs."""
    mu, decay, eps = 0.9, 0.005, values_of(cosine())
    w_0, gradients = latent_weights(), recorded()
    translation = filter_from_sgd(cosine(), decay, mu)
    signal = outputs(translation.filter, translation.initial_state(w_0), gradients)
    m = h = -decay * w_0
    alpha = filter_from_sgd(eps[0], decay, mu).filter.alpha
    for t, g in enumerate(gradients):
        alpha = eps[t] * decay + (mu * alpha / (1 - alpha) if t else 0.0)
        m = m + eps[t] * decay / alpha * (g - m)
        h = h + alpha * (m - h)
        np.testing.assert_array_equal(np.sign(h), np.sign(signal[t]))


def test_initial_state_takes_arrays_and_kernels():
    translation = filter_from_sgd(0.1, 0.5, 0.9, decoupled=True)
    m, h = translation.initial_state(np.float32([2.0, -4.0]))
    assert m.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(h, [-0.1, 0.2], rtol=1e-6)
    assert h.dtype == np.float32
    assert translation.initial_state([2, -4])[1].dtype == np.float64
    layer = lq.layers.QuantDense(3, kernel_quantizer="ste_sign")
    layer.build((None, 4))
    values = binary.latent(layer.kernel).numpy()
    np.testing.assert_allclose(
        translation.initial_state(layer.kernel)[1], -0.05 * values, rtol=1e-6
    )
    slow = filter_from_sgd(1e-3, 1e-4, 0.9)
    assert len(slow.initial_state(values)) == slow.filter.state_size == 3  # alpha is compensated


def test_scaled_schedules_survive_saving():
    f = filter_from_sgd(cosine(), 0.05, 0.9).filter
    saved = json.loads(json.dumps(keras.utils.serialize_keras_object(f)))
    again = keras.utils.deserialize_keras_object(saved)
    assert again == f
    assert again.rates_at(1000) == f.rates_at(1000)
    assert f.rates_at(0)["gain"] == pytest.approx(0.005, rel=1e-7)
    assert Scaled(cosine(), 2.0)(0).dtype == tf.float64


def test_people_read_what_became_of_the_seven_knobs():
    knobs = ["initialisation", "learning rate", "lr decay", "weight decay", "momentum"]
    knobs += ["clipping", "scaling"]
    constant = filter_from_sgd(0.1, 5e-4, 0.9)
    assert list(constant.status) == knobs
    assert list(constant.status.values()) == [
        *(INITIAL, EXACT, NO_EFFECT, EXACT, EXACT, NOT_LINEAR, NO_EFFECT)
    ]
    text = str(constant)
    for part in [*knobs, EXACT, "0.000502272", "0.0995477", "-0.0005 * w_0", "L2 inside"]:
        assert part in text
    scheduled = filter_from_sgd(cosine(), 5e-4, 0.9, decoupled=True)
    assert scheduled.status["lr decay"] == EXACT
    assert "0.0005 * CosineDecay(0.1..)" in str(scheduled)
    assert "decoupled weight decay 0.0005" in str(scheduled)
    assert "gain rate = 0.0005 * CosineDecay" in str(filter_from_sgd(cosine(), 5e-4, 0.9))
    for nesterov, name in ((False, "alpha gamma"), (True, "gain rate")):  # of the filter there is
        it = filter_from_sgd(0.1, 5e-4, 0.9, velocity="normalised", nesterov=nesterov)
        rates = it.filter.rates()
        product = np.prod([rates[each] for each in name.split()])
        assert f"{name} = {product:.6g}" in str(it) and product == pytest.approx(5e-6, rel=1e-6)
    plain = filter_from_sgd(0.1, 0.0)
    assert plain.status["learning rate"] == INITIAL
    assert plain.status["weight decay"] == plain.status["momentum"] == NO_EFFECT
    assert "Nesterov" in str(filter_from_sgd(0.1, 0.0, 0.9, nesterov=True))


# Predictions --------------------------------------------------------------------------------------


def closed_loop(eps, decay, w_0, steps, mu=0.9):
    """A toy network: each gradient depends on all binary weights. The bits at every step."""
    twin = references.LatentReference(w_0, lambda t: eps, decay, mu, True, "keras")
    random = np.random.default_rng(2)
    mixing = random.normal(size=(WEIGHTS, WEIGHTS)) / np.sqrt(WEIGHTS)
    bits, history = np.where(w_0 < 0, -1.0, 1.0), []
    for _ in range(steps):
        bits = twin.step(np.tanh(mixing @ bits) + random.normal(size=WEIGHTS)).copy()
        history.append(bits)
    return np.array(history)


@pytest.mark.parametrize("factor", [2.0**10, 2.0**-7])
def test_prediction_1_one_scale_is_free(factor):
    """w_0 and eps times c, lambda over c: the same run bit for bit, c a power of two."""
    w_0 = latent_weights()
    first = closed_loop(0.1, 0.05, w_0, 3000)
    np.testing.assert_array_equal(
        first, closed_loop(0.1 * factor, 0.05 / factor, factor * w_0, 3000)
    )
    assert np.mean(np.any(first != first[0], axis=0)) > 0.5
    one = filter_from_sgd(0.1, 0.05, 0.9, True)
    other = filter_from_sgd(0.1 * factor, 0.05 / factor, 0.9, True)
    assert one.filter == other.filter
    for a, b in zip(one.initial_state(w_0), other.initial_state(factor * w_0), strict=True):
        np.testing.assert_array_equal(a, b)


def test_prediction_2_recorded_gradients_forget_the_start():
    """Pairs of one product: the same bits once the start is forgotten, (1 - 0.005)^8000 = 4e-18."""
    gradients, w_0 = recorded(10_000), latent_weights()
    signals = []
    for eps, decay in ((0.1, 0.05), (1.0, 0.005), (0.01, 0.5)):
        translation = filter_from_sgd(eps, decay, 0.9, True)
        signals.append(outputs(translation.filter, translation.initial_state(w_0), gradients))
    assert np.any(np.sign(signals[0][:2000]) != np.sign(signals[1][:2000]))
    for signal in signals[1:]:
        np.testing.assert_array_equal(np.sign(signals[0][8000:]), np.sign(signal[8000:]))


def test_prediction_2_training_does_not():
    """Where gradients depend on the bits, only an equal lambda w_0 gives an equal run."""
    w_0 = latent_weights()
    first = closed_loop(0.1, 0.05, w_0, 10_000)
    np.testing.assert_array_equal(first, closed_loop(0.2, 0.025, 2 * w_0, 10_000))
    apart = first != closed_loop(0.2, 0.025, w_0, 10_000)
    assert np.mean(apart[-2000:]) > 0.01  # for good, though only their start differed


# Prediction 3: real training ----------------------------------------------------------------------

RUN, BATCH = 300, 32


def latent_model(regularizer=None):
    """Binary convolutions and a binary dense layer, float64, latent weights without a gate."""

    def binary_layer():
        return {
            "kernel_quantizer": lq.quantizers.SteSign(clip_value=None),
            "kernel_initializer": keras.initializers.RandomNormal(stddev=0.1),
            "kernel_regularizer": regularizer,
            "use_bias": False,
        }

    layers = keras.layers
    return keras.Sequential(
        [
            lq.layers.QuantConv2D(8, 3, input_shape=(8, 8, 1), **binary_layer()),
            layers.BatchNormalization(),
            lq.layers.QuantConv2D(
                16, 3, strides=2, input_quantizer=lq.quantizers.SteSign(), **binary_layer()
            ),
            layers.BatchNormalization(),
            layers.Flatten(),
            lq.layers.QuantDense(10, input_quantizer=lq.quantizers.SteSign(), **binary_layer()),
            layers.BatchNormalization(),
            layers.Softmax(),
        ]
    )


def images():
    """Noise, and the labels of a random linear teacher; one pass is the whole run."""
    random = np.random.default_rng(0)
    x = random.normal(size=(RUN * BATCH, 8, 8, 1))
    return x, np.argmax(x.reshape(len(x), -1) @ random.normal(size=(64, 10)), axis=1)


def signs_of(model):
    kernels = [binary.latent(kernel).numpy() for _, kernel in binary.binary_kernels(model)]
    return np.concatenate([np.where(kernel < 0, -1, 1).ravel() for kernel in kernels])


def real_values_of(model):
    return [v.numpy() for v in model.trainable_variables if not binary.is_binary(v)]


class Recorder(keras.callbacks.Callback):
    """Keeps the binary kernels after each step; stops at the first that differs from ``other``."""

    def __init__(self, other=None):
        super().__init__()
        self.other, self.steps = other, []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(signs_of(self.model))
        if self.other is not None and not np.array_equal(self.steps[-1], self.other[batch]):
            self.model.stop_training = True

    def agrees(self):
        return len(self.steps) == RUN and np.array_equal(self.steps[-1], self.other[-1])


def train(model, optimizer, recorder):
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(*images(), BATCH, epochs=1, shuffle=False, verbose=0, callbacks=[recorder])


def learning_rate(scheduled):
    return schedules.CosineDecay(0.1, RUN) if scheduled else 0.1


def start_of(decoupled):
    """A latent model with its weights at the start, always the same ones."""
    # The two sums agree up to rounding: 1e-16 of a step here, 6e-8 where a constant rate is rounded
    # to float32. In float32 training no kernel differed either, but only because no latent weight
    # of 1,864 came that close to zero at the end of a step.
    keras.backend.set_floatx("float64")
    keras.utils.set_random_seed(0)
    # lambda w inside the gradient is a penalty of lambda/2 w^2.
    return latent_model(None if decoupled else keras.regularizers.l2(DECAY / 2))


@functools.cache
def latent_run(decoupled, scheduled):
    """The binary kernels at the start and after each step of latent SGD, and the real weights."""
    model = start_of(decoupled)
    sgd = keras.optimizers.SGD(
        learning_rate(scheduled), momentum=MOMENTUM, weight_decay=DECAY if decoupled else None
    )
    real = [v for v in model.trainable_variables if not binary.is_binary(v)]
    sgd.exclude_from_weight_decay(var_list=real)  # they are trained without decay in both models
    start, recorder = signs_of(model), Recorder()
    train(model, sgd, recorder)
    return start, np.array(recorder.steps), real_values_of(model)


def filter_run(decoupled, scheduled, mutation=None):
    """The translated training of the converted model; stops where the kernels differ."""
    latent = start_of(decoupled)
    free = to_latent_free(latent)
    rate = learning_rate(scheduled)
    translation = filter_from_sgd(rate, DECAY, MOMENTUM, decoupled)
    f, factor = (translation.filter, 1.0) if mutation is None else mutation(translation.filter)
    optimizer = FilterOptimizer(f, default_optimizer=keras.optimizers.SGD(rate, momentum=MOMENTUM))
    optimizer.build(free.trainable_variables)
    kernels = (binary.binary_kernels(latent), binary.binary_kernels(free))
    for (_, old), (_, new) in zip(*kernels, strict=True):
        state = translation.initial_state(old)
        optimizer.set_filter_state(new, [factor * array for array in state])
    recorder = Recorder(latent_run(decoupled, scheduled)[1])
    train(free, optimizer, recorder)
    return free, recorder


@pytest.mark.slow
@pytest.mark.parametrize(("decoupled", "scheduled"), [(False, True), (True, False)])
def test_prediction_3_real_training_gives_identical_kernels(decoupled, scheduled):
    """300 steps of Keras' SGD, momentum 0.9: every binary kernel equal after every step."""
    start, history, real = latent_run(decoupled, scheduled)
    assert np.mean(np.any(history != start, axis=0)) > 0.05
    free, recorder = filter_run(decoupled, scheduled)
    np.testing.assert_array_equal(recorder.steps, history)
    for ours, theirs in zip(real_values_of(free), real, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@keras.utils.register_keras_serializable(package="test_hyperparameters")
class Late(schedules.LearningRateSchedule):
    """A schedule one step ahead of time."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, step):
        return self.schedule(step + 1)

    def get_config(self):
        return {"schedule": self.schedule}


def off_by_a_hundredth(name):
    def mutate(f):
        rate = f.rates()[name]
        return f.with_rate(
            name, Scaled(rate, 1.01) if filters.is_schedule(rate) else 1.01 * rate
        ), 1

    return mutate


def late(f):
    for name, rate in f.rates().items():
        if filters.is_schedule(rate):
            f = f.with_rate(name, Late(rate))
    return f, 1


MUTATIONS = {
    "inside, alpha": (False, off_by_a_hundredth("gain")),
    "inside, gamma": (False, off_by_a_hundredth("leak")),
    "inside, initial state": (False, lambda f: (f, 1.01)),
    "inside, schedule": (False, late),
    "decoupled, alpha": (True, off_by_a_hundredth("leak_1")),
    "decoupled, gamma": (True, off_by_a_hundredth("leak_0")),
    "decoupled, initial state": (True, lambda f: (f, 1.01)),
    "decoupled, schedule": (True, late),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_real_training_shows_a_small_mistake(name):
    """One part in a hundred, or one step of the schedule: at least one kernel differs."""
    decoupled, mutation = MUTATIONS[name]
    _, recorder = filter_run(decoupled, True, mutation)
    assert not recorder.agrees()


# The way back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["learning_rate", "weight_decay"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("velocity", VELOCITIES)
@pytest.mark.parametrize("rate", RATES)
def test_there_and_back(rate, velocity, decoupled, momentum, nesterov, by):
    """To 12 digits: products and quotients round."""
    there = LatentSGD(RATES[rate](), 0.005, momentum, decoupled, velocity, nesterov)
    translation = filter_from_sgd(**vars(there))
    known = {"learning_rate": 0.1} if by == "learning_rate" else {"weight_decay": 0.005}
    if isinstance(translation.filter, Cascade):
        with pytest.raises(TypeError, match="Cascade"):
            sgd_from_filter(translation.filter, **known, decoupled=decoupled, velocity=velocity)
        return
    back = sgd_from_filter(translation.filter, **known, decoupled=decoupled, velocity=velocity)
    np.testing.assert_allclose(
        values_of(back.learning_rate, 10), values_of(there.learning_rate, 10), rtol=1e-7
    )
    assert back.weight_decay == pytest.approx(there.weight_decay, rel=1e-7)
    assert back.momentum == pytest.approx(there.momentum, abs=1e-12)
    assert back.nesterov == (nesterov and momentum > 0)
    again = filter_from_sgd(**vars(back)).filter
    assert type(again) is type(translation.filter)
    for name, value in again.rates_at(7).items():
        assert value == pytest.approx(translation.filter.rates_at(7)[name], rel=1e-7)


def test_back_from_other_filters():
    assert sgd_from_filter(LeakyIntegrator(0.3, 0.0)) == LatentSGD(0.3, 0.0)
    bop = sgd_from_filter(EMA(1e-4), learning_rate=0.1)
    assert (bop.weight_decay, bop.momentum) == (pytest.approx(1e-3), 0.0)
    plain = CascadedEMA(alpha=Scaled(cosine(), 0.5), gamma=1.0)
    back = sgd_from_filter(plain, weight_decay=0.5)
    assert back.momentum == 0
    assert isinstance(back.learning_rate, schedules.CosineDecay)
    doubled = sgd_from_filter(plain, weight_decay=0.25).learning_rate
    assert isinstance(doubled, Scaled) and doubled.factor == 2.0
    assert isinstance(sgd_from_filter(EMA(cosine()), weight_decay=0.5).learning_rate, Scaled)


# Errors -------------------------------------------------------------------------------------------


def scheduled_alpha():
    return CascadedEMA(alpha=cosine(), gamma=0.1)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: filter_from_sgd(0.0, 0.1), ValueError, ["learning_rate", "(0, inf)"]),
        (lambda: filter_from_sgd(0.1, -0.1), ValueError, ["weight_decay", "[0, inf)"]),
        (lambda: filter_from_sgd(0.1, cosine()), TypeError, ["weight_decay", "Only the learning"]),
        (lambda: filter_from_sgd(0.1, 0.1, 1.0), ValueError, ["momentum", "[0, 1)"]),
        (lambda: filter_from_sgd(0.1, 0.1, "0.9"), TypeError, ["momentum", "'0.9'"]),
        (lambda: filter_from_sgd(0.1, 0.1, velocity="adam"), ValueError, ["'adam'", "pytorch"]),
        (lambda: filter_from_sgd(2.0, 0.6), ValueError, ["1.2", "[0, 1]"]),
        (lambda: filter_from_sgd(cosine(start=20.0), 0.6, 0.9, True), ValueError, ["12", "[0, 1]"]),
        (lambda: sgd_from_filter(EMA(0.1)), ValueError, ["one of the two"]),
        (lambda: sgd_from_filter(EMA(0.1), 1.0, 0.1), ValueError, ["one of the two"]),
        (lambda: sgd_from_filter(Cascade([EMA(0.1), EMA(0.2)])), TypeError, ["Only EMA"]),
        (lambda: sgd_from_filter(EMA(0.1), 1.0, velocity="?"), ValueError, ["'?'"]),
        (lambda: sgd_from_filter(EMA(0.1), weight_decay=0), ValueError, ["positive"]),
        (lambda: sgd_from_filter(LeakyIntegrator(1.0, 0.1), 0.1), TypeError, ["leak=0"]),
        (lambda: filter_from_sgd(0.1, 0.1).initial_state("model"), TypeError, ["`w_0`", "'model'"]),
        (lambda: sgd_from_filter(LeakyIntegrator(0.3, 0), 5.0), ValueError, ["0.3", "neither"]),
        (lambda: sgd_from_filter(scheduled_alpha(), 0.1), ValueError, ["decoupled=True"]),
        (
            lambda: sgd_from_filter(scheduled_alpha(), 0.1, decoupled=True),
            ValueError,
            ["pytorch", "'keras'"],
        ),
        (
            lambda: sgd_from_filter(CascadedEMA(alpha=0.1, gamma=cosine()), 0.1),
            ValueError,
            ["momentum is constant"],
        ),
        (
            lambda: sgd_from_filter(HeavyBall(gain=0.1, leak=0.1), 0.1, decoupled=True),
            ValueError,
            ["decoupled=False"],
        ),
        (
            lambda: sgd_from_filter(HeavyBall(gain=cosine(), leak=0.1), 0.1, velocity="pytorch"),
            ValueError,
            ["pytorch", "gain"],
        ),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


def test_a_scale_changes_no_sign_and_standardising_does():
    """What a translation says of scaling, on latent weights of one filter."""
    w = recorded(500).cumsum(axis=0)
    scaled = w * np.mean(np.abs(w), axis=1, keepdims=True)
    np.testing.assert_array_equal(np.sign(scaled), np.sign(w))
    assert np.any(np.sign(w - w.mean(axis=1, keepdims=True)) != np.sign(w))


def gradient_of(w, normalised, **options):
    """Of a dense layer's latent kernel, in float64, before a normalisation without epsilon."""
    random = np.random.default_rng(1)
    x, target = random.normal(size=(64, 20)), random.normal(size=(64, 6))
    quantizer = quantizers.Sign(surrogate=quantizers.Straight(None), dtype="float64", **options)
    kernel = tf.constant(w)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(kernel)
        q = quantizer(kernel)
        y = tf.matmul(x, q)
        if normalised:
            y = (y - tf.reduce_mean(y, 0)) / tf.math.reduce_std(y, 0)
        loss = tf.reduce_sum((y - target) ** 2)
    return tape.gradient(loss, kernel).numpy(), tape.gradient(loss, q).numpy()


def test_where_a_scale_is_nothing_a_gain_or_something_of_its_own():
    """What a translation says of scaling, of the gradient: before a batch normalisation and not."""
    w = np.random.default_rng(0).normal(size=(20, 6)) * np.geomspace(0.05, 5, 6)
    size = np.abs(w).mean(axis=0)
    scale = {"scale": quantizers.MeanAbs()}
    plain, upstream = gradient_of(w, True)
    np.testing.assert_allclose(np.sum(upstream * np.sign(w), axis=0), 0, atol=1e-9)
    scaled, straight, exact = (
        gradient_of(w, True, **scale, gradient=kind)[0] for kind in ("scaled", "straight", "exact")
    )
    np.testing.assert_allclose(scaled, plain, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(exact, plain, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(straight, plain / size, rtol=1e-9, atol=1e-9)
    plain, scaled = gradient_of(w, False)[0], gradient_of(w, False, **scale)[0]
    factor = scaled / plain  # no one number for a filter
    assert np.all(factor.std(axis=0) > 0.01 * np.abs(factor.mean(axis=0)))


# The example --------------------------------------------------------------------------------------


def translate(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "translate.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_example_prints_the_numbers_and_python_that_runs(schedule):
    arguments = ["--learning_rate=0.1", "--weight_decay=5e-4", "--momentum=0.9"]
    arguments += ["--batch_size=128", "--dataset_size=50000", f"--schedule={schedule}"]
    result = translate(*arguments)
    assert result.returncode == 0, result.stderr
    text, _, code = result.stdout.partition("\nPython:\n")
    code, _, start = code.partition("\n\n")
    for part in ["inside the gradient  alpha 0.000502, gamma 0.0995", "alpha 5e-05, gamma 0.1"]:
        assert part in text
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["0"])
    assert row == ["0", "0.000502", "0.0995", "1991", "5.1", "2.31e-03"]
    space = {}
    exec(code, space)
    rate = schedules.CosineDecay(0.1, 200 * 391) if schedule == "cosine" else 0.1
    assert space["optimizer"].gradient_filter == filter_from_sgd(rate, 5e-4, 0.9).filter
    latent = lq.layers.QuantDense(3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip")
    space["model"] = keras.Sequential([keras.Input((4,)), latent])
    exec(start.partition("\n")[2], space)  # its first line says what it does
    (state,) = space["states"]
    ((_, kernel),) = binary.binary_kernels(space["model"])
    found = [variable for variable in space["optimizer"].variables if "filter_" in variable.name]
    for variable, expected in zip(found, state, strict=True):
        np.testing.assert_array_equal(variable, expected)
    assert binary.holds_signs(kernel) and np.all(np.asarray(state[-1]) != 0)


def test_initial_state_of_a_kernel_that_forgot_its_magnitudes():
    layer = lq.layers.QuantDense(3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip")
    layer.build((None, 4))
    translation = filter_from_sgd(0.1, 1e-3)
    state = translation.initial_state(layer.kernel)
    np.testing.assert_allclose(state[0], -1e-3 * binary.latent(layer.kernel).numpy(), rtol=1e-6)
    binary.binarize(layer.kernel)
    with pytest.raises(ValueError, match="magnitudes are gone"):
        translation.initial_state(layer.kernel)
