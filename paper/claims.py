"""The runs behind `figures.py`: a small network, trained by `fit`, each run a method with knobs.

Latent training is the method `sgdw`, filter training `filter`, the control `frozen`. In all of them
Adam trains the real-valued variables at the same fixed learning rate, so that runs differ in their
binary kernels only.
"""

import dataclasses
import functools
import math

import numpy as np

from larq_filter import analysis, binary, callbacks, datasets, filters, models
from larq_filter._keras import keras, tf
from larq_filter.conversion import with_kernel_options
from larq_filter.experiments import methods, run_data, run_folder
from larq_filter.hyperparameters import filter_from_sgd

import larq  # isort: skip

ADAM_RATE = 3e-3  # of the real-valued variables, in all runs
REST = {"learning_rate": ADAM_RATE, "learning_rate_schedule": "constant"}
MOMENTUM = 0.9  # of latent SGD


@keras.utils.register_keras_serializable(package="claims")
class Centred(larq.quantizers.SteSign):
    """The sign of the weights after their mean per filter was subtracted.

    The gradient is not centred: it would only move the mean, which is subtracted anyway.
    """

    def __init__(self, clip_value=None, **kwargs):
        super().__init__(clip_value=clip_value, **kwargs)

    def call(self, inputs):
        axes = list(range(len(inputs.shape) - 1))
        mean = tf.reduce_mean(inputs, axis=axes, keepdims=True)
        return super().call(inputs - tf.stop_gradient(mean))


