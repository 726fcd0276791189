"""Each training method beside its control, and what its knobs become."""

import inspect
import itertools
import math

import numpy as np
import pytest

from larq_filter import binary, callbacks, conversion, models, presets
from larq_filter._keras import keras, tf
from larq_filter.experiments import methods
from larq_filter.experiments.methods import Knobs, distillation
from larq_filter.optimizers import FilterOptimizer
from larq_filter.optimizers.latent_optimizer import LatentOptimizer

import larq as lq

CLASSES = 4


def latent_mlp():
    return models.build("mlp", input_shape=(6, 6, 1), num_classes=CLASSES, width=32)


def data():
    random = np.random.default_rng(0)
    prototypes = random.normal(size=(CLASSES, 6, 6, 1))
    labels = random.integers(0, CLASSES, 512)
    images = prototypes[labels] + 2.0 * random.normal(size=(512, 6, 6, 1))
    return images.astype("float32"), labels


def signs(model):
    return [
        binary.latent(kernel).numpy() < 0
        for _, kernel in binary.binary_kernels(model, trainable_only=False)
    ]


EPOCHS = 10


def dataset(teacher=None):
    x, y = data()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(512, seed=1).batch(32)
    return batches if teacher is None else distillation.with_soft_targets(batches, teacher)


def train(method, knobs=None):
    """Trains all stages; the loss is the cross-entropy after the last epoch."""
    keras.utils.set_random_seed(0)
    knobs = knobs or Knobs()
    stage, earlier, epochs = methods.first_stage(method, knobs, EPOCHS), None, EPOCHS
    if stage is not None:
        earlier, epochs = fit(stage.method, stage.knobs, stage.epochs, None)[1], stage.own_epochs
    return fit(method, knobs, epochs, earlier)


def fit(method, knobs, epochs, earlier):
    model = methods.compile_for(method, latent_mlp(), knobs, epochs * 16, earlier)
    monitor = callbacks.FlipMonitor()
    watchers = [monitor] if binary.binary_kernels(model, trainable_only=False) else []
    teacher = earlier if methods.METHODS[method].distils else None
    model.fit(dataset(teacher), epochs=epochs, verbose=0, callbacks=watchers)
    x, y = data()
    outputs = model.predict(x, verbose=0)
    loss = -np.mean(np.log(outputs[np.arange(len(y)), y]))
    return loss, model, list(monitor.flipped_layers().values())


@pytest.fixture(scope="module")
def control():
    loss, _, flipped = train("frozen")
    assert flipped == [False, False]
    return loss


TUNED = {
    "bop": Knobs(alpha=1e-2, threshold=1e-6),
    "bop_second_order": Knobs(alpha=1e-2),
    "diode": Knobs(alpha=1e-2, gamma=0.1, gain=1e-2),
    "sgdat": Knobs(gain=1e-2),
    "prob_bop": Knobs(alpha=1e-2, threshold=1e-5),
    "equal_bits": Knobs(alpha=1e-2),
    "bayes_binn": Knobs(alpha=1e-2),
    "dqt": Knobs(gain=1e-2),
    "larq_bop": Knobs(alpha=1e-2, threshold=1e-6),
    "erlang": Knobs(alpha=5e-2),
    "translated": Knobs(kernel_learning_rate=1.0),
    "sgd": Knobs(kernel_learning_rate=1.0),
    "adam": Knobs(kernel_learning_rate=1e-2, weight_decay=1e-4),
    "two_step": Knobs(kernel_learning_rate=1e-2, learning_rate=1e-2),
    "one_step": Knobs(learning_rate=1e-2),
    "distilled": Knobs(learning_rate=1e-2),
    # The published rates are for runs a hundred times as long.
    **dict.fromkeys(("bireal", "ewgs", "poke", "bnn_bn", "tang"), Knobs(kernel_learning_rate=1e-2)),
    **dict.fromkeys(("reactnet", "adam_bnn"), Knobs(kernel_learning_rate=1e-2, learning_rate=1e-2)),
    "binaryconnect": Knobs(kernel_learning_rate=3e-2),
}
LATENT_FREE = {name for name in presets.PRESETS if name != "quist2023"} | {
    *("filter", "erlang", "translated", "larq_bop", "one_step", "distilled")
}

