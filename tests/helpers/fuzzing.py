"""Properties that hold for arguments of every kind, and the arguments.

``PROPERTIES`` maps a name to a function of ``st.data()``. Each draws a call and its arguments, most
of them nonsense, and holds the outcome against one rule: it works, or it raises TypeError or
ValueError with a text that names an argument. What works takes three steps. ``test_fuzz`` runs a
fixed share of them, ``soak/fuzz.py`` many more.
"""

import contextlib
import copy
import dataclasses
import fractions
import inspect
import io
import itertools
import json
import math
import pathlib
import tempfile
import warnings

import numpy as np
from hypothesis import strategies as st

from larq_filter import (
    binary,
    filters,
    flips,
    hyperparameters,
    optimizers,
    presets,
    quantizers,
    serialization,
)
from larq_filter._keras import keras, tf
from larq_filter.experiments import comparison, methods, run_folder
from larq_filter.experiments.comparison import settings
from larq_filter.experiments.methods import knobs
from larq_filter.experiments.sweeps import spaces

import larq as lq

DOCUMENTED = (TypeError, ValueError)
SHORTEST = 25  # characters of a text that can say what is allowed
LONGEST = 4000

Schedule = keras.optimizers.schedules.PolynomialDecay


class Unprintable:
    """An object whose ``repr`` fails."""

    def __repr__(self):
        raise RuntimeError("no text")


NUMBERS = [0, -0.0, 1, -1, 0.5, 1e-3, 2, 3, 1e-7, 24, 25, math.nan, math.inf, -math.inf, 1e308]
NUMBERS += [-1e308, 5e-324, 1e-320, 2**31, 2**63, 2**64, -(2**63), 10**400, -(10**400)]
NUMBERS += [np.float32(0.5), np.float64(math.nan), np.int64(3), np.uint8(1), np.float16(0.25)]
NUMBERS += [fractions.Fraction(1, 3), fractions.Fraction(10**400, 1), np.longdouble(0.5)]
OTHERS = [
    None,
    True,
    False,
    np.bool_(True),
    "",
    "0.5",
    "nan",
    "adam",
    "lowpass",
    "linear",
    "x" * 10000,
]
OTHERS += [
    [],
    [0.5],
    [0.5, None],
    (),
    {},
    {"alpha": 0.5},
    b"1",
    1j,
    np.array(0.5),
    np.array([0.1, 0.2]),
]
OTHERS += [np.zeros((0, 6)), object, object(), len, Ellipsis, range(3), {1, 2}]
OTHERS += [Schedule(0.5, 10), Schedule(0.5, 10, 0.0), Schedule(math.nan, 10), Schedule("a", 10)]
OTHERS += [Schedule(2.0, 10), Schedule(0.5, 0), filters.EMA(0.5), flips.Sign(), filters.EMA]
OTHERS += [keras.optimizers.Adam, keras.initializers.RandomUniform(0.0, 1.0), "\udcff", "\0"]


def unprintable(digits: int):
    """An integer, or an object, whose ``repr`` fails; made late: Hypothesis prints its lists."""
    return 10**digits if digits > 0 else Unprintable()


def fresh(value):
    """A copy of what a property may change, so that no example sees the one before."""
    return copy.deepcopy(value) if isinstance(value, list | dict | set | np.ndarray) else value


