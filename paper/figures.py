"""Draws the figures of docs/figures.md, one for each claim of the paper, from runs made here.

    python paper/figures.py --figure=all --output_dir=runs/figures
    python paper/figures.py --figure=product --seeds=5
    python paper/figures.py --dataset=cifar10 --data_dir=DIR --train_examples=10000 --epochs=20

The numbers behind each figure go into a JSON file beside it, with config, seeds and versions. A
second call only draws what is there; `--force` trains again. The claims are those of Quist, Li and
van Gemert (ICLR 2023); docs/figures.md says which of them came out how.
"""

import io
import json
import pathlib
import re
import textwrap
import time

import numpy as np
from absl import flags
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

import claims  # first: it makes sure that tf.keras is Keras 2
import findings
from larq_filter import filters, hyperparameters, plots
from larq_filter.cli import command_line, run_flags
from larq_filter.experiments import files, methods, run_folder
from larq_filter.experiments.comparison.summaries import Spread
from larq_filter.optimizers import default_alpha

import tensorflow as tf

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(run_flags)  # else --help would not show them
STEP, ACCURACY = "flip ratio (share per step)", "validation accuracy"
QUANTITIES = {"flip_ratio": STEP, "loss": "training loss (nats)", "accuracy": ACCURACY}
MARKERS = "os^D"
PAGE = pathlib.Path(__file__).parents[1] / "docs/comparison.md"


# Mean over seeds, and range -----------------------------------------------------------------------


def learning_curves(curves: dict, *quantities: str, labels=None):
    """The quantities over epochs, an axis for each; ``labels``: in place of those of the curves."""
    labels = labels or {}
    return plots.learning_curves(
        {
            QUANTITIES[each]: {labels.get(key, key): found[each] for key, found in curves.items()}
            for each in quantities
        },
        log=[STEP],
    )


def mean_and_range(recipes: dict, quantity: str) -> tuple[list[float], np.ndarray]:
    """Of a quantity of each recipe: means over seeds, and how far the extremes lie from them."""
    runs = [recipe[quantity] for recipe in recipes.values()]
    return np.mean(runs, 1), np.abs([np.min(runs, 1), np.max(runs, 1)] - np.mean(runs, 1))


def dots(axes, groups: dict, quantity: str, **options) -> None:
    """A line for each group: mean and range at each x, the number that names a recipe."""
    for (label, recipes), line, marker in zip(
        groups.items(), plots.line_styles(), MARKERS, strict=False
    ):
        x, (mean, extremes) = [float(name) for name in recipes], mean_and_range(recipes, quantity)
        style = {"marker": marker, "markersize": 4.5, "capsize": 2.5, **line, **options}
        axes.errorbar(x, mean, extremes, label=label, **style)


# One function a claim: numbers to a figure --------------------------------------------------------


def draw_magnitude(data):
    labels = {
        label: f"{textwrap.fill(label, 15)}\n({'/'.join(map(str, numbers))})"
        for label, numbers in data["differing"].items()
    }
    figure = learning_curves(data["curves"], "flip_ratio", "accuracy", labels=labels)
    figure.axes[0].set_title(
        "$w_0$, learning rate and 1/weight decay scaled together; in brackets, for each seed:\n"
        f"of {data['binary_weights']:,} weights differ from the original after any epoch",
        fontsize=10,
    )
    return figure


def draw_product(data):
    figure, axes = plots.panels("ab", 3.8)
    for each, quantity in zip(axes.values(), ("flip_ratio", "accuracy"), strict=True):
        dots(each, data["latent"], quantity)
        for found, line in zip(data["filter"].values(), plots.line_styles(), strict=False):
            level = np.mean(found[quantity])
            each.axhline(level, color=line["color"], linewidth=0.8, alpha=0.6)
        each.set(xscale="log", xlabel="learning rate of the latent weights")
    plots.logarithmic(axes["a"])
    axes["a"].set_ylabel(STEP)
    axes["b"].set_ylabel(ACCURACY)
    figure.suptitle("Latent SGD at equal products of learning rate and weight decay", fontsize=11)
    title = "learning rate × weight decay (thin line: a filter of this alpha started at zero)"
    plots.legend(axes["a"], title, below=True, ncols=4)
    return figure


