"""FilterOptimizer beside NumPy twins, Larq's Bop and Keras' own optimizers."""

import copy
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import networks
import references
from larq_filter import binary, filters, flips, presets
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer, default_alpha

import larq as lq

schedules = keras.optimizers.schedules
SHAPE = (12, 10)


def kernel(values=None, quantizer=None, dtype="float32", name="layer", seed=0, **kwargs):
    """One binary kernel in a real Larq layer."""
    layer = lq.layers.QuantDense(
        SHAPE[1],
        kernel_quantizer=quantizer or lq.quantizers.NoOp(precision=1),
        kernel_initializer=binary.RandomSign(seed),
        use_bias=False,
        dtype=dtype,
        name=name,
        **{"kernel_constraint": "weight_clip", **kwargs},
    )
    layer(tf.zeros((1, SHAPE[0]), dtype))
    if values is not None:
        layer.kernel.latent_variable.assign(values)
    return layer.kernel


def gradients(steps, seed=0, drift=0.05):
    """Noise with a drift of its own per weight, so that weights flip early and late."""
    random = np.random.default_rng(seed)
    mean = drift * random.normal(size=SHAPE)
    return mean * np.sin(np.arange(steps) / 40)[:, None, None] + random.normal(size=(steps, *SHAPE))


def values(variable):
    return binary.latent(variable).numpy()


MODES = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}