SENSIBLE = st.one_of(
    st.floats(0.0, 1.0), st.floats(1e-6, 1.0), st.integers(1, 30), st.floats(0.0, 100.0)
)
PRINTABLE = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(OTHERS).map(fresh),
    st.floats(),
    st.integers(),
    st.text(max_size=20),
    st.recursive(st.floats(), lambda inner: st.lists(inner, max_size=3), max_leaves=6),
)
NONSENSE = st.one_of(PRINTABLE, PRINTABLE, st.sampled_from([5000, -1]).map(unprintable))
ANYTHING = st.one_of(SENSIBLE, SENSIBLE, NONSENSE)
FLAGS = st.one_of(st.booleans(), st.none(), NONSENSE)
NAMES = st.one_of(st.sampled_from(["a", "a b", "", "/", "x" * 300, None, 3]), NONSENSE)
COEFFICIENTS = st.one_of(
    st.lists(st.floats(-1.0, 1.0), max_size=8),
    st.lists(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -1.999, 0.999, 1e-300, 1e300]), max_size=8
    ),
    st.lists(st.one_of(st.floats(), st.sampled_from(NUMBERS)), max_size=6),
    st.integers(0, 5000).map(lambda n: [0.5 / (n + 1)] * n),
    st.lists(st.lists(st.floats(-2.0, 2.0), max_size=3), max_size=3),
    NONSENSE,
)
ROW = st.lists(
    st.one_of(st.floats(-2.0, 2.0), st.sampled_from([0.0, 1.0, 1e-300, 1e300, math.nan])),
    min_size=6,
    max_size=6,
)
SECTIONS = st.one_of(
    st.lists(ROW, max_size=3),
    st.lists(st.tuples(*[st.floats(-0.4, 0.4)] * 3, st.just(1.0), *[st.floats(-0.4, 0.4)] * 2)),
    st.integers(250, 260).map(lambda n: [[0, 0.1, 0.1, 0, 1, 0.2]] * n),
    COEFFICIENTS,
)
CUTOFFS = st.one_of(
    st.floats(1e-12, 0.5),
    st.floats(0.01, 0.4),
    st.tuples(st.floats(0.001, 0.2), st.floats(0.2, 0.5)),
    st.lists(st.floats(0.0, 0.5), max_size=3),
    NONSENSE,
)


@st.composite
def parts(draw):
    """A list of filters, or something else."""
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return draw(NONSENSE)
    if kind == 1:
        return itertools.repeat(filters.EMA(0.5))  # for ever
    some = st.sampled_from(
        [
            filters.EMA(0.5),
            filters.EMA(1e-6),
            filters.EMA(Schedule(0.5, 10)),
            filters.Limiter(),
            filters.FIR([0.5, 0.5]),
            filters.LeakyIntegrator(1.0, 0.0),
            filters.Kalman(),
            filters.FIR([1.0, -1.0]),
            filters.NormalizedEMA(alpha=0.1, sigma=0.1, bias_correction=True),
            filters.ResettingIntegrator(1.0),
        ]
    )
    f = draw(st.lists(some, max_size=4))
    try:
        for _ in range(draw(st.sampled_from([0, 1, 3, 20, 1000]))):
            f = [filters.Cascade(f), filters.EMA(0.5)] if kind == 2 else [filters.Cascade(f)] * 2
    except ValueError:
        pass  # as deep as it may be; one more is tried
    return f


# What each argument is drawn from, where a number or nonsense would seldom do.
ARGUMENTS = {
    "compensated": FLAGS,
    "nesterov": FLAGS,
    "bias_correction": FLAGS,
    "count_flips": FLAGS,
    "unbiased": FLAGS,
    "decoupled": FLAGS,
    "scaled": FLAGS,
    "jit_compile": FLAGS,
    "taps": COEFFICIENTS,
    "gains": COEFFICIENTS,
    "b": COEFFICIENTS,
    "a": COEFFICIENTS,
    "cutoff": CUTOFFS,
    "order": st.one_of(st.integers(1, 24), ANYTHING, st.just(10**6)),
    "length": st.one_of(st.integers(1, 64), ANYTHING, st.just(10**9)),
    "btype": st.one_of(st.sampled_from(["lowpass", "highpass", "bandpass", "bandstop"]), NONSENSE),
    "ftype": st.one_of(
        st.sampled_from(["butter", "cheby1", "cheby2", "ellip", "bessel"]), NONSENSE
    ),
    "kind": st.one_of(st.sampled_from([1, 2]), NONSENSE),
    "ripple": st.one_of(st.none(), st.floats(0.1, 3.0), ANYTHING),
    "attenuation": st.one_of(st.none(), st.floats(10.0, 80.0), ANYTHING),
    "stages": parts(),
    "filters": parts(),
    "seed": st.one_of(st.integers(0, 9), ANYTHING),
    "velocity": st.one_of(st.sampled_from(["keras", "pytorch", "normalised"]), NONSENSE),
    "learning_rate": st.one_of(st.floats(1e-4, 1.0), ANYTHING),
    "weight_decay": st.one_of(st.floats(0.0, 1e-2), ANYTHING),
    "steps_per_epoch": st.one_of(st.none(), st.integers(1, 1000), ANYTHING),
    "epochs": st.one_of(st.integers(1, 100), ANYTHING),
    "threshold": st.one_of(st.floats(0.0, 1e-3), ANYTHING),
    "name": NAMES,
    "coefficients": COEFFICIENTS,
    "default_optimizer": st.one_of(st.sampled_from(["adam", None, "sgd"]), NONSENSE),
    "gradient_filter": st.one_of(st.none(), st.just(filters.EMA(0.1)), NONSENSE),
    "flip_rule": st.one_of(st.none(), st.just(flips.Balanced()), NONSENSE),
    "on_nonfinite": st.one_of(st.sampled_from(["skip", "raise"]), NONSENSE),
    "clipnorm": st.one_of(st.none(), st.floats(0.1, 10.0), ANYTHING),
    "clipvalue": st.one_of(st.none(), st.floats(0.1, 10.0), ANYTHING),
    "global_clipnorm": st.one_of(st.none(), st.floats(0.1, 10.0), ANYTHING),
    "warm_start": st.one_of(st.none(), st.floats(0.1, 3.0), ANYTHING),
}


