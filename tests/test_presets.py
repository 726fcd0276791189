"""Every preset beside its NumPy twin, through saving, compiled, and on two replicas."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

import networks
import references
from larq_filter import binary, filters, flips, presets
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer

import larq as lq

schedules = keras.optimizers.schedules
SHAPE = (12, 10)


def linear(start, end, steps):
    return schedules.PolynomialDecay(start, steps, end)


def of_step(schedule):
    """A Keras schedule as a function of the step, for a twin."""
    return lambda t: float(schedule(t))


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the tests: a preset with knobs that make it flip.

    Attributes:
        knobs: for unit noise, so that weights flip early and late.
        twin: from the initial weights.
        training: knobs for the gradients of a small network.
    """

    preset: Callable
    knobs: dict
    twin: Callable
    training: dict


def uniforms(t):
    return references.uniform(SHAPE, 3, 0, t)


GAMMA, SIGMA = linear(5e-2, 5e-3, 400), linear(1e-3, 5e-2, 400)


def descent(filtered, *args, alpha=lambda t: 1e-2):
    """Latent SGD by filtered gradients whose learning rate times decay is alpha."""
    return lambda w: references.FilterGradientDescentReference(
        w, lambda: filtered(*args), lambda t: alpha(t) / 0.1, 0.1
    )


CASES = {
    "quist2023": Case(
        presets.quist2023,
        {"alpha": 1e-2},
        lambda w: references.QuistReference(w, lambda t: 1e-2, 0.1),
        {},
    ),
    "bop": Case(
        presets.bop,
        {"gamma": 1e-2, "threshold": 1e-2},
        lambda w: references.BopReference(w, 1e-2, 1e-2),
        {"gamma": 0.1},
    ),
    "bop_second_order": Case(
        presets.bop_second_order,
        {"gamma": 1e-2, "threshold": 5e-2},
        lambda w: references.Bop2ndOrderReference(
            w, lambda t: 1e-2, lambda t: 1e-2, 5e-2, unbiased=False
        ),
        {"gamma": 0.1, "threshold": 0.1},
    ),
    "bop_second_order unbiased": Case(
        presets.bop_second_order,
        {"gamma": GAMMA, "sigma": SIGMA, "threshold": 5e-2, "unbiased": True},
        lambda w: references.Bop2ndOrderReference(
            w, of_step(GAMMA), of_step(SIGMA), 5e-2, unbiased=True
        ),
        {"gamma": linear(0.2, 0.05, 50), "threshold": 0.1, "unbiased": True},
    ),
    "diode": Case(
        presets.diode,
        {"beta1": 0.9, "beta2": 0.99, "binary_learning_rate": 1e-2, "seed": 5},
        lambda w: references.DiodeReference(
            w, keras.initializers.RandomUniform(0, 1, seed=5)(SHAPE).numpy(), 0.9, 0.99, 1e-2
        ),
        {"beta2": 0.9, "binary_learning_rate": 1e-2},
    ),
    "sgdat": Case(
        presets.sgdat,
        {"binary_learning_rate": 1e-2, "threshold": 2e-2},
        lambda w: references.SGDATReference(w, 1e-2, 2e-2),
        {},
    ),
    "boat": Case(
        presets.boat,
        {"leak": 1e-2, "eta": 1e-2},
        lambda w: references.BOATReference(w, 1e-2, 1e-2),
        {"leak": 0.1, "eta": 1e-2},
    ),
    "bold": Case(
        presets.bold,
        {"binary_learning_rate": 0.2},
        lambda w: references.BOLDReference(w, 0.2),
        {},
    ),
    "prob_bop": Case(
        presets.prob_bop,
        {"steps_per_epoch": 5, "gamma": 1e-2, "threshold": 5e-2, "seed": 3},
        lambda w: references.ProbBopReference(w, uniforms, 1e-2, 5e-2, 0.5, 5, None, counted=False),
        {"steps_per_epoch": 2, "gamma": 0.1, "threshold": 2e-3},
    ),
    "prob_bop counted": Case(
        presets.prob_bop,
        {
            "steps_per_epoch": 5,
            "gamma": 5e-2,
            "threshold": 5e-2,
            "a": 0.25,
            "sigma": 1e-2,
            "count_flips": True,
            "seed": 3,
        },
        lambda w: references.ProbBopReference(w, uniforms, 5e-2, 5e-2, 0.25, 5, 1e-2, counted=True),
        {"steps_per_epoch": 2, "gamma": 0.1, "threshold": 0.1, "sigma": 0.1, "count_flips": True},
    ),
    "equal_bits": Case(
        presets.equal_bits,
        {"alpha": 1e-2},
        lambda w: references.EqualBitsReference(w, 1e-2, 0.1),
        {"alpha": 0.1},
    ),
    "bayes_binn": Case(
        presets.bayes_binn,
        {"binary_learning_rate": 1e-2},
        lambda w: references.AverageReference(w, 1e-2),
        {"binary_learning_rate": 0.05},
    ),
    "dqt": Case(
        presets.dqt,
        {"rate": 2e-2, "seed": 3},
        lambda w: references.StochasticRoundingReference(w, uniforms, 4e-2, 0.9, 0.999, 1e-6),
        {"rate": 5e-2},
    ),
    "fgd_ma": Case(
        presets.fgd_ma,
        {"alpha": GAMMA},
        descent(references.ma_two, 0.8, 0.1, alpha=of_step(GAMMA)),
        {},
    ),
    "fgd_ar": Case(presets.fgd_ar, {"alpha": 1e-2}, descent(references.ar_two, 0.8, 0.1), {}),
    "fgd_kalman": Case(presets.fgd_kalman, {"alpha": 1e-2}, descent(references.kalman_five), {}),
}
ROWS = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
# Those of which no other row, and no test of filters, has the filter and the rule.
OWN = {name: c for name, c in CASES.items() if not name.startswith(("bayes_binn", "fgd_"))}
OWN_ROWS = pytest.mark.parametrize("case", OWN.values(), ids=OWN.keys())


