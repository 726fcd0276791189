"""Latent rules beside twins in NumPy that share no code with them, and by hand."""

import dataclasses
import functools
import inspect
import json

import numpy as np
import pytest

from larq_filter import binary, latent_rules
from larq_filter._keras import keras, tf
from larq_filter.latent_rules import (
    AdaptiveClipping,
    Bipolar,
    Chain,
    Clip,
    Concave,
    GlorotScale,
    Metaplastic,
    Mirror,
    Prox,
    SilentWeights,
)
from larq_filter.optimizers import LatentOptimizer
from rule_twins import (
    BipolarTwin,
    ClippingTwin,
    ClipTwin,
    ConcaveTwin,
    GlorotTwin,
    MetaplasticTwin,
    MirrorTwin,
    ProxTwin,
    SilentTwin,
    Together,
)

import larq as lq

schedules = keras.optimizers.schedules
STEPS = 500


# Rules, their twin, and how near they stay: schedules are float32.
CASES = {
    "clip": ([Clip(0.7)], ClipTwin, 1e-10),
    "glorot": ([GlorotScale()], GlorotTwin, 1e-10),
    "clipping": ([AdaptiveClipping(0.5)], ClippingTwin, 1e-10),
    "silent": ([SilentWeights()], lambda: SilentTwin(0.04, 9e-4, 0.999, 1e-4, 0.0), 1e-10),
    "silent often": (
        [SilentWeights(0.5, 0.2, momentum=0.9, threshold=0.05, start=1.0)],
        lambda: SilentTwin(0.5, 0.2, 0.9, 0.05, 1.0),
        1e-10,
    ),
    "bipolar": ([Bipolar(0.05)], BipolarTwin, 1e-10),
    "prox": ([Prox(schedules.PolynomialDecay(0.0, 400, 2e-3))], ProxTwin, 1e-6),
    "mirror": (
        [Mirror(schedules.ExponentialDecay(1.0, 100, 1.1, staircase=True))],
        MirrorTwin,
        1e-6,
    ),
    "concave": (
        [Concave(schedules.PolynomialDecay(0.0, 400, 1e-3)), Clip(1.0)],
        ConcaveTwin,
        1e-6,
    ),
    "metaplastic": ([Metaplastic(1.35)], MetaplasticTwin, 1e-10),
    "five": (
        [AdaptiveClipping(0.5), Bipolar(0.05), GlorotScale(), Metaplastic(1.35), Clip(0.7)],
        lambda: Together(
            ClippingTwin(), BipolarTwin(), GlorotTwin(), MetaplasticTwin(), ClipTwin()
        ),
        1e-10,
    ),
}


MOMENTUM, BETA_1, BETA_2 = map(float, np.float32([0.9, 0.9, 0.999]))  # as Keras casts them


class SGD:
    def __init__(self):
        self.v = 0.0

    def step(self, w, g, t):
        self.v = MOMENTUM * self.v - 3e-3 * g
        return w + self.v


class Adam:
    def __init__(self):
        self.m = self.v = 0.0

    def step(self, w, g, t):
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        size = 1e-2 * np.sqrt(1 - BETA_2 ** (t + 1)) / (1 - BETA_1 ** (t + 1))
        return w - size * self.m / (np.sqrt(self.v) + 1e-7)


OPTIMIZERS = {
    "sgd": (lambda: keras.optimizers.SGD(3e-3, 0.9), SGD),
    "adam": (lambda: keras.optimizers.Adam(1e-2), Adam),
}


@pytest.fixture(scope="module")
def sequence():
    """Weights, and gradients of changing size that draw them to a side now and then."""
    random = np.random.default_rng(0)
    shape = (8, 6)
    size = np.exp(random.normal(0, 1.5, (STEPS, 1, shape[1])))
    drift = np.sin(np.arange(STEPS) / 60)[:, None, None] * random.normal(size=shape)
    gradients = 0.3 * size * (random.normal(size=(STEPS, *shape)) + drift)
    return random.uniform(-0.9, 0.9, shape), gradients


