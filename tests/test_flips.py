"""Flip rules by hand, by their properties, on both array libraries."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from examples_of_rules import RULES
from larq_filter import flips, order_statistics
from larq_filter._keras import keras, tf

schedules = keras.optimizers.schedules

WEIGHTS = np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
SIGNALS = np.array([0.5, 0.0, -0.5, 0.5, 0.0, -0.5])


@pytest.mark.parametrize("xp", [np, tf], ids=["numpy", "tensorflow"])
def test_sign_flips_where_weight_and_signal_agree(xp):
    flipped, state = flips.Sign().flip(WEIGHTS, SIGNALS, (), {}, xp)
    assert np.array(flipped).tolist() == [True, False, False, False, False, True]
    assert state == ()


def test_a_zero_signal_never_flips():
    for signal in (0.0, -0.0):
        flipped, _ = flips.Sign().flip(WEIGHTS, np.full(6, signal), (), {}, np)
        assert not flipped.any()


@pytest.mark.parametrize(("threshold", "flips_first"), [(0.4, True), (0.5, False), (0.6, False)])
def test_threshold_is_strict(threshold, flips_first):
    rule = flips.Threshold(threshold)
    flipped, _ = rule.flip(WEIGHTS, SIGNALS, (), rule.rates(), np)
    assert flipped.tolist() == [flips_first, False, False, False, False, flips_first]


def test_threshold_zero_is_sign():
    signals = np.random.default_rng(0).normal(size=1000)
    weights = np.sign(np.random.default_rng(1).normal(size=1000))
    np.testing.assert_array_equal(
        flips.Threshold(0.0).flip(weights, signals, (), {"threshold": 0.0}, np)[0],
        flips.Sign().flip(weights, signals, (), {}, np)[0],
    )


def test_config_round_trip():
    for rule in RULES:
        saved = json.loads(json.dumps(keras.utils.serialize_keras_object(rule)))
        assert keras.utils.deserialize_keras_object(saved) == rule
    assert len(set(RULES)) == len(RULES)
    assert flips.Threshold(1e-8) != flips.Threshold(1e-7)


@pytest.mark.parametrize("value", [-1e-9, float("inf"), float("nan")])
def test_threshold_outside_its_interval(value):
    with pytest.raises(ValueError, match=r"threshold.*\[0, inf\)"):
        flips.Threshold(value)


def test_a_rule_must_say_what_it_does():
    with pytest.raises(NotImplementedError, match="FlipRule must define `flip`"):
        flips.FlipRule().flip(WEIGHTS, SIGNALS, (), {}, np)


@pytest.mark.parametrize("rule", RULES, ids=range(len(RULES)))
def test_numpy_and_tensorflow_agree(rule):
    """50 steps in float64 that follow their own flips: equal decisions, equal states."""
    random = np.random.default_rng(0)
    shape = (3, 2, 4)
    weight = random.choice([-1.0, 1.0], shape)
    state = rule.zero_state(weight, np)
    tensors = rule.zero_state(tf.constant(weight), tf)
    seen = 0
    for index in range(50):
        signal = random.normal(size=shape)
        inputs = {"gradient": random.normal(size=shape), "uniform": random.uniform(size=shape)}
        rates = rule.rates_at(index) | {name: inputs[name] for name in rule.inputs}
        flipped, state = rule.flip(weight, signal, state, rates, np)
        theirs, tensors = rule.flip(tf.constant(weight), tf.constant(signal), tensors, rates, tf)
        np.testing.assert_array_equal(flipped, theirs.numpy())
        assert len(state) == len(tensors) == rule.state_size
        for a, b in zip(state, tensors, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-14)
        weight = np.where(flipped, -weight, weight)
        seen += flipped.sum()
    assert seen > 10


def drive(rule, signals, weights, **inputs):
    """The weights after each of ``signals``, in NumPy."""
    state, path = rule.zero_state(weights, np), []
    for signal in signals:
        flipped, state = rule.flip(weights, signal, state, rule.rates_at(0) | inputs, np)
        weights = np.where(flipped, -weights, weights)
        path.append(weights)
    return np.array(path)


def test_growing_threshold_by_hand():
    """Threshold 1: free, then more than 1, then more than 2; a tie does not flip."""
    signals = np.array([[0.1], [-1.0], [-1.1], [2.0], [2.1], [-2.9]])
    path = drive(flips.GrowingThreshold(1.0), signals, np.ones(1))
    assert path[:, 0].tolist() == [-1, -1, 1, 1, -1, -1]


def test_hysteresis_by_hand():
    """eta 1, gradient 3: the band is 3 at once, then sqrt(18) = 4.24; a tie does not flip."""
    signals = np.array([[3.0, 3.1], [4.2, -4.3]])
    path = drive(flips.Hysteresis(1.0), signals, np.ones(2), gradient=np.full(2, 3.0))
    assert path.tolist() == [[1, -1], [1, 1]]


def test_fire_includes_its_level():
    flipped, _ = flips.Fire(0.5).flip(WEIGHTS, SIGNALS, (), {"level": 0.5}, np)
    assert flipped.tolist() == [True, False, False, False, False, True]


def test_fire_at_a_level_that_has_come_to_zero_is_the_sign():
    """A schedule may end there; a signal of 0 says nothing."""
    weights, signals = np.array([1.0, 1.0, 1.0, -1.0]), np.array([0.0, 0.1, -0.1, 0.0])
    flipped, _ = flips.Fire(0.5).flip(weights, signals, (), {"level": 0.0}, np)
    assert flipped.tolist() == [False, True, False, False]


def test_probabilistic_by_hand():
    """c = 0.75: strength 0.7 never, 1 with probability 0.632, 1.4 surely; sign must agree."""
    rule = flips.Probabilistic(2.0, 0.25)
    weights, signals = np.ones(6), np.array([1.4, 2.0, 2.0, 2.8, -2.8, 0.0])
    uniform = np.array([0.0, 0.63, 0.64, 0.999, 0.0, 0.0])
    flipped, _ = rule.flip(weights, signals, (), rule.rates() | {"uniform": uniform}, np)
    assert flipped.tolist() == [False, True, False, True, False, False]


def test_probabilistic_edges():
    """c = 0.5: c itself never, 1/c = 2 itself by chance."""
    rule = flips.Probabilistic(1.0, 0.5)
    rates = rule.rates() | {"uniform": np.array([0.0, 0.999])}
    for signal, expected in [(0.5, [False, False]), (2.0, [True, False]), (2.1, [True, True])]:
        assert rule.flip(np.ones(2), np.full(2, signal), (), rates, np)[0].tolist() == expected


def test_stochastic_by_hand():
    """rate 0.5, signal 1: half of the numbers flip; above 2 all do; against the signal none."""
    rule = flips.Stochastic(0.5)
    weights, signals = np.ones(7), np.array([1.0, 1.0, 1.0, 2.0, 2.1, -2.0, 0.0])
    uniform = np.array([0.0, 0.49, 0.5, 0.999, 0.999, 0.0, 0.0])
    for side in (1.0, -1.0):
        rates = rule.rates() | {"uniform": uniform}
        flipped, state = rule.flip(side * weights, side * signals, (), rates, np)
        assert flipped.tolist() == [True, True, False, True, True, False, False]
        assert state == ()


def test_counted_flips_divide_the_strength():
    """Without chance: strength 1.5 flips once, then 2 are needed, then 3."""
    signals = np.array([[1.5], [-1.9], [-2.1], [2.9], [3.1]])
    rule = flips.Probabilistic(1.0, 0.0, count_flips=True)
    path = drive(rule, signals, np.ones(1), uniform=np.zeros(1))
    assert path[:, 0].tolist() == [-1, -1, 1, 1, -1]


def test_balanced_by_hand():
    """Two filters of five: the two smallest to +1, the two largest to -1, the median stays."""
    signal = np.array([[5.0, 1], [4, 2], [3, 3], [2, 4], [1, 5]])
    for start in (np.ones((5, 2)), -np.ones((5, 2))):
        (end,) = drive(flips.Balanced(), [signal], start)
        median = start[0, 0]
        assert end.T.tolist() == [[-1, -1, median, 1, 1], [1, 1, median, -1, -1]]


def test_balanced_leaves_ties_where_they_are():
    """All signals zero: a balanced filter stays; of four +1 the last two in order turn."""
    weights = np.array([[1.0, 1, -1], [-1, 1, -1], [-1, 1, 1], [1, 1, 1]])
    (end,) = drive(flips.Balanced(), [np.zeros((4, 3))], weights)
    assert end.T.tolist() == [[1, -1, -1, 1], [1, 1, -1, -1], [-1, -1, 1, 1]]


# Signals with many ties and both zeros.
COARSE = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0]) | st.floats(-3, 3)
SHAPES = arrays.array_shapes(min_dims=2, max_dims=4, max_side=5)


@settings(max_examples=100)
@given(data=st.data(), shape=SHAPES)
def test_balanced_gives_half_and_half(data, shape):
    """Each filter ends with as many +1 as -1 (odd: one apart), every +1 below every -1, and the
    same signals change nothing more."""
    signal = data.draw(arrays.arrays(float, shape, elements=COARSE))
    start = data.draw(arrays.arrays(float, shape, elements=st.sampled_from([-1.0, 1.0])))
    first, second = drive(flips.Balanced(), [signal, signal], start)
    np.testing.assert_array_equal(first, second)
    for w, y in zip(first.reshape(-1, shape[-1]).T, signal.reshape(-1, shape[-1]).T, strict=True):
        assert abs(w.sum()) == len(w) % 2
        if set(w) == {-1.0, 1.0}:
            assert y[w > 0].max() <= y[w < 0].min()


@pytest.mark.slow
@settings(max_examples=20)
@given(data=st.data())
def test_balanced_ties_are_the_same_compiled(data):
    shape = (4, 3, 2)
    signal = data.draw(arrays.arrays(np.float32, shape, elements=st.sampled_from([-1, -0.0, 0, 1])))
    weight = data.draw(arrays.arrays(np.float32, shape, elements=st.sampled_from([-1, 1])))
    expected = flips.Balanced().flip(weight, signal, (), {}, np)[0]
    np.testing.assert_array_equal(balanced_compiled(weight, signal).numpy(), expected)


@tf.function(jit_compile=True, input_signature=[tf.TensorSpec((4, 3, 2))] * 2)
def balanced_compiled(weight, signal):
    return flips.Balanced().flip(weight, signal, (), {}, tf)[0]


@settings(max_examples=30)
@given(data=st.data())
def test_rules_at_their_limit_are_sign_or_threshold(data):
    """tau 0 and eta 0 are Sign; no randomness is Threshold; Fire is Threshold but for its edge."""
    signals = data.draw(arrays.arrays(float, (6, 5), elements=st.floats(-3, 3)))
    weights, uniform = np.ones(5), data.draw(arrays.arrays(float, 5, elements=st.floats(0, 0.99)))
    sign = drive(flips.Sign(), signals, weights)
    for rule in (flips.GrowingThreshold(0.0), flips.Hysteresis(0.0)):
        np.testing.assert_array_equal(drive(rule, signals, weights, gradient=np.ones(5)), sign)
    signals = np.round(signals, 3) + 1e-4  # no signal is a tie
    threshold = drive(flips.Threshold(0.5), signals, weights)
    for rule in (flips.Probabilistic(0.5, 0.0), flips.Fire(0.5)):
        np.testing.assert_array_equal(drive(rule, signals, weights, uniform=uniform), threshold)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: flips.GrowingThreshold(-1), ValueError, ["threshold", "-1", "[0, inf)"]),
        (lambda: flips.Hysteresis(-0.1), ValueError, ["eta", "-0.1", "[0, inf)"]),
        (lambda: flips.Hysteresis(None), TypeError, ["eta", "None"]),
        (lambda: flips.Fire(0), ValueError, ["level", "(0, inf)"]),
        (lambda: flips.Probabilistic(0), ValueError, ["threshold", "(0, inf)"]),
        (lambda: flips.Probabilistic(1, 1), ValueError, ["randomness", "[0, 1)"]),
        (lambda: flips.Probabilistic(1, seed=None), TypeError, ["seed", "None", "integer"]),
        (lambda: flips.Stochastic(0), ValueError, ["rate", "(0, inf)"]),
        (lambda: flips.Stochastic(1, seed=None), TypeError, ["seed", "None", "integer"]),
        (lambda: flips.Probabilistic(1, count_flips=2), TypeError, ["count_flips", "2"]),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "values",
    [
        lambda random, n: random.normal(size=n),
        lambda random, n: random.standard_t(1, size=n) * 1e-3,
        lambda random, n: np.exp(random.normal(size=n) * 3),
        lambda random, n: random.integers(0, 4, size=n) * 1.0,
        lambda random, n: np.where(random.random(n) < 0.8, 0.0, random.normal(size=n)),
        lambda random, n: np.full(n, 0.25),
        lambda random, n: random.normal(size=n) * 2.0 ** random.integers(-14, 14, size=n),
        lambda random, n: 1000 + random.normal(size=n),
    ],
    ids=[
        "normal",
        "heavy tails",
        "one-sided",
        "few values",
        "mostly zero",
        "all alike",
        "far apart",
        "close together",
    ],
)
def test_value_of_a_rank_is_that_of_sorting(values, dtype):
    random = np.random.default_rng(0)
    compiled = tf.function(order_statistics.value_of_rank, jit_compile=True)
    for size in (1, 2, 9, 16, 333):
        search = compiled if size == 333 else order_statistics.value_of_rank
        y = values(random, (size, 20)).astype(dtype)
        for rank in {size // 2} if size == 333 else {0, size // 2, size - 1}:
            expected = np.sort(y, axis=0)[rank]
            np.testing.assert_array_equal(search(tf.constant(y), rank, tf), expected)
            np.testing.assert_array_equal(order_statistics.value_of_rank(y, rank, np), expected)


@pytest.mark.slow
def test_balanced_flips_as_sorting_has_it():
    """Also where many signals are equal, and for filters of an odd number of weights."""
    random = np.random.default_rng(0)

    def flip(w, y):
        return flips.Balanced().flip(w, y, (), {}, tf)[0]

    compiled = tf.function(flip, jit_compile=True)
    for size in (1, 2, 5, 8, 27, 40):
        for levels in (2, 50):
            y = (random.integers(-levels, levels + 1, size=(size, 30)) / 4).astype("float32")
            w = random.choice([-1.0, 1.0], size=y.shape).astype("float32")
            order = np.lexsort((np.broadcast_to(np.arange(size)[:, None], y.shape), -w, y), axis=0)
            target, half = w.copy(), size // 2
            np.put_along_axis(target, order[:half], 1.0, axis=0)
            np.put_along_axis(target, order[size - half :], -1.0, axis=0)
            step = compiled if size > 10 else flip
            np.testing.assert_array_equal(step(tf.constant(w), tf.constant(y)), target != w)
            np.testing.assert_array_equal(flips.Balanced().flip(w, y, (), {}, np)[0], target != w)


@pytest.mark.parametrize("shape", [(20, 3), (3, 3, 2, 4), (5,), (1, 1)])
@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_balanced_weights_exchange_their_memory(shape, share):
    """The first that was +1 with the first that was -1, in each filter; the others keep theirs."""
    random = np.random.default_rng(0)
    weight = np.where(random.random(shape) < 0.5, -1, 1).astype(np.float32)
    turned = random.random(shape) < share
    expected = np.arange(weight.size)
    for channel in range(shape[-1]):
        numbers = [n for n in expected.tolist() if n % shape[-1] == channel and turned.flat[n]]
        ups = [n for n in numbers if weight.flat[n] > 0]
        downs = [n for n in numbers if weight.flat[n] < 0]
        for up, down in zip(ups, downs, strict=False):
            expected[up], expected[down] = down, up
    expected = expected.reshape(shape)
    np.testing.assert_array_equal(flips.Balanced().swaps(weight, turned, np), expected)
    np.testing.assert_array_equal(
        flips.Balanced().swaps(tf.constant(weight), tf.constant(turned), tf), expected
    )