def test_every_preset_has_a_row():
    assert {case.preset for case in CASES.values()} == set(presets.PRESETS.values())
    assert all(name == preset.__name__ for name, preset in presets.PRESETS.items())


def kernel(dtype="float32", name="layer", seed=0, shape=SHAPE):
    """One binary kernel in a real Larq layer."""
    layer = lq.layers.QuantDense(
        shape[1],
        kernel_quantizer=lq.quantizers.NoOp(precision=1),
        kernel_initializer=binary.RandomSign(seed),
        use_bias=False,
        dtype=dtype,
        name=name,
    )
    layer(tf.zeros((1, shape[0]), dtype))
    return layer.kernel


def gradients(steps, seed=0, drift=0.3):
    """Noise with a slowly turning mean per weight, so that weights flip early and late."""
    random = np.random.default_rng(seed)
    mean = drift * random.normal(size=SHAPE)
    phase = random.uniform(0, 2 * np.pi, size=SHAPE)
    for t in range(steps):
        yield mean * np.sin(t / 40 + phase) + random.normal(size=SHAPE)


def values(variable):
    return binary.latent(variable).numpy()


MODES = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}


@pytest.mark.slow
@ROWS
def test_follows_its_twin(case):
    """500 steps in float64, every weight at every step.

    At least 10 % of the weights flip, not counting the first step, and some flip after step 100.
    """
    keras.backend.set_floatx("float64")
    w = kernel("float64")
    twin = case.twin(values(w))
    optimizer = case.preset(**case.knobs, default_optimizer=None)
    optimizer.build([w])
    step = tf.function(lambda g: optimizer.apply_gradients([(g, w)]))
    flipped, late = np.zeros(SHAPE, bool), 0
    for t, g in enumerate(gradients(500)):
        before = values(w)
        step(tf.constant(g))
        np.testing.assert_array_equal(values(w), twin.step(g), err_msg=f"step {t}")
        flipped |= (values(w) != before) & (t > 0)
        late += np.sum(values(w) != before) * (t >= 100)
    assert flipped.mean() > 0.1
    assert late > 0


