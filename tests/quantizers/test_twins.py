"""Each named quantizer beside a twin in NumPy, written from the publication: forward and gradient.

500 steps of gradient descent in float64 on a kernel of 60 weights (or on 60 activations). The twins
share nothing with the package: derivatives are written out, means are sums over shares.
"""

import functools
import math
import types

import numpy as np
import pytest

from larq_filter import quantizers
from larq_filter._keras import tf
from larq_filter.quantizers import scales, surrogates, transforms

STEPS = 500
SHAPE = (2, 2, 3, 5)
N = 12  # weights of a filter


def sgn(x):
    return np.where(x >= 0, 1.0, -1.0)


def filter_mean(x):
    return x.sum((0, 1, 2)) / N


# Transforms and their derivatives, by hand -------------------------------------------------------


def plain(w, g=None):
    return w if g is None else g


def standardized(w, g=None, eps=1e-12, gain=1.0):
    mean = filter_mean(w)
    std = np.sqrt(filter_mean((w - mean) ** 2) + eps)
    z = (w - mean) / std
    if g is None:
        return gain * z
    return gain * (g - filter_mean(g) - z * filter_mean(g * z)) / std


def by_fan_in(w, g=None):
    return standardized(w, g, eps=1e-10, gain=1 / math.sqrt(N))


def of_kernel(w, g=None, centre=True):
    std = math.sqrt(np.var(w) + 1e-12)
    return (w - centre * w.sum() / 60) / std / 3 if g is None else g / std / 3


def over_inputs(x, g=None):
    x = x if g is None else g
    return x - x.sum(2, keepdims=True) / 3


