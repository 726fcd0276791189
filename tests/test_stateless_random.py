"""Random numbers: the documented formula, everywhere the same, and uniform."""

import numpy as np
import pytest
from scipy import stats

import references
from larq_filter import stateless_random
from larq_filter._keras import tf


@pytest.mark.parametrize("seed", [0, 7, -3, 2**40 + 1])
def test_equals_the_formula_in_pythons_integers(seed):
    step = tf.Variable(123_456_789_012, dtype=tf.int64)
    drawn = stateless_random.uniform((5, 7), seed, 3, step, tf.float64).numpy()
    np.testing.assert_array_equal(
        drawn, references.uniform((5, 7), seed, 3, 123_456_789_012 % 2**32)
    )
    assert np.all((drawn >= 0) & (drawn < 1))


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_the_same_in_every_mode_and_dtype(dtype):
    step = tf.Variable(5, dtype=tf.int64)
    draw = lambda: stateless_random.uniform((300, 40), 1, 0, step, dtype)  # noqa: E731
    eager = draw().numpy()
    np.testing.assert_array_equal(tf.function(draw, autograph=False)().numpy(), eager)
    compiled = tf.function(draw, jit_compile=True, autograph=False)()
    np.testing.assert_array_equal(compiled.numpy(), eager)
    np.testing.assert_array_equal(
        stateless_random.uniform((300, 40), 1, 0, 5, tf.float64).numpy(), eager
    )


def test_uniform_and_independent():
    """A million numbers per key; p-values above 1e-4 and correlations within 4.5 sigma."""
    n = 1_000_000
    base = stateless_random.uniform((n,), 0, 0, 0, tf.float64).numpy()
    counts = np.histogram(base, bins=1000, range=(0, 1))[0]
    assert stats.chisquare(counts).pvalue > 1e-4
    low_bits = np.bincount((base * 2**24).astype(int) % 64, minlength=64)
    assert stats.chisquare(low_bits).pvalue > 1e-4
    others = [
        stateless_random.uniform((n,), *key, tf.float64).numpy() for key in [(1, 0, 0), (0, 1, 0)]
    ]
    others += [stateless_random.uniform((n,), 0, 0, 1, tf.float64).numpy(), np.roll(base, 1)]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 4.5 / np.sqrt(n)
        joint = np.histogram2d(base, other, bins=32, range=[(0, 1), (0, 1)])[0]
        assert stats.chisquare(joint.ravel()).pvalue > 1e-4


def test_steps_of_one_weight_are_uniform_too():
    """What one weight sees in 20,000 steps."""
    seen = np.array([references.uniform((1,), 0, 0, step)[0] for step in range(20_000)])
    assert stats.kstest(seen, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(seen[1:], seen[:-1])[0, 1]) < 4.5 / np.sqrt(len(seen))