@pytest.mark.slow
@OWN_ROWS
def test_the_same_in_every_mode(case):
    """Eager, traced and compiled by XLA; float64, so that fused rounding decides nothing."""
    keras.backend.set_floatx("float64")
    ends = []
    for mode, wrap in MODES.items():
        w = kernel("float64", name=mode)
        start = values(w)
        optimizer = case.preset(**case.knobs, default_optimizer=None, jit_compile=False)
        optimizer.build([w])
        step = wrap(lambda g, w=w, optimizer=optimizer: optimizer.apply_gradients([(g, w)]))
        for g in gradients(25):
            step(tf.constant(g))
        assert np.any(values(w) != start)
        ends.append(values(w))
    np.testing.assert_array_equal(ends[1], ends[0])
    np.testing.assert_array_equal(ends[2], ends[0])


def test_bop_is_larqs_own():
    """500 steps in float32 beside larq.optimizers.Bop in a CaseOptimizer, bit for bit.

    No signal is exactly at the threshold; there Larq's would send the weight to +1.
    """
    ours, theirs = kernel(name="ours"), kernel(name="theirs")
    real = tf.Variable(1.0)
    optimizer = presets.bop(gamma=1e-2, threshold=1e-2, default_optimizer=None)
    optimizer.build([ours])
    larqs = lq.optimizers.CaseOptimizer(
        (lq.optimizers.Bop.is_binary_variable, lq.optimizers.Bop(threshold=1e-2, gamma=1e-2)),
        default_optimizer=keras.optimizers.legacy.Adam(),
    )
    count = 0
    for g in gradients(500):
        before, g = values(ours), tf.constant(g, tf.float32)
        optimizer.apply_gradients([(g, ours)])
        larqs.apply_gradients([(g, theirs), (tf.constant(1.0), real)])
        np.testing.assert_array_equal(values(ours), values(theirs))
        count += np.sum(values(ours) != before)
    assert count > 0.1 * before.size


# Saving -------------------------------------------------------------------------------------------


def small_model(optimizer):
    model = networks.small_network(lambda: keras.layers.BatchNormalization(scale=False))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def toy_data(samples):
    x = np.random.default_rng(0).normal(size=(samples, 8)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


@pytest.mark.slow
@OWN_ROWS
def test_saving_in_the_middle_changes_nothing(case, tmp_path):
    """20 steps, .keras, load, 30 steps: every variable as in the uninterrupted run."""
    x, y = toy_data(400)
    model = small_model(case.preset(**case.training))
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x[:160], y[:160], **fit)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.gradient_filter == model.optimizer.gradient_filter
    assert loaded.optimizer.flip_rule == model.optimizer.flip_rule
    kernels = [variable for _, variable in binary.binary_kernels(model)]
    before = [values(variable) for variable in kernels]
    for candidate in (model, loaded):
        candidate.fit(x[160:], y[160:], **fit)
    assert int(loaded.optimizer.iterations) == 50
    assert sum(np.sum(values(k) != b) for k, b in zip(kernels, before, strict=True)) > 0
    ours = model.variables + model.optimizer.variables
    theirs = loaded.variables + loaded.optimizer.variables
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quist2023", "bold", "prob_bop counted"])
def test_a_model_saved_before_its_first_step_loads_and_trains(name, tmp_path):
    """The file holds no states yet; the loaded model trains as the saved one does."""
    x, y = toy_data(160)
    model = small_model(CASES[name].preset(**CASES[name].training))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for candidate in (model, loaded):
        candidate.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.name)


