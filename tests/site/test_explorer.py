"""The filter explorer says what the package says: its formulas are the second copy of these."""

import math

import numpy as np
import pytest

from larq_filter import analysis, filters, hyperparameters
from larq_filter._keras import keras

pytestmark = pytest.mark.docs
schedules = keras.optimizers.schedules

SIZES = {"batch_size": 128, "dataset_size": 50_000, "epochs": 100}
RECIPE = {"source": "recipe", "schedule": "constant", "learning_rate": 0.1, "weight_decay": 5e-4}
RECIPE |= {"momentum": 0.9, "decay": "inside", "velocity": "keras", **SIZES}
FILTER = {"source": "filter", "schedule": "constant", "alpha": 1e-3, "gamma": 0.1, **SIZES}

CASES = {
    "recipe": RECIPE,
    "no momentum": {**RECIPE, "momentum": 0},
    "decoupled": {**RECIPE, "decay": "decoupled"},
    "normalised": {**RECIPE, "velocity": "normalised"},
    "normalised, decoupled": {**RECIPE, "velocity": "normalised", "decay": "decoupled"},
    "pytorch": {**RECIPE, "velocity": "pytorch", "momentum": 0.99},
    "complex poles": {**RECIPE, "weight_decay": 0.1},
    "nearly unstable": {**RECIPE, "learning_rate": 1, "weight_decay": 3.7, "momentum": 0.9},
    "short memory": {**RECIPE, "decay": "decoupled", "learning_rate": 1, "weight_decay": 0.4},
    "tiny": {**RECIPE, "learning_rate": 1e-4, "weight_decay": 1e-5},
    "no decay": {**RECIPE, "weight_decay": 0},
    "no decay, no momentum": {**RECIPE, "weight_decay": 0, "momentum": 0},
    "linear": {**RECIPE, "schedule": "linear"},
    "cosine": {**RECIPE, "schedule": "cosine", "velocity": "pytorch"},
    "cosine, decoupled": {**RECIPE, "schedule": "cosine", "decay": "decoupled"},
    "linear, no momentum": {**RECIPE, "schedule": "linear", "momentum": 0},
    "linear, no decay": {**RECIPE, "schedule": "linear", "weight_decay": 0},
    "linear, normalised": {**RECIPE, "schedule": "linear", "velocity": "normalised"},
    "linear, complex": {**RECIPE, "schedule": "linear", "weight_decay": 0.1},
    "odd sizes": {**RECIPE, "schedule": "linear", "dataset_size": 1437, "batch_size": 50,
                  "epochs": 33},
    "filter": FILTER,
    "one average": {**FILTER, "gamma": 1},
    "no cutoff": {**FILTER, "alpha": 0.9, "gamma": 1},
    "gamma below alpha": {**FILTER, "alpha": 0.1, "gamma": 0.01},
    "equal": {**FILTER, "alpha": 0.01, "gamma": 0.01},
    "all ones": {**FILTER, "alpha": 1, "gamma": 1},
    "filter, linear": {**FILTER, "schedule": "linear"},
    "filter, cosine": {**FILTER, "schedule": "cosine", "gamma": 1},
}  # fmt: skip

FILL = """
const form = document.getElementById("explorer");
for (const [name, value] of Object.entries(arguments[0])) form.elements[name].value = value;
form.dispatchEvent(new Event("input"));
"""
READ = """
const found = { error: document.getElementById("explorer-error").textContent };
for (const element of document.querySelectorAll("#explorer-results [id^=explorer-]"))
  if (element.dataset.value) found[element.id.slice(9)] = element.dataset.value;
found.python = document.getElementById("explorer-python").textContent;
found.hidden = document.getElementById("explorer-results").hidden;
found.course = [...document.getElementById("explorer-course").tBodies[0].rows].map((row) => ({
  step: Number(row.dataset.step),
  ...Object.fromEntries([...row.cells].map((c) => [c.dataset.name, c.dataset.value])),
}));
found.curves = [...document.querySelectorAll("#explorer-gain polyline.curve")].length;
return found;
"""


def read(browser):
    """What the page says; numbers came as texts, since JSON has no NaN."""
    found = browser.run(READ)

    def numbers(part):
        kept = ("error", "python", "hidden", "course", "curves", "step")
        return {k: v if k in kept else float(v) for k, v in part.items()}

    return {**numbers(found), "course": [numbers(row) for row in found["course"]]}


