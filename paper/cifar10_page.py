"""Rebuilds what docs/results.md and README.md say of CIFAR-10, with pictures, from results/cifar10.

    python paper/cifar10_page.py

It trains nothing and takes seconds. What is missing is named, and left out. The numbers come from
`cifar10_numbers`, the pictures from `cifar10_pictures`; the knobs of the longest runs are shown by
the names that their files have for them, and what is said of the network that comes with the
package is in its model card.

Rejected: tables written by hand from `cifar10.py --list`, which would be wrong after the next run.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
from absl import app, flags

import cifar10
import cifar10_numbers as numbers
import cifar10_pictures as pictures
import cifar10_ship
import cifar10_verdict
from larq_filter import models
from larq_filter.experiments import files, tables
from larq_filter.experiments.comparison import summaries

PAGE, README = cifar10.ROOT / "docs" / "results.md", cifar10.ROOT / "README.md"
BEGIN, END = "<!-- from here by paper/cifar10_page.py -->\n", "<!-- to here -->\n"


# Tables and sentences -----------------------------------------------------------------------------


def search_rows() -> list[dict]:
    """Of each searched row: its best trial, and how many of all come near to it."""
    return [
        {
            "row": f"`{row}`",
            "knobs": len(cifar10.SPACES[row]),
            "best": f"{values.max():.3f}",
            "median": f"{np.median(values):.3f}",
            "worst": f"{values.min():.3f}",
            "within one point of the best": f"{numbers.near(values, 1)} of {len(values)}",
            "never flipped, best": _never_flipped(numbers.trial(row, values.argmax())),
        }
        for row, values in numbers.searched().items()
    ]


def _never_flipped(name: str) -> str:
    return f"{numbers.last(name, 'never_flipped'):.0%}"


def flips_text(found: dict[str, np.ndarray]) -> str:
    """The numbers of `flips` in sentences."""
    predicted, measured = np.concatenate(list(found.values()), axis=1)
    shares = measured / predicted
    low, middle, high = np.quantile(shares, (0, 0.5, 1))
    return (
        f"**Flips.** {len(shares)} trials in the second of their two epochs. Predicted: the same "
        "filter, with the same falling alpha, on gradients that are white noise. From "
        f"{predicted.min():.1e} to {predicted.max():.1e} of the weights per step, the measured "
        f"ratio is {low:.2f} to {high:.2f} of the predicted one, {middle:.2f} in the median."
    )


def main_rows() -> list[dict]:
    """Of each row with a 20-epoch run: accuracies, and how far it is from two-step training."""
    return compared(numbers.MAIN, numbers.REFERENCE, "main")


def front_rows() -> list[dict]:
    """Of the README's rows those that have a run: what they are, and their test accuracy."""
    found = {row: numbers.results(row, "test_accuracy") for row in numbers.FRONT}
    return [
        {
            "row": f"`{row}`",
            "what it is": numbers.FRONT[row],
            "knobs searched": len(cifar10.SPACES.get(row, ())),
            "test accuracy": _spread(test),
            "seeds": len(test),
        }
        for row, test in found.items()
        if test
    ]


def twin_rows() -> list[dict]:
    """The same of a latent recipe and its translation."""
    return compared(tuple(cifar10.TWINS), "latent", "twins")


def compared(rows: tuple[str, ...], reference: str, wave: str) -> list[dict]:
    """Accuracies of the rows that have a run, and how far each is from ``reference``."""
    found = []
    for row in rows:
        test = numbers.results(row, "test_accuracy", wave)
        if test:
            apart = summaries.paired_difference(
                test, numbers.results(reference, "test_accuracy", wave)
            )
            found.append(
                {
                    "row": f"`{row}`",
                    "seeds": len(test),
                    "validation": _spread(numbers.results(row, "accuracy", wave)),
                    "test": _spread(test),
                    "never flipped": f"{numbers.never_flipped(row, wave):.0%}",
                    **({"minutes": f"{numbers.minutes(row):.0f}"} if wave == "main" else {}),
                    f"test, above `{reference}`": _difference(apart) if row != reference else None,
                }
            )
    return found


