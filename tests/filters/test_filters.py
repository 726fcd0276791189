"""Filters against scipy.signal and closed forms."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import references
from larq_filter import filters
from larq_filter._keras import keras, tf
from larq_filter.filters import EMA, Cascade, CascadedEMA, LeakyIntegrator

schedules = keras.optimizers.schedules

LINEAR = [
    EMA(1.0),
    EMA(0.3),
    EMA(1e-3),
    EMA(1e-3, compensated=True),
    EMA(1e-7),
    CascadedEMA(alpha=1e-2, gamma=0.1),
    CascadedEMA(alpha=0.2, gamma=1.0),
    CascadedEMA(alpha=1e-6, gamma=0.1),
    LeakyIntegrator(gain=2.0, leak=0.1),
    LeakyIntegrator(gain=0.5, leak=0.0),
    Cascade([EMA(0.1), LeakyIntegrator(0.3, 0.01), CascadedEMA(alpha=0.05, gamma=0.5)]),
]


@pytest.mark.parametrize("f", LINEAR, ids=repr)
def test_equals_scipy(f):
    """Tolerance 1e-12 of the largest output, float64, 2,000 steps of noise with a mean."""
    x = np.random.default_rng(0).normal(0.2, 1.0, (2000, 3, 2))
    expected = signal.sosfilt(f.sos(), x, axis=0)
    y, _ = f.run(x)
    assert np.max(np.abs(y - expected)) <= 1e-12 * np.max(np.abs(expected))


@pytest.mark.parametrize("f", LINEAR, ids=repr)
def test_stop_and_continue(f):
    references.stops_and_continues(f)


def test_schedule_is_counted_from_first_step():
    f = EMA(schedules.InverseTimeDecay(1.0, 1, 1.0))  # 1/(1+t): the running mean
    x = np.random.default_rng(2).normal(size=50)
    y, state = f.run(x[:30])
    z, _ = f.run(x[30:], state, first_step=30)
    means = np.cumsum(x) / np.arange(1, 51)
    np.testing.assert_allclose(np.concatenate([y, z]), means, atol=1e-6)  # float32 schedule


def test_order_and_state_size():
    assert [f.order for f in LINEAR] == [1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 4]
    assert EMA(1e-3).state_size == 1
    assert EMA(1e-7).state_size == 2
    assert CascadedEMA(alpha=1e-7, gamma=0.1).state_size == 3
    assert EMA(schedules.PolynomialDecay(1e-3, 10, 0.0)).state_size == 1


def test_single_step_by_hand():
    y, state = CascadedEMA(alpha=0.5, gamma=0.25).step(
        np.array(8.0), (np.array(4.0), np.array(-1.0)), {"alpha": 0.5, "gamma": 0.25}, np
    )
    assert (float(y), float(state[0]), float(state[1])) == (2.0, 5.0, 2.0)


def _float32_response_to_one(f, start, steps, jit_compile):
    """The output after ``steps`` inputs of 1, from output ``start``; TensorFlow, float32."""
    rates = {name: tf.constant(rate, tf.float32) for name, rate in f.rates().items()}

    @tf.function(jit_compile=jit_compile)
    def respond(state):
        y = tf.zeros([1])
        for _ in tf.range(steps):
            y, state = f.step(tf.ones([1]), state, rates, tf)
        return y

    return float(respond(f.state_from_output(tf.constant([start]), tf))[0])


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_small_alpha_in_float32_does_not_stall(jit_compile):
    """Input: 200,000 ones at alpha 1e-7 from output 0.75, float32; true end 1 - 0.25 e^-0.02.

    The compensated average is within 1e-6 of it. The plain one does not move at all, so the test
    would notice if a compiler optimised the compensation away.
    """
    steps, alpha, start = 200_000, 1e-7, 0.75
    true = 1 - (1 - start) * (1 - alpha) ** steps
    compensated = _float32_response_to_one(EMA(alpha), start, steps, jit_compile)
    plain = _float32_response_to_one(EMA(alpha, compensated=False), start, steps, jit_compile)
    assert abs(compensated - true) < 1e-6
    assert plain == start


def test_plain_average_stalls_within_its_bound():
    """Started at 0.99 of its end value at alpha 1e-4 the plain float32 average ends within
    2^-24/alpha, the bound in the docstring of EMA."""
    f = EMA(1e-4, compensated=False)
    y, _ = f.run(np.ones((60_000, 1), np.float32))
    assert 1 - float(y[-1, 0]) <= 2**-24 / 1e-4 + (1 - 1e-4) ** 60_000


@pytest.mark.parametrize("f", LINEAR, ids=repr)
def test_config_round_trip(f):
    assert type(f).from_config(f.get_config()) == f
    saved = json.loads(json.dumps(keras.utils.serialize_keras_object(f)))
    assert keras.utils.deserialize_keras_object(saved) == f


def test_schedules_and_stages_survive_saving():
    f = Cascade([EMA(0.1), CascadedEMA(alpha=schedules.PolynomialDecay(1e-2, 100, 0.0), gamma=0.5)])
    saved = json.loads(json.dumps(keras.utils.serialize_keras_object(f)))
    again = keras.utils.deserialize_keras_object(saved)
    assert again == f
    assert again.rates_at(25) == f.rates_at(25)
    assert again.rates_at(25)["alpha_1"] == pytest.approx(0.0075)


def test_equality_is_by_config():
    assert EMA(0.1) == EMA(0.1) != EMA(0.2)
    assert EMA(0.1) != LeakyIntegrator(0.1, 0.1)
    assert len({EMA(0.1), EMA(0.1), EMA(0.3)}) == 2
    decay = schedules.PolynomialDecay
    assert EMA(decay(1e-2, 10)) == EMA(decay(1e-2, 10)) != EMA(decay(1e-2, 11))


def test_cascaded_ema_is_the_cascade():
    x = np.random.default_rng(3).normal(size=(300, 2))
    np.testing.assert_array_equal(
        CascadedEMA(alpha=0.02, gamma=0.1).run(x)[0], Cascade([EMA(0.1), EMA(0.02)]).run(x)[0]
    )


class WithoutConfig(schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: EMA(WithoutConfig()), TypeError, ["WithoutConfig of `alpha`", "no get_config"]),
        (lambda: EMA(0.0), ValueError, ["alpha", "0.0", "(0, 1]"]),
        (lambda: EMA(1.5), ValueError, ["1.5", "(0, 1]"]),
        (lambda: EMA(float("nan")), ValueError, ["nan", "(0, 1]"]),
        (lambda: EMA("0.1"), TypeError, ["'0.1'", "schedule"]),
        (lambda: EMA(True), TypeError, ["True"]),
        (lambda: EMA(lambda step: 0.1), TypeError, ["LearningRateSchedule"]),
        (lambda: EMA(0.1, compensated="yes"), TypeError, ["compensated", "yes"]),
        (lambda: LeakyIntegrator(1.0, 0.5, "x"), TypeError, ["compensated", "x"]),
        (lambda: EMA(schedules.PolynomialDecay), TypeError, ["PolynomialDecay"]),
        (lambda: EMA(schedules.PolynomialDecay(2.0, 5)), ValueError, ["2.0", "step 0", "(0, 1]"]),
        (lambda: CascadedEMA(alpha=0.1, gamma=0), ValueError, ["gamma", "(0, 1]"]),
        (lambda: LeakyIntegrator(0.0, 0.1), ValueError, ["gain", "(0, inf)"]),
        (lambda: LeakyIntegrator(1.0, -0.1), ValueError, ["leak", "[0, 1]"]),
        (lambda: Cascade([]), ValueError, ["at least one"]),
        (lambda: EMA(0.1).with_rate("beta", 1), ValueError, ["no rate 'beta'", "alpha"]),
        (lambda: Cascade([EMA(0.1)]).with_rate("alpha", 1), ValueError, ["'alpha'", "alpha_0"]),
        (lambda: Cascade([EMA(0.1)]).with_rate("alpha_3", 1), ValueError, ["'alpha_3'"]),
        (lambda: EMA(0.1).run(3.0), ValueError, ["`x` is 3.0", "each step"]),
        (lambda: EMA(0.1).run(["a"]), TypeError, ["`x` must hold gradients", "'a'"]),
        (lambda: EMA(0.1).run([1.0], (0.0,) * 3), ValueError, ["3 arrays", "EMA has 1"]),
        (lambda: EMA(0.1).run([1.0], first_step=-1), ValueError, ["first_step", "[0, inf)"]),
        (lambda: Cascade(EMA(0.1)), TypeError, ["list of filters"]),
        (lambda: Cascade([EMA(0.1), 3]), TypeError, ["3"]),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


def test_gamma_and_alpha_can_not_be_mixed_up():
    with pytest.raises(TypeError):
        CascadedEMA(1e-4, 0.1)


def test_state_from_output_is_the_last_output():
    """From that state an input equal to the output of a unit-gain average holds it still."""
    output = np.array([0.5, -2.0])
    y, _ = EMA(0.1).run(np.array([output]), EMA(0.1).state_from_output(output, np))
    np.testing.assert_allclose(y[0], output, rtol=1e-15)
    f = Cascade([EMA(0.5), CascadedEMA(alpha=0.25, gamma=1.0)])
    y, _ = f.run(np.zeros((1, 2)), f.state_from_output(output, np))
    np.testing.assert_allclose(y[0], 0.75 * output, rtol=1e-15)
    y, _ = LeakyIntegrator(1.0, 0.25).run(
        np.zeros((1, 2)), LeakyIntegrator(1.0, 0.25).state_from_output(output, np)
    )
    np.testing.assert_allclose(y[0], 0.75 * output, rtol=1e-15)


def test_a_filter_must_say_what_it_is():
    class Nothing(filters.Filter):
        pass

    for use in (lambda: Nothing().order, lambda: Nothing().step(0.0, (), {}, np)):
        with pytest.raises(NotImplementedError, match="Nothing must define"):
            use()
    with pytest.raises(ValueError, match="not linear"):
        Nothing().sos()
    with pytest.raises(ValueError, match="can't be started"):
        Nothing().state_from_output(np.zeros(1), np)


rates = st.floats(1e-4, 1.0)
gradients = st.lists(st.floats(-100, 100), min_size=1, max_size=40)


@settings(max_examples=60)
@given(alpha=rates, gamma=rates, x=gradients, exponent=st.integers(-10, 10))
def test_scale_invariance(alpha, gamma, x, exponent):
    """A power of two on the gradients is the same power on the signal, bit for bit."""
    f = CascadedEMA(alpha=alpha, gamma=gamma)
    x = np.round(np.array(x), 3)  # no denormals, where scaling rounds
    np.testing.assert_array_equal(f.run(x * 2.0**exponent)[0], f.run(x)[0] * 2.0**exponent)


@settings(max_examples=60)
@given(alpha=rates, gamma=rates, x=gradients)
def test_sign_symmetry_and_bounds(alpha, gamma, x):
    f = CascadedEMA(alpha=alpha, gamma=gamma)
    y = f.run(np.array(x))[0]
    np.testing.assert_array_equal(f.run(-np.array(x))[0], -y)
    assert np.max(np.abs(y)) <= np.max(np.abs(x)) * (1 + 1e-12)  # averages never exceed their input


def test_integers_are_filtered_in_float64():
    y, _ = EMA(0.5).run([4, 4])
    assert y.dtype == np.float64
    assert y.tolist() == [2.0, 3.0]