CASES = {
    "constant": (
        lambda: filters.CascadedEMA(alpha=1e-2, gamma=0.1),
        lambda w: references.QuistReference(w, lambda t: 1e-2, 0.1),
    ),
    "linear": (
        lambda: filters.CascadedEMA(alpha=schedules.PolynomialDecay(5e-2, 400, 0.0), gamma=0.2),
        lambda w: references.QuistReference(w, references.linear(5e-2, 400), 0.2),
    ),
    "default": (
        lambda: filters.CascadedEMA(alpha=default_alpha(1e-2, 100), gamma=0.1),
        lambda w: references.QuistReference(w, references.inverse_time(1e-2, 100), 0.1),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_follows_the_numpy_twin(case, mode, dtype):
    """300 steps; the weights agree except where the twin's signal is a tie within rounding."""
    keras.backend.set_floatx(dtype)
    make, twin_of = CASES[case]
    w = kernel(dtype=dtype)
    twin = twin_of(values(w))
    optimizer = FilterOptimizer(make(), default_optimizer=None)
    optimizer.build([w])
    step = MODES[mode](lambda g: optimizer.apply_gradients([(g, w)]))
    start, ties = values(w), 0
    for g in gradients(300):
        expected = twin.step(g).copy()
        step(tf.constant(g, dtype))
        different = values(w) != expected
        # float32 rounds the signal by less than 1e-5 of a typical one; the schedule too.
        assert np.all(np.abs(twin.h[different]) < 1e-5)
        ties += different.sum()
    assert ties <= (2 if dtype == "float32" else 0) or case != "constant"
    assert np.mean(values(w) != start) > 0.1
    assert int(optimizer.iterations) == 300


def test_matches_bop_away_from_ties():
    """EMA and Threshold walk the path of Larq's own Bop, bit for bit, for 500 steps."""
    ours, larqs = kernel(name="ours"), kernel(name="larqs")
    optimizer = FilterOptimizer(
        filters.EMA(1e-2), flip_rule=flips.Threshold(1e-2), default_optimizer=None
    )
    bop = lq.optimizers.Bop(threshold=1e-2, gamma=1e-2)
    optimizer.build([ours])
    start = values(ours)
    twin = references.BopReference(start, 1e-2, 1e-2)
    flips_seen = 0
    for g in gradients(500, drift=0.2):
        before = values(ours)
        optimizer.apply_gradients([(tf.constant(g, tf.float32), ours)])
        bop.apply_gradients([(tf.constant(g, tf.float32), larqs)])
        np.testing.assert_array_equal(values(ours), values(larqs))
        twin.step(g)
        flips_seen += np.sum(before != values(ours))
    assert flips_seen > 0.1 * ours.shape.num_elements()
    assert np.mean(values(ours) == twin.w) == 1.0


def test_bop_sends_a_tie_to_plus_one_and_we_leave_it():
    """Signal times weight exactly at the threshold: the documented difference."""
    minus = -np.ones(SHAPE)
    ours, larqs = kernel(minus, name="ours"), kernel(minus, name="larqs")
    optimizer = FilterOptimizer(
        filters.EMA(1.0), flip_rule=flips.Threshold(0.5), default_optimizer=None
    )
    optimizer.build([ours])
    tie = tf.fill(SHAPE, -0.5)
    optimizer.apply_gradients([(tie, ours)])
    lq.optimizers.Bop(threshold=0.5, gamma=1.0).apply_gradients([(tie, larqs)])
    assert np.all(values(ours) == -1)
    assert np.all(values(larqs) == 1)


def test_a_zero_gradient_never_flips():
    w = kernel()
    start = values(w)
    optimizer = FilterOptimizer(default_optimizer=None)
    optimizer.build([w])
    for _ in range(3):
        optimizer.apply_gradients([(tf.zeros(SHAPE), w)])
    np.testing.assert_array_equal(values(w), start)


def test_first_step_from_zero_state_forgets_the_initial_weights():
    w = kernel()
    g = gradients(1)[0]
    optimizer = FilterOptimizer(default_optimizer=None)
    optimizer.build([w])
    optimizer.apply_gradients([(tf.constant(g, tf.float32), w)])
    np.testing.assert_array_equal(values(w), -np.sign(g))


def _run(optimizer, w, gs):
    optimizer.build([w])
    for g in gs:
        optimizer.apply_gradients([(tf.constant(g, tf.float32), w)])
    return values(w)


@pytest.mark.slow
@settings(max_examples=15)
@given(exponent=st.integers(-20, 20), alpha=st.floats(1e-3, 1), gamma=st.floats(1e-2, 1))
def test_gradient_scale_is_irrelevant(exponent, alpha, gamma):
    gs = gradients(20).astype("float32")
    make = lambda: FilterOptimizer(  # noqa: E731
        filters.CascadedEMA(alpha=alpha, gamma=gamma), default_optimizer=None
    )
    np.testing.assert_array_equal(
        _run(make(), kernel(), gs), _run(make(), kernel(), gs * 2.0**exponent)
    )


@pytest.mark.slow
@settings(max_examples=15)
@given(alpha=st.floats(1e-3, 1), threshold=st.floats(0, 0.1))
def test_sign_symmetry_and_closure(alpha, threshold):
    """Gradients and weights turned over give weights turned over; weights stay -1 or +1."""
    gs = gradients(20)
    make = lambda: FilterOptimizer(  # noqa: E731
        filters.EMA(alpha), flip_rule=flips.Threshold(threshold), default_optimizer=None
    )
    start = values(kernel())
    end = _run(make(), kernel(start), gs)
    np.testing.assert_array_equal(_run(make(), kernel(-start), -gs), -end)
    assert set(np.unique(end)) <= {-1.0, 1.0}


# The two parts ------------------------------------------------------------------------------------


def dense(name="real"):
    layer = keras.layers.Dense(3, name=name)
    layer.build((None, 4))
    return layer.trainable_variables


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(schedules.PolynomialDecay(1e-2, 20, 0.0)),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01),
        lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1),
        lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5),
        lambda: keras.optimizers.Adam(1e-2, clipnorm=0.1),
    ],
    ids=["schedule", "sgd with decay", "adamw", "ema", "clipnorm"],
)
def test_real_variables_are_trained_exactly_as_by_keras(make):
    w, real, twins = kernel(), dense("a"), dense("b")
    for a, b in zip(real, twins, strict=True):
        b.assign(a)
    ours, keras_own = FilterOptimizer(default_optimizer=make()), make()
    ours.build([w, *real])
    random = np.random.default_rng(0)
    for g in gradients(25):
        gs = [tf.constant(random.normal(size=v.shape), tf.float32) for v in real]
        # The kernel comes first, between and last: variables are told apart, not by position.
        ours.apply_gradients([(gs[0], real[0]), (tf.constant(g, tf.float32), w), (gs[1], real[1])])
        keras_own.apply_gradients(zip(gs, twins, strict=True))
    ours.finalize_variable_values([*real, w])
    keras_own.finalize_variable_values(twins)
    for a, b in zip(real, twins, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert set(np.unique(values(w))) == {-1.0, 1.0}
    assert int(ours.iterations) == int(ours.default_optimizer.iterations) == 25


def test_iterations_set_by_the_user_reach_the_default_optimizer():
    w, real = kernel(), dense()
    decay = schedules.PolynomialDecay(1.0, 10, 0.0)
    optimizer = FilterOptimizer(default_optimizer=keras.optimizers.SGD(decay))
    optimizer.build([w, *real])
    optimizer.iterations.assign(8)
    before = real[1].numpy()
    ones = [(tf.ones(v.shape), v) for v in [w, *real]]
    optimizer.apply_gradients(ones)
    np.testing.assert_allclose(real[1].numpy(), before - 0.2, rtol=1e-6)
    assert int(optimizer.default_optimizer.iterations) == int(optimizer.iterations) == 9


@pytest.mark.parametrize("is_built", [False, True], ids=["early restore", "restore"])
def test_counters_that_differ_go_on_as_they_were(is_built, tmp_path):
    """An Adam that has trained before; then a checkpoint, and a step that a loss scale skips."""
    w, real, twins = kernel(), dense("a"), dense("b")
    for a, b in zip(real, twins, strict=True):
        b.assign(a)
    ours, keras_own = (keras.optimizers.Adam(1e-2) for _ in range(2))
    random = np.random.default_rng(0)

    def step(optimizer, *more):
        gs = [tf.constant(random.normal(size=v.shape), tf.float32) for v in real]
        optimizer.apply_gradients([*zip(gs, real, strict=True), *more])
        keras_own.apply_gradients(zip(gs, twins, strict=True))

    def filtering(default):
        optimizer = FilterOptimizer(default_optimizer=default)
        if is_built or default is ours:
            optimizer.build([w, *real])
        return optimizer, tf.train.Checkpoint(optimizer=optimizer)

    for _ in range(4):
        step(ours)
    first, saved = filtering(ours)
    for _ in range(2):
        step(first, (tf.ones(SHAPE), w))
    second, restored = filtering(keras.optimizers.Adam(1e-2))
    restored.read(saved.write(tmp_path / "c"))
    for skips in (0, 1, 0, 2):
        step(second, (tf.ones(SHAPE), w))
        for optimizer in (second, keras_own):  # as LossScaleOptimizer does where it skips a step
            optimizer.iterations.assign_add(skips)
    step(second, (tf.ones(SHAPE), w))
    assert (int(second.iterations), int(second.default_optimizer.iterations)) == (10, 14)
    for a, b in zip(real, twins, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_learning_rate_is_the_default_optimizers():
    optimizer = FilterOptimizer(default_optimizer=keras.optimizers.Adam(0.5))
    assert float(optimizer.learning_rate) == 0.5
    optimizer.learning_rate = 0.25
    assert float(optimizer.default_optimizer.learning_rate) == 0.25
    assert float(optimizer.lr) == 0.25
    alone = FilterOptimizer(default_optimizer=None)
    assert not hasattr(alone, "learning_rate")
    with pytest.raises(AttributeError, match="default_optimizer"):
        alone.learning_rate  # noqa: B018
    with pytest.raises(AttributeError, match="default_optimizer"):
        alone.learning_rate = 0.1


def test_excluding_from_weight_decay_reaches_the_default_optimizer():
    w, real = kernel(), dense()
    sgd = keras.optimizers.SGD(0.1, weight_decay=0.5)
    optimizer = FilterOptimizer(default_optimizer=sgd)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    optimizer.build([w, *real])
    real[1].assign(tf.ones(3))
    before = real[0].numpy()
    optimizer.apply_gradients([(tf.zeros(v.shape), v) for v in real] + [(tf.ones(SHAPE), w)])
    np.testing.assert_array_equal(real[0].numpy(), before)  # the kernel is excluded
    np.testing.assert_allclose(real[1].numpy(), 0.95, rtol=1e-6)  # the bias decays


def test_global_clipnorm_is_over_all_variables():
    """SGD with rate 1 shows the clipped gradient; the kernel's part counts in the norm."""
    w, real = kernel(), dense()
    optimizer = FilterOptimizer(default_optimizer=keras.optimizers.SGD(1.0), global_clipnorm=1.0)
    optimizer.build([w, *real])
    before = real[0].numpy()
    optimizer.apply_gradients([(tf.ones(v.shape), v) for v in [w, *real]])
    norm = np.sqrt(SHAPE[0] * SHAPE[1] + 4 * 3 + 3)
    np.testing.assert_allclose(before - real[0].numpy(), 1 / norm, rtol=1e-5)


def test_clipvalue_applies_to_the_kernel_too():
    """Clipped to 1 the two gradients cancel in the average; unclipped the first one wins."""
    for clipvalue, expected in [(1.0, -1.0), (None, -1.0)]:
        w = kernel(np.ones(SHAPE))
        optimizer = FilterOptimizer(filters.EMA(0.5), default_optimizer=None, clipvalue=clipvalue)
        optimizer.build([w])
        optimizer.apply_gradients([(tf.fill(SHAPE, 100.0), w)])
        optimizer.apply_gradients([(tf.fill(SHAPE, -3.0), w)])
        assert np.all(values(w) == (1.0 if clipvalue else expected))


def test_none_gradients_are_left_out_and_named(caplog):
    w, other, real = kernel(), kernel(name="other"), dense()
    optimizer = FilterOptimizer()
    optimizer.build([w, other, *real])
    start = values(other)
    pairs = [(tf.ones(SHAPE), w), (None, other), (None, real[0]), (tf.ones(3), real[1])]
    with caplog.at_level("WARNING", logger="tensorflow"):
        optimizer.apply_gradients(pairs)
    assert "other/kernel" in caplog.text
    np.testing.assert_array_equal(values(other), start)
    assert np.all(values(w) == -1)
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.apply_gradients([(None, w), (None, real[0])])
    assert optimizer.apply_gradients([]) is optimizer.iterations


@pytest.mark.parametrize("shape", [(), (1,), (*SHAPE, 2)], ids=str)
def test_gradients_of_another_shape_are_refused_by_name(shape):
    w, real = kernel(), dense()
    optimizer = FilterOptimizer()
    optimizer.build([w, *real])
    start = values(w)
    with pytest.raises(ValueError, match=re.escape(f"of {w.name} has shape {shape}; it must")):
        optimizer.apply_gradients([(tf.ones(3), real[1]), (tf.ones(shape), w)])
    np.testing.assert_array_equal(values(w), start)
    assert optimizer.iterations == 0


def test_only_one_part_has_gradients():
    w, real = kernel(), dense()
    optimizer = FilterOptimizer()
    optimizer.build([w, *real])
    optimizer.apply_gradients([(tf.ones(SHAPE), w)])
    assert int(optimizer.default_optimizer.iterations) == 1
    optimizer.apply_gradients([(tf.ones(v.shape), v) for v in real])
    assert int(optimizer.iterations) == int(optimizer.default_optimizer.iterations) == 2


def test_indexed_slices_count_as_zero_elsewhere():
    sparse, full = kernel(name="sparse"), kernel(name="full")
    slices = tf.IndexedSlices(tf.ones((3, SHAPE[1])), tf.constant([1, 4, 1]), tf.constant(SHAPE))
    first = FilterOptimizer(default_optimizer=None)
    second = FilterOptimizer(default_optimizer=None)
    first.build([sparse])
    second.build([full])
    first.apply_gradients([(slices, sparse)])
    second.apply_gradients([(tf.convert_to_tensor(slices), full)])
    np.testing.assert_array_equal(values(sparse), values(full))
    assert np.all(values(sparse)[[1, 4]] == -1)


# Becoming binary ----------------------------------------------------------------------------------


def small_model(quantizer="ste_sign"):
    kernel = {
        "kernel_quantizer": quantizer,
        "kernel_constraint": "weight_clip",
        "use_bias": False,
    }
    return keras.Sequential(
        [
            keras.Input((8,)),
            lq.layers.QuantDense(16, **kernel),
            keras.layers.BatchNormalization(scale=False),
            lq.layers.QuantDense(16, input_quantizer="ste_sign", **kernel),
            keras.layers.BatchNormalization(scale=False),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


def toy_data(n=96):
    random = np.random.default_rng(0)
    x = random.normal(size=(n, 8)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


def compiled(model=None, optimizer=None, **kwargs):
    model = model or small_model()
    model.compile(optimizer or FilterOptimizer(), "sparse_categorical_crossentropy", **kwargs)
    return model


def kernels_of(model):
    return [variable for _, variable in binary.binary_kernels(model)]


def test_kernels_are_binary_from_the_first_forward_pass_of_fit():
    """Compared by hand: the loss of step 1 is that of the model with sign(kernel)."""
    x, y = toy_data()
    model = compiled(small_model(lq.quantizers.NoOp(precision=1)))
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    for variable in kernels_of(twin):
        variable.latent_variable.assign(np.where(values(variable) < 0, -1.0, 1.0))
    logits = twin(x, training=True)
    expected = keras.losses.sparse_categorical_crossentropy(y, logits).numpy().mean()
    history = model.fit(x, y, batch_size=len(x), epochs=1, verbose=0, shuffle=False)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)
    assert all(binary.holds_signs(variable) for variable in kernels_of(model))


@pytest.mark.slow
def test_build_makes_every_replica_binary(strategy):
    x, y = toy_data()
    with strategy.scope():
        model = compiled(small_model(lq.quantizers.NoOp(precision=1)))
    model.fit(x, y, batch_size=32, epochs=1, verbose=0, shuffle=False)
    for variable in kernels_of(model):
        copies = [copy.numpy() for copy in variable.latent_variable.values]
        assert len(copies) == 2
        assert np.all(np.abs(copies[0]) == 1)
        np.testing.assert_array_equal(copies[0], copies[1])


@pytest.mark.slow
def test_eager_gradients_at_real_values_raise_and_name_build():
    x, y = toy_data()
    model = compiled(run_eagerly=True)
    before = [variable.numpy() for variable in model.trainable_variables]
    with pytest.raises(RuntimeError, match=r"optimizer\.build\(model\.trainable_variables\)"):
        model.fit(x, y, verbose=0)
    for now, then in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(now.numpy(), then)
    model.optimizer.build(model.trainable_variables)
    model.fit(x, y, verbose=0)
    assert all(binary.holds_signs(variable) for variable in kernels_of(model))


def test_minimize_builds_before_it_evaluates_the_loss():
    x, _ = toy_data()
    model = small_model(lq.quantizers.NoOp(precision=1))
    optimizer = FilterOptimizer()
    seen = []

    def loss():
        seen.append(all(binary.holds_signs(variable) for variable in kernels_of(model)))
        return tf.reduce_mean(tf.square(model(x)))

    optimizer.minimize(loss, model.trainable_variables)
    assert seen == [True]
    assert int(optimizer.iterations) == 1


def test_values_loaded_later_are_binary_after_one_step():
    w = kernel()
    optimizer = FilterOptimizer(default_optimizer=None)
    optimizer.build([w])
    w.latent_variable.assign(np.full(SHAPE, 0.3))
    with pytest.warns(UserWarning, match="changed from outside"):
        optimizer.apply_gradients([(-tf.ones(SHAPE), w)])
    assert np.all(values(w) == 1)


@pytest.mark.parametrize(
    "quantizer",
    ["ste_sign", "magnitude_aware_sign", lq.quantizers.NoOp(precision=1), lq.quantizers.SteSign(2)],
)
def test_accepted_quantizers(quantizer):
    w = kernel(quantizer=quantizer)
    FilterOptimizer(default_optimizer=None).build([w])
    assert binary.probe(w) is None


@pytest.mark.parametrize(
    ("quantizer", "words"),
    [
        ("approx_sign", ["ApproxSign", "0 times"]),
        ("swish_sign", ["SwishSign", "-0.195 times"]),
        (lq.quantizers.SteSign(0.5), ["SteSign"]),
        (lq.quantizers.DoReFa(1, mode="weights"), ["DoReFa"]),
        ("ste_heaviside", ["SteHeaviside", "other values"]),
    ],
)
def test_refused_quantizers_name_variable_and_cure(quantizer, words):
    w = kernel(quantizer=quantizer, name="my_layer")
    start = values(w)
    with pytest.raises(ValueError) as raised:
        FilterOptimizer(default_optimizer=None).build([w])
    for word in [*words, "my_layer/kernel", "to_latent_free"]:
        assert word in str(raised.value)
    np.testing.assert_array_equal(values(w), start)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_kernels_of_16_bits_are_refused(dtype):
    """A filter of small alpha would forget there what it should remember."""
    sign = lq.quantizers.NoOp(precision=1)
    layer = lq.layers.QuantDense(3, kernel_quantizer=sign, dtype=dtype, use_bias=False)
    layer.build((None, 4))
    with pytest.raises(ValueError, match=f'kernel.*: it is {dtype}.*"mixed_{dtype}"'):
        FilterOptimizer(default_optimizer=None).build([layer.kernel])


def test_refused_quantizer_function_and_constraint():
    @lq.utils.set_precision(1)
    def scaled_sign(x):
        return 0.7 * lq.quantizers.ste_sign(x)

    with pytest.raises(ValueError, match="scaled_sign changes a kernel"):
        FilterOptimizer(default_optimizer=None).build([kernel(quantizer=scaled_sign)])

    @lq.utils.set_precision(1)
    def no_gradient(x):
        return tf.stop_gradient(lq.math.sign(x))

    with pytest.raises(ValueError, match="no_gradient passes none of the gradient"):
        FilterOptimizer(default_optimizer=None).build([kernel(quantizer=no_gradient)])
    constrained = kernel(kernel_constraint=keras.constraints.UnitNorm())
    with pytest.raises(ValueError, match="constraint UnitNorm changes a kernel"):
        FilterOptimizer(default_optimizer=None).build([constrained])


def test_probing_leaves_larqs_flip_metric_alone():
    quantizer = lq.quantizers.SteSign(metrics=["flip_ratio"])
    w = kernel(quantizer=quantizer)
    counted = float(quantizer.flip_ratio.count)
    binary.probe(w)
    assert float(quantizer.flip_ratio.count) == counted


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: FilterOptimizer(1e-3), TypeError, ["Filter", "0.001", "larq_filter.filters"]),
        (lambda: FilterOptimizer(flip_rule="sign"), TypeError, ["FlipRule", "larq_filter.flips"]),
        (lambda: FilterOptimizer(weight_decay=1e-4), ValueError, ["weight_decay", "default_opt"]),
        (lambda: FilterOptimizer(use_ema=True), ValueError, ["use_ema", "default_optimizer"]),
        (lambda: FilterOptimizer(learning_rate=0.1), ValueError, ["learning_rate", "Adam"]),
        (lambda: FilterOptimizer(alpha=0.1), ValueError, ["CascadedEMA"]),
        (lambda: FilterOptimizer(nonsense=1), TypeError, ["nonsense"]),
        (lambda: FilterOptimizer(lr=0.01), ValueError, ["lr", "Adam"]),
        (lambda: FilterOptimizer(momentum=0.9), ValueError, ["momentum", "gamma"]),
        (lambda: FilterOptimizer(ema_momentum=0.5), ValueError, ["ema_momentum"]),
        (lambda: default_alpha(1e-2, 0), ValueError, ["halving_steps", "(0, inf)"]),
        (lambda: FilterOptimizer(warm_start=0), ValueError, ["(0, inf)"]),
        (lambda: FilterOptimizer(warm_start=float("inf")), ValueError, ["inf"]),
        (lambda: FilterOptimizer(warm_start="yes"), TypeError, ["'yes'"]),
        (
            lambda: FilterOptimizer(filters.FIR([1.0]), warm_start=0.3),
            ValueError,
            ["`warm_start` must be None", "FIR(taps=(1.0,))"],
        ),
        (lambda: FilterOptimizer(foo=1), TypeError, ["takes no `foo`", "gradient_filter"]),
        (
            lambda: FilterOptimizer(default_optimizer=keras.optimizers.legacy.Adam()),
            TypeError,
            ["new-style", "tf.keras.optimizers.Adam"],
        ),
        (lambda: FilterOptimizer(default_optimizer=FilterOptimizer()), TypeError, ["real-valued"]),
        (
            lambda: FilterOptimizer(default_optimizer=keras.optimizers.Adam(global_clipnorm=1)),
            ValueError,
            ["global_clipnorm", "FilterOptimizer"],
        ),
        (lambda: FilterOptimizer(clipnorm=1, global_clipnorm=1), ValueError, ["clipnorm"]),
    ],
)
def test_wrong_arguments(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


def test_names_are_new_style_on_macs_too(monkeypatch):
    """There Keras makes legacy optimizers of names, which are refused where they are given."""
    of_keras = sys.modules[keras.optimizers.get.__module__]
    monkeypatch.setattr(of_keras, "is_arm_mac", lambda: True)
    assert type(keras.optimizers.get("adam")) is keras.optimizers.legacy.Adam
    optimizer = FilterOptimizer()
    assert type(optimizer.default_optimizer) is keras.optimizers.Adam
    again = FilterOptimizer.from_config(optimizer.get_config())
    assert type(again.default_optimizer) is keras.optimizers.Adam
    assert type(FilterOptimizer(default_optimizer="SGD").default_optimizer) is keras.optimizers.SGD


def test_a_rate_name_that_keras_uses_is_refused():
    class Odd(filters.EMA):
        def rates(self):
            return {"learning_rate": self.alpha}

    with pytest.raises(ValueError, match="'learning_rate' is taken"):
        FilterOptimizer(Odd(0.1))


def test_models_it_can_not_train():
    with pytest.raises(ValueError, match="no binary kernel among 2 variables"):
        FilterOptimizer().build(dense())
    with pytest.raises(ValueError, match="default_optimizer is None, but 2 variables"):
        FilterOptimizer(default_optimizer=None).build([kernel(), *dense()])


def test_variables_that_become_trainable_later_are_named():
    x, y = toy_data()
    model = small_model()
    model.layers[-1].trainable = False
    compiled(model).fit(x, y, verbose=0)
    model.layers[-1].trainable = True
    optimizer = model.optimizer
    pairs = [(tf.zeros_like(binary.latent(v)), v) for v in model.trainable_variables]
    with pytest.raises(ValueError, match="built without dense.*with a new FilterOptimizer"):
        optimizer.apply_gradients(pairs)


def test_default_optimizer_by_name_and_config():
    assert isinstance(
        FilterOptimizer(default_optimizer="sgd").default_optimizer, keras.optimizers.SGD
    )
    config = keras.optimizers.serialize(keras.optimizers.Adam(0.125))
    optimizer = FilterOptimizer(default_optimizer=config)
    assert float(optimizer.learning_rate) == 0.125


# Rates and callbacks ------------------------------------------------------------------------------


def test_constant_rates_are_attributes_that_the_step_reads():
    w = kernel(np.ones(SHAPE))
    optimizer = FilterOptimizer(filters.EMA(0.5), default_optimizer=None)
    optimizer.build([w])
    step = tf.function(lambda g: optimizer.apply_gradients([(g, w)]))
    step(tf.ones(SHAPE))  # average 0.5: w becomes -1
    optimizer.alpha = 0.25
    step(tf.fill(SHAPE, -1.0))  # 0.5 + 0.25 * (-1.5) = 0.125 > 0: w stays -1; alpha 0.5 would flip
    assert np.all(values(w) == -1)
    assert float(optimizer.alpha) == 0.25
    with pytest.raises(ValueError, match=r"alpha.*2.0.*\(0, 1\]"):
        optimizer.alpha = 2.0
    assert float(optimizer.alpha) == 0.25


def test_rates_of_stages_and_flip_rule():
    f = filters.Cascade([filters.EMA(0.5), filters.EMA(0.25)])
    optimizer = FilterOptimizer(f, flip_rule=flips.Threshold(0.125))
    assert (float(optimizer.alpha_0), float(optimizer.alpha_1)) == (0.5, 0.25)
    assert float(optimizer.threshold) == 0.125
    optimizer.alpha_1 = 0.75
    optimizer.threshold = 1.0
    with pytest.raises(ValueError, match="threshold"):
        optimizer.threshold = -1.0
    assert (float(optimizer.alpha_1), float(optimizer.threshold)) == (0.75, 1.0)


def test_constant_rates_keep_their_digits_in_float64():
    keras.backend.set_floatx("float64")
    assert float(FilterOptimizer(filters.EMA(0.1)).alpha) == 0.1


@pytest.mark.parametrize(
    "name",
    ["gradient_filter", "flip_rule", "default_optimizer", "warm_start", "on_nonfinite"]
    + ["skipped_steps", "jit_compile"],
)
def test_what_is_read_once_can_not_be_replaced(name):
    with pytest.raises(AttributeError, match=f"`{name}` can't be replaced"):
        setattr(FilterOptimizer(), name, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("weight_decay", 0.1), ("use_ema", True), ("ema_momentum", 0.5), ("clipnorm", "1")]
    + [("ema_overwrite_frequency", 3), ("global_clipnorm", -1.0)],
)
def test_settings_are_refused_later_as_by_the_constructor(name, value):
    with pytest.raises((TypeError, ValueError), match=f"`{name}`"):
        FilterOptimizer(**{name: value})
    with pytest.raises((TypeError, ValueError), match=f"`{name}`"):
        setattr(FilterOptimizer(), name, value)


def test_clipping_can_be_set_before_the_first_step():
    kernel = networks.kernel((2, 2))
    optimizer = FilterOptimizer(filters.EMA(1.0), default_optimizer=None)
    optimizer.clipvalue, optimizer.weight_decay, optimizer.use_ema = 0.25, None, False
    optimizer.apply_gradients([(tf.ones((2, 2)), kernel)])
    np.testing.assert_array_equal(optimizer.state_variables()[0], np.full((2, 2), 0.25))


def test_a_rate_set_so_small_that_float32_loses_digits_is_named():
    optimizer = FilterOptimizer(filters.EMA(1e-3))
    with pytest.warns(UserWarning, match="compensated=True"):
        optimizer.alpha = 1e-7
    FilterOptimizer(filters.EMA(1e-3, compensated=True)).alpha = 1e-7  # a warning is an error
    FilterOptimizer(filters.EMA(1e-7)).alpha = 1e-3
    cascade = FilterOptimizer(filters.CascadedEMA(alpha=1e-3, gamma=0.1))
    with pytest.warns(UserWarning, match="`alpha` is set to 1e-07"):
        cascade.alpha = 1e-7
    cascade.gamma = 0.2  # not named for what alpha does


@pytest.mark.parametrize("value", ["0.1", "a", True, None, [0.1], np.array([0.1]), 2.0])
def test_a_rate_is_set_by_the_words_of_the_constructor(value):
    with pytest.raises((TypeError, ValueError)) as expected:
        filters.EMA(value)
    optimizer = FilterOptimizer(filters.EMA(0.5))
    with pytest.raises(expected.type) as found:
        optimizer.alpha = value
    assert str(found.value) == str(expected.value)
    optimizer = FilterOptimizer(
        filters.Cascade([filters.EMA(0.5), filters.EMA(0.5)]), rate_aliases={"b": "1 - alpha_1"}
    )
    for name in ("alpha_0", "b"):
        with pytest.raises(expected.type, match=f"`{name}` can't be set so: "):
            setattr(optimizer, name, -1.0 if value == 2.0 else value)
    assert set(optimizer.rate_values().values()) == {0.5}


def test_a_rate_is_not_set_to_a_schedule_and_may_be_a_scalar_tensor():
    optimizer = FilterOptimizer(filters.EMA(0.5))
    with pytest.raises(TypeError, match="A schedule is given to the constructor of EMA"):
        optimizer.alpha = keras.optimizers.schedules.InverseTimeDecay(0.1, 10, 1.0)
    for value in (tf.constant(0.25), np.array(0.25), np.float32(0.25), tf.Variable(0.25)):
        optimizer.alpha = 0.5
        optimizer.alpha = value
        assert float(optimizer.alpha) == 0.25


def test_a_rate_is_checked_beside_the_others_as_they_are_now():
    """Each of these is stable with the other rate at its first value, both are not."""
    optimizer = FilterOptimizer(filters.HeavyBall(gain=0.5, leak=0.5, rate=0.5))
    optimizer.gain = 1.9
    with pytest.raises(ValueError):
        optimizer.rate = 1.9
    assert float(optimizer.rate) == 0.5


def test_jit_compile_is_saved_as_it_was_asked_for():
    for asked in (True, False):
        assert FilterOptimizer(jit_compile=asked).get_config()["jit_compile"] is asked


@pytest.mark.slow
def test_h5_and_saved_model_hold_the_weights(tmp_path):
    x, y = toy_data()
    model = compiled()
    model.fit(x, y, verbose=0)
    with pytest.warns(UserWarning, match="HDF5"):
        model.save(tmp_path / "model.h5")
    model.save(tmp_path / "saved")
    for name in ("model.h5", "saved"):
        loaded = keras.models.load_model(tmp_path / name, compile=False)
        np.testing.assert_array_equal(loaded(x), model(x))


def test_scheduled_rates_can_be_read_and_not_set():
    w = kernel()
    optimizer = FilterOptimizer(
        filters.EMA(schedules.PolynomialDecay(1.0, 4, 0.0)), default_optimizer=None
    )
    optimizer.build([w])
    seen = []
    for _ in range(3):
        optimizer.apply_gradients([(tf.ones(SHAPE), w)])
        seen.append(float(optimizer.alpha))
    assert seen == [1.0, 0.75, 0.5]
    with pytest.raises(TypeError, match="PolynomialDecay"):
        optimizer.alpha = 0.1
    with pytest.raises(TypeError, match="PolynomialDecay"):
        keras.backend.set_value(optimizer.alpha, 0.1)
    with pytest.raises(AttributeError, match="no attribute 'beta'"):
        optimizer.beta  # noqa: B018


def test_keras_and_larq_callbacks_move_the_rates():
    x, y = toy_data()
    model = compiled(optimizer=FilterOptimizer(filters.CascadedEMA(alpha=1e-2, gamma=0.1)))
    callbacks = [
        lq.callbacks.HyperparameterScheduler(lambda epoch: 1e-2 / (epoch + 1), "alpha"),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1)),
    ]
    model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
    assert float(model.optimizer.alpha) == pytest.approx(5e-3)
    assert float(model.optimizer.learning_rate) == 0.25
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=1e9)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[plateau])
    assert float(model.optimizer.learning_rate) < 0.25