NO_GATE = {"clip_value": None}  # the straight-through gradient passes whatever the magnitude is
TREATMENTS = {  # of latent weights: quantizer, and the bound that they are clipped to
    "plain": (lambda: larq.quantizers.SteSign(**NO_GATE), math.inf),
    "scaled": (lambda: larq.quantizers.MagnitudeAwareSign(**NO_GATE), math.inf),
    "centred": (Centred, math.inf),
    "clipped at 1": (lambda: larq.quantizers.SteSign(), 1.0),
    "clipped at 0.1": (lambda: larq.quantizers.SteSign(**NO_GATE), 0.1),
    "clipped at 0.01": (lambda: larq.quantizers.SteSign(**NO_GATE), 0.01),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A method with its knobs, and what no knob says.

    Attributes:
        method, knobs: as ``methods.compile_for`` takes them.
        treatment: of latent weights, a name from ``TREATMENTS``.
        magnitude: factor on the initial latent weights.
        output: factor on latent w_0 that a filter's output starts at.
    """

    method: str
    knobs: methods.Knobs
    treatment: str = "plain"
    magnitude: float = 1.0
    output: float = 0.0


def latent(learning_rate=0.1, weight_decay=0.01, treatment="plain", magnitude=1.0) -> Recipe:
    """Latent SGD with momentum and decoupled weight decay."""
    knobs = methods.Knobs(
        kernel_learning_rate=learning_rate,
        weight_decay=weight_decay,
        momentum=MOMENTUM,
        weight_clip=TREATMENTS[treatment][1],
        **REST,
    )
    return Recipe("sgdw", knobs, treatment, magnitude)


def filtered(alpha=1e-2, gamma=0.1, schedule="constant", output=0.0) -> Recipe:
    """A cascade of two averages."""
    knobs = methods.Knobs(alpha=alpha, gamma=gamma, alpha_schedule=schedule, **REST)
    return Recipe("filter", knobs, output=output)


class Lab:
    """Trains the network of a config by recipes, from many seeds; no run is done twice."""

    def __init__(self, config: run_folder.Config):
        self.config, self._runs = config, {}

    @functools.cached_property
    def data(self) -> datasets.ImageData:
        """Loaded only if something has to be trained."""
        return run_data.load(self.config)

    @property
    def steps(self) -> int:
        """Training steps of a run."""
        return run_data.steps_per_epoch(self.config, self.data) * self.config.epochs

    def run(self, recipe: Recipe, seed: int) -> dict:
        """Curves over epochs, and the binary weights after each of them (before the first too)."""
        if (recipe, seed) not in self._runs:
            model, signs = self.compiled(recipe, seed), []
            kernels = [kernel for _, kernel in binary.binary_kernels(model, trainable_only=False)]

            def keep(*_):  # true where the weight is -1
                signs.append(np.concatenate([np.ravel(binary.is_low(k)) for k in kernels]))

            keeper = keras.callbacks.LambdaCallback(on_train_begin=keep, on_epoch_end=keep)
            found = self.fit(model, seed, callbacks.FlipMonitor(), keeper)
            names = {"flip_ratio": "flip_ratio", "loss": "loss", "accuracy": "val_accuracy"}
            curves = {name: found[logged] for name, logged in names.items()}
            self._runs[recipe, seed] = {**curves, "signs": np.array(signs)}
        return self._runs[recipe, seed]

    def compiled(self, recipe: Recipe, seed: int):
        """The network of a seed, ready for ``fit`` by a recipe."""
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        shapes = {each: getattr(self.data, each) for each in ("input_shape", "num_classes")}
        model = models.build(self.config.model, width=self.config.width, **shapes)
        quantizer, _ = TREATMENTS[recipe.treatment]
        model = with_kernel_options(
            model, lambda layer, old, prefix: {f"{prefix}_quantizer": quantizer()}
        )
        w_0 = [binary.latent(kernel) for _, kernel in binary.binary_kernels(model)]
        for (_, kernel), start in zip(binary.binary_kernels(model), w_0, strict=True):
            kernel.assign(recipe.magnitude * start)
        model = methods.compile_for(recipe.method, model, recipe.knobs, self.steps, seed=seed)
        if recipe.output:
            for (_, kernel), start in zip(binary.binary_kernels(model), w_0, strict=True):
                state = [tf.zeros_like(start), recipe.output * start]
                model.optimizer.set_filter_state(kernel, state)
        return model

    def fit(self, model, seed: int, *watchers) -> dict:
        """Trains a compiled model; what its history holds."""
        of = self.config
        budget = {"epochs": of.epochs, "steps_per_epoch": self.steps // of.epochs}
        return model.fit(
            self.data.train(of.batch_size, seed=seed, augment=of.augment, **budget),
            **budget,
            validation_data=self.data.validation(1000),
            callbacks=list(watchers),
            verbose=0,
        ).history


# The claims: each function runs its recipes and returns numbers, ready for a JSON file ------------


def magnitude(lab: Lab, seeds) -> dict:
    """Scaling w_0 and the learning rate by c and the weight decay by 1/c changes nothing."""
    base, translation = latent(), filter_from_sgd(0.1, 0.01, MOMENTUM, decoupled=True)
    recipes = {"original": base}
    recipes |= {
        f"all three scaled by {c:g}": latent(c * 0.1, 0.01 / c, magnitude=c) for c in (4.0, 3.0)
    }
    recipes["translated filter"] = filtered(
        **translation.filter.rates_at(0), output=translation.initial_output
    )
    recipes["only the learning rate, by 4"] = latent(0.4)
    differing, parted = {}, {}
    for label, recipe in recipes.items():
        pairs = [(lab.run(base, s)["signs"], lab.run(recipe, s)["signs"]) for s in seeds]
        differ = [one != two for one, two in pairs]  # (epochs, weights) for each seed
        differing[label] = [int(each.any(0).sum()) for each in differ]
        # The epochs after which nothing differed yet; all of them if nothing ever did.
        parted[label] = [int(np.cumprod(~each.any(1)).sum()) - 1 for each in differ]
    return {
        "curves": curves(lab, recipes, seeds),
        "differing": differing,
        "identical_epochs": parted,
        "binary_weights": pairs[0][0].shape[1],
    }


def product(lab: Lab, seeds) -> dict:
    """Learning rate times weight decay against either of them."""
    rates, products = (0.01, 0.1, 1.0, 10.0), (1e-1, 1e-2, 1e-3, 1e-4)
    sgd = {f"{p:g}": {f"{e:g}": latent(e, p / e) for e in rates} for p in products}
    return {
        "latent": {p: finals(lab, recipes, seeds) for p, recipes in sgd.items()},
        "filter": finals(lab, {f"{p:g}": filtered(p) for p in products}, seeds),
    }


def initialisation(lab: Lab, seeds) -> dict:
    """What the magnitude of w_0 does, and when it is forgotten."""
    large = {f"{c:g}": latent(magnitude=c) for c in (0.1, 1.0, 10.0, 100.0)}
    replayed, parted = {}, {}
    for p in (1e-1, 1e-2, 1e-3):
        decay = p / 0.1
        runs = [[lab.run(latent(0.1, decay, magnitude=c), s) for c in (1.0, 10.0)] for s in seeds]
        parted[f"{p:g}"] = [(a["signs"] != b["signs"]).mean(1).tolist() for a, b in runs]
        replayed[f"{p:g}"] = [replay(lab, decay, s).tolist() for s in seeds]
    return {"curves": curves(lab, large, seeds), "parted": parted, "replayed": replayed}


def replay(lab: Lab, weight_decay: float, seed: int) -> np.ndarray:
    """Share of one kernel's weights that differ, step by step, on gradients of one run.

    The second start is at ten times w_0. SGD is linear in the gradients and w_0: where both see the
    gradients of the run, their weights differ by nine times what is left of w_0.
    """
    model = lab.compiled(latent(0.1, weight_decay), seed)
    kernels = [kernel for _, kernel in binary.binary_kernels(model)]
    kernel = kernels[min(1, len(kernels) - 1)]  # the first that sees binary inputs
    w_0, weights = binary.latent(kernel).numpy(), []
    keeper = keras.callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs: weights.append(binary.latent(kernel).numpy())
    )
    lab.fit(model, seed, keeper)
    return share_of_other_start(np.array(weights), w_0, 0.1 * weight_decay)


def share_of_other_start(weights, w_0, decay: float, factor: float = 10.0) -> np.ndarray:
    """Share of the signs that another start changes, after each step on the same gradients.

    Args:
        weights: latent weights after each step of SGD with momentum and decoupled weight decay.
        w_0: those before the first.
        decay: learning rate times weight decay.
        factor: on w_0, of the other start.
    """
    left = (1 - decay) ** np.arange(1, len(weights) + 1)
    other = weights + (factor - 1) * left.reshape(-1, *[1] * w_0.ndim) * w_0
    return np.mean((weights < 0) != (other < 0), axis=tuple(range(1, weights.ndim)))


def clipping_scaling(lab: Lab, seeds) -> dict:
    """What is done to latent weights besides SGD, with weight decay and without."""
    data = {}
    for decay in (0.01, 0.0):
        recipes = {name: latent(0.1, decay, name) for name in TREATMENTS}
        data[f"{decay:g}"] = finals(lab, recipes, seeds)
        for name, recipe in recipes.items():
            pairs = [
                (lab.run(recipes["plain"], s)["signs"], lab.run(recipe, s)["signs"]) for s in seeds
            ]
            for when, epoch in (("first", 1), ("last", -1)):
                data[f"{decay:g}"][name][f"differing_{when}"] = [
                    float((one[epoch] != two[epoch]).mean()) for one, two in pairs
                ]
    return data


def alpha_decay(lab: Lab, seeds) -> dict:
    """A constant alpha against windows that grow."""
    recipes = {
        "constant 0.01": filtered(),
        "constant 0.001": filtered(1e-3),
        "default, from 0.01": filtered(schedule="default"),
        "linear, 0.01 to 0": filtered(schedule="linear"),
        "frozen at random": Recipe("frozen", methods.Knobs(**REST)),
    }
    return {"curves": curves(lab, recipes, seeds)}


def gamma(lab: Lab, seeds) -> dict:
    """Measured flips against those that white noise would cause."""
    data = {}
    for alpha in (3e-2, 1e-2, 3e-3):
        gammas = (1.0, 0.3, 0.1, 0.03)
        data[f"{alpha:g}"] = finals(lab, {f"{g:g}": filtered(alpha, g) for g in gammas}, seeds)
        for g in gammas:
            expected = analysis.expected_flip_ratio(filters.CascadedEMA(alpha=alpha, gamma=g))
            data[f"{alpha:g}"][f"{g:g}"]["expected"] = expected
    return data


def order(lab: Lab, seeds) -> dict:
    """One average against two at the same memory 1/alpha."""
    alphas = (3e-2, 1e-2, 3e-3, 1e-3)
    return {
        schedule: {
            name: finals(lab, {f"{a:g}": filtered(a, g, schedule) for a in alphas}, seeds)
            for name, g in (("first order", 1.0), ("second order, gamma 0.1", 0.1))
        }
        for schedule in ("constant", "linear")
    }


def curves(lab: Lab, recipes: dict, seeds) -> dict:
    """Label to quantity to one list over epochs for each seed."""
    return {
        label: {
            quantity: [lab.run(recipe, seed)[quantity] for seed in seeds]
            for quantity in ("flip_ratio", "loss", "accuracy")
        }
        for label, recipe in recipes.items()
    }


def finals(lab: Lab, recipes: dict, seeds) -> dict:
    """Label to quantity to its mean over the last quarter of the epochs, one for each seed."""
    quarter = -max(1, lab.config.epochs // 4)
    return {
        label: {
            quantity: [float(np.mean(run[quarter:])) for run in found[quantity]]
            for quantity in ("flip_ratio", "accuracy")
        }
        for label, found in curves(lab, recipes, seeds).items()
    }


CLAIMS = {
    claim.__name__: claim
    for claim in (magnitude, product, initialisation, clipping_scaling, alpha_decay, gamma, order)
}
