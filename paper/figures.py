"""Draws the README's figures and one figure for each claim of the paper, from runs made here.

    python paper/figures.py --figure=all --output_dir=runs/figures
    python paper/figures.py --figure=product --seeds=5
    python paper/figures.py --dataset=cifar10 --data_dir=DIR --train_examples=10000 --epochs=20

The numbers behind each figure go into a JSON file beside it, with config, seeds and versions. A
second call only draws what is there; `--force` trains again. The claims are those of Quist, Li and
van Gemert (ICLR 2023); docs/figures.md says which of them came out how.
"""

import dataclasses
import importlib.metadata
import io
import json
import pathlib
import time

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

import claims  # first: it makes sure that tf.keras is Keras 2
from larq_filter import __version__, filters, hyperparameters, plots
from larq_filter.cli import command_line
from larq_filter.experiments import files
from larq_filter.optimizers import default_alpha

import tensorflow as tf

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "runs/figures", "Where PNG and JSON files go.")
flags.DEFINE_integer("seeds", 3, "Runs of each kind: seeds 0, 1, ...", 1)
flags.DEFINE_bool("force", False, "Train again what is already there.")
flags.DEFINE_string("dataset", "digits", "digits (embedded) or a tensorflow-datasets name.")
flags.DEFINE_string("data_dir", None, "Folder of tensorflow-datasets' prepared data sets.")
flags.DEFINE_integer("train_examples", None, "Use only so many training images. Default: all.", 1)
flags.DEFINE_string("model", "mlp", "mlp or birealnet20.")
flags.DEFINE_integer("width", 64, "Units or channels of the first stage.", 1)
flags.DEFINE_integer("batch_size", 50, "Images per step.", 1)
flags.DEFINE_integer("epochs", 80, "Passes over the training images.", 1)

WIDTH, DPI = 6.5, 150  # inches: the text of a page
STEP = "flip ratio (share per step)"
ACCURACY = "validation accuracy"


# Lines --------------------------------------------------------------------------------------------