UNIT = st.floats(1e-6, 1.0)
GOOD = {
    "compensated": st.sampled_from([None, True, False]),
    **dict.fromkeys(
        [
            "nesterov",
            "bias_correction",
            "count_flips",
            "unbiased",
            "decoupled",
            "augment",
            "download",
        ],
        st.booleans(),
    ),
    "jit_compile": st.just(False),
    "taps": st.lists(st.floats(0.1, 1.0), min_size=1, max_size=5),
    "gains": st.lists(st.floats(0.1, 1.0), min_size=2, max_size=2),
    "filters": st.just([filters.EMA(0.5), filters.FIR([0.5, 0.25])]),
    "stages": st.just([filters.EMA(0.5), filters.Cascade([filters.Limiter()])]),
    "b": st.lists(st.floats(0.1, 1.0), min_size=1, max_size=5),
    "a": st.lists(st.floats(-0.1, 0.1), max_size=4).map(lambda rest: [1.0, *rest]),
    "coefficients": st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=5),
    "cutoff": st.floats(1e-9, 0.49),
    "order": st.integers(1, 24),
    "length": st.integers(1, 64),
    "btype": st.sampled_from(["lowpass", "highpass"]),
    "ftype": st.sampled_from(["butter", "cheby1", "cheby2", "ellip", "bessel"]),
    "kind": st.sampled_from([1, 2]),
    "attenuation": st.floats(10.0, 80.0),
    "seed": st.integers(0, 9),
    "velocity": st.sampled_from(["keras", "pytorch", "normalised"]),
    "learning_rate": st.floats(1e-4, 1.0),
    "weight_decay": st.floats(0.0, 1e-2),
    "momentum": st.floats(0.0, 0.99),
    "steps_per_epoch": st.integers(1, 1000),
    "epochs": st.integers(1, 100),
    "name": st.sampled_from(["a", "FilterOptimizer"]),
    "default_optimizer": st.sampled_from(["adam", None, "sgd"]),
    "gradient_filter": st.sampled_from([None, filters.EMA(0.1), filters.butterworth(3, 0.1)]),
    "flip_rule": st.sampled_from([None, flips.Balanced(), flips.Probabilistic(0.1, 0.5)]),
    "on_nonfinite": st.sampled_from(["skip", "raise"]),
    "clipnorm": st.just(1.0),
    "clipvalue": st.none(),
    "global_clipnorm": st.none(),
    "warm_start": st.sampled_from([None, 0.3, keras.initializers.RandomUniform(0.0, 1.0, seed=1)]),
    "beta1": st.floats(0.0, 0.99),
    "beta2": st.floats(0.0, 0.99),
    **dict.fromkeys(["dataset", "model", "data_dir"], st.just("digits")),
    **dict.fromkeys(
        ["train_examples", "validation_examples", "image_size", "width", "batch_size"],
        st.integers(1, 9),
    ),
    "method": st.just("filter"),
    "knobs": st.just(knobs.Knobs(alpha=0.1)),
    "schedule": st.just(Schedule(0.5, 10)),
}


