"""The page of the CIFAR-10 runs: its numbers are those of the files, also of files of today."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from larq_filter import binary, hyperparameters, models
from larq_filter.models import packed
from paths import ROOT

sys.path.append(str(ROOT / "paper"))
import cifar10  # noqa: E402
import cifar10_numbers  # noqa: E402
import cifar10_page  # noqa: E402
import cifar10_pictures  # noqa: E402
import cifar10_verdict  # noqa: E402

VALIDATION = np.random.default_rng(0).uniform(0.7, 0.8, (3, 2)).round(4)  # seed, row
TEST = VALIDATION - [[0.01, 0.02], [0.02, 0.01], [0.01, 0.0]]
MS = {"filter": 400.0, "two_step, first stage": 300.0, "two_step": 600.0}
MINUTES = 351 * np.array([20 * 400, 10 * 300 + 10 * 600]) / 60e3
NEVER_FLIPPED = np.array([[0.2, 0.7], [0.2, 0.7], [0.23, 0.7]])
ROWS = ("filter", "two_step")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The committed files of the first waves, and made-up ones of main."""
    monkeypatch.setattr(cifar10, "RESULTS", tmp_path)
    for wave in ("rest", "search"):
        shutil.copytree(ROOT / "results" / "cifar10" / wave, tmp_path / wave)
    (tmp_path / "main").mkdir()
    for column, row in enumerate(ROWS):
        for seed in range(3):
            parts = {"accuracy": VALIDATION, "test_accuracy": TEST}
            result = {name: float(values[seed, column]) for name, values in parts.items()}
            stages = 1 + column
            values = np.linspace(0.1, VALIDATION[seed, column], 20 // stages).tolist()
            curve = {"val_accuracy": values, "never_flipped": [0.9, NEVER_FLIPPED[seed, column]]}
            curve["flip_ratio"] = [0.01 * value for value in values]
            curve["accuracy"] = [0.5 * value for value in values]
            content = {
                "format": 1, "config": {"renamed": 1}, "result": result,
                "metrics": [{"val_accuracy": values}] * (stages - 1) + [curve],
            }  # fmt: skip
            (tmp_path / "main" / f"{row}-seed{seed}.json").write_text(json.dumps(content))
    content = json.loads((ROOT / "results" / "cifar10" / "times.json").read_text())
    (tmp_path / "times.json").write_text(json.dumps(content | {"ms": MS}))
    return tmp_path


def table(text, title):
    """Row to its cells, of the table below a title."""
    lines = text.split(f"**{title}**")[1].split("|\n\n")[0].splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    return {first.strip("`"): rest for first, *rest in cells}


def test_the_page_says_what_the_files_say(results):
    text = cifar10_page.section()
    rest = "all_images 0 of 1, defaults 0 of 3, twins 0 of 6; ["
    assert f", main 6 of 45, by_rule 0 of 3, long 0 of 2, {rest}" in text
    assert "**100 epochs" not in text and "without a search" not in text
    found = table(text, "20 epochs.")
    assert list(found) == [*ROWS]
    for column, row in enumerate(ROWS):
        for values, cell in ((VALIDATION[:, column], 1), (TEST[:, column], 2)):
            expected = f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"
            assert found[row][cell] == expected
    assert [found[row][3] for row in ROWS] == ["21%", "70%"]
    assert [found[row][4] for row in ROWS] == [f"{each:.0f}" for each in MINUTES]
    shares = json.loads((results / "times.json").read_text())["by filter"]
    only = f"between {shares['two_step']['median']:.2f} (`two_step`) and"  # which has a run
    assert "of `filter` takes 400 ms" in text and only in text
    interval = stats.ttest_rel(TEST[:, 0], TEST[:, 1]).confidence_interval(0.95)
    mean = (TEST[:, 0] - TEST[:, 1]).mean()
    assert found["filter"][5] == f"{mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"
    assert found["two_step"][5] == "-"

    assert "three quarters" not in text  # adam has no run
    content = json.loads((results / "main" / "two_step-seed0.json").read_text())
    content["metrics"] = content["metrics"][-1:]
    (results / "main" / "adam-seed0.json").write_text(json.dumps(content))
    times = json.loads((results / "times.json").read_text())
    (results / "times.json").write_text(json.dumps(times | {"ms": MS | {"adam": 1.0}}))
    middle = np.mean([np.linspace(0.1, value, 20)[14] for value in VALIDATION[:, 0]])
    late = np.linspace(0.1, VALIDATION[0, 1], 10)[6]
    said = f"`filter` has {middle:.2f} and `adam` {late:.2f} on validation images, but "
    said += f"{middle / 2:.2f} and {late / 2:.2f} on the augmented training images of that epoch. "
    said += f"{middle / 100:.1e} and {late / 100:.1e} of the weights flip"
    assert said in cifar10_page.section()

    trials = sorted((results / "search").glob("filter-*.json"))[:12]
    values = np.array([json.loads(each.read_text())["result"]["accuracy"] for each in trials])
    near = int((values.max() - values <= 0.01).sum())
    assert "translation" not in text  # it has no run
    flipped = json.loads((results / "search" / "filter-02.json").read_text())["metrics"][-1]
    assert values.argmax() == 2 and f"{flipped['never_flipped'][-1]:.0%}" == "25%"

    assert table(text, "Search.")["filter"] == [
        "2", f"{values.max():.3f}", f"{np.median(values):.3f}", f"{values.min():.3f}",
        f"{near} of 12", "25%",
    ]  # fmt: skip


def answers():
    return [(row["did it happen?"], row["numbers"]) for row in cifar10_verdict.rows()]


def test_what_would_count_against_the_claim(results):
    spread = TEST.std(axis=0, ddof=1).max()
    minus = (
        f"minus `two_step` {(TEST[:, 0] - TEST[:, 1]).mean():+.4f}, 3 seeds, spread {spread:.4f}"
    )
    below, twice, tuning, uninteresting = answers()
    assert below == ("yes" if (TEST[:, 1] - TEST[:, 0]).mean() > spread else "no", minus)
    assert twice == uninteresting == ("not known yet", "")  # these rows have no run
    trials = {row: np.rint(each * 5000) for row, each in cifar10_numbers.searched().items()}
    near = {
        row: "/".join(str(sum(each >= each.max() - images)) for images in (25, 50, 100))
        for row, each in trials.items()
    }
    assert near["filter"] == "1/3/4" and near["adam"] == "3/3/4"
    counted = ", ".join(f"`{row}` {near[row]}" for row in ("filter", "adam", "momentum"))
    assert tuning == ("no", f"{counted} of 12 within 0.5/1/2 points")
    for path in (results / "search").glob("momentum-*"):
        path.unlink()
    assert answers()[2] == ("not known yet", "")


def write_test(folder, row, values):
    """Made-up runs of 20 epochs, by seed."""
    for seed in range(3):
        path = folder / "main" / f"{row}-seed{seed}.json"
        path.unlink(missing_ok=True)
        if seed < len(values):
            result = {"accuracy": 0, "test_accuracy": values[seed]}
            path.write_text(json.dumps({"format": 1, "result": result}))


def test_missing_seeds_are_named_by_row(results):
    text = cifar10_page.section().splitlines()[0]
    assert all(f"`{row}`" not in text for row in ROWS)  # these have three
    missing = [f"`{row}`" for row in cifar10.ROWS if row not in ROWS]
    assert text.count("seeds 0, 1, 2 of ") == 1 and all(row in text for row in missing)
    (results / "main" / "two_step-seed2.json").unlink()
    for seed in (1, 2):
        (results / "main" / f"filter-seed{seed}.json").unlink()
    text = cifar10_page.section().splitlines()[0]
    assert text.endswith("; seeds 1, 2 of `filter`; seed 2 of `two_step`.")


def test_what_one_seed_says_is_not_decided_by_its_spread(results):
    write_test(results, "two_step", [TEST[0, 0] + 0.0001])
    assert answers()[0] == ("not known yet", "minus `two_step` -0.0001, 1 seed")
    for apart, answer in ((0.009, "no"), (0.011, "yes")):  # one seed of it is planned
        write_test(results, "two_step_20+20", [TEST[0, 0] + apart])
        assert answers()[1] == (answer, f"minus `two_step_20+20` {-apart:+.4f}, 1 seed")


@pytest.mark.parametrize(
    ("adam", "bop", "answer"), [(-0.9, 0.5, "yes"), (-1.1, 0.5, "no"), (-1.1, -1.1, "no")]
)
def test_a_row_as_good_and_as_easy_makes_it_uninteresting(results, adam, bop, answer):
    """`adam` comes as often near to its best as `filter`, `bop` not. In units of the spread."""
    spread = TEST[:, 0].std(ddof=1)
    for row, apart in (("adam", adam), ("bop", bop)):
        write_test(results, row, TEST[:, 0] + apart * spread)
    assert answers()[3][0] == answer
    write_test(results, "frozen", [0.5])
    said = f" At 20 epochs `adam` is {-adam * spread * 100:.1f} points below `filter`, within the "
    said += "spread over seeds, and as easy to tune: "
    assert (said in cifar10_page.front()) == (answer == "yes")
    assert cifar10_page.front().count(" as easy to tune") == (answer == "yes")
    said = answers()[3][1].split("; ")
    assert (
        said[0]
        == f"minus `adam` {-adam * spread:+.4f}, 3 seeds, spread {spread:.4f}, 3 of 12 trials"
    )
    assert said[1].startswith("minus `bop`") and said[1].endswith(", 1 of 12 trials")
    for seeds, open_one in ((2, "no, so far"), (1, "not known yet"), (0, "not known yet")):
        write_test(results, "bop", (TEST[:, 0] + bop * spread)[:seeds])
        assert answers()[3][0] == ("yes" if answer == "yes" else open_one)  # one row is enough
    write_test(results, "adam", TEST[:2, 0] + 0.9 * spread)
    assert answers()[3][0] == "yes, so far"


def test_predicted_flips_are_those_of_noise_through_the_filter(results):
    predicted, measured = cifar10_numbers.flips()["filter"][:, 7]
    content = json.loads((results / "search" / "filter-07.json").read_text())
    alpha, gamma = (content["config"]["knobs"][name] for name in ("alpha", "gamma"))
    random, slow, signal, flips = np.random.default_rng(0), np.zeros(4000), np.zeros(4000), []
    for step in range(500):
        slow += gamma * (random.normal(size=4000) - slow)
        before, signal = signal, signal + alpha * (1 - step / 500) * (slow - signal)
        flips.append(np.mean((signal < 0) != (before < 0)))
    assert predicted == pytest.approx(np.mean(flips[250:]), rel=0.05)
    assert measured == content["metrics"][-1]["flip_ratio"][1]


def test_a_recipe_and_its_translation_are_compared_by_seed(results):
    (results / "twins").mkdir()
    for row, source in (("latent", "two_step"), ("filter", "filter")):
        for seed in range(3):
            content = (results / "main" / f"{source}-seed{seed}.json").read_text()
            (results / "twins" / f"{row}-seed{seed}.json").write_text(content)
    text = cifar10_page.section()
    expected = table(text, "20 epochs.")
    found = table(text, "A latent recipe and its translation.")
    expected = {row: cells[:4] + cells[5:] for row, cells in expected.items()}  # no minutes
    assert found == {"latent": expected["two_step"], "filter": expected["filter"]}


def test_runs_without_a_search_take_what_is_suggested(results):
    found = hyperparameters.suggest(cifar10.EPOCH_STEPS, 20)
    for name in ("suggested", "suggested_adam"):
        knobs = cifar10.UNTUNED[name]
        assert (knobs["alpha"], knobs["gamma"]) == (float(f"{found.alpha:.3g}"), found.gamma)
    (results / "defaults").mkdir()
    content = (results / "main" / "filter-seed0.json").read_text()
    (results / "defaults" / "untuned.json").write_text(content)
    found = table(cifar10_page.section(), "20 epochs without a search.")
    assert found == {
        "defaults/untuned": [f"{VALIDATION[0, 0]:.4f}", f"{TEST[0, 0]:.4f}"],
    }


@pytest.mark.extras
def test_a_long_run_is_named_with_its_knobs(results):
    long = json.loads((results / "main" / "filter-seed0.json").read_text())
    long["result"] = {"accuracy": 0.85, "test_accuracy": 0.8}
    long["config"] = {"knobs": {"alpha": 0.0005, "gamma": 0.117, "threshold": None}}
    (results / "long").mkdir()
    (results / "long" / "filter.json").write_text(json.dumps(long))
    found = table(cifar10_page.section(), "100 epochs.")
    assert found == {"long/filter": ["0.8500", "0.8000", "20%", "alpha 0.0005, gamma 0.117"]}
    (axes,) = cifar10_pictures.draw()["long"].axes
    assert [len(line.get_xdata()) for line in axes.get_lines()] == [20]
    assert "On test images" not in cifar10_page.section()
    long["result"]["test_accuracy"] = 0.812
    (results / "long" / "two_step.json").write_text(json.dumps(long))
    assert "On test images the filter is 1.2 points below `two_step`." in cifar10_page.section()


def test_the_order_of_the_best_three_is_told(results):
    (results / "carry").mkdir()
    for row, values in (("filter", (0.7, 0.6, 0.6)), ("adam", (0.7, 0.6, 0.65))):
        for place, value in enumerate(values):
            result = {"accuracy": value, "test_accuracy": value}
            content = {"format": 1, "config": {}, "result": result, "metrics": []}
            (results / "carry" / f"{row}-{place}.json").write_text(json.dumps(content))
    text = cifar10_page.section()
    assert "The order of `filter` is kept. The order of `adam` is not kept." in text
    assert table(text, "5 epochs.")["carry/adam-2"] == ["0.6500", "0.6500"]


def write_carry(folder, row, accuracies):
    """Made-up runs of 5 epochs, by the ends of their names."""
    (folder / "carry").mkdir(exist_ok=True)
    for name, accuracy in accuracies.items():
        content = {"format": 1, "result": {"accuracy": accuracy}, "metrics": []}
        (folder / "carry" / f"{row}-{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(("best", "power"), [("0", -1.0), ("half", -0.5), ("kept", 0.0)])
def test_a_row_goes_on_with_the_share_that_was_best(results, best, power):
    assert cifar10.carried("", "bop", 20).knobs is None  # not known yet
    write_carry(results, "bop", {"0": 0.5, "half": 0.5, "kept": 0.5, best: 0.6})
    length = 20 * 351 / 500
    for row in ("bop", "bop_second_order"):
        knobs = cifar10.carried("", row, 20).knobs
        found = cifar10.best(row)
        assert knobs["alpha"] == pytest.approx(found["alpha"] * length**power, rel=5e-3)
        assert knobs["threshold"] == pytest.approx(found["threshold"] * length ** (power / 2), 5e-3)
    assert cifar10.carried("", "two_step", 20).knobs is None


def test_adam_may_go_on_with_the_second_of_its_search(results):
    write_carry(results, "adam", {"0": 0.5, "1": 0.6, "2": 0.5, "half": 0.5, "kept": 0.5})
    assert cifar10.carried("", "adam", 20).knobs is None
    write_carry(results, "adam", {"1-half": 0.5, "1-kept": 0.5})
    assert cifar10_page.choices() == ["`adam-1` (+10.0)"]  # of the others nothing is known
    found = cifar10.best("adam", 1)
    knobs = cifar10.carried("", "adam", 20).knobs
    assert knobs["weight_decay"] == found["weight_decay"] != cifar10.best("adam")["weight_decay"]
    assert knobs["kernel_learning_rate"] == pytest.approx(
        found["kernel_learning_rate"] * 500 / 7020, rel=5e-3
    )
    write_carry(results, "adam", {"1-kept": 0.7})
    assert cifar10.carried("", "adam", 20).knobs == cifar10.knobs_of("adam", found, 1e-2)


@pytest.mark.parametrize(
    ("best", "row", "length"),
    [
        ("main/filter", "filter", 1),
        ("main/erlang", "erlang", 1),
        ("by_rule/filter", "filter", 70.2),
    ],
)
def test_the_longest_run_goes_on_as_the_best_of_20_epochs_did(results, best, row, length):
    write_carry(results, "filter", {"0": 0.5, "half": 0.5, "kept": 0.6, "1": 0.5, "2": 0.5})
    for name in ("by_rule/filter", "main/filter", "main/first_order", "main/erlang"):
        assert cifar10.longest("filter").knobs is None  # not known yet
        content = {"format": 1, "result": {"accuracy": 0.9 if name == best else 0.8}}
        (results / name).parent.mkdir(exist_ok=True)
        (results / f"{name}-seed0.json").write_text(json.dumps(content))
    job = cifar10.longest("filter")
    assert (job.name, job.epochs) == ("long/filter", 100)
    assert job.knobs["alpha"] == pytest.approx(cifar10.best(row)["alpha"] / length, rel=5e-3)


def test_the_last_run_goes_on_from_the_network_of_the_longest(tmp_path, monkeypatch):
    (job,) = [job for job in cifar10.jobs() if job.all_images]
    assert (job.name, job.start) == ("all_images/filter", "long/filter.npz")
    begin = cifar10.network(job)
    assert begin.__name__ == cifar10.NETWORK  # which the run's config calls it by
    path = cifar10.RESULTS / job.start
    assert packed.unpack(path).about["recipe"]["run"] == "long/filter"
    kernels = binary.binary_kernels(begin((32, 32, 3), 10), trainable_only=False)
    ends = binary.binary_kernels(models.build(cifar10.NETWORK, weights="cifar10"), False)
    pairs = [(a.numpy(), b.numpy()) for (_, a), (_, b) in zip(kernels, ends, strict=True)]
    changed = [np.mean(a != b) for a, b in pairs]
    assert all(binary.holds_signs(kernel) for _, kernel in kernels)
    assert 0 < min(changed) and max(changed) < 0.5  # the same network, trained on
    monkeypatch.setattr(cifar10, "RESULTS", tmp_path)  # another copy of the images
    (job,) = [job for job in cifar10.jobs() if job.all_images]
    assert job.knobs is None


def test_all_images_are_those_of_training_and_validation():
    data = cifar10.load_data("digits", None)
    every = cifar10.load_data("digits", None, all_images=True)
    images, labels = every.arrays("train")
    expected = [data.arrays(part) for part in ("train", "validation")]
    np.testing.assert_array_equal(images, np.concatenate([part[0] for part in expected]))
    np.testing.assert_array_equal(labels, np.concatenate([part[1] for part in expected]))
    for part in ("validation", "test"):
        for found, kept in zip(every.arrays(part), data.arrays(part), strict=True):
            np.testing.assert_array_equal(found, kept)
    assert (every.class_names, every.augmentation) == (data.class_names, data.augmentation)


def test_the_committed_files_have_the_knobs_of_the_job_list():
    listed = {job.name: job for job in cifar10.jobs()}
    paths = list(cifar10.RESULTS.glob("*/*.json"))
    assert len(paths) > 100
    for path in paths:
        job = listed[f"{path.parent.name}/{path.stem}"]
        config = json.loads(path.read_text())["config"]
        given = {name: value for name, value in config["knobs"].items() if value is not None}
        assert (given, config["epochs"], config["seed"]) == (job.knobs, job.epochs, job.seed), path


@pytest.mark.parametrize(("apart", "against"), [(0.009, False), (0.011, True)])
def test_the_readme_says_what_the_page_says_of_twice_the_epochs(results, apart, against):
    """On the seeds that both have: the mean of all seeds of `filter` is another number."""
    write_test(results, "frozen", [0.5])
    write_test(results, "two_step_20+20", [TEST[0, 0] + apart])
    assert abs(TEST[0, 0] - TEST[:, 0].mean()) > 0.002
    text = cifar10_page.front()
    assert f"On the same seed it is {100 * apart:.1f} points below `two_step` with twice" in text
    assert ("counts against the claim" in text) == against == (answers()[1][0] == "yes")


def test_another_copy_of_the_images_has_files_of_its_own(tmp_path):
    command = [sys.executable, str(ROOT / "paper" / "cifar10.py"), "--dataset=cifar10"]
    done = subprocess.run([*command, "--list"], capture_output=True, text=True)
    assert done.returncode == 1 and "--output_dir is needed" in done.stderr
    (tmp_path / "cifar10" / "results" / "rest").mkdir(parents=True)
    content = {"format": 1, "result": {"accuracy": 0.4321}}
    path = tmp_path / "cifar10" / "results" / "rest" / "frozen-0.01.json"
    path.write_text(json.dumps(content))
    command.append(f"--output_dir={tmp_path}")
    done = subprocess.run([*command, "--list"], capture_output=True, text=True, check=True)
    found = dict(line.split()[:2] for line in done.stdout.splitlines())
    assert found.pop("rest/frozen-0.01") == "0.4321" and set(found.values()) == {"-"}
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "the folder that holds cifar10" in done.stderr


def test_a_row_is_searched_when_all_of_its_trials_are_there(results):
    assert {"filter", "two_step"} <= set(cifar10_numbers.searched())
    (results / "search" / "filter-07.json").unlink()
    assert "filter" not in cifar10_numbers.searched()


def test_a_file_of_another_format_is_refused_by_name(results):
    path = results / "main" / "filter-seed1.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 7'))
    with pytest.raises(ValueError, match="main/filter-seed1.json has format 7; .* reads 1"):
        cifar10_page.section()


@pytest.mark.extras
def test_pictures_show_every_trial_and_both_curves(results):
    found = cifar10_pictures.draw()
    accuracies = cifar10_numbers.searched()
    lines = found["search"].axes[0].get_lines()
    for line, values in zip(lines, reversed(accuracies.values()), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), values)
    (axes,) = found["curves"].axes
    assert len(axes.get_lines()) == len(ROWS)
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata()[-1], VALIDATION[:, 0].mean())
    (axes,) = found["accuracy"].axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    named = [f"{row}, {each:.0f} min" for row, each in zip(ROWS, MINUTES, strict=True)]
    assert labels == named[::-1]
    for column, line in enumerate(axes.get_lines()[2::-2]):  # of each row dots, and their mean
        np.testing.assert_array_equal(line.get_xdata(), TEST[:, column])