FINISHED = {"proxquant", "md_tanh", "bnew"}  # binary at the end, and frozen then


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [name for name in methods.names() if name not in ("frozen", "real_to_binary")]
)
def test_method_beats_the_control_and_flips_every_layer(method, control):
    loss, model, flipped = train(method, TUNED.get(method))
    assert loss < 0.8 * control
    assert flipped == [method not in FINISHED] * 2
    for _, kernel in binary.binary_kernels(model, trainable_only=False):
        assert binary.holds_signs(kernel) is (method in LATENT_FREE | FINISHED)


def test_every_preset_is_a_method_with_its_published_defaults():
    assert {*presets.PRESETS} - {"quist2023"} <= {*methods.METHODS}
    names = {
        "bop": {"gamma": "alpha", "threshold": "threshold"},
        "bop_second_order": {"gamma": "alpha", "sigma": "sigma", "threshold": "threshold"},
        "sgdat": {"binary_learning_rate": "gain", "threshold": "threshold"},
        "boat": {"leak": "leak", "eta": "hysteresis"},
        "bold": {"binary_learning_rate": "gain"},
        "prob_bop": {"gamma": "alpha", "threshold": "threshold", "a": "probability_decay"},
        "equal_bits": {"alpha": "alpha", "gamma": "gamma"},
        "bayes_binn": {"binary_learning_rate": "alpha"},
        "dqt": {"rate": "gain"},
    }
    for method, knobs in names.items():
        arguments = inspect.signature(presets.PRESETS[method]).parameters
        for argument, knob in knobs.items():
            assert methods.METHODS[method].knobs[knob] == arguments[argument].default, method
    arguments = inspect.signature(presets.diode).parameters
    assert methods.METHODS["diode"].knobs["gamma"] == pytest.approx(1 - arguments["beta1"].default)
    assert methods.METHODS["diode"].knobs["alpha"] == pytest.approx(1 - arguments["beta2"].default)


@pytest.mark.parametrize("method", sorted(LATENT_FREE - {"translated", "larq_bop", "distilled"}))
def test_every_filter_that_can_start_anywhere_has_the_knob_for_it(method):
    optimizer = methods.compile_for(method, latent_mlp(), Knobs(), 10).optimizer
    assert (optimizer.warm_start is None) == (method != "diode")  # which starts at random
    try:
        FilterOptimizer(optimizer.gradient_filter, warm_start=0.02)
    except ValueError:
        assert "warm_start" not in methods.METHODS[method].knobs
    else:
        knobs = Knobs(warm_start=0.02)
        assert methods.compile_for(method, latent_mlp(), knobs, 10).optimizer.warm_start == 0.02


def test_larq_bop_is_larqs_own():
    knobs = Knobs(alpha=1e-3, alpha_schedule="linear", threshold=1e-7)
    model = methods.compile_for("larq_bop", latent_mlp(), knobs, 100)
    ((_, bop),) = model.optimizer.pred_opt_pairs
    assert type(bop) is lq.optimizers.Bop
    assert bop.get_config()["threshold"] == 1e-7
    assert bop.get_config()["gamma"]["config"]["initial_learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        (Knobs(), [1e-2, 7.5e-3, 2.5e-3]),  # linear to 0 in 1200 steps: t = 0, 300, 900
        (Knobs(alpha_schedule="default"), [1e-2, 2.5e-3, 1e-3]),  # halves in 100 steps
        (Knobs(alpha_schedule="default", alpha=4e-2), [4e-2, 1e-2, 4e-3]),
        (Knobs(alpha_schedule="default", alpha_halving_steps=900), [1e-2, 7.5e-3, 5e-3]),
        (Knobs(alpha_schedule="cosine", alpha=1e-3), [1e-3, 8.536e-4, 1.464e-4]),
        (Knobs(alpha_schedule="constant", alpha=1e-3), [1e-3, 1e-3, 1e-3]),
    ],
)
def test_alpha_of_the_filter(knobs, expected):
    model = methods.compile_for("filter", latent_mlp(), knobs, 1200)
    f = model.optimizer.gradient_filter
    assert [f.rates_at(step)["alpha"] for step in (0, 300, 900)] == pytest.approx(expected, 1e-3)
    assert f.gamma == 0.1


