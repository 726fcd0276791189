"""Draws the pictures of docs/concepts.md: one weight, one gradient, one filter at work.

    python paper/pictures.py
    python paper/pictures.py --output_dir=runs/pictures

Nothing is trained: filters and flip rules of the package step over gradients that are drawn here,
noise around a small mean, with a seed. It takes a few seconds.
"""

import pathlib

import matplotlib
import numpy as np
from absl import flags

from larq_filter import analysis, filters, flips, hyperparameters, plots
from larq_filter.cli import command_line
from larq_filter.optimizers import default_alpha

import tensorflow as tf

FLAGS = flags.FLAGS
FOLDER = pathlib.Path(__file__).parents[1] / "docs/pictures"
flags.DEFINE_string("output_dir", str(FOLDER), "Where the pictures go.")
# The same bytes at each call, with one version of Matplotlib.
REPEATABLE = {"svg.hashsalt": "larq_filter", "path.simplify_threshold": 0.5}


def run(gradient_filter, gradients: np.ndarray, weights: np.ndarray, state=None) -> tuple:
    """Signal and weights after each step, of shape (steps, weights)."""
    rule, signals, history = flips.Sign(), [], []
    state = gradient_filter.zero_state(weights, np) if state is None else state
    for step, gradient in enumerate(gradients):
        rates = gradient_filter.rates_at(step)
        signal, state = gradient_filter.step(gradient, state, rates, np)
        flipped, _ = rule.flip(weights, signal, (), {}, np)
        weights = np.where(flipped, -weights, weights)
        signals.append(signal)
        history.append(weights)
    return np.array(signals), np.array(history)


def one_gradient():
    """What one gradient of 1 leaves in the signal."""
    figure, axes = plots.panels("a", 2.8)
    for (label, f), line in zip(
        {
            "EMA(alpha=0.01)": filters.EMA(0.01),
            "CascadedEMA(alpha=0.01, gamma=0.1)": filters.CascadedEMA(alpha=0.01, gamma=0.1),
        }.items(),
        plots.line_styles(),
        strict=False,
    ):
        axes["a"].plot(analysis.impulse_response(f, 400), label=label, **line)
    axes["a"].set(xlabel="steps since the gradient", ylabel="what is left in the signal")
    axes["a"].annotate(
        "1/alpha = 100 steps: 37 % is left", (100, 0.0037), (150, 0.0065), fontsize=9,
        arrowprops={"arrowstyle": "->", "color": "0.4"},
    )  # fmt: skip
    axes["a"].margins(x=0.01)
    plots.legend(axes["a"])
    return figure