def blank(height: float, mosaic: str, **options):
    """A figure and its axes by letter, in the style of `larq_filter.plots`."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    axes = figure.subplot_mosaic(mosaic, **options)
    for each in axes.values():
        each.grid(True, color="0.9", linewidth=0.6)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def styles():
    """Colour, dashes and marker change together."""
    for index in range(100):
        yield {
            "color": plots.COLOURS[index % len(plots.COLOURS)],
            "linestyle": plots.STYLES[index % len(plots.STYLES)],
            "linewidth": 1.6,
        }


def band(axes, x, runs, label, line) -> None:
    """The mean over seeds as a line, one standard deviation to each side as a shade."""
    runs = np.asarray(runs, float)
    mean, deviation = runs.mean(0), spread(runs)
    axes.plot(x, mean, label=label, **line)
    low = (
        np.maximum(mean - deviation, mean / 10) if axes.get_yscale() == "log" else mean - deviation
    )
    axes.fill_between(x, low, mean + deviation, color=line["color"], alpha=0.15, linewidth=0)


def dots(axes, x, groups, label, line, marker) -> None:
    """Mean and standard deviation over seeds at each x."""
    mean = [np.mean(runs) for runs in groups]
    error = [float(spread(runs)) for runs in groups]
    axes.errorbar(x, mean, error, label=label, marker=marker, markersize=4.5, capsize=2.5, **line)


def spread(runs):
    """Standard deviation over the first axis; 0 for a single seed."""
    runs = np.asarray(runs, float)
    return runs.std(0, ddof=1) if len(runs) > 1 else np.zeros(runs.shape[1:])


def legend(axes, title=None, **options) -> None:
    axes.legend(title=title, fontsize=8, title_fontsize=8, frameon=False, **options)


def text(runs, form="{:.3f}") -> str:
    """Mean and standard deviation for people."""
    return f"{form.format(np.mean(runs))} ± {form.format(float(spread(runs)))}"


# One function a claim: numbers to a figure --------------------------------------------------------


def epochs_of(curves: dict) -> np.ndarray:
    return np.arange(1, len(next(iter(curves.values()))["loss"][0]) + 1)


def draw_curves(axes_by_quantity: dict, curves: dict, labels=None) -> None:
    x = epochs_of(curves)
    for (label, quantities), line in zip(curves.items(), styles(), strict=False):
        for quantity, axes in axes_by_quantity.items():
            if np.any(quantities[quantity]) or axes.get_yscale() != "log":
                band(axes, x, quantities[quantity], (labels or {}).get(label, label), line)


def draw_magnitude(data, seeds):
    figure, axes = blank(5.0, "a;b", sharex=True)
    axes["a"].set_yscale("log")
    labels = {
        label: f"{label}: {' / '.join(f'{n:,}' for n in numbers)}"
        for label, numbers in data["differing"].items()
        if label != "original"
    }
    curves = data["curves"]
    x = epochs_of(curves)
    widths = (5.5, 3.2, 1.4, 1.4, 1.4)  # the lines that coincide lie inside each other
    for (label, quantities), line, width in zip(curves.items(), styles(), widths, strict=False):
        shade = {"color": "0.75", "linestyle": "-"} if label == "original" else {}
        for quantity, each in (("flip_ratio", axes["a"]), ("accuracy", axes["b"])):
            style = {**line, "linewidth": width, **shade}
            band(each, x, quantities[quantity], labels.get(label, label), style)
    axes["a"].set(ylabel=STEP, title="Scaling $w_0$, learning rate and 1/weight decay together")
    axes["b"].set(xlabel="epoch", ylabel=ACCURACY)
    legend(
        axes["b"],
        f"of {data['binary_weights']:,} weights differ from the original after any epoch:\n"
        f"(seeds 0 to {seeds - 1})",
    )
    return figure


def draw_product(data, seeds):
    figure, axes = blank(3.8, "ab")
    for each, quantity in zip(axes.values(), ("flip_ratio", "accuracy"), strict=True):
        markers = iter("os^D")
        for (p, recipes), line in zip(data["latent"].items(), styles(), strict=False):
            rates = [float(rate) for rate in recipes]
            groups = [recipe[quantity] for recipe in recipes.values()]
            dots(each, rates, groups, p, line, next(markers))
            each.axhline(
                np.mean(data["filter"][p][quantity]), color=line["color"], linewidth=0.8, alpha=0.6
            )
        each.set(xscale="log", xlabel="learning rate of the latent weights")
    axes["a"].set(yscale="log", ylabel=STEP)
    axes["b"].set(ylabel=ACCURACY)
    figure.suptitle("Latent SGD at equal products of learning rate and weight decay", fontsize=11)
    handles, labels = axes["a"].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize=8, title_fontsize=8,
        frameon=False,
        title="learning rate × weight decay (thin line: a filter of this alpha started at zero)",
    )  # fmt: skip
    return figure


def draw_initialisation(data, seeds):
    figure, axes = blank(5.6, "aa;bc")
    draw_curves(
        {"accuracy": axes["a"]}, data["curves"], {c: f"$w_0$ × {c}" for c in data["curves"]}
    )
    axes["a"].set(xlabel="epoch", ylabel=ACCURACY)
    axes["a"].set_title("learning rate 0.1, weight decay 0.01", fontsize=9)
    legend(axes["a"], loc="lower right")
    for p, line in zip(data["replayed"], styles(), strict=False):
        replayed = np.array(data["replayed"][p])
        steps = np.arange(1, replayed.shape[1] + 1)
        band(axes["b"], steps, replayed, p, line)
        left = (1 - float(p)) ** steps
        axes["b"].plot(steps, left, color=line["color"], linewidth=0.8, alpha=0.7)
        parted = np.array(data["parted"][p])
        band(axes["c"], np.arange(parted.shape[1]), parted, p, line)
    axes["b"].set(xscale="log", xlabel="step", ylabel="share of weights that differ")
    axes["b"].set_title("the same recorded gradients\n(thin: what is left of $w_0$)", fontsize=9)
    axes["c"].set(xlabel="epoch", ylim=axes["b"].get_ylim())
    axes["c"].set_title("trained, each with its own gradients", fontsize=9)
    legend(axes["c"], "learning rate × weight decay")
    figure.suptitle("Initial magnitude; below, $w_0$ against ten times $w_0$", fontsize=11)
    return figure


def draw_clipping_scaling(data, seeds):
    figure, axes = blank(3.9, "abc", sharey=True)
    quantities = ("accuracy", "flip_ratio", "differing_first")
    labels = (ACCURACY, STEP.replace(" (", "\n("), "differ from plain\nafter the first epoch")
    for each, quantity, label in zip(axes.values(), quantities, labels, strict=True):
        for (decay, recipes), line, marker, shift in zip(
            data.items(), styles(), "os", (-0.13, 0.13), strict=False
        ):
            groups = [recipe[quantity] for recipe in recipes.values()]
            y = np.arange(len(groups)) + shift
            each.errorbar(
                [np.mean(runs) for runs in groups], y, xerr=[float(spread(r)) for r in groups],
                color=line["color"], marker=marker, markersize=5, capsize=2.5, linestyle="none",
                label=decay,
            )  # fmt: skip
        each.set_xlabel(label)
        each.xaxis.set_major_locator(MaxNLocator(3))
    names = list(next(iter(data.values())))
    axes["a"].set_yticks(range(len(names)), names)
    axes["a"].invert_yaxis()
    axes["c"].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    handles, labels = axes["a"].get_legend_handles_labels()
    figure.legend(
        handles, labels, title="weight decay", loc="outside lower center", ncols=2, fontsize=8,
        title_fontsize=8, frameon=False,
    )  # fmt: skip
    figure.suptitle("What is done to latent weights besides SGD (learning rate 0.1)", fontsize=11)
    return figure


def draw_alpha_decay(data, seeds):
    figure, axes = blank(6.6, "a;b;c", sharex=True)
    axes["a"].set_yscale("log")
    by_quantity = dict(zip(("flip_ratio", "loss", "accuracy"), axes.values(), strict=True))
    draw_curves(by_quantity, data["curves"])
    axes["a"].set(ylabel=STEP, title="Decay of alpha, gamma 0.1")
    axes["b"].set(ylabel="training loss (nats)")
    axes["b"].set_ylim(top=2.2)
    axes["c"].set(ylabel=ACCURACY, xlabel="epoch", ylim=(0.5, None))
    handles, labels = axes["c"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_gamma(data, seeds):
    figure, axes = blank(3.6, "ab")
    markers = iter("os^D")
    for (alpha, recipes), line in zip(data.items(), styles(), strict=False):
        gammas, marker = [float(g) for g in recipes], next(markers)
        style = {**line, "linestyle": "none"}
        dots(axes["a"], gammas, [r["flip_ratio"] for r in recipes.values()], alpha, style, marker)
        expected = [recipe["expected"] for recipe in recipes.values()]
        axes["a"].plot(gammas, expected, **{**line, "linewidth": 1.0})
        dots(axes["b"], gammas, [r["accuracy"] for r in recipes.values()], alpha, line, marker)
    for each in axes.values():
        each.set(xscale="log", xlabel="gamma")
        each.set_xticks(gammas, [f"{g:g}" for g in gammas])
        each.minorticks_off()
    axes["a"].set(yscale="log", ylabel=STEP)
    axes["a"].set_title("marker: measured, line: expected for noise", fontsize=9)
    axes["b"].set(ylabel=ACCURACY)
    legend(axes["a"], "alpha, constant", loc="lower right")
    return figure


def draw_order(data, seeds):
    figure, axes = blank(5.6, "ab;cd", sharex=True)
    for quantity, letters in (("flip_ratio", "ab"), ("accuracy", "cd")):
        for orders, letter in zip(data.values(), letters, strict=True):
            for (name, recipes), line, marker in zip(orders.items(), styles(), "os", strict=False):
                alphas = [float(alpha) for alpha in recipes]
                groups = [recipe[quantity] for recipe in recipes.values()]
                dots(axes[letter], alphas, groups, name, line, marker)
        axes[letters[0]].sharey(axes[letters[1]])
    axes["a"].set(xscale="log", yscale="log", title="alpha constant")
    axes["b"].set(yscale="log", title="alpha linear to 0")
    axes["a"].set_ylabel(STEP)
    axes["c"].set_ylabel(ACCURACY)
    axes["c"].set_xlabel("alpha (1/alpha: memory in steps)")
    axes["d"].set_xlabel("alpha at the first step")
    legend(axes["c"], loc="lower left")
    return figure


# Figures of the filters alone ---------------------------------------------------------------------

STEPS_PER_EPOCH = 390  # CIFAR-10 in batches of 128


def named_filters() -> dict[str, filters.Filter]:
    """Published settings as filters, and the default at a few steps."""
    translate = hyperparameters.filter_from_sgd
    alpha = default_alpha()
    return {
        "Bop, 1e-4": filters.EMA(1e-4),
        "IR-Net": translate(0.1, 1e-4, 0.9).filter,
        "Equal-Bits, ReCU": translate(0.1, 5e-4, 0.9).filter,
    } | {
        f"default, step {t:,}": filters.CascadedEMA(alpha=float(alpha(t)), gamma=0.1)
        for t in (0, 3000, 30_000)
    }


def draw_bode():
    named = named_filters()
    return plots.bode(list(named.values()), list(named), steps_per_epoch=STEPS_PER_EPOCH)


def draw_impulse():
    named = named_filters()
    del named["default, step 30,000"]  # so long that the others would not show
    return plots.impulse_responses(
        list(named.values()), list(named), steps_per_epoch=STEPS_PER_EPOCH
    )


# Numbers, files, story ----------------------------------------------------------------------------

OF_FILTERS = {"bode": draw_bode, "impulse": draw_impulse}
OF_RUNS = {name: globals()[f"draw_{name}"] for name in claims.CLAIMS}
flags.DEFINE_enum("figure", "all", ["all", *OF_RUNS, *OF_FILTERS], "Which figure.")


def config_of(setting: claims.Setting, seeds: int) -> dict:
    packages = ("larq", "tensorflow", "tf_keras", "numpy")
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {
        "setting": dataclasses.asdict(setting),
        "seeds": list(range(seeds)),
        "adam_learning_rate": claims.ADAM_RATE,
        "default_alpha": default_alpha().get_config(),
        "versions": {"larq_filter": __version__, **versions},
    }


def numbers(name: str, folder: pathlib.Path, lab, config: dict) -> dict:
    """The data of one claim: from its file if that has the same config, else from runs."""
    path = folder / f"{name}.json"
    if path.exists() and not FLAGS.force:
        stored = json.loads(path.read_text())
        if stored["config"] == config:
            return stored["data"]
    began = time.monotonic()
    data = claims.CLAIMS[name](lab(), config["seeds"])
    content = {"figure": name, "config": config, "data": data}
    files.write_json(path, content, indent=1)
    print(f"{name}: trained in {time.monotonic() - began:.0f} s")
    return json.loads(json.dumps(data))


def save(figure, path: pathlib.Path) -> None:
    """Writes a PNG of 256 colours, a third of the size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    image = Image.open(buffer).convert("RGB").quantize(256)
    image.save(path, optimize=True, dpi=(DPI, DPI))