# Replicas -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["bold", "prob_bop", "prob_bop counted", "equal_bits", "diode", "dqt", "fgd_kalman"]
)
def test_replicas_stay_alike_and_like_one_device(name, strategy):
    """Scalar state, feedback, random numbers, ranks and a random start, on two replicas."""
    case = CASES[name]
    per_step = np.random.default_rng(0).normal(size=(40, 2, *SHAPE)).astype("float32")
    alone = kernel(name="alone")
    single = case.preset(**case.knobs, default_optimizer=None)
    single.build([alone])
    with strategy.scope():
        w = kernel(name="mirrored")
        optimizer = case.preset(**case.knobs, default_optimizer=None)
        optimizer.build([w])

    step = networks.step_on_replicas(strategy, optimizer, [w])
    count = 0
    for parts in per_step:
        before = values(alone)
        step(tf.constant(parts))
        single.apply_gradients([(tf.constant(parts.sum(axis=0)), alone)])
        count += np.sum(values(alone) != before)
        for replica in w.latent_variable.values:
            np.testing.assert_array_equal(replica.numpy(), values(alone))
    assert count > 0.1 * before.size
    for ours, theirs in zip(optimizer.variables, single.variables, strict=True):
        for replica in getattr(ours, "values", [ours]):
            np.testing.assert_allclose(replica.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-7)


# What the knobs do --------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.5, 0.6, 1.0, 1.5, 2.0, 2.01])
def test_flip_probability(delta):
    """20,000 weights at one strength, randomness 1/2: 1 - exp(-delta) between the edges.

    c = 0.5 itself never flips, 1/c = 2 itself is left to chance, above it every weight flips.
    Two-sided binomial test; the seed is fixed, the bound 1e-3.
    """
    w = kernel(shape=(200, 100))
    w.latent_variable.assign(tf.ones((200, 100)))
    optimizer = FilterOptimizer(filters.EMA(1.0), flips.Probabilistic(1.0, 0.5, seed=11), None)
    optimizer.build([w])
    optimizer.apply_gradients([(tf.fill((200, 100), delta), w)])
    flipped = int(np.sum(values(w) < 0))
    if delta in (0.5, 2.01):
        assert flipped == (0 if delta == 0.5 else 20_000)
    else:
        assert stats.binomtest(flipped, 20_000, 1 - np.exp(-delta)).pvalue > 1e-3


@pytest.mark.parametrize("signal", [-1.0, 0.0, 0.3, 1.0, 2.0, 5.0])
def test_stochastic_rounding_is_right_on_average(signal):
    """20,000 weights of +1, rate 1/4: min(1, signal / 4) of them flip, none against the signal."""
    w = kernel(shape=(200, 100))
    w.latent_variable.assign(tf.ones((200, 100)))
    optimizer = FilterOptimizer(filters.EMA(1.0), flips.Stochastic(0.25, seed=11), None)
    optimizer.build([w])
    optimizer.apply_gradients([(tf.fill((200, 100), signal), w)])
    flipped = int(np.sum(values(w) < 0))
    share = min(1.0, max(0.0, signal / 4))
    if share in (0.0, 1.0):
        assert flipped == share * 20_000
    else:
        assert stats.binomtest(flipped, 20_000, share).pvalue > 1e-3


def test_two_kernels_and_two_seeds_draw_apart():
    ends = {}
    for seed in (0, 1):
        first, second = kernel(name=f"a{seed}"), kernel(name=f"b{seed}")
        for w in (first, second):
            w.latent_variable.assign(tf.ones(SHAPE))
        optimizer = FilterOptimizer(
            filters.EMA(1.0), flips.Probabilistic(1.0, 0.5, seed=seed), None
        )
        optimizer.build([first, second])
        optimizer.apply_gradients([(tf.ones(SHAPE), first), (tf.ones(SHAPE), second)])
        ends[seed] = values(first), values(second)
    assert np.any(ends[0][0] != ends[0][1])
    assert np.any(ends[0][0] != ends[1][0])