def test_weight_decay_inside_the_gradient_and_decoupled():
    """One step at learning rate 0.5, by hand: decay only, since the gradients are zero."""
    factor = 1 - 0.5 * 0.2
    for method, rest in itertools.product(("sgd", "sgdw"), ("adam", "same")):
        knobs = Knobs(
            kernel_learning_rate=0.5, rest=rest, learning_rate_schedule="constant", weight_decay=0.2
        )
        model = methods.compile_for(method, latent_mlp(), knobs, 10)
        ((_, first), (_, second)) = binary.binary_kernels(model)
        before, real = binary.latent(second).numpy(), model.layers[-2].kernel.numpy()
        with tf.GradientTape() as tape:
            penalty = tf.add_n([*model.losses, tf.zeros([])])
        gradients = tape.gradient(penalty, [first, second], unconnected_gradients="zero")
        zero = tf.zeros_like(model.layers[-2].kernel)
        pairs = [*zip(gradients, (first, second), strict=True), (zero, model.layers[-2].kernel)]
        model.optimizer.build(model.trainable_variables)
        model.optimizer.apply_gradients(pairs)
        np.testing.assert_allclose(binary.latent(second).numpy(), factor * before, rtol=1e-5)
        np.testing.assert_array_equal(model.layers[-2].kernel.numpy(), real)


@pytest.mark.parametrize(("decay", "penalties"), [(None, [0.5, 0.5]), (0.0, []), (0.2, [0.1, 0.1])])
def test_weight_decay_replaces_the_models_own_penalty(decay, penalties):
    model = conversion.with_kernel_options(
        latent_mlp(), lambda *_: {"kernel_regularizer": keras.regularizers.L2(0.5)}
    )
    model = methods.compile_for("adam", model, Knobs(weight_decay=decay), 10)
    own = [layer.kernel_regularizer for layer, _ in binary.binary_kernels(model)]
    assert [float(each.l2) for each in own if each is not None] == pytest.approx(penalties)


@pytest.mark.parametrize("method", ["diode", "prob_bop", "dqt"])
def test_what_a_method_draws_follows_the_seed(method):
    def configs(seed):
        model = methods.compile_for(method, latent_mlp(), Knobs(), 100, seed=seed)
        config = model.optimizer.get_config()
        return config["flip_rule"], config["warm_start"]

    assert configs(1) == configs(1) != configs(2)


@pytest.mark.parametrize("nesterov", ["no", "yes"])
def test_nesterov_looks_ahead(nesterov):
    """Two steps with one gradient g: 1 and 1 + mu times it; ahead 1 + mu and 1 + mu + mu^2."""
    knobs = Knobs(kernel_learning_rate=0.5, momentum=0.5, nesterov=nesterov, weight_decay=0.0)
    model = methods.compile_for("momentum", latent_mlp(), knobs, 10**9)
    ((_, kernel), _) = binary.binary_kernels(model)
    before, g = binary.latent(kernel).numpy(), tf.fill(kernel.shape, 1e-3)
    model.optimizer.build(model.trainable_variables)
    for _ in range(2):
        model.optimizer.apply_gradients([(g, kernel)])
    moved = (1.5 + 1.75) if nesterov == "yes" else (1.0 + 1.5)
    np.testing.assert_allclose(before - binary.latent(kernel), 0.5e-3 * moved, rtol=1e-3)