def report(data, path=()) -> None:
    """Prints every list of one number a seed as mean and standard deviation."""
    if isinstance(data, dict):
        for key, value in data.items():
            report(value, (*path, key))
    elif isinstance(data, list) and isinstance(data[0], list):
        tail = max(1, len(data[0]) // 4)
        means = [float(np.mean(run[-tail:])) for run in data]
        print(f"  {' | '.join(path)} | last quarter: {text(means, '{:.4f}')}")
    else:
        print(f"  {' | '.join(path)}: {text(data, '{:.4f}') if isinstance(data, list) else data}")


def main():
    tf.config.experimental.enable_op_determinism()
    folder = pathlib.Path(FLAGS.output_dir)
    with files.plain_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    own = {field.name for field in dataclasses.fields(claims.Setting)}
    setting = claims.Setting(**{name: FLAGS[name].value for name in own})
    config, labs = config_of(setting, FLAGS.seeds), []

    def lab():  # only if something has to be trained, and once
        labs.extend([] if labs else [claims.Lab(setting)])
        return labs[0]

    for name in [*OF_RUNS, *OF_FILTERS] if FLAGS.figure == "all" else [FLAGS.figure]:
        if name in OF_FILTERS:
            figure = OF_FILTERS[name]()
        else:
            data = numbers(name, folder, lab, config)
            print(name)
            report(data)
            figure = OF_RUNS[name](data, FLAGS.seeds)
        save(figure, folder / f"{name}.png")
        print(f"{folder / name}.png")


if __name__ == "__main__":
    command_line.start(main, "The same command continues.")