def times_text() -> str:
    """What a step takes, in sentences."""
    found = numbers.times()
    shares = {row: each["median"] for row, each in found["by filter"].items()}
    rows = [row for row in numbers.MAIN if row in shares and numbers.runs_of(row)]
    others = {row: shares[row] for row in rows if row not in ("filter", "frozen")} or shares
    low, high = min(others, key=others.get), max(others, key=others.get)
    return (
        f"A training step of `filter` takes {found['ms']['filter']:.0f} ms (one thread of "
        f"{found['machine']['cpu']}, TensorFlow {found['versions']['tensorflow']}), one of "
        f"`frozen` {shares['frozen']:.2f} of that, one of the other rows between "
        f"{others[low]:.2f} (`{low}`) and {others[high]:.2f} (`{high}`). Minutes are those of the "
        "steps alone: `TF_ENABLE_ONEDNN_OPTS=1 python paper/cifar10_times.py --data_dir=DIR`."
    )


def late_text() -> list[str]:
    """Where `filter` and `adam` stand after three quarters of their runs, in sentences."""
    found = {}
    for row in ("filter", "adam"):
        metrics = [run["metrics"][-1] for run in numbers.runs_of(row).values()]
        if not metrics:
            return []
        at = len(metrics[0]["val_accuracy"]) * 3 // 4 - 1
        found[row] = {
            name: np.mean([each[name][at] for each in metrics])
            for name in ("val_accuracy", "accuracy", "flip_ratio")
        }
    ours, other = found["filter"], found["adam"]
    return [
        f"After three quarters of the epochs `filter` has {ours['val_accuracy']:.2f} and `adam` "
        f"{other['val_accuracy']:.2f} on validation images, but {ours['accuracy']:.2f} and "
        f"{other['accuracy']:.2f} on the augmented training images of that epoch. "
        f"{ours['flip_ratio']:.1e} and {other['flip_ratio']:.1e} of the weights flip in a step "
        "then. Training normalises by the statistics of each batch, validation by averages over "
        "past steps, whose weights were others. So where many weights flip, validation says "
        "little of a run before alpha has fallen: read the training accuracy until then, or "
        "[take the statistics anew](using.md#validation-while-weights-flip)."
    ]


def _spread(values: Mapping[int, float]) -> str:
    spread = summaries.Spread.of(list(values.values()))
    deviation = f" ± {spread.deviation:.4f}" if spread.n > 1 else ""
    return f"{spread.mean:.4f}{deviation}"


def _difference(difference: summaries.Difference) -> str | None:
    if difference.n == 0:
        return None
    text = f"{difference.mean:+.4f}"
    return text if difference.n < 2 else f"{text} ({difference.low:+.4f} to {difference.high:+.4f})"


def orders() -> list[str]:
    """Whether the best three of a search keep their order by validation: a sentence a row."""
    found = []
    for row in cifar10.CARRIED:
        runs = [numbers.read(f"carry/{row}-{place}") for place in cifar10.PLACES]
        if all(runs):
            values = [run["result"]["accuracy"] for run in runs]
            word = "is" if values == sorted(values, reverse=True) else "is not"
            found.append(f"The order of `{row}` {word} kept.")
    return found


def choices() -> list[str]:
    """What each row goes on with, and how far it is above the whole power."""
    found = []
    for row in cifar10.FIRST:
        runs = {name: numbers.read(name) for name in cifar10.candidates(row)}
        if all(runs.values()):
            values = {name: run["result"]["accuracy"] for name, run in runs.items()}
            best = max(values, key=values.get)
            points = 100 * (values[best] - values[f"carry/{row}-0"])
            found.append(f"`{best.removeprefix('carry/')}` ({points:+.1f})")
    return found


def other_rows(wave: str) -> list[dict]:
    """The finished runs of a wave that has one seed of each."""
    listed = [job.name for job in cifar10.jobs()]
    return [
        {
            "run": f"`{name}`",
            "validation": f"{run['result']['accuracy']:.4f}",
            "test": f"{run['result']['test_accuracy']:.4f}",
        }
        for name in listed
        if name.startswith(f"{wave}/") and (run := numbers.read(name)) is not None
    ]