# Saving -------------------------------------------------------------------------------------------


def make_optimizers():
    return {
        "default": FilterOptimizer(),
        "scheduled": FilterOptimizer(
            filters.Cascade([filters.EMA(0.2), filters.EMA(schedules.CosineDecay(1e-2, 50))]),
            flip_rule=flips.Threshold(1e-6),
            default_optimizer=keras.optimizers.SGD(
                schedules.PolynomialDecay(1e-2, 40), momentum=0.9
            ),
            warm_start=0.1,
            global_clipnorm=1.0,
        ),
    }


@pytest.mark.parametrize("which", ["default", "scheduled"])
def test_config_round_trip(which):
    optimizer = make_optimizers()[which]
    saved = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(copy.deepcopy(saved))
    assert isinstance(again, FilterOptimizer)
    assert again.gradient_filter == optimizer.gradient_filter
    assert again.flip_rule == optimizer.flip_rule
    assert keras.optimizers.serialize(again) == saved


@pytest.mark.slow
@pytest.mark.parametrize("which", ["default", "scheduled"])
def test_keras_file_goes_on_bit_for_bit(which, tmp_path):
    """Half the training, save, load, the other half: all as in the uninterrupted run."""
    x, y = toy_data(160)
    halves = [(x[:80], y[:80]), (x[80:], y[80:])]
    model = compiled(optimizer=make_optimizers()[which])
    fit = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0}
    model.fit(*halves[0], **fit)
    if which == "default":
        model.optimizer.gamma = 0.2  # set by hand: state, and saved
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    flips_seen = 0
    for candidate in (model, loaded):
        before = [values(variable) for variable in kernels_of(candidate)]
        candidate.fit(*halves[1], **fit)
        after = [values(variable) for variable in kernels_of(candidate)]
        flips_seen = sum(np.sum(a != b) for a, b in zip(before, after, strict=True))
    assert flips_seen > 0
    ours, theirs = model.variables, loaded.variables
    ours, theirs = ours + model.optimizer.variables, theirs + loaded.optimizer.variables
    assert len(ours) == len(theirs) > 10
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_weights_of_another_optimizer_are_refused(tmp_path):
    x, y = toy_data()
    model = compiled()
    model.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "all.weights.h5")
    other = compiled(optimizer=FilterOptimizer(filters.EMA(0.1)))
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match="filter, flip rule and warm_start it was saved with"):
        other.load_weights(tmp_path / "all.weights.h5")


