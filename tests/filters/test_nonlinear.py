"""Non-linear filters: by hand, by their properties, on both array libraries."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import references
from examples_of_rules import NONLINEAR
from larq_filter import analysis, filters
from larq_filter._keras import keras, tf
from larq_filter.filters import EMA, Cascade, Limiter, NormalizedEMA, ResettingIntegrator

schedules = keras.optimizers.schedules

EACH = pytest.mark.parametrize("f", NONLINEAR, ids=range(len(NONLINEAR)))


@EACH
def test_numpy_and_tensorflow_agree(f):
    """60 steps in float64 with feedback of made-up flips, within 1e-12 of the largest value."""
    random = np.random.default_rng(0)
    shape = (4, 3)
    state = f.zero_state(np.zeros(shape), np)
    tensors = f.zero_state(tf.zeros(shape, tf.float64), tf)
    for index in range(60):
        x, flipped = random.normal(0.3, 1.0, shape), random.uniform(size=shape) < 0.1
        rates = f.rates_at(index)
        y, state = f.step(x, state, rates, np)
        z, tensors = f.step(tf.constant(x), tensors, rates, tf)
        np.testing.assert_allclose(y, z.numpy(), rtol=1e-12, atol=1e-13)
        state, tensors = f.feedback(state, flipped, np), f.feedback(tensors, flipped, tf)
        assert len(state) == len(tensors) == f.state_size
        for a, b in zip(state, tensors, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-12, atol=1e-13)
            assert np.shape(a) == tuple(b.shape)


@EACH
def test_stop_and_continue(f):
    x = np.random.default_rng(1).normal(size=(50, 4))
    whole, _ = f.run(x)
    first, state = f.run(x[:20])
    second, _ = f.run(x[20:], state, first_step=20)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    assert f.run(x.astype("float32"))[0].dtype == np.float32


@EACH
def test_config_round_trip(f):
    saved = json.loads(json.dumps(keras.utils.serialize_keras_object(f)))
    again = keras.utils.deserialize_keras_object(saved)
    assert again == f == type(f).from_config(f.get_config())
    assert again.rates_at(7) == f.rates_at(7)


@EACH
def test_they_have_no_frequency_response(f):
    assert not f.is_linear
    with pytest.raises(ValueError, match="not linear"):
        f.sos()
    with pytest.raises(ValueError, match="not linear"):
        analysis.frequency_response(f)


# NormalizedEMA ------------------------------------------------------------------------------------


def test_normalized_ema_by_hand():
    """m = 1 then 0, v = 2 then 1.5: with epsilon 1 the outputs are 1/(sqrt(2)+1) and 0."""
    f = NormalizedEMA(alpha=0.5, sigma=0.5, epsilon=1.0)
    y, (m, v) = f.run([2.0, -1.0])
    np.testing.assert_allclose(y, [1 / (np.sqrt(2) + 1), 0.0])
    assert (float(m), float(v)) == (0.0, 1.5)


@settings(max_examples=50)
@given(
    exponent=st.integers(-20, 20),
    alpha=st.floats(1e-3, 1),
    sigma=st.floats(1e-3, 1),
    bias_correction=st.booleans(),
)
def test_scale_of_the_gradients_is_irrelevant(exponent, alpha, sigma, bias_correction):
    """A factor on all gradients changes the output by what epsilon is beside sqrt(v): 1.1e-3."""
    x = np.random.default_rng(0).normal(size=(30, 5)) + 0.1
    f = NormalizedEMA(alpha=alpha, sigma=sigma, epsilon=1e-12, bias_correction=bias_correction)
    np.testing.assert_allclose(f.run(x * 2.0**exponent)[0], f.run(x)[0], rtol=2e-3, atol=1e-9)


@settings(max_examples=50)
@given(alpha=st.floats(1e-9, 1), sigma=st.floats(1e-9, 1))
def test_corrected_output_of_a_constant_is_its_sign(alpha, sigma):
    """From the first step on, whatever the rates."""
    f = NormalizedEMA(alpha=alpha, sigma=sigma, bias_correction=True, compensated=False)
    y, _ = f.run(np.full((20, 1), -3.0))
    np.testing.assert_allclose(y, -1.0, rtol=1e-9)


def test_correction_with_scheduled_rates_is_the_twins():
    alphas, sigmas = schedules.PolynomialDecay(0.3, 50, 0.01), schedules.PolynomialDecay(0.1, 9, 0)
    x = np.random.default_rng(2).normal(size=(80, 3))
    y, state = NormalizedEMA(alpha=alphas, sigma=sigmas, bias_correction=True).run(x)
    rates = np.array([[float(alphas(t)), float(sigmas(t))] for t in range(80)])
    np.testing.assert_allclose(state[-2:], 1 - np.prod(1 - rates, axis=0), rtol=1e-12)
    m = sum(a * x[t] * np.prod(1 - rates[t + 1 :, 0]) for t, a in enumerate(rates[:, 0]))
    v = sum(s * x[t] ** 2 * np.prod(1 - rates[t + 1 :, 1]) for t, s in enumerate(rates[:, 1]))
    m, v = m / (1 - np.prod(1 - rates[:, 0])), v / (1 - np.prod(1 - rates[:, 1]))
    np.testing.assert_allclose(y[-1], m / np.sqrt(v), rtol=1e-8)


def test_zero_gradients_and_a_rate_of_zero_give_zero():
    for bias_correction in (False, True):
        f = NormalizedEMA(alpha=0.1, sigma=0.1, bias_correction=bias_correction)
        assert np.all(f.run(np.zeros((3, 2)))[0] == 0)
    warmup = schedules.PolynomialDecay(0.0, 2, 0.1)
    f = NormalizedEMA(alpha=warmup, sigma=warmup, bias_correction=True)
    y, _ = f.run(np.ones((3, 1)))
    np.testing.assert_allclose(y[:, 0], [0.0, 1.0, 1.0], rtol=1e-8)


def test_a_compensated_second_moment_never_turns_negative():
    f = NormalizedEMA(alpha=0.5, sigma=1.0, compensated=True)
    x = np.random.default_rng(3).normal(size=(500, 50)).astype("float32")
    x[::2] = 0
    assert np.all(np.isfinite(f.run(x)[0]))


def test_long_averages_are_compensated():
    """At alpha 1e-6, the published one, the numerator alone gets an error term."""
    assert NormalizedEMA(alpha=1e-6, sigma=1e-2).state_size == 3
    assert NormalizedEMA(alpha=1e-6, sigma=1e-6, bias_correction=True).state_size == 6
    assert NormalizedEMA(alpha=1e-6, sigma=1e-6, compensated=False).state_size == 2


# Limiter ------------------------------------------------------------------------------------------


@given(x=st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=20))
def test_limiter_gives_minus_one_zero_or_one(x):
    y, state = Limiter().run(np.array(x, "float32"))
    assert set(y.tolist()) <= {-1.0, 0.0, 1.0}
    assert np.all((y == 0) == (np.array(x, "float32") == 0))
    assert state == ()


def test_limiter_between_two_averages_is_diode():
    x = np.random.default_rng(4).normal(size=(200, *(3, 2)))
    f = Cascade([EMA(1 - 0.9), Limiter(1e-2), EMA(1 - 0.99)])
    twin = references.DiodeReference(np.ones((3, 2)), np.zeros((3, 2)), 0.9, 0.99, 1e-2)
    y, _ = f.run(x)
    for signal, g in zip(y, x, strict=True):
        twin.step(g)
        np.testing.assert_allclose(signal, twin.s, rtol=1e-10, atol=1e-15)


# ResettingIntegrator ------------------------------------------------------------------------------


def test_memory_lengthens_itself():
    """By hand: half of the weights flip, so half of the sum of the others is forgotten."""
    f = ResettingIntegrator(gain=2.0)
    state = f.zero_state(np.zeros(4), np)
    y, state = f.step(np.array([1.0, 2.0, 3.0, 4.0]), state, {"gain": 2.0}, np)
    assert y.tolist() == [2.0, 4.0, 6.0, 8.0]
    state = f.feedback(state, np.array([False, True, True, False]), np)
    assert state[0].tolist() == [2.0, 0.0, 0.0, 8.0]
    assert float(state[1]) == 0.5
    y, state = f.step(np.ones(4), state, {"gain": 2.0}, np)
    assert y.tolist() == [3.0, 2.0, 2.0, 6.0]
    state = f.feedback(state, np.zeros(4, bool), np)
    y, _ = f.step(np.zeros(4), state, {"gain": 2.0}, np)
    assert y.tolist() == [3.0, 2.0, 2.0, 6.0]  # nothing flipped, nothing is forgotten


@settings(max_examples=30)
@given(gain=st.floats(0.1, 10), leak=st.floats(0, 1))
def test_with_a_given_leak_and_no_flips_it_is_the_leaky_integrator(gain, leak):
    x = np.random.default_rng(5).normal(size=(30, 3))
    f, linear = ResettingIntegrator(gain, leak), filters.LeakyIntegrator(gain, leak, False)
    np.testing.assert_array_equal(f.run(x)[0], linear.run(x)[0])


@settings(max_examples=30)
@given(flipped=st.lists(st.booleans(), min_size=1, max_size=40))
def test_feedback_resets_what_flipped_and_nothing_else(flipped):
    flipped = np.array(flipped)
    y, share = ResettingIntegrator(1.0).feedback((np.ones(len(flipped)), np.zeros(())), flipped, np)
    np.testing.assert_array_equal(y, ~flipped)
    assert float(share) == flipped.sum() / len(flipped)


def test_integrators_start_from_a_given_output():
    for f in (ResettingIntegrator(1.0), ResettingIntegrator(1.0, leak=0.25)):
        y, _ = f.run(np.zeros((1, 2)), f.state_from_output(np.array([0.5, -2.0]), np))
        kept = 1.0 if f.leak is None else 0.75
        np.testing.assert_array_equal(y[0], kept * np.array([0.5, -2.0]))


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: NormalizedEMA(alpha=0, sigma=1), ValueError, ["alpha", "(0, 1]"]),
        (lambda: NormalizedEMA(alpha=1, sigma=1.5), ValueError, ["sigma", "1.5", "(0, 1]"]),
        (lambda: NormalizedEMA(alpha=1, sigma=1, epsilon=0), ValueError, ["epsilon", "(0, inf)"]),
        (
            lambda: NormalizedEMA(alpha=1, sigma=1, epsilon=schedules.PolynomialDecay(1, 1)),
            TypeError,
            ["epsilon", "number"],
        ),
        (
            lambda: NormalizedEMA(alpha=1, sigma=1, bias_correction=0.9),
            TypeError,
            ["bias_correction", "0.9"],
        ),
        (lambda: NormalizedEMA(0.1, 0.2), TypeError, ["positional"]),
        (lambda: Limiter(0.0), ValueError, ["level", "(0, inf)"]),
        (lambda: Limiter("1"), TypeError, ["'1'"]),
        (lambda: ResettingIntegrator(0.0), ValueError, ["gain", "(0, inf)"]),
        (lambda: ResettingIntegrator(1.0, leak=1.1), ValueError, ["leak", "1.1", "[0, 1]"]),
        (lambda: Limiter().state_from_output(np.ones(1), np), ValueError, ["Limiter", "output"]),
        (
            lambda: NormalizedEMA(alpha=1, sigma=1).state_from_output(np.ones(1), np),
            ValueError,
            ["NormalizedEMA", "output"],
        ),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)
