"""Search spaces: around the recipe of a method, or as they are written."""

import pytest

from larq_filter.experiments import methods
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.experiments.sweeps import spaces
from larq_filter.experiments.sweeps.spaces import Choices, Range


def test_every_method_has_a_space_around_its_recipe():
    for method in methods.names():
        space = spaces.build(method)
        defaults = methods.METHODS[method].knobs
        assert space
        for name, part in space.items():
            if isinstance(part, Range):
                assert part.low <= defaults[name] <= part.high
                Knobs(**{name: part.low})
                Knobs(**{name: part.high})
            else:
                assert defaults[name] in part.values


def test_default_knobs_are_the_numbers_of_the_recipe_and_a_schedule():
    assert list(spaces.build("filter")) == ["alpha", "gamma", "learning_rate", "alpha_schedule"]
    rates = ["learning_rate", "kernel_learning_rate"]
    assert list(spaces.build("adam")) == [*rates, "learning_rate_schedule"]
    assert list(spaces.build("adam", fixed=Knobs(rest="same"))) == [
        "kernel_learning_rate",
        "learning_rate_schedule",
    ]
    fixed = Knobs(learning_rate=0.01)
    assert list(spaces.build("filter", fixed=fixed)) == ["alpha", "gamma", "alpha_schedule"]
    assert spaces.build("adam", ["weight_decay"]) == {"weight_decay": Range(3.33e-6, 3e-3)}


def test_space_from_text():
    text = "alpha=1e-4:1e-1:log, gamma=0.01:1:linear,alpha_schedule=linear|cosine"
    assert spaces.build("filter", ["alpha_schedule", "alpha", "gamma"], text) == {
        "alpha_schedule": Choices(("linear", "cosine")),
        "alpha": Range(1e-4, 0.1, log=True),
        "gamma": Range(0.01, 1.0, log=False),
    }
    assert spaces.build("filter", None, "alpha_halving_steps=10:100")["alpha_halving_steps"] == (
        Range(10, 100, log=True, whole=True)
    )
    assert spaces.build("sgd", ["momentum"], "momentum=0:0.9")["momentum"].log is False
    assert spaces.build("filter", ["alpha"], "alpha=0.1|0.01")["alpha"] == Choices((0.1, 0.01))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("adam", ["alpha"]), ["adam", "no knob 'alpha'", "learning_rate"]),
        (("adam", None, "gamma=0.1:1"), ["adam", "no knob 'gamma'"]),
        (("addam",), ["addam", "adam"]),
        (("filter", None, "alpha"), ["'alpha' can't be read", "KNOB=LOW:HIGH:log"]),
        (("filter", None, "alpha=1:2:3"), ["alpha=1:2:3", "KNOB=LOW:HIGH:log"]),
        (("filter", None, "alpha=a:b"), ["alpha", "a number", "'a'", "KNOB=LOW"]),
        (("filter", None, "alpha=0.1"), ["leaves nothing to search", "fix it"]),
        (("filter", None, "alpha=0.1:0.01"), ["LOW must be below HIGH"]),
        (("filter", None, "alpha=0.1:7"), ["alpha is 7", "(0, 1]"]),
        (("larq_bop", None, "threshold=0:1:log"), ["above 0"]),
        (("filter", None, "alpha_schedule=linear|cosin"), ["cosin", "cosine"]),
        (("filter", None, "alpha=0.1:1,alpha=0.2:1"), ["alpha twice"]),
        (("filter", ["gamma"], "alpha=0.1:1"), ["alpha", "not among"]),
        (("filter", ["gamma"], "", Knobs(gamma=0.1)), ["gamma", "both searched and fixed"]),
        (("filter", None, "gamma=0.1:1", Knobs(gamma=0.1)), ["both searched and fixed"]),
        (("distilled", ["teacher"]), ["teacher", "no search space", "KNOB=LOW"]),
        (("filter", []), ["nothing to search", "alpha"]),
        (("filter", None, "alpha_halving_steps=1.5:3"), ["whole number", "1.5"]),
    ],
)
def test_space_errors(arguments, words):
    with pytest.raises(ValueError) as raised:
        spaces.build(*arguments)
    for word in words:
        assert word in str(raised.value)


def test_fixed_knobs_from_text():
    fixed = spaces.parse_fixed("learning_rate=0.01, alpha_schedule=cosine", "filter")
    assert fixed == Knobs(learning_rate=0.01, alpha_schedule="cosine")
    with pytest.raises(ValueError, match="KNOB=VALUE"):
        spaces.parse_fixed("learning_rate", "filter")
    with pytest.raises(ValueError, match="no knob 'momentum'"):
        spaces.parse_fixed("momentum=0.9", "filter")


def test_values_are_legible_and_inside():
    part = Range(0.0012344, 0.1)
    assert part.legible(0.0123456) == 0.01235
    assert part.legible(0.00123441) == part.low
    assert Range(1, 9, whole=True).legible(4) == 4