def draw_initialisation(data):
    figure, axes = plots.panels("aa;bc", 5.6)
    for (c, found), line in zip(data["curves"].items(), plots.line_styles(), strict=False):
        runs = np.array(found["accuracy"])
        plots.band(axes["a"], runs, {**line, "label": f"$w_0$ × {c}"})
    axes["a"].set(xlabel="epoch", ylabel=ACCURACY)
    axes["a"].set_title("learning rate 0.1, weight decay 0.01", fontsize=9)
    plots.legend(axes["a"], loc="lower right")
    for p, line in zip(data["replayed"], plots.line_styles(), strict=False):
        replayed, parted = np.array(data["replayed"][p]), np.array(data["parted"][p])
        plots.band(axes["b"], replayed, line)
        steps = np.arange(1, replayed.shape[1] + 1)
        axes["b"].plot(
            steps, (1 - float(p)) ** steps, color=line["color"], linewidth=0.8, alpha=0.7
        )
        plots.band(axes["c"], parted[:, 1:], {**line, "label": p})
    axes["b"].set(xscale="log", xlabel="step", ylabel="share of weights that differ")
    axes["b"].set_title("the gradients of one run\n(thin: what is left of $w_0$)", fontsize=9)
    axes["c"].set(xlabel="epoch", ylim=axes["b"].get_ylim())
    axes["c"].set_title("trained, each with its own gradients", fontsize=9)
    plots.legend(axes["c"], "learning rate × weight decay")
    figure.suptitle("Initial magnitude; below, $w_0$ against ten times $w_0$", fontsize=11)
    return figure


def draw_clipping_scaling(data):
    figure, axes = plots.panels("abc", 3.9, sharey=True)
    quantities = ("accuracy", "flip_ratio", "differing_first")
    labels = (ACCURACY, STEP.replace(" (", "\n("), "differ from plain\nafter the first epoch")
    for each, quantity, label in zip(axes.values(), quantities, labels, strict=True):
        for (decay, recipes), line, marker, shift in zip(
            data.items(), plots.line_styles(), MARKERS, (-0.13, 0.13), strict=False
        ):
            mean, extremes = mean_and_range(recipes, quantity)
            style = {"marker": marker, "markersize": 5, "capsize": 2.5, "linestyle": "none"}
            y = np.arange(len(mean)) + shift
            each.errorbar(mean, y, xerr=extremes, label=decay, color=line["color"], **style)
        each.set_xlabel(label)
        each.xaxis.set_major_locator(MaxNLocator(3, prune="upper"))
    names = list(next(iter(data.values())))
    axes["a"].set_yticks(range(len(names)), names)
    axes["a"].invert_yaxis()
    axes["c"].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    plots.legend(axes["a"], "weight decay", below=True, ncols=2)
    figure.suptitle("What is done to latent weights besides SGD (learning rate 0.1)", fontsize=11)
    return figure


def draw_alpha_decay(data):
    figure = learning_curves(data["curves"], "flip_ratio", "loss", "accuracy")
    flips, loss, accuracy = figure.axes
    flips.set_title("Decay of alpha, gamma 0.1")
    loss.set_ylim(top=2.2)
    accuracy.set_ylim(bottom=0.5)
    return figure


def draw_gamma(data):
    figure, axes = plots.panels("ab", 3.6)
    dots(axes["a"], data, "flip_ratio", linestyle="none")
    dots(axes["b"], data, "accuracy")
    for recipes, line in zip(data.values(), plots.line_styles(), strict=False):
        gammas = [float(g) for g in recipes]
        expected = [recipe["expected"] for recipe in recipes.values()]
        axes["a"].plot(gammas, expected, **{**line, "linewidth": 1.0})
    plots.logarithmic(axes["a"])
    for each in axes.values():
        each.set(xscale="log", xlabel="gamma")
        each.set_xticks(gammas, [f"{g:g}" for g in gammas])
        each.set_xticks([], minor=True)
    axes["a"].set_ylabel(STEP)
    axes["a"].set_title("marker: measured, line: expected for noise", fontsize=9)
    axes["b"].set_ylabel(ACCURACY)
    plots.legend(axes["a"], "alpha, constant", loc="lower right")
    return figure


