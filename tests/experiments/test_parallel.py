"""Parallel: rates by position, feedback to all, starting from an output, errors."""

import numpy as np
import pytest

from larq_filter import filters
from larq_filter._keras import keras, tf
from larq_filter.filters import EMA, FIR, Cascade, CascadedEMA, Kalman, LeakyIntegrator, Parallel

schedules = keras.optimizers.schedules


def test_single_step_by_hand():
    """0.5 of the gradient 8 is 4, 0.25 of it 2; 4 + 10 * 2 = 24."""
    f = Parallel([EMA(0.5), EMA(0.25)], [1, 10])
    y, state = f.step(np.array(8.0), f.zero_state(np.array(0.0), np), f.rates(), np)
    assert float(y) == 24.0
    assert [float(array) for array in state] == [4.0, 2.0]


def test_rates_are_named_with_the_position():
    decay = schedules.PolynomialDecay(0.5, 10, 0.25)
    f = Parallel([CascadedEMA(alpha=decay, gamma=0.5), EMA(0.125)], [1, 2])
    assert f.rates_at(5) == {"alpha_0": 0.375, "gamma_0": 0.5, "alpha_1": 0.125}
    moved = f.with_rate("alpha_1", 0.25)
    assert moved == Parallel([CascadedEMA(alpha=decay, gamma=0.5), EMA(0.25)], [1, 2])
    nested = Parallel([Cascade([EMA(0.5), f]), EMA(0.75)], [1, 1])
    assert nested.rates_at(0)["alpha_1_1_0"] == 0.125
    assert nested.with_rate("alpha_1_1_0", 0.5).rates_at(0)["alpha_1_1_0"] == 0.5


def test_a_schedule_runs_in_each_filter():
    decay = schedules.PolynomialDecay(0.5, 10, 0.25)
    x = np.random.default_rng(0).normal(size=(20, 2))
    expected = EMA(decay).run(x)[0] - 3 * EMA(0.1).run(x)[0]
    np.testing.assert_allclose(Parallel([EMA(decay), EMA(0.1)], [1, -3]).run(x)[0], expected)


def test_what_flipped_is_told_to_all():
    f = Parallel([filters.ResettingIntegrator(1.0, 0.0), EMA(0.5)] * 2, [1] * 4)
    _, state = f.run(np.ones((1, 2)))
    flipped = np.array([True, False])
    after = f.feedback(state, flipped, np)
    single = filters.ResettingIntegrator(1.0, 0.0)
    _, own = single.run(np.ones((1, 2)))
    expected = single.feedback(own, flipped, np)
    for start in (0, single.state_size + 1):
        for array, reset in zip(after[start:], expected, strict=False):
            np.testing.assert_array_equal(array, reset)
    assert not f.is_linear
    with pytest.raises(ValueError, match="ResettingIntegrator is not linear"):
        f.sos()


def test_ademamix():
    assert filters.ademamix() == Parallel([EMA(0.1), EMA(1e-4)], [1.0, 5.0])
    x = np.random.default_rng(1).normal(size=500)
    fast = slow = 0.0
    for value in x:
        fast, slow = 0.9 * fast + 0.1 * value, 0.9999 * slow + 1e-4 * value
    assert filters.ademamix().run(x)[0][-1] == pytest.approx(fast + 5 * slow, rel=1e-12)


def test_the_start_is_shared_by_the_gains_at_frequency_zero():
    """Gains 1, 2 (a leak of half its gain), times 1 and 3: shares 1/7 and 2/7 of the output."""
    f = Parallel([EMA(0.5), LeakyIntegrator(gain=1.0, leak=0.5)], [1, 3])
    state = f.state_from_output(np.array([7.0]), np)
    assert [float(array[0]) for array in state] == [1.0, 2.0]


def test_a_filter_that_passes_no_constant_starts_from_zero():
    f = Parallel([FIR([1, -1]), EMA(0.5)], [4, 2])
    state = f.state_from_output(np.array([3.0]), np)
    assert [float(array[0]) for array in state] == [0.0, 1.5]


def test_scheduled_filters_start_inside_a_graph():
    f = Parallel([EMA(schedules.PolynomialDecay(0.5, 10, 0.25)), EMA(0.1)], [1, 1])
    state = tf.function(lambda x: f.state_from_output(x, tf))(tf.constant([3.0]))
    assert [float(array[0]) for array in state] == [1.5, 1.5]


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (Parallel([EMA(0.5), EMA(0.1)], [1, -1]), ["gain at frequency zero is 0", "from zero"]),
        (Parallel([EMA(0.5), LeakyIntegrator(1.0, 0.0)], [1, 1]), ["LeakyIntegrator", "settle"]),
        (Parallel([EMA(0.5), Kalman()], [1, 1]), ["Kalman", "settle", "step 0"]),
        (
            Parallel([EMA(schedules.PolynomialDecay(0.0, 10, 0.5)), EMA(0.1)], [1, 1]),
            ["settle", "step 0"],
        ),
        (Parallel([EMA(0.5), filters.Limiter(1.0)], [1, 1]), ["not linear", "from zero"]),
    ],
)
def test_no_start_says_why(f, words):
    with pytest.raises(ValueError) as raised:
        f.state_from_output(np.array([1.0]), np)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Parallel([], []), ValueError, ["at least one", "filters"]),
        (lambda: Parallel(EMA(0.1), [1]), TypeError, ["list of filters"]),
        (lambda: Parallel([EMA(0.1), 3], [1, 1]), TypeError, ["3"]),
        (lambda: Parallel([EMA(0.1)], [1, 2]), ValueError, ["2 numbers", "1 filters", "one each"]),
        (lambda: Parallel([EMA(0.1)], [np.inf]), ValueError, ["gains", "finite", "inf"]),
        (lambda: Parallel([EMA(0.1)], 1.0), ValueError, ["gains", "list", "1.0"]),
        (lambda: Parallel([EMA(0.1)], ["x"]), TypeError, ["gains", "'x'"]),
        (
            lambda: Parallel([EMA(0.1)], schedules.PolynomialDecay(0.1, 10)),
            TypeError,
            ["gains", "constants", "schedule"],
        ),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)