def test_set_weights_restores_everything():
    x, y = toy_data()
    model = compiled()
    model.fit(x, y, verbose=0)
    saved = [variable.numpy() for variable in model.optimizer.variables]
    model.fit(x, y, verbose=0)
    model.optimizer.set_weights(saved)
    for variable, value in zip(model.optimizer.variables, saved, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    with pytest.raises(ValueError, match="arrays were given"):
        model.optimizer.set_weights(saved[1:])
    with pytest.raises(ValueError, match="2 arrays were given"):
        model.optimizer.set_weights([1, 2])


def test_filter_state_can_be_given():
    """Half a run in NumPy, its state handed over, the other half here: the path of one run."""
    f = filters.CascadedEMA(alpha=0.05, gamma=0.2)
    gs = gradients(60)
    y, state = f.run(gs[:30])
    expected, _ = f.run(gs[30:], state)
    w = kernel(-np.sign(y[-1]))
    optimizer = FilterOptimizer(f, default_optimizer=None)
    with pytest.raises(ValueError, match=r"optimizer\.build"):
        optimizer.set_filter_state(w, state)
    optimizer.build([w])
    with pytest.raises(ValueError, match=r"2 arrays of shapes \[\(12, 10\), \(12, 10\)\]"):
        optimizer.set_filter_state(w, state[:1])
    with pytest.raises(ValueError, match="'w' is no binary kernel"):
        optimizer.set_filter_state("w", state)
    with pytest.raises(ValueError, match="NaN or Inf"):
        optimizer.set_filter_state(w, [state[0], np.full_like(state[1], np.nan)])
    optimizer.set_filter_state(w, state)
    for g, signal in zip(gs[30:], expected, strict=True):
        optimizer.apply_gradients([(tf.constant(g, tf.float32), w)])
        np.testing.assert_array_equal(values(w), -np.sign(signal))


def test_a_given_state_takes_the_place_of_a_warm_start():
    """The state says -1, the warm start would hold +1: the state decides."""
    w = kernel(np.ones(SHAPE))
    optimizer = FilterOptimizer(filters.EMA(0.25), default_optimizer=None, warm_start=5.0)
    optimizer.build([w])
    optimizer.set_filter_state(w, [np.ones(SHAPE)])
    optimizer.apply_gradients([(tf.fill(SHAPE, 0.5), w)])
    assert np.all(values(w) == -1)


# Warm start ---------------------------------------------------------------------------------------


def test_warm_start_is_the_output_against_the_weights():
    """By hand: y_0 = -c rms(g) w, then the average; c = 0.5, alpha = 0.25."""
    w = kernel()
    start = values(w)
    optimizer = FilterOptimizer(filters.EMA(0.25), default_optimizer=None, warm_start=0.5)
    optimizer.build([w])
    optimizer.apply_gradients([(tf.zeros(SHAPE), w)])  # nothing to measure yet: it waits
    np.testing.assert_array_equal(values(w), start)
    y = None
    for g in gradients(30):
        y = -0.5 * np.sqrt(np.mean(g**2)) * start if y is None else y
        y = y + 0.25 * (g - y)
        optimizer.apply_gradients([(tf.constant(g, tf.float32), w)])
        np.testing.assert_array_equal(values(w), -np.sign(y))


def test_warm_start_of_gradients_whose_square_float32_does_not_hold():
    w = kernel()
    start = values(w)
    optimizer = FilterOptimizer(filters.EMA(0.25), default_optimizer=None, warm_start=1.0)
    optimizer.build([w])
    against = tf.constant(1e-30 * start, tf.float32)  # y is -1e-30 w before the first
    for steps, expected in ((2, start), (1, -start)):  # (3/4)^2 > 1/2 > (3/4)^3
        for _ in range(steps):
            optimizer.apply_gradients([(against, w)])
        np.testing.assert_array_equal(values(w), expected)


@pytest.mark.slow
def test_warm_start_keeps_what_a_cold_start_loses():
    """A trained binary model, two more steps: warm it keeps its accuracy, cold it does not."""
    x, y = toy_data(640)
    trained = compiled(metrics=["accuracy"])
    trained.fit(x, y, batch_size=32, epochs=30, verbose=0)
    accuracy = trained.evaluate(x, y, verbose=0)[1]
    after = {}
    for warm_start in (None, 0.3):
        model = compiled(
            small_model(),
            FilterOptimizer(
                filters.CascadedEMA(alpha=1e-3, gamma=0.1),
                default_optimizer=keras.optimizers.SGD(0.0),
                warm_start=warm_start,
            ),
            metrics=["accuracy"],
        )
        model.set_weights(trained.get_weights())
        model.fit(x[:16], y[:16], batch_size=8, epochs=1, verbose=0, shuffle=False)
        after[warm_start] = model.evaluate(x, y, verbose=0)[1]
    assert after[0.3] > accuracy - 0.05
    assert after[None] < after[0.3] - 0.1


def test_filters_without_a_warm_start_refuse_it():
    class Odd(filters.Filter):
        def rates(self):
            return {}

    with pytest.raises(ValueError, match="can't be started from a given output"):
        FilterOptimizer(Odd(), warm_start=0.1)


# Training -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [None, True], ids=["graph", "xla"])
def test_training_beats_the_frozen_control_and_flips_every_layer(jit_compile):
    """The same network, data and Adam; in the control the kernels stay as they are."""
    x, y = toy_data(960)
    accuracies = {}
    for frozen in (True, False):
        keras.utils.set_random_seed(1)
        model = small_model()
        start = [values(variable) for variable in kernels_of(model)]
        if frozen:
            for layer, _ in binary.binary_kernels(model):
                layer.trainable = False
            optimizer = keras.optimizers.Adam(1e-3)
        else:
            optimizer = FilterOptimizer(default_optimizer=keras.optimizers.Adam(1e-3))
        compiled(model, optimizer, metrics=["accuracy"], jit_compile=jit_compile)
        model.fit(x, y, batch_size=32, epochs=8, verbose=0)
        accuracies[frozen] = model.evaluate(x, y, verbose=0)[1]
        if not frozen:
            for before, variable in zip(start, kernels_of(model), strict=True):
                assert np.any(np.sign(before) != values(variable))
    assert accuracies[False] > accuracies[True] + 0.1


def test_replicas_train_like_one_device(strategy):
    """Two replicas with the sum of their gradients reach the kernels of one device."""
    random = np.random.default_rng(0)
    per_step = random.normal(size=(40, 2, *SHAPE)).astype("float32")
    alone = kernel(name="alone")
    single = FilterOptimizer(default_optimizer=None)
    single.build([alone])
    with strategy.scope():
        w = kernel(name="mirrored")
        optimizer = FilterOptimizer(default_optimizer=None)
        optimizer.build([w])

    step = networks.step_on_replicas(strategy, optimizer, [w])
    for parts in per_step:
        step(tf.constant(parts))
        single.apply_gradients([(tf.constant(parts.sum(axis=0)), alone)])
    for copy_ in w.latent_variable.values:
        np.testing.assert_array_equal(copy_.numpy(), values(alone))


@pytest.mark.slow
def test_loss_scaling_does_not_change_a_decision():
    """Powers of two: the run under LossScaleOptimizer is the run without it."""
    x, y = toy_data()
    ends = []
    for scaled in (False, True):
        keras.utils.set_random_seed(2)
        optimizer = FilterOptimizer(default_optimizer=keras.optimizers.SGD(0.01))
        if scaled:
            optimizer = keras.mixed_precision.LossScaleOptimizer(
                optimizer, dynamic=False, initial_scale=1024
            )
        model = compiled(small_model(), optimizer)
        model.fit(x, y, batch_size=16, epochs=3, verbose=0, shuffle=False)
        ends.append(model.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


# Names of rates -----------------------------------------------------------------------------------

NAMED = {
    "bop": ("gamma", "alpha", 0.25, 0.25),
    "bop_second_order": ("gamma", "alpha", 0.25, 0.25),
    "prob_bop": ("gamma", "alpha", 0.25, 0.25),
    "diode": ("beta2", "alpha_2", 0.75, 0.25),
    "sgdat": ("binary_learning_rate", "gain", 0.25, 0.25),
    "bold": ("binary_learning_rate", "gain", 0.25, 0.25),
    "bayes_binn": ("binary_learning_rate", "alpha", 0.25, 0.25),
    "dqt": ("beta2", "sigma", 0.75, 0.25),
    "fgd_ar": ("alpha", "alpha_1", 0.25, 0.25),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_preset_reads_and_sets_what_its_constructor_names(name):
    knob, rate, value, expected = NAMED[name]
    more = {"steps_per_epoch": 10} if name == "prob_bop" else {}
    optimizer = presets.PRESETS[name](default_optimizer=None, **{knob: 0.5}, **more)
    for again in (optimizer, FilterOptimizer.from_config(optimizer.get_config())):
        assert float(getattr(again, knob)) == 0.5
        setattr(again, knob, value)
        assert float(getattr(again, rate)) == expected
        assert float(getattr(again, knob)) == value
        with pytest.raises(ValueError, match=r"must lie in"):
            setattr(again, knob, -1.0)
        keras.backend.set_value(getattr(again, knob), 0.5)  # as Larq's HyperparameterScheduler does
        assert float(getattr(again, rate)) == 0.5


@pytest.mark.parametrize(
    ("make", "name", "names"),
    [
        (presets.diode, "alpha", r"alpha_0, level_1, alpha_2, beta1 \(1 - alpha_0\)"),
        (lambda: presets.bop(gamma=0.1), "sigma", r"alpha, threshold, gamma \(alpha\)"),
        (FilterOptimizer, "aplha", "alpha, gamma"),
        (FilterOptimizer, "alpha_0", "alpha, gamma"),
        (lambda: FilterOptimizer(filters.FIR([1.0, 0.5])), "alpha", "none"),
    ],
)
def test_a_name_that_is_no_rate_is_refused_with_those_that_are(make, name, names):
    optimizer = make()
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'; .*are: {names}"):
        getattr(optimizer, name)
    with pytest.raises(AttributeError, match=rf"{names}.*would change nothing"):
        setattr(optimizer, name, 0.1)


def test_a_subclass_has_attributes_of_its_own():
    class Mine(FilterOptimizer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.tag = 3

    assert Mine().tag == 3


def test_a_scheduler_on_a_scheduled_rate_gets_our_error():
    model = tf.keras.Sequential([lq.layers.QuantDense(3, kernel_quantizer="ste_sign")])
    model.build((None, 2))
    model.compile(FilterOptimizer(), "mse")
    scheduler = lq.callbacks.HyperparameterScheduler(lambda epoch: 0.1, "alpha")
    with pytest.raises(TypeError, match="`alpha` follows InverseTimeDecay, so it can't be set"):
        model.fit(tf.ones((4, 2)), tf.ones((4, 3)), verbose=0, callbacks=[scheduler])


@pytest.mark.parametrize(
    ("aliases", "error"),
    [
        ("gamma", TypeError),
        ({"beta": 3}, TypeError),
        ({"beta": "delta"}, ValueError),
        ({"alpha": "gamma"}, ValueError),
        ({"iterations": "alpha"}, ValueError),
    ],
)
def test_aliases_of_no_rate_are_refused(aliases, error):
    with pytest.raises(error, match="rate"):
        FilterOptimizer(rate_aliases=aliases)


# Copies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 5])
def test_a_deep_copy_goes_on_by_itself(steps):
    w = kernel()
    optimizer = presets.bop(gamma=0.5, threshold=0.0)
    bias = tf.Variable(tf.zeros(3))
    rng = np.random.default_rng(0)
    pairs = [
        [(tf.constant(rng.normal(size=v.shape), tf.float32), v) for v in (w, bias)]
        for _ in range(steps + 1)
    ]
    for pair in pairs[:-1]:
        optimizer.apply_gradients(pair)
    optimizer.gamma = 0.25
    copied = copy.deepcopy(optimizer)
    assert len(copied.variables) == len(optimizer.variables)
    for mine, other in zip(copied.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine, other)
    before, signs = [v.numpy() for v in optimizer.variables], binary.latent(w).numpy()
    copied.apply_gradients(pairs[-1])
    w.assign(signs)  # what one of them flips turns the memory of the other, here and back
    for was, other in zip(before, optimizer.variables, strict=True):
        np.testing.assert_array_equal(was, other)


def test_it_says_what_it_is():
    assert repr(FilterOptimizer()) == (
        "<FilterOptimizer: CascadedEMA(alpha=InverseTimeDecay(0.01..), gamma=0.1) -> Sign(); "
        "default: Adam>"
    )
    assert "-> Threshold(threshold=1e-08); default: SGD" in repr(
        presets.bop(default_optimizer="sgd")
    )