@pytest.fixture
def explore(browser, address):
    """Fills the form; what the page then says."""
    if not browser.driver.current_url.startswith(f"{address}/explorer.html"):
        browser.open(f"{address}/explorer.html")

    def fill(case):
        browser.run(FILL, case)
        return read(browser)

    return fill


def optimizer_of(python):
    """What the lines to paste make."""
    names = {}
    exec(python, names)
    return names["optimizer"]


def expected(f, step, steps_per_epoch):
    """The same numbers by the package; NaN where it says that there is none."""

    def if_any(function, *arguments):
        try:
            return function(f, *arguments)
        except ValueError:
            return math.nan

    ratio = if_any(analysis.expected_flip_ratio, step)
    return {
        "memory_steps": analysis.time_constant(f, step),
        "delay": if_any(analysis.mean_delay, step),
        "cutoff": if_any(analysis.cutoff, step, steps_per_epoch),
        "flips": ratio,
        "flips_per_epoch": ratio * steps_per_epoch,
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_numbers(explore, case):
    found = explore(case)
    assert found["error"] == "" and not found["hidden"]
    f = optimizer_of(found["python"]).gradient_filter
    per_epoch = math.ceil(case["dataset_size"] / case["batch_size"])
    assert found["steps_per_epoch"] == per_epoch

    # Schedules are evaluated in float32 by Keras, near the end of a cosine to few digits. A pole
    # near 1 is stored to 1e-16, and its distance from 1 to that over the distance.
    constant = case["schedule"] == "constant"
    numbers = expected(f, 0, per_epoch)
    lost = 1e-16 * numbers["memory_steps"] if case.get("weight_decay") else 0
    exact = 1e-9 + lost if constant else 1e-6
    for name, value in numbers.items():
        assert found[name] == pytest.approx(value, rel=exact, nan_ok=True)
    memory = numbers["memory_steps"] / per_epoch
    assert found["memory_epochs"] == pytest.approx(memory, rel=1e-6)

    assert len(found["course"]) == (1 if constant else 5)
    for row in found["course"]:
        numbers = expected(f, row["step"], per_epoch)
        near = {"rel": exact if constant else 2e-5, "nan_ok": True}
        assert row["memory"] == pytest.approx(numbers["memory_steps"] / per_epoch, **near)
        assert row["flips"] == pytest.approx(numbers["flips"], **near)
        assert row["flips_per_epoch"] == pytest.approx(numbers["flips_per_epoch"], **near)
    assert bool(found["curves"]) == (case.get("weight_decay") != 0)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.get("weight_decay")])
def test_rates(explore, name):
    """Alpha and gamma are those of `filter_from_sgd`, at the rate of each row."""
    case = CASES[name]
    steps = math.ceil(case["dataset_size"] / case["batch_size"]) * case["epochs"]
    rate = {
        "constant": lambda step: case["learning_rate"],
        "linear": schedules.PolynomialDecay(case["learning_rate"], steps, 0.0),
        "cosine": schedules.CosineDecay(case["learning_rate"], steps),
    }[case["schedule"]]
    for row in explore(case)["course"]:
        f = hyperparameters.filter_from_sgd(
            float(rate(row["step"])),
            case["weight_decay"],
            case["momentum"],
            case["decay"] == "decoupled",
            case["velocity"],
        ).filter
        if isinstance(f, filters.HeavyBall):  # complex poles
            assert math.isnan(row["alpha"]) and math.isnan(row["gamma"])
        else:
            assert row["alpha"] == pytest.approx(f.alpha, rel=2e-5)
            assert row["gamma"] == pytest.approx(getattr(f, "gamma", 1.0), rel=2e-5)


@pytest.mark.parametrize("name", ["recipe", "complex poles", "one average", "gamma below alpha"])
def test_gain(explore, browser, name):
    """The curve in the picture, point by point, to the tenth of a pixel that it is drawn to."""
    found = explore(CASES[name])
    f = optimizer_of(found["python"]).gradient_filter
    texts, points, dot = browser.run("""
        const svg = document.getElementById("explorer-gain");
        const circle = svg.querySelector("circle");
        return [[...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getAttribute("x"),
                   t.getAttribute("y")]),
                svg.querySelector("polyline").getAttribute("points"),
                circle && circle.getAttribute("cx")];
    """)
    decades = {math.log10(float(t)): float(x) for t, x, y in texts if y == "278"}
    (low, left), (high, right) = min(decades.items()), max(decades.items())
    x, y = np.array([point.split(",") for point in points.split()], float).T
    frequency = 10 ** (low + (x - left) / (right - left) * (high - low))
    inside = frequency < 391 / 2
    _, gain = analysis.gain(f, frequency[inside], steps_per_epoch=391)
    decibels = 6 - (y[inside] - 14) / (262 - 14) * 66
    steepest = 80 * (high - low) / (right - left) * 0.05  # dB by the rounding of x
    assert decibels == pytest.approx(20 * np.log10(gain), abs=0.05 + steepest)
    if dot is not None:
        cutoff = math.log10(analysis.cutoff(f, steps_per_epoch=391))
        assert low + (float(dot) - left) / (right - left) * (high - low) == pytest.approx(cutoff)