def expected_text(error: Exception, names, what: str) -> None:
    """Asserts that the text of an error says something, and about which argument."""
    text = str(error)
    assert SHORTEST <= len(text) <= LONGEST, (
        f"{what}: {type(error).__name__} of {len(text)}: {text}"
    )
    assert any(name in text for name in names), f"{what}: names no argument: {text}"


@contextlib.contextmanager
def strictly():
    """Warnings are errors inside, and nothing is printed."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "non-integer arguments", DeprecationWarning)
        yield


def attempt(call, names, what=None):
    """What ``call`` gives; None where it raises what it may."""
    try:
        with strictly():
            return call()
    except DOCUMENTED as error:
        expected_text(error, names, what or str(call))
        return None


def arguments_of(data, function) -> dict:
    """Arguments for a function by the names of its parameters; some left out, one unknown.

    Those of half of the calls are all in order, in the others each fourth is anything.
    """
    values, spoilt = {}, data.draw(st.booleans(), label="spoilt")
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        optional = parameter.default is not parameter.empty
        if data.draw(st.integers(0, 9), label="left out") < (5 if optional else spoilt):
            continue
        good = GOOD.get(name, UNIT)
        wild = spoilt and data.draw(st.integers(0, 3), label="anything") == 0
        values[name] = data.draw(ARGUMENTS.get(name, ANYTHING) if wild else good, label=name)
    if spoilt and data.draw(st.integers(0, 19), label="unknown") == 0:
        values["surprise"] = 1
    return values


def names_of(function) -> list[str]:
    """The names that an error about its arguments may mention."""
    return [*inspect.signature(function).parameters, "surprise"]


def takes_steps(f, rule) -> None:
    """Three steps of a kernel in float64, with what optimizer and rule ask for."""
    random = np.random.default_rng(0)
    weight = np.where(random.normal(size=(4, 3)) < 0, -1.0, 1.0)
    state, flip_state = f.zero_state(weight, np), rule.zero_state(weight, np)
    assert len(state) == f.state_size
    with np.errstate(all="ignore"):
        for step in range(3):
            gradient = random.normal(size=weight.shape)
            signal, state = f.step(gradient, state, f.rates_at(step), np)
            given = {"gradient": gradient, "uniform": random.random(weight.shape)}
            rates = rule.rates_at(step) | {name: given[name] for name in rule.inputs}
            flipped, flip_state = rule.flip(weight, signal, flip_state, rates, np)
            state = f.feedback(state, flipped, np)
            weight = np.where(flipped, -weight, weight)
    assert signal.shape == weight.shape
    assert np.all(np.abs(weight) == 1)


def trains(optimizer) -> None:
    """Three steps of a binary kernel and a bias by the optimizer itself."""
    with lq.context.quantized_scope(False):
        layer = lq.layers.QuantDense(
            3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", use_bias=True
        )
        layer.build((None, 4))
    kernel, bias = layer.trainable_variables
    if optimizer.default_optimizer is None:
        variables = [kernel]
    else:
        variables = [kernel, bias]
    optimizer.build(variables)
    random = np.random.default_rng(0)
    for _ in range(3):
        gradients = [tf.constant(random.normal(size=v.shape), tf.float32) for v in variables]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
    with lq.context.quantized_scope(False):
        assert set(np.unique(np.abs(kernel.numpy()))) == {1.0}
    assert int(optimizer.iterations) + int(optimizer.skipped_steps) == 3


def round_trip(value) -> None:
    """A config brings the same value back."""
    assert type(value).from_config(value.get_config()) == value


# Filters and flip rules ---------------------------------------------------------------------------

FILTERS = [
    getattr(filters, name)
    for name in filters.__all__
    if inspect.isclass(getattr(filters, name))
    and issubclass(getattr(filters, name), filters.Filter)
    and getattr(filters, name) is not filters.Filter
]
DESIGNS = [
    filters.MA,
    filters.ademamix,
    filters.bessel,
    filters.butterworth,
    filters.chebyshev,
    filters.from_transfer_function,
    filters.iir,
    filters.moving_average,
]
RULES = [
    rule
    for rule in vars(flips).values()
    if inspect.isclass(rule) and issubclass(rule, flips.FlipRule) and rule is not flips.FlipRule
]


def any_filter(data):
    kind = data.draw(st.sampled_from(FILTERS + DESIGNS), label="filter")
    values = arguments_of(data, kind)
    if "coefficients" in values and kind in (filters.SecondOrderSections, filters.DeltaSections):
        values["coefficients"] = data.draw(SECTIONS, label="coefficients")
    names = names_of(kind) + ["fast", "slow", "alpha"] * (kind is filters.ademamix)
    f = attempt(
        lambda: kind(**values),
        [*names, "All", "section", "pole"],
        f"{kind.__name__}{filters.shown(values)}",
    )
    if f is not None:
        round_trip(f)
        takes_steps(f, flips.Sign())


def any_flip_rule(data):
    kind = data.draw(st.sampled_from(RULES), label="rule")
    values = arguments_of(data, kind)
    rule = attempt(
        lambda: kind(**values), names_of(kind), f"{kind.__name__}{filters.shown(values)}"
    )
    if rule is not None:
        round_trip(rule)
        takes_steps(filters.EMA(0.5), rule)


# Optimizers ---------------------------------------------------------------------------------------


def any_optimizer(data):
    kind = data.draw(st.sampled_from([optimizers.FilterOptimizer, *presets.PRESETS.values()]))
    values = arguments_of(data, kind)
    if kind is not optimizers.FilterOptimizer:
        more = arguments_of(data, optimizers.FilterOptimizer)
        own = inspect.signature(optimizers.FilterOptimizer).parameters
        values |= {
            name: value
            for name, value in more.items()
            if name in own and name not in ("gradient_filter", "flip_rule")
        }
    if values.get("jit_compile", True) is True:
        values["jit_compile"] = False  # to be quick
    names = names_of(kind) + names_of(optimizers.FilterOptimizer)
    # Knobs of presets by the names that filters and rules have for them.
    names += ["alpha", "sigma", "level", "leak", "eta", "gain", "schedule"]
    optimizer = attempt(lambda: kind(**values), names, f"{kind.__name__}{filters.shown(values)}")
    if optimizer is not None:
        trains(optimizer)


SOME_OPTIMIZERS = [
    lambda: optimizers.FilterOptimizer(jit_compile=False),
    lambda: presets.bop(jit_compile=False, clipnorm=1.0),
    lambda: presets.diode(jit_compile=False),
    lambda: presets.prob_bop(steps_per_epoch=5, jit_compile=False),
    lambda: optimizers.FilterOptimizer(
        filters.Cascade([filters.EMA(0.5), filters.butterworth(2, 0.1)]),
        flips.Threshold(Schedule(0.1, 10)),
        "sgd",
        warm_start=0.3,
        jit_compile=False,
    ),
]
SOME_VALUES = [
    filters.EMA(0.5),
    filters.CascadedEMA(alpha=Schedule(0.5, 10), gamma=0.1),
    filters.Cascade([filters.EMA(0.5), filters.Cascade([filters.Limiter()])]),
    filters.Parallel([filters.EMA(0.5), filters.FIR([1.0])], [1.0, 2.0]),
    filters.butterworth(2, 0.1),
    filters.Kalman(),
    flips.Probabilistic(0.1, Schedule(0.5, 10)),
    flips.Fire(),
]

NAMES_OF_CLASSES = [
    "os>system",
    "Popen",
    "system",
    "function",
    "__lambda__",
    "__typespec__",
    "Lambda",
    "larq_filter>EMA",
    "larq_filter>Nothing",
    "Adam",
    "PolynomialDecay",
    "TFOpLambda",
    "",
    None,
    3,
    ["EMA"],
]
MODULES = [
    "os",
    "subprocess",
    "builtins",
    "keras",
    "keras.layers",
    "larq_filter.filters",
    "",
    None,
    3,
]
FOREIGN = st.fixed_dictionaries(
    {"class_name": st.sampled_from(NAMES_OF_CLASSES), "config": st.one_of(st.just({}), PRINTABLE)},
    optional={
        "module": st.sampled_from(MODULES),
        "registered_name": st.sampled_from(NAMES_OF_CLASSES),
        "shared_object_id": PRINTABLE,
        "build_config": PRINTABLE,
    },
)


class Box(dict):
    """A dict that is printed short, however much is in it: Hypothesis prints what it draws."""

    def __repr__(self):
        return f"Box({', '.join(map(str, self))})"


class Row(list):
    """A list that is printed short."""

    def __repr__(self):
        return f"Row of {len(self)}"


def deep(depth: int, of: str = "list"):
    """Containers within containers."""
    value = Box(class_name="larq_filter>EMA", config=Box(alpha=0.5))
    for _ in range(depth):
        if of == "list":
            value = Row([value])
        elif of == "dict":
            value = Box(a=value)
        else:
            value = Box(class_name="larq_filter>Cascade", config=Box(stages=Row([value])))
    return value


DEEP = st.builds(
    deep, st.sampled_from([1, 5, 100, 1000, 10000]), st.sampled_from(["list", "dict", "stages"])
)


def mutated(data, config: dict) -> dict:
    """A config with a key missing, one too many, or another value somewhere inside."""
    config = json.loads(json.dumps(config, default=float))
    for _ in range(data.draw(st.integers(1, 3), label="changes")):
        place = config
        for _ in range(data.draw(st.integers(0, 5), label="depth")):
            inner = list(place.values() if isinstance(place, dict) else place)
            inner = [value for value in inner if isinstance(value, dict | list) and value]
            # What is in it is Keras' own, and checked by Keras.
            inner = [value for value in inner if value is not config.get("default_optimizer")]
            if not inner:
                break
            place = data.draw(st.sampled_from(inner), label="place")
        value = data.draw(st.one_of(PRINTABLE, SENSIBLE, FOREIGN, DEEP), label="value")
        if isinstance(place, list):
            place[:] = [value, *place] if data.draw(st.booleans()) else [value] * len(place)
            continue
        keys = [*place, "surprise", "alpha"]
        key = data.draw(st.sampled_from(keys), label="key")
        if key in place and data.draw(st.integers(0, 3), label="drop") == 0:
            del place[key]
        else:
            place[key] = value
    return config


# What an error about a config may name: any of its keys, or the config itself.
CONFIG_WORDS = ["config", "pole", "section", "alpha", "class", "filter", "`", "argument", "names"]


def any_config_of_values(data):
    value = data.draw(st.sampled_from(SOME_VALUES), label="of")
    serialized = keras.utils.serialize_keras_object(value)
    config = mutated(data, serialized["config"])
    again = attempt(
        lambda: type(value).from_config(config), CONFIG_WORDS, f"{filters.shown(config)}"
    )
    if isinstance(again, filters.Filter):
        takes_steps(again, flips.Sign())
    elif again is not None:
        takes_steps(filters.EMA(0.5), again)


def any_config_of_optimizers(data):
    make = data.draw(st.sampled_from(SOME_OPTIMIZERS), label="of")
    config = mutated(data, make().get_config())
    optimizer = attempt(
        lambda: optimizers.FilterOptimizer.from_config(config),
        [*CONFIG_WORDS, *make().get_config()],
        f"{filters.shown(config)}",
    )
    if optimizer is not None and optimizer._jit_compile_argument is False:
        trains(optimizer)


def any_foreign_config(data):
    """What is refused is refused by name; what is not can be read."""
    config = data.draw(st.one_of(FOREIGN, DEEP, NONSENSE), label="config")
    attempt(
        lambda: serialization.refuse_foreign(config, "The config"),
        ["config"],
        f"{filters.shown(config)}",
    )


# Knobs, configs, settings, spaces ----------------------------------------------------------------


def any_knobs(data):
    names = [field.name for field in dataclasses.fields(knobs.Knobs)]
    right = {
        "alpha": UNIT,
        "gamma": UNIT,
        "learning_rate": UNIT,
        "alpha_schedule": st.just("cosine"),
    }
    wrong = st.one_of(
        ANYTHING, st.sampled_from(["linear", "cosine", "constant", "default", "zscore"])
    )
    values = data.draw(st.fixed_dictionaries({}, optional=right), label="right")
    if data.draw(st.booleans(), label="spoilt"):
        spoilt = st.dictionaries(st.sampled_from([*names, "alhpa", ""]), wrong, max_size=3)
        values |= data.draw(spoilt, label="anything")
    found = attempt(lambda: knobs.from_dict(values), [*names, "knob"], f"{filters.shown(values)}")
    method = data.draw(st.sampled_from([*methods.METHODS, "nothing"]), label="method")
    if found is not None:
        assert found.given() == knobs.Knobs(**found.given()).given()
        attempt(
            lambda: methods.resolve(method, found), [*names, "method"], f"{filters.shown(values)}"
        )


def any_training_config(data):
    values = arguments_of(data, run_folder.Config)
    config = attempt(
        lambda: run_folder.Config(**values), names_of(run_folder.Config), f"{filters.shown(values)}"
    )
    if config is not None:
        json.dumps(dataclasses.asdict(config), allow_nan=False)  # config.json


def any_recipe_file(data):
    good = {"knobs": {"alpha": 0.01, "gamma": 0.1}, "reason": "a search"}
    entry = st.one_of(
        st.just(good),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=8)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["knobs", "reason", "alpha", "learning_rate", "x"]),
                    inner,
                    max_size=3,
                ),
            ),
        ),
    )
    method = st.sampled_from(["filter", "adam", "bop", "nothing", ""])
    tree = st.dictionaries(
        st.sampled_from(["digits", "x"]), st.one_of(entry, st.dictionaries(method, entry))
    )
    right = st.fixed_dictionaries({"digits": st.fixed_dictionaries({"filter": entry})})
    text = data.draw(
        st.one_of(
            right.map(json.dumps),
            tree.map(json.dumps),
            st.sampled_from(
                ["[" * 100_000, '{"digits":' * 50_000, "", "{", "nul", "9" * 6000, "\ufeff{}"]
            ),
            st.text(max_size=30),
        ),
        label="file",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "hyperparameters.json"
        path.write_text(text, encoding="utf-8", errors="replace")
        found = attempt(
            lambda: settings.load_settings(path, "digits", ["filter"]),
            ["hyperparameters.json"],
            text[:300],
        )
    if found:
        base = run_folder.Config(epochs=1)
        assert all(job.config.knobs is not None for job in comparison.make_jobs(base, found, 2))


WORDS = [
    "alpha",
    "gamma",
    "=",
    ":",
    ",",
    "|",
    "log",
    "linear",
    "cosine",
    "1e-4",
    "0.1",
    "1",
    "-1",
    "nan",
]
WORDS += [
    "inf",
    "1e999",
    "9" * 5000,
    "alpha_schedule",
    "alpha_halving_steps",
    "learning_rate",
    " ",
    "é",
]
SPACES = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=9).map("".join),
    st.text(max_size=20),
    st.sampled_from(["alpha=1e-4:1e-1:log", "alpha_halving_steps=1:9999999999999", "gamma=0.1|1"]),
)


def any_search_space(data):
    method = data.draw(st.sampled_from([*methods.METHODS, "nothing"]), label="method")
    text, fixed = data.draw(SPACES, label="space"), data.draw(SPACES, label="fixed")
    names = [f.name for f in dataclasses.fields(knobs.Knobs)]
    words = [*names, "KNOB", "method", "search"]
    kept = attempt(
        lambda: spaces.parse_fixed(fixed, method), words, f"{method} {filters.shown(fixed)}"
    )
    space = attempt(
        lambda: spaces.build(method, None, text, kept), words, f"{method} {filters.shown(text)}"
    )
    for part in (space or {}).values():
        assert str(part)


# Numbers in, numbers out --------------------------------------------------------------------------


def any_translation(data):
    values = arguments_of(data, hyperparameters.filter_from_sgd)
    names = names_of(hyperparameters.filter_from_sgd)
    more = ["alpha", "gain", "rate", "pole", "leak"]  # of the filter it would be
    found = attempt(
        lambda: hyperparameters.filter_from_sgd(**values),
        [*names, *more],
        f"{filters.shown(values)}",
    )
    if found is not None:
        assert str(found)
        takes_steps(found.filter, flips.Sign())
        back = dict(
            weight_decay=data.draw(ANYTHING, label="back"),
            decoupled=data.draw(FLAGS, label="decoupled"),
            velocity=found.latent.velocity,
        )
        attempt(
            lambda: hyperparameters.sgd_from_filter(found.filter, **back),
            [*names, "latent SGD", "filter"],
            f"{filters.shown(found.filter)} {filters.shown(back)}",
        )


def any_scaled_schedule(data):
    values = arguments_of(data, hyperparameters.Scaled)
    scaled = attempt(lambda: hyperparameters.Scaled(**values), ["schedule", "factor", "surprise"])
    assert scaled is None or str(scaled)


def any_suggestion(data):
    values = arguments_of(data, hyperparameters.suggest)
    found = attempt(
        lambda: hyperparameters.suggest(**values),
        [*names_of(hyperparameters.suggest), "run"],
        f"{filters.shown(values)}",
    )
    if found is not None:
        assert str(found)
        takes_steps(found.filter(), flips.Sign())


def any_default_alpha(data):
    values = arguments_of(data, optimizers.default_alpha)
    alpha = attempt(lambda: optimizers.default_alpha(**values), names_of(optimizers.default_alpha))
    if alpha is not None:
        takes_steps(filters.EMA(alpha), flips.Sign())


def any_initializer_or_quantizer(data):
    values = arguments_of(data, binary.RandomSign)
    sign = attempt(lambda: binary.RandomSign(**values), names_of(binary.RandomSign))
    if sign is not None:
        assert set(np.unique(sign((4, 3)))) <= {-1.0, 1.0}
    scaled = data.draw(FLAGS, label="scaled")
    quantizer = attempt(lambda: quantizers.StandardizedSign(scaled), ["scaled"])
    if quantizer is not None:
        kernel = tf.constant(np.random.default_rng(0).normal(size=(4, 3)), tf.float32)
        assert set(np.unique(quantizer(kernel))) <= {-1.0, 1.0}


# Flags --------------------------------------------------------------------------------------------


def train_script():
    """The command as a module; absl's flags are defined once in a process."""
    from larq_filter.cli import train

    return train


