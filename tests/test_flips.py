"""Flip rules by hand, on both array libraries."""

import numpy as np
import pytest

from larq_filter import flips
from larq_filter._keras import keras, tf

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
    for rule in (flips.Sign(), flips.Threshold(1e-8)):
        saved = keras.utils.serialize_keras_object(rule)
        assert keras.utils.deserialize_keras_object(saved) == rule
    assert flips.Threshold(1e-8) != flips.Threshold(1e-7)


@pytest.mark.parametrize("value", [-1e-9, float("inf"), float("nan")])
def test_threshold_outside_its_interval(value):
    with pytest.raises(ValueError, match=r"threshold.*\[0, inf\)"):
        flips.Threshold(value)


def test_a_rule_must_say_what_it_does():
    with pytest.raises(NotImplementedError, match="FlipRule must define `flip`"):
        flips.FlipRule().flip(WEIGHTS, SIGNALS, (), {}, np)