def long_rows() -> list[dict]:
    """The finished runs of 100 epochs, and the knobs that they went on with."""
    return [
        {
            "run": f"`long/{name}`",
            "validation": f"{run['result']['accuracy']:.4f}",
            "test": f"{run['result']['test_accuracy']:.4f}",
            "never flipped": _never_flipped(f"long/{name}"),
            "knobs": ", ".join(f"{k} {v}" for k, v in run["config"]["knobs"].items() if v),
        }
        for name in cifar10.LONG
        if (run := numbers.read(f"long/{name}")) is not None
    ]


def long_text(beginning: str) -> str:
    """How far the two runs of 100 epochs are apart, once both are finished."""
    names = cifar10_verdict.OUR, numbers.REFERENCE
    runs = [numbers.read(f"long/{name}") for name in names]
    if not all(runs):
        return ""
    ours, other = (100 * run["result"]["test_accuracy"] for run in runs)
    return f" {beginning} is {_apart(ours - other)} `{names[1]}`."


# Page ---------------------------------------------------------------------------------------------


def _image(name: str, alt: str, folder: str = "figures") -> str:
    return f"![{alt}]({folder}/{pictures.FILES[name]})"


def _missing_seeds() -> str:
    """Of which rows of 20 epochs which seeds have no run yet, in a sentence."""
    missing = {}
    for job in cifar10.jobs():
        if job.name.startswith("main/") and numbers.read(job.name) is None:
            row, seed = job.name.removeprefix("main/").split("-seed")
            missing.setdefault(row, []).append(seed)
    rows = {}  # by their seeds
    for row, seeds in missing.items():
        rows.setdefault(", ".join(sorted(seeds)), []).append(f"`{row}`")
    words = [
        f"seed{'s' * (',' in seeds)} {seeds} of {', '.join(names)}" for seeds, names in rows.items()
    ]
    return f" Missing of `main`: {'; '.join(words)}." if words else ""