def any_flags(data):
    """A command line gives a config, or an error that names the flag."""
    from absl import flags as absl_flags

    train = train_script()
    own = [
        *(field.name for field in dataclasses.fields(run_folder.Config) if field.name != "knobs"),
        *(field.name for field in dataclasses.fields(knobs.Knobs)),
    ]
    texts = st.one_of(
        st.sampled_from(["", "0", "1", "-1", "0.5", "nan", "inf", "1e999", "9" * 400, "linear"]),
        st.sampled_from(
            ["true", "no", "digits", "../x", "filter", "adam", "birealnet20", "x" * 500, "\0"]
        ),
        st.text(max_size=10),
    )
    given = data.draw(st.dictionaries(st.sampled_from([*own, "surprise"]), texts, max_size=4))
    values = train.FLAGS
    saved = absl_flags.FlagValues.__call__  # the parser itself, on a copy of nothing else
    before = {name: (values[name].value, values[name].present) for name in own}
    try:
        with strictly():
            saved(values, ["train", *(f"--{name}={text}" for name, text in given.items())])
            config = train.config_from_flags()
            json.dumps(dataclasses.asdict(config))
    except absl_flags.Error as error:
        expected_text(error, [*own, "surprise"], f"{filters.shown(given)}")
    except DOCUMENTED as error:
        expected_text(error, [*own, "surprise"], f"{filters.shown(given)}")
    finally:
        for name, (value, present) in before.items():
            values[name].value, values[name].present = value, present


PROPERTIES = {
    "filters": any_filter,
    "flip rules": any_flip_rule,
    "optimizers": any_optimizer,
    "configs of values": any_config_of_values,
    "configs of optimizers": any_config_of_optimizers,
    "foreign configs": any_foreign_config,
    "knobs": any_knobs,
    "training configs": any_training_config,
    "setting files": any_recipe_file,
    "search spaces": any_search_space,
    "translations": any_translation,
    "scaled schedules": any_scaled_schedule,
    "suggestions": any_suggestion,
    "default alpha": any_default_alpha,
    "initializers and quantizers": any_initializer_or_quantizer,
    "flags": any_flags,
}