def draw_order(data):
    figure, axes = plots.panels("ab;cd", 5.6, sharex=True)
    for quantity, letters in (("flip_ratio", "ab"), ("accuracy", "cd")):
        for orders, letter in zip(data.values(), letters, strict=True):
            dots(axes[letter], orders, quantity)
        axes[letters[0]].sharey(axes[letters[1]])
    for letter, title in (("a", "alpha constant"), ("b", "alpha linear to 0")):
        plots.logarithmic(axes[letter])
        axes[letter].set(xscale="log", title=title)
    axes["a"].set_ylabel(STEP)
    axes["c"].set(ylabel=ACCURACY, xlabel="alpha (1/alpha: memory in steps)")
    axes["d"].set_xlabel("alpha at the first step")
    plots.legend(axes["c"], loc="lower left")
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
        "Equal-Bits": translate(0.1, 5e-4, 0.9).filter,
    } | {
        f"default, step {t:,}": filters.CascadedEMA(alpha=float(alpha(t)), gamma=0.1)
        for t in (0, 3000, 30_000)
    }


def draw_bode():
    named = named_filters()
    figure = plots.bode(list(named.values()), list(named), steps_per_epoch=STEPS_PER_EPOCH)
    figure.suptitle("Which changes of the gradient pass", fontsize=11)
    return figure


def draw_impulse():
    named = named_filters()
    figure = plots.impulse_responses(
        list(named.values()), list(named), steps_per_epoch=STEPS_PER_EPOCH
    )
    figure.suptitle("How long one gradient is remembered", fontsize=11)
    return figure


def draw_latent_methods():
    """The findings of ``findings``: a gain, a gate, an average."""
    figure, axes = plots.panels("ab;cc", 5.4)
    scales, gates, averages = findings.scales(), findings.gates(), findings.averages()
    size = scales.pop("mean_abs")
    for (name, found), line, marker in zip(
        scales.items(), plots.line_styles(), MARKERS, strict=False
    ):
        style = {**line, "linestyle": "none", "marker": marker, "markersize": 4.5}
        axes["a"].plot(size, found["gain"], fillstyle="none", label=name, **style)
    axes["a"].plot(size, 1 / np.array(size), color="0.6", linewidth=1, zorder=0)
    axes["a"].set(xscale="log", yscale="log", xlabel="mean |w| of a filter")
    axes["a"].set_title("a scale, before normalisation")
    axes["a"].set_ylabel("size of the gradient")
    progress = gates.pop("progress")
    for (name, share), line in zip(gates.items(), plots.line_styles(), strict=False):
        axes["b"].plot(progress, share, label=f"{name} weights", **line)
    axes["b"].set(xlabel="share of the training", title="ReCU's clamp", ylim=(0, 0.4))
    axes["b"].set_ylabel("weights without gradient")
    steps = averages.pop("steps")
    for (name, share), line in zip(averages.items(), plots.line_styles(), strict=False):
        axes["c"].plot(steps, share, label=name, **line)
    axes["c"].set(xlabel="step", title="BayesBiNN against an average", ylim=(-0.001, None))
    axes["c"].set_ylabel("signs that differ")
    for each in axes.values():
        plots.legend(each)
    return figure


def draw_comparison():
    """The table of docs/comparison.md, which ``larq-filter compare`` wrote, but for its control."""
    row = r"^\| (\w+) \| (\S+) ± (\S+) \(\d+\) \| (\S+) ± (\S+) \| (\S+) \|"
    found = re.findall(row, PAGE.read_text(), re.M)
    rows = {name: list(map(float, numbers)) for name, *numbers in found}
    control = rows.pop("frozen")
    figure, axes = plots.panels("abc", 5.2, sharey=True)
    styles = zip(("latent_free", "latent"), plots.line_styles(), MARKERS, strict=False)
    for group, line, marker in styles:
        y = [i for i, name in enumerate(rows) if name in methods.names(group)]
        chosen = np.array(list(rows.values()))[y].T
        style = {"marker": marker, "markersize": 5, "color": line["color"], "linestyle": "none"}
        label = group.replace("_", "-")
        axes["a"].errorbar(chosen[0], y, xerr=chosen[1], label=label, capsize=2.5, **style)
        axes["b"].errorbar(chosen[2], y, xerr=chosen[3], capsize=2.5, **style)
        axes["c"].plot(chosen[4], y, **style)
    for letter, label in {"a": ACCURACY, "b": QUANTITIES["loss"], "c": "flips per weight"}.items():
        axes[letter].set_xlabel(label)
    axes["a"].set_yticks(range(len(rows)), rows)
    axes["a"].invert_yaxis()
    axes["b"].set_xlim(left=0)
    axes["c"].set_xlim(left=0)
    plots.legend(axes["a"], "mean and standard deviation over the seeds", below=True, ncols=2)
    figure.suptitle(
        f"Digits, after 10 epochs; with binary weights frozen at random: {control[0]:.2f}, "
        f"{control[2]:.1f} nats",
        fontsize=11,
    )
    return figure