def test_the_blur_of_prob_bop_follows_the_epochs():
    optimizer = presets.prob_bop(steps_per_epoch=7, a=0.25)
    randomness = optimizer.flip_rule.rates()["randomness"]
    at = [float(randomness(step)) for step in (0, 69, 70, 139, 140)]
    assert at == [0.5, 0.5, 0.125, 0.125, 0.03125]


def test_diode_remembers_its_weights_at_first():
    """The start outlasts one step: unlike a start from zero, no weight has to flip."""
    w = kernel()
    start = values(w)
    optimizer = presets.diode(default_optimizer=None)
    optimizer.build([w])
    state = [v.numpy() for v in optimizer.variables if v.shape == w.shape]
    assert any(np.all(s * start <= 0) and 0 < np.max(-s * start) < 1e-3 for s in state)
    optimizer.apply_gradients([(tf.constant(start), w)])
    assert np.mean(values(w) == start) > 0.99


def test_own_knobs_and_those_of_the_optimizer():
    optimizer = presets.bop(
        gamma=linear(1e-3, 1e-5, 100), default_optimizer=keras.optimizers.SGD(0.5), clipnorm=1.0
    )
    assert float(optimizer.learning_rate) == 0.5
    assert optimizer.clipnorm == 1.0
    assert optimizer.gradient_filter.rates_at(100)["alpha"] == pytest.approx(1e-5)
    assert presets.bop(warm_start=0.5).warm_start == 0.5
    assert presets.diode(warm_start=None).warm_start is None
    default = presets.quist2023()
    assert default.gradient_filter == FilterOptimizer().gradient_filter
    assert presets.diode().flip_rule == flips.Sign()


def bayesian_training(rates, steps=20_000, **kind):
    """Signs of the published rule and of one average on its gradients, after each step.

    A linear network of 40 weights learns those of another; batches of 8, labels with noise. Also
    returns the average that starts from the rule's own state after two steps.
    """
    random = np.random.default_rng(0)
    x, target = random.normal(size=(512, 40)), random.choice([-1.0, 1.0], 40)
    y = x @ target + 3 * random.normal(size=512)
    rule = references.LogOddsReference(random.normal(size=40), rates, **kind)
    signs, signal, later = [], [np.zeros(40)], []
    average = filters.EMA(1.0)
    for t in range(steps):
        batch = random.integers(0, 512, 8)
        q = rule.draw(random.uniform(size=40))
        gradient = x[batch].T @ (x[batch] @ q - y[batch]) / 320
        signs.append(rule.step(gradient))
        alpha = {"alpha": rates(t)}
        signal.append(average.step(gradient, (signal[-1],), alpha, np)[0])
        handed = -rule.lam / rule.count / 1e10
        later.append(handed if t < 2 else average.step(gradient, (later[-1],), alpha, np)[0])
    return np.array(signs), -np.sign(signal[1:]), -np.sign(later)