def by_rank(w, g=None):
    return w - np.sort(w.reshape(N, 5), axis=0)[N // 2] if g is None else g


def in_the_image(x, g=None):
    """Of activations (2, 2, 3, 5): images are the first axis, 30 numbers each."""
    axes = (1, 2, 3)
    centred = x - x.sum(axes, keepdims=True) / 30
    std = np.sqrt((centred**2).sum(axes, keepdims=True) / 30 + 1e-5)
    if g is None:
        return x / std
    return g / std - centred / 30 / std**3 * (g * x).sum(axes, keepdims=True)


# Slopes -------------------------------------------------------------------------------------------


def gate(z, g, p, s):
    return (np.abs(z) <= 1) * 1.0


def open_(z, g, p, s):
    return np.ones_like(z)


def parabola(z, g, p, s):
    return np.clip(2 - 2 * np.abs(z), 0, None)


def swish(z, g, p, s, beta=5.0):
    b = beta * z
    sigma = 1 / (1 + np.exp(-b))
    return 2 * beta * sigma * (1 - sigma) * (2 + b * (1 - 2 * sigma))


def ede(z, g, p, s):
    t = 10 ** (-3 + 4 * p)
    return max(1 / t, 1) * t / np.cosh(t * z) ** 2


def revived(z, g, p, s):
    a = (0.99 - 0.85) / (math.e - 1)
    tau = a * math.exp(p) + 0.85 - a
    return (np.abs(z) <= -np.abs(z).mean() * math.log(2 - 2 * tau)) * 1.0


def tent(z, g, p, s, least=0.0):
    t = max(10 ** (-2 + 3 * p), least)
    return np.clip(max(1 / t, 1) * (math.sqrt(2) * t - t * t * np.abs(z)), 0, None)


def wider(z, g, p, s):
    return np.where(np.abs(z) < 1, 1 + 1e-3 * np.sign(g) * (z - sgn(z)) / 2, 0)


def power(z, g, p, s):
    o = 1 + (1 - math.cos(p * math.pi / 2)) * 2
    a = np.abs(z)
    inner = 0.1 ** (1 / o) / 0.1
    steep = np.power(a, (1 - o) / o, where=a > 0.1, out=np.ones_like(a)) / o
    return np.where(a <= 0.1, inner, np.where(a <= 1.5, steep, 0))


def distances(z, g, p, s, sigma=1.0):
    v = np.clip((z + 1) / 2, 0, 1)
    near, far = 1.0, math.exp(-1 / sigma**2)
    k0, k1 = np.where(v < 0.5, near, far), np.where(v < 0.5, far, near)
    s0, s1 = k0 * np.exp(-v), k1 * np.exp(-(1 - v))
    dv = 2 / (math.exp(2) - math.exp(-2)) * (s0 + s1) / np.abs(s0 - s1)
    return np.where(np.abs(z) < 1, dv, 0)


def fading(z, g, p, s):
    return (np.abs(z) < 1) + 1 / (N * s)


# Scales -------------------------------------------------------------------------------------------


def one(z):
    return 1.0


def mean_size(z):
    return filter_mean(np.abs(z))


def kernel_size(z):
    return np.abs(z).sum() / 60


def half_of_largest(z):
    return np.abs(z).reshape(N, 5).max(0) / 2


def shift(z):
    return 2.0 ** np.round(np.log2(filter_mean(np.abs(z))))


def fan_in(z):
    return math.sqrt(2 / N)


# name: transform, slope, scale, whether the gradient is multiplied by the scale
KERNELS = {
    "ste": (plain, gate, one, True),
    "identity": (plain, open_, one, True),
    "bireal": (plain, gate, mean_size, False),
    "xnor": (over_inputs, fading, mean_size, True),
    "bnn_plus": (plain, swish, one, True),
    "ir_net": (standardized, ede, shift, True),
    "zscore": (standardized, open_, one, True),
    "scaled": (
        lambda w, g=None: standardized(w, g, gain=1 / math.sqrt(N)), open_, one, True,
    ),
    "recu": (
        lambda w, g=None: standardized(w, g, 1e-5, math.sqrt(8)), revived, one, True,
    ),
    "ewgs": (lambda w, g=None: of_kernel(w, g, centre=False), wider, one, True),
    "daq": (of_kernel, distances, one, True),
    "equal_bits": (by_rank, open_, fan_in, False),
    "poke": (plain, open_, half_of_largest, False),
    "bnn_bn": (by_fan_in, gate, mean_size, False),
    "biper": (
        lambda w, g=None: np.sin(20 * w) if g is None else 20 * np.cos(20 * w) * g,
        open_, one, True,
    ),
    "sa_bnn": (plain, open_, one, True),
    "bitnet": (
        lambda w, g=None: (w if g is None else g) - (w if g is None else g).sum() / 60,
        open_, kernel_size, False,
    ),
}  # fmt: skip
INPUTS = {
    "ste": (plain, gate, one, True),
    "identity": (plain, open_, one, True),
    "bireal": (plain, parabola, one, True),
    "bnn_plus": (plain, swish, one, True),
    "ir_net": (plain, ede, one, True),
    "recu": (in_the_image, parabola, one, True),
    "rbnn": (plain, lambda *a: tent(*a, least=1.0), one, True),
    "ewgs": (plain, wider, one, True),
    "reste": (plain, power, one, True),
    "daq": (plain, lambda *a: distances(*a, sigma=2.0), one, True),
    "poke": (plain, lambda z, g, p, s: (np.abs(z) <= 3) * 1.0, one, True),
}


def twin_of(transform, slope, scale, scaled):
    def twin(w, p, upstream):
        z = transform(w)
        s = scale(z)
        q = s * sgn(z)
        g = upstream(q)
        return q, transform(w, (s if scaled else 1) * g * slope(z, g, p, s))

    return twin


def reste(w, p, upstream):
    """The scale is differentiated too."""
    s = np.abs(w).sum() / 60
    q = s * sgn(w)
    g = upstream(q)
    return q, s * g * power(w, g, p, s) + (g * sgn(w)).sum() / 60 * np.sign(w)


class Lab:
    """With Adam's second moment, which the fake optimizer below has too."""

    def __init__(self):
        self.v = np.zeros(SHAPE)

    def __call__(self, w, p, upstream):
        d = np.sqrt(self.v) + 1e-8
        q = (d * np.abs(w)).sum() / d.sum() * sgn(w)
        g = upstream(q)
        self.v = 0.999 * self.v + 0.001 * g**2
        return q, g


class Rbnn:
    """Rotations every 200 steps, after the step; angles learned by gradient descent."""

    def __init__(self, quantizer):
        first = quantizer.transform.buffers_for(SHAPE)  # random, so they can't be derived again
        self.left, self.right, self.angle = first["left"], first["right"], np.full(5, math.pi / 6)
        for turn in (self.left, self.right):
            np.testing.assert_allclose(turn @ turn.T, np.eye(len(turn)), atol=1e-12)
        self.steps = 0

    def matrices(self, w):
        return [standardized(w)[..., f].reshape(3, 4) for f in range(5)]

    def __call__(self, w, p, upstream):
        x = self.matrices(w)
        y = np.stack([(self.left.T @ m @ self.right).reshape(2, 2, 3) for m in x], axis=-1)
        z0 = standardized(w)
        share = np.abs(np.sin(self.angle))
        z = z0 + share * (y - z0)
        g = upstream(sgn(z))
        dz = g * tent(z, g, p, 1)
        turn = np.sign(np.sin(self.angle)) * np.cos(self.angle) * (dz * (y - z0)).sum((0, 1, 2))
        self.angle = self.angle - RATE * turn
        return sgn(z), standardized(w, (1 - share) * dz)

    def follow(self, ours):
        self.angle = ours.quantizer.trainable_weights[0].numpy().ravel()

    def after(self, w):
        self.steps += 1
        if self.steps % 200:
            return
        x = self.matrices(w)
        for _ in range(3):
            b = [sgn(self.left.T @ m @ self.right) for m in x]
            u, _, vt = np.linalg.svd(sum(i @ self.right.T @ m.T for i, m in zip(b, x, strict=True)))
            self.left = vt.T @ u.T
            u, _, vt = np.linalg.svd(sum(m.T @ self.left @ i for i, m in zip(b, x, strict=True)))
            self.right = u @ vt


# Both side by side --------------------------------------------------------------------------------

RATE = 0.02


class Steps(tf.Module):
    """A quantizer as a training sees it, with gradient descent on what it quantizes."""

    def __init__(self, quantizer, start):
        self.quantizer, self.kernel = quantizer, tf.Variable(start, dtype=tf.float64)
        self.iterations = tf.Variable(0, dtype=tf.int64)
        self.v = tf.Variable(tf.zeros_like(start))
        self._velocities, self._index_dict = [self.v], {"kernel": 0}  # as Keras' Adam has them
        quantizer.connect(self.iterations, STEPS, 0)
        quantizer.build(start.shape)

    @staticmethod
    def _var_key(variable):
        return "kernel"

    @tf.function
    def step(self, noise):
        with tf.GradientTape() as tape:
            q = self.quantizer(tf.convert_to_tensor(self.kernel), training=True)
        upstream = noise + 0.3 * q
        trained = [self.kernel, *self.quantizer.trainable_weights]
        gradient, *others = tape.gradient(q, trained, upstream)
        self.kernel.assign_sub(RATE * gradient)
        for variable, slope in zip(trained[1:], others, strict=True):
            variable.assign_sub(RATE * slope)
        self.v.assign(0.999 * self.v + 0.001 * gradient**2)
        self.iterations.assign_add(1)
        self.quantizer.after_step(types.SimpleNamespace(latent_variable=self.kernel), self)
        return q, gradient


def largest_differences(quantizer, twin, first=0, seed=3):
    """Of forward pass, gradient and weights over the steps from ``first``; a mean for each."""
    random = np.random.default_rng(seed)
    w = random.normal(0.1, 1.0, SHAPE)
    ours = Steps(quantizer, w)
    ours.iterations.assign(first)
    sums = np.zeros(3)
    for step in range(first, STEPS):
        noise = random.normal(size=SHAPE)
        q, gradient = ours.step(tf.constant(noise))
        expected_q, expected = twin(w, step / STEPS, lambda q, noise=noise: noise + 0.3 * q)
        w = w - RATE * expected
        getattr(twin, "after", lambda w: None)(w)
        pairs = (q, expected_q), (gradient, expected), (ours.kernel.numpy(), w)
        if step % 20 == 19:
            w = ours.kernel.numpy()  # jumps of the sign would blow rounding up in the long run
            getattr(twin, "follow", lambda ours: None)(ours)
        sums += [np.abs(np.asarray(a) - b).max() for a, b in pairs]
    return sums / (STEPS - first)


def named(name, inputs=False):
    return functools.partial(quantizers.get, name, inputs=inputs)


CASES = {
    **{f"kernel_{name}": (named(name), twin_of(*t)) for name, t in KERNELS.items()},
    **{f"input_{name}": (named(name, True), twin_of(*t)) for name, t in INPUTS.items()},
    "kernel_reste": (named("reste"), reste),
}


@pytest.mark.parametrize("name", CASES)
def test_a_quantizer_is_its_publication(name):
    make, twin = CASES[name]
    assert max(largest_differences(make(dtype="float64"), twin)) < 1e-8


def test_lab():
    quantizer = quantizers.get("lab", dtype="float64")
    assert max(largest_differences(quantizer, Lab())) < 1e-8


@pytest.mark.slow
def test_rbnn():
    quantizer = quantizers.get("rbnn", dtype="float64")
    # Seed 3 ends in signs that leave one axis of a rotation open.
    assert max(largest_differences(quantizer, Rbnn(quantizer), seed=4)) < 1e-6


def test_all_names_have_a_twin():
    ours = {f"kernel_{name}" for name in quantizers.KERNELS}
    ours |= {f"input_{name}" for name in quantizers.INPUTS}
    others = {"kernel_lab", "kernel_rbnn", "kernel_binaryconnect"}  # tests of their own
    assert ours == set(CASES) | others


q = quantizers
MUTATED = {
    "kernel_ste": q.Sign(surrogate=q.Straight(1.05), dtype="float64"),
    "kernel_bireal": q.Sign(scale=q.MeanAbs(), dtype="float64"),
    "kernel_xnor": q.Sign(q.Centre(), q.Fading(), q.MeanAbs(), dtype="float64"),
    "kernel_bnn_plus": q.Sign(surrogate=q.Swish(5.05), dtype="float64"),
    "kernel_ir_net": q.Sign(q.Standardize(), q.Tanh(1e-3, 10.1), q.PowerOfTwo(), dtype="float64"),
    "kernel_zscore": q.Sign(q.Standardize(eps=1e-3), q.Straight(None), dtype="float64"),
    "kernel_recu": q.Sign(
        q.Standardize(eps=1e-5, gain=math.sqrt(8)), q.Quantile(0.84), dtype="float64"
    ),
    "kernel_ewgs": q.Sign(
        q.Standardize("kernel", gain=1 / 3, centre=False, fixed=True),
        q.ElementWise(2e-3),
        dtype="float64",
    ),
    "kernel_daq": q.Sign(
        q.Standardize("kernel", gain=1 / 3), q.Distance(), dtype="float64"
    ),
    "kernel_reste": q.Sign(
        surrogate=q.Power(), scale=q.MeanAbs("kernel"), gradient="scaled", dtype="float64"
    ),
    "kernel_equal_bits": q.Sign(
        q.Ranks(0.6), q.Straight(None), q.FanIn(), gradient="straight", dtype="float64"
    ),
    "kernel_poke": q.Sign(
        surrogate=q.Straight(None), scale=q.MaxAbs(0.51), gradient="straight", dtype="float64"
    ),
    "input_rbnn": q.Sign(surrogate=q.Tent(end=10.1, least=1.0), dtype="float64"),
    "input_reste": q.Sign(surrogate=q.Power(3.03), dtype="float64"),
    "input_recu": q.Sign(q.ImageScale(1e-3), q.Approx(), dtype="float64"),
    "input_poke": q.Sign(surrogate=q.Straight(2.5), dtype="float64"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATED)
def test_the_comparison_tells_a_formula_that_is_a_little_off(name):
    assert max(largest_differences(MUTATED[name], CASES[name][1], 400)) > 1e-5


@pytest.mark.slow
def test_stochastic_signs_follow_their_probability():
    """BinaryConnect: +1 with probability (w + 1) / 2, other numbers at each step and place."""
    w = np.linspace(-1.5, 1.5, 200).reshape(2, 2, 10, 5)
    quantizer = quantizers.get("binaryconnect", dtype="float64")
    count = tf.Variable(0, dtype=tf.int64)
    quantizer.connect(count, 4000, 0)
    total = np.zeros(w.shape)
    draw = tf.function(lambda: quantizer(tf.constant(w), training=True))
    for _ in range(4000):
        total += draw().numpy() > 0
        count.assign_add(1)
    expected = np.clip((w + 1) / 2, 0, 1)
    deviation = np.sqrt(expected * (1 - expected) / 4000)
    assert np.all(np.abs(total / 4000 - expected) <= 4.5 * deviation)
    np.testing.assert_array_equal(quantizer(w), sgn(w))  # where nothing is trained


def test_published_findings():
    """What the derivations behind these formulas say, in numbers."""
    z = np.random.default_rng(0).normal(size=100_000)
    for tau, share in ((0.85, 0.34), (0.92, 0.14), (0.99, 0.002)):
        gate = surrogates.Quantile(tau, tau).slope(z, {"progress": 0.0}, np)
        assert abs(1 - gate.mean() - share) < 0.01
    middle = surrogates.Tanh().slope(np.linspace(-2, 2, 101), {"progress": np.float64(0.5)}, np)
    assert np.abs(middle - 1).max() < 0.04
    assert surrogates.Tanh().slope(np.zeros(1), {"progress": np.float64(1)}, np) == pytest.approx(
        10
    )
    kernel = np.random.default_rng(1).normal(size=SHAPE)
    moment = np.random.default_rng(2).uniform(size=SHAPE)
    best = scales.Curvature().after_step(kernel, moment, np)["weighted_mean"]
    loss = lambda s: ((np.sqrt(moment) + 1e-8) * (s * sgn(kernel) - kernel) ** 2).sum()  # noqa: E731
    assert loss(best) < min(loss(best * 1.001), loss(best * 0.999))
    even = transforms.Ranks().apply(kernel, {}, np)
    assert np.all((even >= 0).sum((0, 1, 2)) == 6)


@pytest.mark.parametrize("share", [0.1, 0.29, 0.7, 0.8, 0.9])
def test_ranks_give_each_filter_its_share(share):
    kernel = np.random.default_rng(0).normal(size=(100, 3))
    ranked = transforms.Ranks(share).apply(kernel, {}, np)
    np.testing.assert_array_equal((ranked >= 0).sum(0), 3 * [round(100 * share)])


def test_a_power_of_two_is_one_in_float32():
    sizes = 2.0 ** np.arange(-40, 20)
    kernel = tf.constant(np.stack([sizes, -sizes]), tf.float32)
    for run in (scales.PowerOfTwo().of, tf.function(scales.PowerOfTwo().of, jit_compile=True)):
        np.testing.assert_array_equal(run(kernel, {}, tf), [sizes])