def section() -> str:
    """The text of the page between its two marks."""
    counted = numbers.waves()
    done = sum(each for each, _ in counted.values())
    parts = [
        f"Finished: {done} of {sum(of for _, of in counted.values())} runs ("
        + ", ".join(f"{wave} {each} of {of}" for wave, (each, of) in counted.items())
        + f"; [what each is](protocol.md#waves)).{_missing_seeds()}"
    ]
    if numbers.runs_of(cifar10_verdict.OUR):
        parts += [
            "**What the protocol asked.** The questions were written before the first run, as what "
            "[would count against the claim](protocol.md). How each is decided in numbers was "
            "fixed later, when some numbers were known (change 9). Accuracies are those of "
            "`filter` on test images after 20 epochs, minus those of another row "
            "(`two_step_20+20`: after 40); trials are 500 steps long, and measured on validation "
            "images. [What weakens these numbers](#what-weakens-these-numbers).",
            tables.markdown(cifar10_verdict.rows()),
        ]
    rows = search_rows()
    if rows:
        known = [row for row in numbers.searched() if len(cifar10.trials(row)) > cifar10.TRIALS]
        widened = [f"`{row}`" for row in known] or ["in no row"]
        parts += [
            "**Search.** Validation accuracy after 500 steps, 12 trials a row, "
            "[one run each](protocol.md#rows-in-order-of-importance). Rows whose trials are not "
            "complete are left out. Where the best value lay at an edge, four more trials followed "
            f"({', '.join(widened)}), which are not in this table. Never flipped: the share of "
            "binary weights whose sign never changed in the best trial (of `two_step` in its "
            "second step); the first step of a filter sets every weight anew, about half of them "
            "to the other sign.",
            tables.markdown(rows),
            _image("search", "12 trials of each row"),
        ]
    found = numbers.flips()
    if found:
        parts += [
            flips_text(found),
            _image("flips", "predicted and measured"),
        ]
    rows = main_rows()
    if rows:
        parts += [
            "**20 epochs.** Accuracy after the last epoch, mean ± standard deviation over seeds; "
            "differences are paired by seed, with their 95 % interval. "
            f"`{numbers.REFERENCE}` trains 10 + 10 epochs, `two_step_20+20` twice as many as all "
            "others. "
            "Never flipped: as above. " + times_text(),
            tables.markdown(rows),
            *late_text(),
            _image("curves", "validation accuracy by epoch"),
            _image("accuracy", "test accuracy, a dot a seed"),
        ]
    rows = other_rows("by_rule")
    if rows:
        parts += [
            "**20 epochs by the rule.** Seed 0 with its rates carried by the whole power, made "
            "before rows chose (`adam`: before it chose among more, change 11). They are "
            "[not part of the comparison](protocol.md#changes) at 20 "
            "epochs, but the runs of 100 epochs are chosen among them too.",
            tables.markdown(rows),
        ]
    rows = other_rows("defaults")
    if rows:
        parts += [
            "**20 epochs without a search.** `filter`, seed 0: the knobs of "
            "`hyperparameters.suggest`, with Adam at 1e-2 as in all rows, and at 1e-3 "
            "(`suggested_adam`), both falling; and `FilterOptimizer()` as it is, which does not "
            "know how long it trains (`untuned`). The row `filter` above has been searched.",
            tables.markdown(rows),
        ]
    rows = twin_rows()
    if rows:
        parts += [
            "**A latent recipe and its translation.** 5 epochs of `momentum` without clipping, at "
            "the best values of its search, and of the filter that `--method=translated` makes of "
            "them.",
            tables.markdown(rows),
        ]
    rows = other_rows("carry")
    if rows:
        parts += [
            " ".join(
                [
                    "**5 epochs.** The best of a search again: `0` with its rates carried by "
                    "[the whole power](protocol.md#from-500-steps-to-more) of the length, `half` "
                    "by half of it, `kept` as they were; `1` and `2` are the second and third of "
                    "the search by the whole power, `1-half` and `1-kept` the second by less.",
                    *orders(),
                ]
            ),
            "At 20 epochs each row uses its best setting of these by validation; in brackets, how "
            "many points it is above `0`: " + (", ".join(choices()) or "not known yet") + ". The "
            "other rows use the power of one of these rows "
            "([which](protocol.md#from-500-steps-to-more)).",
            tables.markdown(rows),
        ]
    rows = long_rows()
    if rows:
        parts += [
            "**100 epochs.** One seed: the best filter of 20 epochs by validation, and `two_step` "
            "in as many epochs, 50 + 50. The filter was chosen among four runs of 20 epochs, "
            "`two_step` among two ([change 7](protocol.md#changes)). The field's numbers for this "
            "network, 86.5 % and more, are its papers': 400 epochs and longer, lossless images, "
            "all 50,000." + long_text("On test images the filter"),
            tables.markdown(rows),
            _image("long", "validation accuracy in 100 epochs"),
        ]
    return "\n\n".join([*parts, shipped_text()]) + "\n"


def _apart_text() -> list[str]:
    """How far `filter` is from the control and from the best latent row, in a sentence."""
    means = {
        row: np.mean(list(values.values()))
        for row in numbers.FRONT
        if (values := numbers.results(row, "test_accuracy"))
    }
    latent = {row: means[row] for row in numbers.LATENT if row in means}
    if not {"filter", "frozen"} <= {*means} or not latent:
        return []
    best = max(latent, key=latent.get)
    control, other = (100 * (means["filter"] - means[row]) for row in ("frozen", best))
    text = (
        f"`filter` is {control:.1f} points above the control, and {_apart(other)} `{best}`, the "
        "best row with latent weights."
    )
    twice = cifar10_verdict.Apart.from_row("two_step_20+20")
    if twice.seeds:
        same = f"the same seed{'s' * (twice.seeds > 1)}"
        text += f" On {same} it is {_apart(100 * twice.mean)} `two_step` with twice the epochs"
        against = ": by our protocol this counts against the claim that one step replaces two."
        text += against if cifar10_verdict.twice_is_better(twice) else "."
    text += long_text("After 100 epochs each, one seed, a filter")
    for rival in cifar10_verdict.as_good():
        within = ", within the spread over seeds," if rival.mean > 0 else ""
        text += (
            f" At 20 epochs `{rival.other}` is {_apart(-100 * rival.mean)} `filter`{within} and as "
            "easy to tune: by our protocol, accuracy is then no reason to choose a filter."
        )
    return [text]


