"""Each training method beside its control, and what its knobs become."""

import numpy as np
import pytest

from larq_filter import binary, methods, models
from larq_filter._keras import keras

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


def train(method, knobs=None, epochs=10):
    keras.utils.set_random_seed(0)
    x, y = data()
    steps = epochs * len(x) // 32
    model = methods.compile_for(method, latent_mlp(), knobs or methods.Knobs(), steps)
    start = signs(model)
    history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0).history
    flipped = [np.mean(a != b) for a, b in zip(start, signs(model), strict=True)]
    return history["loss"][-1], flipped, model


@pytest.fixture(scope="module")
def control():
    loss, flipped, _ = train("frozen")
    assert flipped == [0.0] * len(flipped)
    return loss


TUNED = {
    "filter": methods.Knobs(),
    "bop": methods.Knobs(alpha=1e-2, alpha_schedule="constant", threshold=1e-6),
    "adam": methods.Knobs(learning_rate=1e-2),
    "sgd": methods.Knobs(),
}


@pytest.mark.parametrize("method", [name for name in methods.METHODS if name != "frozen"])
def test_method_beats_the_control_and_flips_every_layer(method, control):
    loss, flipped, model = train(method, TUNED[method])
    assert loss < 0.8 * control
    assert min(flipped) > 0
    latent_free = method in ("filter", "bop")
    for _, kernel in binary.binary_kernels(model):
        assert binary.holds_signs(kernel) is latent_free


def test_bop_is_larqs_own():
    knobs = methods.Knobs(alpha=1e-3, alpha_schedule="linear", threshold=1e-7)
    model = methods.compile_for("bop", latent_mlp(), knobs, 100)
    ((_, bop),) = model.optimizer.pred_opt_pairs
    assert type(bop) is lq.optimizers.Bop
    assert bop.get_config()["threshold"] == 1e-7
    assert bop.get_config()["gamma"]["config"]["initial_learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        (methods.Knobs(), [1e-2, 7.5e-3, 2.5e-3]),  # linear to 0 in 1200 steps: t = 0, 300, 900
        (methods.Knobs(alpha_schedule="default"), [1e-2, 2.5e-3, 1e-3]),  # halves in 100 steps
        (methods.Knobs(alpha_schedule="default", alpha=4e-2), [4e-2, 1e-2, 4e-3]),
        (
            methods.Knobs(alpha_schedule="default", alpha_halving_steps=900),
            [1e-2, 7.5e-3, 5e-3],
        ),
        (methods.Knobs(alpha_schedule="cosine", alpha=1e-3), [1e-3, 8.536e-4, 1.464e-4]),
        (methods.Knobs(alpha_schedule="constant", alpha=1e-3), [1e-3, 1e-3, 1e-3]),
    ],
)
def test_alpha_of_the_filter(knobs, expected):
    model = methods.compile_for("filter", latent_mlp(), knobs, 1200)
    f = model.optimizer.gradient_filter
    assert [f.rates_at(step)["alpha"] for step in (0, 300, 900)] == pytest.approx(expected, 1e-3)
    assert f.gamma == knobs.gamma


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: methods.Knobs(alpha_schedule="step"), ["'step'", "linear"]),
        (lambda: methods.Knobs(learning_rate_schedule="default"), ["'default'", "cosine"]),
        (lambda: methods.Knobs(alpha=5.0), ["alpha", "5.0", "(0, 1]"]),
        (lambda: methods.Knobs(threshold=-1.0), ["threshold", "-1.0"]),
        (lambda: methods.Knobs(alpha_halving_steps=9), ["alpha_halving_steps", "default"]),
        (lambda: methods.Knobs(learning_rate=-1.0), ["-1.0", "(0, inf)"]),
        (lambda: methods.schedule("step", 0.1, steps=10), ["'step'", "constant"]),
        (
            lambda: methods.compile_for("magic", latent_mlp(), methods.Knobs(), 10),
            ["'magic'", "filter, bop, adam, sgd, frozen"],
        ),
        (
            lambda: methods.compile_for(
                "adam",
                keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]),
                methods.Knobs(),
                10,
            ),
            ["no trainable kernel with a 1-bit quantizer"],
        ),
    ],
)
def test_errors(make, words):
    with pytest.raises(ValueError) as raised:
        make()
    for word in words:
        assert word in str(raised.value)