def twin_of(name, optimizer, sequence):
    w, gradients = sequence
    twin, steps = CASES[name][1](), OPTIMIZERS[optimizer][1]()
    for t, g in enumerate(gradients):
        w = twin.after(w, steps.step(w, twin.before(g, w, t), t), t)
    return w


@functools.cache
def rates_of(name):
    """Schedules take their time."""
    return [Chain(CASES[name][0]).rates_at(t) for t in range(STEPS)]


def in_numpy(name, rules, sequence):
    """The rules themselves on arrays, around the SGD of the twins."""
    w, gradients = sequence
    rule, steps = Chain(rules), SGD()
    state = rule.zero_state(w, np)
    for t, (g, rates) in enumerate(zip(gradients, rates_of(name), strict=True)):
        g, state = rule.before(g, w, state, rates, np)
        w, state = rule.after(w, steps.step(w, g, t), state, rates, np)
    return w


def latent_kernel(value, constraint=None):
    layer = lq.layers.QuantDense(
        value.shape[1],
        kernel_quantizer="ste_sign",
        kernel_constraint=constraint,
        use_bias=False,
    )
    layer.build((None, value.shape[0]))
    layer.kernel.assign(value)
    return layer.kernel


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", CASES)
def test_500_steps_are_those_of_the_twin(name, optimizer, sequence):
    keras.backend.set_floatx("float64")
    rules, _, near = CASES[name]
    start, gradients = sequence
    kernel = latent_kernel(start)
    trained = LatentOptimizer(OPTIMIZERS[optimizer][0](), "sgd", rules)
    trained.build([kernel])

    @tf.function
    def train(gradients):
        for gradient in gradients:
            trained.apply_gradients([(gradient, kernel)])

    train(tf.constant(gradients))
    ours, theirs = binary.latent(kernel).numpy(), twin_of(name, optimizer, sequence)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=near)
    steps, w = OPTIMIZERS[optimizer][1](), start
    for t, g in enumerate(gradients):
        w = steps.step(w, g, t)
    assert np.abs(ours - w).max() > 1e-3  # the rule has done something


# A formula, and what a slip would make of it.
MUTANTS = [
    ("clip", "xp.maximum(new, -rates", "xp.maximum(old, -rates"),
    ("clip", 'rates["limit"]), state', "0.71), state"),
    ("glorot", "1.5 / (fan_in + fan_out)", "3.0 / (fan_in + fan_out)"),
    ("glorot", "c * (new - old)", "c * new"),
    ("clipping", "size < most", "size > most"),
    ("clipping", "_norm(weight, xp)", "_norm(gradient, xp)"),
    ("clipping", "most / xp.maximum(size, _SMALLEST)", "most / size * 1.001"),
    ("silent often", "norm_w / norm_g", "norm_g / norm_w"),
    ("silent often", "norm_g / norm_w <", "norm_g / norm_w >"),
    ("silent often", "weight * sign < 0", "weight * sign > 0"),
    ("silent often", "(1 - self.momentum) * changed", "self.momentum * changed"),
    ("silent often", "t < self.threshold", "t > self.threshold"),
    ("silent often", "(t, xp.sign(weight))", "(t, sign)"),
    ("silent often", "self.start * xp.ones_like", "0.0 * xp.ones_like"),
    ("silent", '+ rates["decay"]', '- rates["decay"]'),
    ("bipolar", "- 2 * rates", "- rates"),
    ("bipolar", "gradient - 2", "gradient + 2"),
    ("prox", "xp.abs(new) - 1", "1 - xp.abs(new)"),
    ("prox", '- rates["rate"]', '- 2 * rates["rate"]'),
    ("prox", "xp.sign(d) * left", "left"),
    ("mirror", "_atanh(inside, xp) + ", "_atanh(new, xp) + "),
    ("mirror", '+ rates["beta"] *', "+"),
    ("mirror", "xp.tanh(", "("),
    ("concave", "2 * rates", "rates"),
    ("concave", "* new, state", "* old, state"),
    ("metaplastic", "old * step < 0", "old * step > 0"),
    ("metaplastic", "held * held", "held"),
    ("metaplastic", "xp.abs(old)", "xp.abs(new)"),
]


