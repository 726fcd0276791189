"""Hyperparameters: what is refused, and what a method makes of them."""

import dataclasses

import pytest

from larq_filter.experiments import methods
from larq_filter.experiments.methods import knobs
from larq_filter.experiments.methods.knobs import Knobs


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Knobs(alpha_schedule="step"), ValueError, ["'step'", "linear", "default"]),
        (lambda: Knobs(learning_rate_schedule="default"), ValueError, ["'default'", "cosine"]),
        (lambda: Knobs(alpha=5.0), ValueError, ["alpha", "5.0", "(0, 1]"]),
        (lambda: Knobs(threshold=-1.0), ValueError, ["threshold", "-1.0", "[0, inf)"]),
        (lambda: Knobs(learning_rate=float("nan")), ValueError, ["learning_rate", "nan"]),
        (lambda: Knobs(momentum=1.0), ValueError, ["momentum", "1.0", "[0, 1)"]),
        (lambda: Knobs(alpha="0.1"), TypeError, ["alpha", "'0.1'", "float"]),
        (lambda: Knobs(alpha=True), TypeError, ["alpha", "True"]),
        (lambda: Knobs(alpha_halving_steps=1.5), TypeError, ["alpha_halving_steps", "int"]),
        (lambda: knobs.schedule("step", 0.1, steps=10), ValueError, ["'step'", "constant"]),
        (lambda: knobs.from_dict({"apha": 0.1}), ValueError, ["'apha'", "did you mean alpha?"]),
        (
            lambda: Knobs(alpha_halving_steps=9).resolve("filter", methods.METHODS["filter"].knobs),
            ValueError,
            ["alpha_halving_steps", "9", "default", "linear"],
        ),
        (
            lambda: methods.resolve("adam", Knobs(rest="same", learning_rate=0.1)),
            ValueError,
            ["learning_rate is 0.1", "rest=same", "kernel_learning_rate", "rest=adam"],
        ),
        (
            lambda: Knobs(alpha_schedule="default").resolve(
                "sgdat", methods.METHODS["sgdat"].knobs
            ),
            ValueError,
            ["sgdat", "gain", "cosine"],
        ),
    ],
)
def test_errors(make, error, words):
    with pytest.raises(error) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


def test_every_knob_is_read_by_a_method_and_every_default_is_allowed():
    names = {field.name for field in dataclasses.fields(Knobs)}
    assert names == {name for method in methods.METHODS.values() for name in method.knobs}
    for name, method in methods.METHODS.items():
        resolved = methods.resolve(name, Knobs())
        assert resolved.given() == {k: v for k, v in method.knobs.items() if v is not None}


def test_given_replaces_the_default():
    resolved = methods.resolve("filter", Knobs(gamma=1, alpha_schedule="cosine"))
    assert (resolved.gamma, resolved.alpha, resolved.alpha_schedule) == (1.0, 1e-2, "cosine")
    assert type(resolved.gamma) is float


def test_only():
    assert Knobs(alpha=0.1, learning_rate=1.0).only(["learning_rate"]) == Knobs(learning_rate=1.0)