def test_nesterov_belongs_to_momentum():
    with pytest.raises(ValueError, match="nesterov='yes' means nothing to the method sgd"):
        methods.resolve("sgd", Knobs(nesterov="yes"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decay", "schedule", "nesterov"),
    [
        (0.0, "constant", "no"),
        (0.3, "cosine", "no"),
        (0.1, "cosine", "yes"),
    ],
)
def test_translated_has_the_binary_weights_of_latent_sgd(decay, schedule, nesterov):
    """Rounding aside: a latent weight that passes 0 within 1e-7 may turn a step later."""
    knobs = {
        "kernel_learning_rate": 0.3,
        "learning_rate_schedule": schedule,
        "weight_decay": decay,
        "nesterov": nesterov,
    }
    unclipped = {"weight_clip": math.inf, "quantizer": "identity"}
    found = {}
    for method, own in (("momentum", unclipped), ("translated", {})):
        keras.utils.set_random_seed(0)
        model = latent_mlp()
        began = signs(model)
        model = methods.compile_for(method, model, Knobs(**knobs, **own), 32)
        model.fit(dataset(), epochs=2, verbose=0)
        found[method] = signs(model)
    pairs = list(zip(found["momentum"], found["translated"], began, strict=True))
    assert len(pairs) == 2
    for latent, free, start in pairs:
        assert np.mean(latent != start) > 0.05  # else there was nothing to agree on
        assert np.mean(latent != free) <= 1e-3


@pytest.mark.slow
def test_translated_starts_with_the_latent_weights():
    """At a rate of almost nothing no weight turns: the filter knows how far each is from 0."""
    keras.utils.set_random_seed(0)
    model = latent_mlp()
    began = signs(model)
    knobs = Knobs(kernel_learning_rate=1e-9)
    model = methods.compile_for("translated", model, knobs, 16)
    model.fit(dataset(), verbose=0)
    for now, start in zip(signs(model), began, strict=True):
        np.testing.assert_array_equal(now, start)


def test_a_penalty_is_not_counted_as_loss():
    knobs = Knobs(weight_decay=1.0)
    model = methods.compile_for("momentum", latent_mlp(), knobs, 10)
    x, y = data()
    scores = model.evaluate(x, y, verbose=0, return_dict=True)
    outputs = model.predict(x, verbose=0)
    expected = -np.mean(np.log(outputs[np.arange(len(y)), y]))
    assert scores["cross_entropy"] == pytest.approx(expected, rel=1e-4)
    squares = sum(np.sum(np.square(binary.latent(k))) for _, k in binary.binary_kernels(model))
    assert scores["loss"] == pytest.approx(expected + squares / 2, rel=1e-4)


@pytest.mark.parametrize("clip", [0.25, math.inf])
def test_weight_clip(clip):
    knobs = Knobs(kernel_learning_rate=1.0, weight_clip=clip)
    model = methods.compile_for("momentum", latent_mlp(), knobs, 160)
    model.fit(dataset(), epochs=5, verbose=0)
    largest = max(np.max(np.abs(binary.latent(k))) for _, k in binary.binary_kernels(model))
    assert largest == clip if clip == 0.25 else largest > 1


@pytest.mark.slow
def test_second_step_starts_from_the_weights_of_the_first():
    first = methods.compile_for("binary_activations", latent_mlp(), Knobs(), 100)
    assert binary.binary_kernels(first) == []
    first.fit(dataset(), verbose=0)
    second = methods.compile_for("two_step", latent_mlp(), Knobs(), 100, first)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(binary.binary_kernels(second)) == 2
    assert second.losses == []  # no weight decay in the second step


@pytest.mark.parametrize("method", ["sgd", "adam", "two_step", "binary_activations"])
@pytest.mark.parametrize("rest", ["adam", "same"])
def test_who_trains_the_rest_beside_latent_kernels(method, rest):
    knobs = Knobs(kernel_learning_rate=0.25, rest=rest, learning_rate_schedule="constant")
    first = methods.compile_for("binary_activations", latent_mlp(), Knobs(), 100)
    optimizer = methods.compile_for(method, latent_mlp(), knobs, 100, first).optimizer
    if rest == "same":
        assert float(optimizer.learning_rate) == 0.25
        return
    assert isinstance(optimizer, LatentOptimizer)
    assert float(optimizer.kernel_learning_rate) == 0.25
    default = methods.METHODS[method].knobs["learning_rate"]
    assert float(optimizer.learning_rate) == pytest.approx(default)
    assert type(optimizer.default_optimizer) is keras.optimizers.Adam


def test_the_real_network_has_neither_binary_weights_nor_activations():
    real = methods.compile_for("real", latent_mlp(), Knobs(), 100)
    assert binary.binary_kernels(real) == []
    dense = [layer for layer in real.layers if isinstance(layer, lq.layers.QuantDense)]
    assert dense[1].input_quantizer(tf.constant([-3.0, 0.25, 3.0])).numpy().tolist() == [
        -1,
        0.25,
        1,
    ]


def test_stages_and_their_budget():
    knobs = Knobs(learning_rate=0.2, kernel_learning_rate=0.3)
    stage = methods.first_stage("two_step", knobs, 7)
    assert (stage.method, stage.epochs, stage.own_epochs) == ("binary_activations", 3, 4)
    assert stage.knobs.given() == {
        "learning_rate": 0.2,
        "kernel_learning_rate": 0.3,
        "rest": "adam",
        "learning_rate_schedule": "linear",
        "weight_decay": 1e-5,
    }
    stage = methods.first_stage("two_step", Knobs(rest="same", kernel_learning_rate=0.3), 7)
    assert methods.resolve(stage.method, stage.knobs).kernel_learning_rate == 0.3
    stage = methods.first_stage("distilled", Knobs(alpha=0.1), 7)
    assert (stage.method, stage.epochs, stage.own_epochs) == ("real", 7, 7)
    assert stage.knobs.given() == {"learning_rate": 1e-3, "learning_rate_schedule": "linear"}
    assert methods.first_stage("distilled", Knobs(teacher="model.keras"), 7) is None
    assert methods.first_stage("filter", Knobs(), 7) is None


def other_teacher():
    return models.build("mlp", input_shape=(6, 6, 1), num_classes=CLASSES + 1, width=8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: methods.compile_for("magic", latent_mlp(), Knobs(), 10),
            ["'magic'", "filter, bop, bop_second_order"],
        ),
        (
            lambda: methods.compile_for(
                "adam",
                keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]),
                Knobs(),
                10,
            ),
            ["no trainable kernel with a 1-bit quantizer"],
        ),
        (
            lambda: methods.compile_for("adam", latent_mlp(), Knobs(alpha=0.1), 10),
            ["alpha=0.1", "adam", "learning_rate"],
        ),
        (lambda: methods.first_stage("two_step", Knobs(), 1), ["two_step", "at least 2", "1"]),
        (
            lambda: methods.compile_for("two_step", latent_mlp(), Knobs(), 10),
            ["binary_activations", "earlier"],
        ),
        (
            lambda: methods.compile_for("two_step", latent_mlp(), Knobs(), 10, other_teacher()),
            ["another network"],
        ),
        (
            lambda: methods.compile_for("distilled", latent_mlp(), Knobs(), 10),
            ["needs a teacher", "real", "earlier"],
        ),
        (
            lambda: methods.compile_for("distilled", latent_mlp(), Knobs(), 10, other_teacher()),
            ["(None, 5)", "(None, 4)", "must agree"],
        ),
    ],
)
def test_errors(make, words):
    with pytest.raises(ValueError) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


def test_one_optimizer_for_all_still_tells_quantizers_of_each_step():
    """LAB's scale and RBNN's rotations follow the kernel; Keras' optimizers alone tell nobody."""
    for method, optimizer in (("lab", LatentOptimizer), ("xnor", keras.optimizers.Adam)):
        model = methods.compile_for(method, latent_mlp(), Knobs(rest="same"), 10)
        assert type(model.optimizer) is optimizer