@pytest.mark.parametrize(("name", "right", "wrong"), MUTANTS)
def test_a_mutated_formula_is_told_from_the_twin(name, right, wrong, sequence):
    rules, _, near = CASES[name]
    twin = twin_of(name, "sgd", sequence)
    np.testing.assert_allclose(in_numpy(name, rules, sequence), twin, rtol=0, atol=near)
    kind = type(rules[0])
    source = inspect.getsource(kind)
    code = source.index("intervals =") if "intervals =" in source else source.index("def after")
    assert right in source[code:]
    scope = dict(vars(inspect.getmodule(kind)))
    exec(source[:code] + source[code:].replace(right, wrong), scope)
    mutant = scope[kind.__name__](**rules[0].get_config())
    with np.errstate(all="ignore"):
        assert not np.abs(in_numpy(name, [mutant, *rules[1:]], sequence) - twin).max() < 100 * near


# By hand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("xp", [np, tf], ids=["numpy", "tensorflow"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_weight_comes_back_from_both_ends(dtype, xp):
    """From -1 and +1 exactly and from beyond, alike on both sides, and nothing is NaN."""
    old = np.array([-1, 1, -1.5, 1.5, -1, 1], dtype)
    new = old + np.array([0, 0, 0, 0, 30, -30], dtype)
    if xp is tf:
        old, new = tf.constant(old), tf.constant(new)
    w, _ = Mirror(1.0).after(old, new, (), {"beta": 1.0}, xp)
    w = np.array(w, np.float64)
    np.testing.assert_array_equal(w[0::2], -w[1::2])
    assert w[1] == w[3] > 0.98 and np.abs(w).max() <= 1
    assert w[5] < -0.98


@pytest.mark.parametrize("rule", [Clip(), Mirror(1.0), Prox(0.1), Concave(0.1), Metaplastic()])
@pytest.mark.parametrize("xp", [np, tf], ids=["numpy", "tensorflow"])
def test_nan_stays_nan(rule, xp):
    old, new = np.array([0.5, 0.5, 0.5]), np.array([np.nan, 0.4, np.nan])
    if xp is tf:
        old, new = tf.constant(old), tf.constant(new)
    w, _ = rule.after(old, new, (), rule.rates_at(0), xp)
    assert np.isnan(np.array(w)).tolist() == [True, False, True]


def test_one_unit_with_nan_leaves_the_others():
    g, w = np.ones((3, 2)), np.ones((3, 2))
    g[0, 0] = np.nan
    for rule in (AdaptiveClipping(), SilentWeights()):
        changed, state = rule.before(g, w, rule.zero_state(w, np), rule.rates_at(0), np)
        assert np.isfinite(changed[:, 1]).all() and np.isnan(changed[0, 0])
        assert all(np.isfinite(array).all() for array in state)


def test_gradients_and_weights_of_zero():
    zero = np.zeros((4, 3))
    for rule in (AdaptiveClipping(), AdaptiveClipping(0.0, floor=0.0), SilentWeights(), Bipolar()):
        g, _ = rule.before(zero, zero, rule.zero_state(zero, np), rule.rates_at(0), np)
        np.testing.assert_array_equal(g, zero)
    g, _ = AdaptiveClipping(0.02).before(np.ones((4, 1)), np.zeros((4, 1)), (), {"share": 0.02}, np)
    np.testing.assert_allclose(np.linalg.norm(g), 0.02 * 1e-3)  # the floor


def steps_until_silent(rule, weights):
    """Steps from the last of ``weights`` on until its decay sets in."""
    rates, state, count = rule.rates_at(0), rule.zero_state(np.ones(1), np), 0
    for weight in weights:
        g, state = rule.before(np.zeros(1), np.array([weight]), state, rates, np)
    while not g:
        g, state = rule.before(np.zeros(1), np.array([weights[-1]]), state, rates, np)
        count += 1
    return count