@pytest.mark.parametrize(("page", "make"), [("PAGE", "section"), ("README", "front")])
def test_the_committed_pages_are_those_of_the_committed_files(page, make):
    text = getattr(cifar10_page, page).read_text()
    shown = text.split(cifar10_page.BEGIN)[1].split(cifar10_page.END)[0].strip()
    assert shown == getattr(cifar10_page, make)().strip(), "run python paper/cifar10_page.py"


def test_the_readme_has_eight_rows_at_most_and_says_how_many_seeds(results):
    assert len(cifar10_numbers.FRONT) <= 8
    spreads = [f"{v.mean():.4f} ± {v.std(ddof=1):.4f}" for v in TEST.T]
    text = cifar10_page.front()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert [[row[0], *row[2:]] for row in rows] == [
        [f"`{row}`", "2", spread, "3"] for row, spread in zip(ROWS, spreads, strict=True)
    ]
    assert "epoch, mean ± standard deviation; 3 seeds each. [All" in text
    missing = ", ".join(f"`{row}`" for row in cifar10_numbers.FRONT if row not in ROWS)
    assert text.endswith(f"Runs are still to be made of: {missing}.")
    for seed in (1, 2):
        (results / "main" / f"two_step-seed{seed}.json").unlink()
    write_test(results, "frozen", [TEST[:, 0].mean() - 0.3])
    apart = 100 * (TEST[:, 0].mean() - TEST[0, 1])
    assert (
        f"`filter` is 30.0 points above the control, and {abs(apart):.1f} points "
        f"{'above' if apart > 0 else 'below'} `two_step`, the best row with latent weights."
    ) in cifar10_page.front()
    said = "; 1 to 3 seeds. Differences of a point or two of one seed say nothing. [All"
    assert said in cifar10_page.front()


def test_the_comparison_takes_the_knobs_of_the_runs():
    path = ROOT / "larq_filter" / "cli" / "settings.json"
    entries = json.loads(path.read_text())["cifar10_jpeg"]
    assert len(entries) > len(cifar10.ROWS)
    for row in cifar10.ROWS:
        waves = [ROOT / "results" / "cifar10" / wave for wave in ("main", "by_rule")]
        runs = [run for wave in waves if (run := wave / f"{row}-seed0.json").exists()]
        if row not in cifar10.METHOD and (runs or row not in cifar10.LATER):
            run = runs[0]  # in by_rule while the run of a new choice is missing
            content = json.loads(run.read_text())
            knobs = {name: each for name, each in content["config"]["knobs"].items() if each}
            assert entries[row]["knobs"] == knobs
            assert entries["epochs"] == content["config"]["epochs"]
            found = (
                f"{run.parent.name}/{row}-seed0, {content['result']['accuracy']:.3f} on validation"
            )
            assert entries[row]["reason"].endswith(found) or row == "frozen"