def single(x):
    """tanh in float32, in which the publication computes: tanh(10) is 1."""
    return np.tanh(x.astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize("decays", [False, True])
def test_bayes_binn_at_its_temperature_is_an_average(decays):
    """20,000 steps of the published rule at T = 1e-10, with its noise and its start at +-10."""

    def rates(t):
        return 1e-16 + 3e-4 * (1 + np.cos(np.pi * t / 20_000)) / 2 if decays else 3e-4

    signs, average, _ = bayesian_training(rates, delayed=decays, tanh=single)
    assert np.mean(np.any(signs != signs[0], axis=0)) > 0.9
    assert np.mean(signs != average) <= 1e-3


def test_bayes_binn_in_float64_weighs_its_first_gradients_less():
    """1 - tanh(10)^2 is 8.2e-9 there: a gain of 1.2e8 in place of 1e10, once. Then the same."""
    signs, average, later = bayesian_training(lambda t: 3e-4, steps=5_000)
    assert 1 / (1 - np.tanh(10) ** 2 + 1e-10) == pytest.approx(1e10 / 83.4, rel=1e-3)
    assert np.mean(signs != average) > 1e-3
    assert np.mean(signs[2:] != later[2:]) <= 1e-3


def test_bayes_binn_is_that_average():
    optimizer = presets.bayes_binn(binary_learning_rate=0.125)
    assert optimizer.gradient_filter == filters.EMA(0.125)
    assert (optimizer.flip_rule, optimizer.warm_start) == (flips.Sign(), None)


def test_what_fgd_forgets_without_the_average():
    """Less than 1 % of a gradient is left after 3, 48 and 5 steps; with the average, thousands."""
    impulse = np.eye(1, 3000)[0]
    lengths = {}
    for name in ("fgd_ma", "fgd_ar", "fgd_kalman"):
        first, last = presets.PRESETS[name](alpha=1e-3).gradient_filter.stages
        for part, f in (("alone", first), ("both", filters.Cascade([first, last]))):
            response = np.abs(f.run(impulse)[0])
            lengths[name, part] = 1 + int(np.flatnonzero(response > 0.01 * response.max())[-1])
    assert [lengths[f"fgd_{n}", "alone"] for n in ("ma", "ar", "kalman")] == [3, 48, 5]
    assert all(lengths[name, "both"] == 3000 for name, part in lengths if part == "both")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: presets.prob_bop(), TypeError, ["steps_per_epoch"]),
        (lambda: presets.prob_bop(steps_per_epoch=0), ValueError, ["steps_per_epoch", "(0, inf)"]),
        (lambda: presets.prob_bop(steps_per_epoch=9, a=2), ValueError, ["`a` is 2", "(0, 1]"]),
        (lambda: presets.prob_bop(steps_per_epoch=9, seed=0.5), TypeError, ["seed", "0.5"]),
        (lambda: presets.diode(beta1=1.0), ValueError, ["beta1", "1.0", "[0, 1)"]),
        (lambda: presets.diode(beta2=linear(1, 0, 9)), TypeError, ["beta2", "1 - beta"]),
        (lambda: presets.bop(gamma=0), ValueError, ["gamma", "(0, 1]"]),
        (lambda: presets.bop_second_order(gamma=2), ValueError, ["`gamma` is 2", "(0, 1]"]),
        (lambda: presets.bop(1e-4), TypeError, ["positional"]),
        (lambda: presets.boat(eta=-1), ValueError, ["eta", "[0, inf)"]),
        (lambda: presets.bold(binary_learning_rate=0), ValueError, ["binary_learn", "(0, inf)"]),
        (lambda: presets.sgdat(binary_learning_rate=-1), ValueError, ["binary_learn", "(0, inf)"]),
        (lambda: presets.diode(binary_learning_rate=0), ValueError, ["binary_learn", "(0, inf)"]),
        (lambda: presets.bop_second_order(warm_start=1.0), ValueError, ["NormalizedEMA", "start"]),
        (lambda: presets.sgdat(nonsense=1), TypeError, ["nonsense", "clipnorm"]),
        (lambda: presets.bayes_binn(binary_learning_rate=2), ValueError, ["binary_le", "(0, 1]"]),
        (lambda: presets.dqt(rate=0), ValueError, ["rate", "(0, inf)"]),
        (lambda: presets.dqt(beta1=1.0), ValueError, ["beta1", "1.0", "[0, 1)"]),
        (lambda: presets.dqt(warm_start=1.0), ValueError, ["NormalizedEMA", "start"]),
        (lambda: presets.fgd_ar(coefficients=[1.0]), ValueError, ["AR([1.0])", "pole"]),
        (lambda: presets.fgd_kalman(transition=1e9), ValueError, ["transition"]),
    ],
)
def test_wrong_knobs(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)