def test_when_a_weight_is_silent():
    """As the docstring says: 2,302 steps after its flip; never in the first 9,205 from 1 on."""
    assert steps_until_silent(SilentWeights(0.0, 1.0), [1.0, -1.0]) == 2302
    assert steps_until_silent(SilentWeights(0.0, 1.0, start=1.0), [-1.0]) == 9205  # the 9,206th


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((64, 128), 128**0.5), ((3, 3, 64, 64), 768**0.5), ((3, 3, 16, 1), (153 / 1.5) ** 0.5)],
)
def test_the_scale_of_a_kernel(shape, expected):
    w, _ = GlorotScale().after(np.zeros(shape), np.ones(shape), (), {}, np)
    np.testing.assert_allclose(w, expected)


def test_a_unit_is_an_output_channel():
    g, w = np.ones((3, 3, 2, 4)), np.ones((3, 3, 2, 4))
    g[..., 1] = 1e-3
    clipped, _ = AdaptiveClipping(0.5).before(g, w, (), {"share": 0.5}, np)
    np.testing.assert_allclose(clipped[0, 0, 0], [0.5, 1e-3, 0.5, 0.5])


# Values -------------------------------------------------------------------------------------------

RULES = [rule for rules, _, _ in CASES.values() for rule in rules]


def test_config_round_trip():
    for rule in [*RULES, Chain(RULES)]:
        saved = json.loads(json.dumps(keras.utils.serialize_keras_object(rule)))
        assert keras.utils.deserialize_keras_object(saved) == rule
    assert Clip(1.0) != Clip(2.0)


def test_every_rule_has_a_twin():
    kinds = {kind for kind in vars(latent_rules).values() if isinstance(kind, type)}
    assert kinds - {latent_rules.Rule, Chain} == {type(rule) for rule in RULES}
    mutated = {type(CASES[name][0][0]) for name, _, _ in MUTANTS}
    assert mutated == {type(rule) for rule in RULES}


def test_a_chain_names_rates_by_position_and_passes_states():
    chain = Chain([Clip(0.5), SilentWeights(), Mirror(2.0)])
    assert list(chain.rates()) == ["limit_0", "share_1", "decay_1", "beta_2"]
    assert chain.with_rate("beta_2", 3.0).rules[2] == Mirror(3.0)
    assert chain.state_size == 2 and chain.has_before and chain.has_after
    with pytest.raises(ValueError, match=r"beta.*\(0, inf\)"):
        chain.with_rate("beta_2", 0.0)
    empty = Chain()
    assert not empty.has_before and not empty.has_after
    w = np.ones(3)
    assert empty.before(w, w, (), {}, np) == (w, ())


def test_a_rule_of_ones_own_needs_one_function():
    @dataclasses.dataclass(frozen=True, eq=False)
    class Freeze(latent_rules.Rule):
        def after(self, old, new, state, rates, xp):
            return old, state

    assert Freeze().has_after and not Freeze().has_before
    w, _ = Chain([Freeze()]).after(np.ones(2), np.zeros(2), (), {}, np)
    np.testing.assert_array_equal(w, np.ones(2))


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: Clip(0.0), ValueError, ["limit", "0", "(0, inf)"]),
        (lambda: Prox(-1e-3), ValueError, ["rate", "[0, inf)"]),
        (lambda: Mirror("fast"), TypeError, ["beta", "fast", "schedule"]),
        (lambda: SilentWeights(momentum=1.0), ValueError, ["momentum", "[0, 1)"]),
        (lambda: SilentWeights(start=2.0), ValueError, ["start", "[0, 1]"]),
        (lambda: AdaptiveClipping(floor=-1.0), ValueError, ["floor", "[0, inf)"]),
        (lambda: Chain(Clip()), TypeError, ["list of rules: [Clip(limit=1.0)]", "alone"]),
        (lambda: Chain(["clip"]), TypeError, ["latent_rules", "[Clip(1.0)]", "clip"]),
        (lambda: Chain(None), TypeError, ["list of rules", "None"]),
    ],
)
def test_errors(build, error, words):
    with pytest.raises(error) as raised:
        build()
    for word in words:
        assert word in str(raised.value)