# Numbers, files, story ----------------------------------------------------------------------------

WITHOUT_RUNS = {
    "comparison": draw_comparison,
    "bode": draw_bode,
    "impulse": draw_impulse,
    "latent_methods": draw_latent_methods,
}
OF_RUNS = {name: globals()[f"draw_{name}"] for name in claims.CLAIMS}


def define_flags() -> None:
    flags.DEFINE_enum("figure", "all", ["all", *OF_RUNS, *WITHOUT_RUNS], "Which figure.")
    flags.DEFINE_string("output_dir", "runs/figures", "Where PNG and JSON files go.")
    flags.DEFINE_integer("seeds", 3, "Runs of each kind: seeds 0, 1, ...", 1)
    flags.DEFINE_bool("force", False, "Train again what is already there.")
    for name, value in {"model": "mlp", "width": 64, "epochs": 80}.items():
        FLAGS.set_default(name, value)


def config_of(config: run_folder.Config, seeds: int) -> dict:
    """What the numbers depend on, ready for a JSON file."""
    return {
        "setting": {name: run_folder.as_json(config)[name] for name in (*run_flags.NAMES, "split")},
        "seeds": list(range(seeds)),
        "adam_learning_rate": claims.ADAM_RATE,
        "default_alpha": default_alpha().get_config(),
        "versions": run_folder.versions(),
    }


def numbers(name: str, folder: pathlib.Path, lab, config: dict, force: bool = False) -> dict:
    """The data of one claim: from its file if that has the same config, else from runs."""
    path = folder / f"{name}.json"
    if path.exists() and not force:
        stored = json.loads(path.read_text())
        if stored["config"] == config:
            return stored["data"]
    began = time.monotonic()
    content = {"config": config, "data": claims.CLAIMS[name](lab, config["seeds"])}
    files.write_json(path, {"figure": name, **content}, indent=1)
    print(f"{name}: trained in {time.monotonic() - began:.0f} s")
    return json.loads(path.read_text())["data"]


def save(figure, path: pathlib.Path) -> None:
    """Writes a PNG of 256 colours, a third of the size."""
    buffer = io.BytesIO()
    figure.savefig(buffer)
    image = Image.open(buffer).convert("RGB").quantize(256)
    image.save(path, optimize=True, dpi=(figure.dpi, figure.dpi))


def report(data, path=()) -> None:
    """Prints every list of one number a seed as mean and standard deviation."""
    if isinstance(data, dict):
        for key, value in data.items():
            report(value, (*path, key))
        return
    where = " | ".join(path)
    if isinstance(data, list) and isinstance(data[0], list):
        tail = max(1, len(data[0]) // 4)
        where += " | last quarter"
        data = [float(np.mean(run[-tail:])) for run in data]
    if isinstance(data, list):
        spread = Spread.of(data)
        data = f"{spread.mean:.4f}" + (f" ± {spread.deviation:.4f}" if spread.n > 1 else "")
    print(f"  {where}: {data}")


def main():
    tf.config.experimental.enable_op_determinism()
    folder = pathlib.Path(FLAGS.output_dir)
    with files.plain_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    setting = run_flags.config()
    config, lab = config_of(setting, FLAGS.seeds), claims.Lab(setting)
    for name in [*OF_RUNS, *WITHOUT_RUNS] if FLAGS.figure == "all" else [FLAGS.figure]:
        if name in WITHOUT_RUNS:
            figure = WITHOUT_RUNS[name]()
        else:
            data = numbers(name, folder, lab, config, FLAGS.force)
            print(name)
            report(data)
            figure = OF_RUNS[name](data)
        save(figure, folder / f"{name}.png")
        print(f"{folder / name}.png")


if __name__ == "__main__":
    define_flags()
    command_line.start(main, "The same command continues.")