def flip_at_work(steps=600, seed=3):
    """Gradients of one weight, its signal, and the weight; the mean changes sign halfway."""
    mean = np.where(np.arange(steps) < steps // 2, 0.25, -0.25)
    gradients = mean + np.random.default_rng(seed).normal(size=steps)
    f = filters.CascadedEMA(alpha=0.02, gamma=0.1)
    signal, weights = run(f, gradients[:, None], np.ones(1))
    figure, axes = plots.panels("a;b;c", 4.8, sharex=True, height_ratios=[3, 3, 1.4])
    axes["a"].plot(gradients, ".", color="0.55", markersize=3)
    axes["a"].plot(mean, color=plots.COLOURS[2], linewidth=1.8, label="mean")
    axes["a"].set_ylabel("gradient")
    plots.legend(axes["a"], loc="upper right")
    axes["b"].plot(signal[:, 0], color=plots.COLOURS[1], linewidth=1.8)
    axes["b"].axhline(0, color="0.4", linewidth=0.8)
    axes["b"].set_ylabel("signal")
    axes["c"].step(np.arange(steps), weights[:, 0], where="post", color="black", linewidth=1.8)
    axes["c"].set(ylabel="weight", xlabel="step", yticks=[-1, 1], ylim=(-1.5, 1.5))
    for flip in 1 + np.flatnonzero(np.diff(weights[:, 0])):
        for name in "bc":
            axes[name].axvline(flip, color=plots.COLOURS[2], linewidth=0.8, linestyle=":")
    axes["c"].margins(x=0.01)
    return figure


def latent(steps=400, seed=4):
    """A latent weight and the filter's output, upside down: one curve."""
    rate, decay, momentum = 0.1, 0.05, 0.9
    translation = hyperparameters.filter_from_sgd(rate, decay, momentum, decoupled=True)
    gradients = 0.1 + np.random.default_rng(seed).normal(size=steps)
    w_0 = np.array([4.0])
    w, u, path = w_0, 0.0, []
    for gradient in gradients:  # as Keras' SGD(weight_decay=..., momentum=...)
        u = momentum * u + rate * gradient
        w = (1 - rate * decay) * w - u
        path.append(w[0])
    state = translation.initial_state(w_0)
    signal, weights = run(translation.filter, gradients[:, None], np.sign(w_0), state)
    assert np.array_equal(np.sign(path), weights[:, 0]), "the picture would be wrong"
    figure, axes = plots.panels("a;b", 3.8, sharex=True, height_ratios=[3, 1.2])
    axes["a"].plot(path, color=plots.COLOURS[6], linewidth=5, label="latent weight w")
    scaled = signal[:, 0] / translation.initial_output
    label = "signal, times a negative constant"
    axes["a"].plot(scaled, "--", color="black", linewidth=1.5, label=label)
    axes["a"].axhline(0, color="0.4", linewidth=0.8)
    plots.legend(axes["a"])
    axes["b"].step(np.arange(steps), np.sign(path), "-", color=plots.COLOURS[6], linewidth=5)
    axes["b"].step(np.arange(steps), weights[:, 0], "--", color="black", linewidth=1.5)
    axes["b"].set(ylabel="binary weight", xlabel="step", yticks=[-1, 1], ylim=(-1.5, 1.5))
    axes["b"].margins(x=0.01)
    return figure


def frequencies():
    """Gain and phase of three memories, in cycles per epoch."""
    found = {
        "alpha 0.01, gamma 1": filters.EMA(0.01),
        "alpha 0.01, gamma 0.1": filters.CascadedEMA(alpha=0.01, gamma=0.1),
        "alpha 0.001, gamma 0.1": filters.CascadedEMA(alpha=0.001, gamma=0.1),
    }
    return plots.bode(list(found.values()), list(found), steps_per_epoch=390)


def growing_memory(steps=5000, weights=2000, seed=5):
    """Two thousand weights in noise: how many are wrong, and how many flip."""
    random = np.random.default_rng(seed)
    means = 0.05 * random.choice([-1.0, 1.0], weights)
    start = random.choice([-1.0, 1.0], weights)
    gradients = (means + random.normal(size=weights) for _ in range(steps))
    gradients = np.array(list(gradients), np.float32)
    schedules = {
        "alpha 0.01, constant": 0.01,
        "alpha 0.01, linear to 0": tf.keras.optimizers.schedules.PolynomialDecay(0.01, steps, 0.0),
        "default: 0.01 / (1 + t / 100)": default_alpha(),
    }
    figure, axes = plots.panels("a;b", 4.6, sharex=True)
    every = 50
    for (label, alpha), line in zip(schedules.items(), plots.line_styles(), strict=False):
        f = filters.CascadedEMA(alpha=alpha, gamma=0.1)
        _, history = run(f, gradients, start)
        wrong = np.mean(history * means > 0, axis=1)  # the loss falls where w goes against g
        flipped = np.mean(history[1:] != history[:-1], axis=1)
        at = np.arange(every, steps + 1, every)
        axes["a"].plot(at, wrong[every - 1 :: every], label=label, **line)
        axes["b"].plot(at, [flipped[i - every : i].mean() for i in at], **line)
    axes["a"].set_ylabel("share of weights\non the wrong side")
    axes["b"].set(xlabel="step", ylabel="share that flips\nin a step")
    for each in axes.values():
        plots.logarithmic(each)
    plots.legend(axes["a"])
    axes["b"].margins(x=0.01)
    return figure


PICTURES = {each.__name__: each for each in (
    one_gradient, flip_at_work, latent, frequencies, growing_memory
)}  # fmt: skip


def main():
    folder = pathlib.Path(FLAGS.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        with matplotlib.rc_context(REPEATABLE):
            draw().savefig(folder / f"{name}.svg", metadata={"Date": None})
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    command_line.start(main)