@pytest.mark.parametrize("epochs, dataset_size", [(100, 50_000), (3, 50_000), (30, 1437), (5, 600)])
def test_suggestion(explore, browser, epochs, dataset_size):
    sizes = {"batch_size": 128, "dataset_size": dataset_size, "epochs": epochs}
    explore({**RECIPE, **sizes})
    browser.run('document.getElementById("explorer-suggest").click()')
    found = read(browser)
    suggestion = hyperparameters.suggest(math.ceil(dataset_size / 128), epochs)
    assert found["alpha"] == pytest.approx(suggestion.alpha, rel=1e-12)
    assert found["gamma"] == suggestion.gamma
    f = optimizer_of(found["python"]).gradient_filter
    assert f.alpha.get_config() == pytest.approx(suggestion.filter().alpha.get_config())


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"learning_rate": 0}, 'learning rate is "0"; it must lie in (0, inf).'),
        ({"momentum": 1}, 'momentum is "1"; it must lie in [0, 1).'),
        ({"momentum": "much"}, 'momentum is "much"'),
        ({"weight_decay": ""}, 'weight decay is ""'),
        ({"batch_size": 1.5}, 'batch size is "1.5"; it must lie in the integers'),
        ({"source": "filter", "alpha": 2, "gamma": 1}, 'alpha is "2"; it must lie in (0, 1].'),
        ({"weight_decay": 20, "decay": "decoupled"}, "it must lie in [0, 1]"),
        ({"weight_decay": 20, "momentum": 0}, "it must lie in [0, 1]"),
        ({"weight_decay": 39}, "the latent weights would grow"),
    ],
)
def test_what_is_refused(explore, changes, said):
    """With the interval, and no number stands beside it; the package refuses it too."""
    found = explore({**RECIPE, **changes})
    assert said in found["error"] and found["hidden"]
    given = {**RECIPE, **changes}
    with pytest.raises((TypeError, ValueError)):
        if given["source"] == "filter":
            filters.CascadedEMA(alpha=given["alpha"], gamma=given["gamma"])
        elif "batch_size" in changes:
            hyperparameters.suggest(given["batch_size"], 1)
        else:
            hyperparameters.filter_from_sgd(
                given["learning_rate"],
                given["weight_decay"],
                given["momentum"],
                given["decay"] == "decoupled",
            )


def test_typing(explore, browser):
    """As a reader does it: a number typed, a choice taken."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    explore(RECIPE)
    field = browser.driver.find_element(By.NAME, "weight_decay")
    field.clear()
    field.send_keys("1e-4")
    Select(browser.driver.find_element(By.NAME, "decay")).select_by_value("decoupled")
    found = read(browser)
    assert found["memory_steps"] == pytest.approx(1e5, rel=1e-12)
    assert "alpha=0.00001, gamma=0.1)" in found["python"]


def test_the_address_keeps_the_form(explore, browser, address):
    found = explore(CASES["odd sizes"])
    browser.driver.refresh()
    assert read(browser) == found


def test_recipes_of_papers(browser, address):
    """The links of the page: their memories are those of the command `translate`."""
    browser.open(f"{address}/explorer.html")
    links = browser.run(
        "return [...document.querySelectorAll('a.preset')].map((a) => [a.textContent, a.href])"
    )
    memories = {}
    for name, link in links:
        browser.open(link)
        memories[name] = read(browser)["memory_epochs"]
    expected = {"IR-Net": 25.5, "Equal-Bits": 5.1, "ReCU": 10.2, "Bop": 10}
    assert memories == pytest.approx(expected, 0.01)


def test_without_a_server(browser, site):
    """From a folder the page works as well."""
    browser.open((site / "explorer.html").as_uri())
    browser.run(FILL, FILTER)
    assert read(browser)["memory_steps"] == pytest.approx(1000)