def _apart(points: float) -> str:
    return f"{abs(points):.1f} points {'above' if points >= 0 else 'below'}"


def _missing_text() -> str:
    """The README's rows that have no run yet."""
    missing = [f"`{row}`" for row in numbers.FRONT if not numbers.runs_of(row)]
    return f" Runs are still to be made of: {', '.join(missing)}." if missing else ""


def front() -> str:
    """The text of the README between its two marks."""
    rows = front_rows()
    least, most = (end(row["seeds"] for row in rows) for end in (min, max))
    seeds = f"{least} to {most} seeds" if least < most else f"{most} seed{'s' * (most > 1)} each"
    spread = ", mean ± standard deviation" if most > 1 else ""
    few = " Differences of a point or two of one seed say nothing." if least == 1 else ""
    trials = cifar10.TRIALS
    return "\n\n".join(
        [
            "20 epochs of CIFAR-10 (a lossy copy), Bi-Real ResNet-20. Knobs found in "
            f"{trials} to {trials + cifar10.WIDENED} runs of {cifar10.SEARCH_STEPS} steps a row, "
            "those of five rows then in 3 to 7 runs of 5 epochs. Test accuracy after the last "
            f"epoch{spread}; {seeds}.{few} "
            "[All rows, and how it was measured](docs/results.md#cifar-10).",
            *_apart_text(),
            tables.markdown(rows),
            _image("front", "test accuracy, a dot a seed", "docs/figures"),
            "*Latent* weights are real numbers that are kept so that their signs can be the binary "
            "weights. The decay of alpha, third knob of filters, was not searched: linear to 0. "
            "The minutes in the picture are those of one CPU core." + _missing_text(),
        ]
    )


def shipped_text() -> str:
    """What the package says of the network that it carries."""
    about = models.model_card(cifar10_ship.NAME)
    recipe, found = about["recipe"], about["accuracy"]
    start = (
        f", from the network of `{pathlib.Path(recipe['start']).with_suffix('')}` "
        "([change 13](protocol.md#changes) says what was known then)"
        if "start" in recipe
        else ""
    )
    size = models.pretrained_file(cifar10_ship.NAME).stat().st_size
    return (
        f"**The network that comes with the package**, "
        f"[`{cifar10_ship.NAME}`](models.md#a-network-that-comes-trained), is that of the run "
        f"`{recipe['run']}`: {recipe['epochs']} epochs with seed {recipe['seed']} on "
        f"{about['examples']['training']:,} images{start}. On the "
        f"{about['examples']['test']:,} test images the weights, {size / 1000:.0f} kB, reach "
        f"{found['test, these files in Keras']:.4f} in Keras; the proven export, "
        f"{about['export']['bytes'] / 1000:.0f} kB, {found['test, these files in LCE']:.4f} in the "
        "interpreter of Larq Compute Engine: "
        "`python paper/cifar10_ship.py --data_dir=DIR`."
    )


def main(arguments):
    """Writes pages and pictures."""
    if len(arguments) > 1:
        raise SystemExit(f"error: {arguments[1]!r} belongs to no flag.")
    written = []
    for path, content in ((PAGE, section()), (README, front() + "\n")):
        before, rest = path.read_text().split(BEGIN)
        _, after = rest.split(END)
        files.write_whole(path, f"{before}{BEGIN}\n{content}\n{END}{after}")
        written.append(path)
    for name, figure in pictures.draw().items():
        written.append(pathlib.Path(flags.FLAGS.pictures, pictures.FILES[name]))
        figure.savefig(written[-1], dpi=150)
    print("Written:", *(path.relative_to(cifar10.ROOT) for path in written), sep="\n  ")


if __name__ == "__main__":
    flags.DEFINE_string("pictures", str(PAGE.parent / "figures"), "Folder of the pictures.")
    app.run(main)
