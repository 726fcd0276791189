"""The runs behind `figures.py`: one small network, compiled once a method, trained many times.

Latent training is what a Larq user writes, Keras' SGD on latent kernels; filter training is
`FilterOptimizer`. In both, Adam trains the real-valued variables at the same fixed learning rate,
so that runs differ in their binary kernels only. Compiling takes longer than a run, so every
hyperparameter is a `tf.Variable` that is set between runs.
"""

import dataclasses

import numpy as np

from larq_filter import analysis, binary, datasets, filters, models
from larq_filter.conversion import to_latent, to_latent_free
from larq_filter.hyperparameters import filter_from_sgd
from larq_filter.optimizers import FilterOptimizer, default_alpha

import larq
import tensorflow as tf

keras = tf.keras
ADAM_RATE = 3e-3  # of the real-valued variables, in all runs
KEEP = 2**27  # bytes of augmented batches that are kept for a seed


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all runs have in common."""

    dataset: str
    data_dir: str | None
    train_examples: int | None
    model: str
    width: int
    batch_size: int
    epochs: int


@dataclasses.dataclass(frozen=True)
class Latent:
    """Latent SGD with decoupled weight decay; `magnitude` is a factor on the initial weights."""

    learning_rate: float = 0.1
    weight_decay: float = 0.01
    momentum: float = 0.9
    magnitude: float = 1.0
    treatment: str = "plain"


@dataclasses.dataclass(frozen=True)
class Filtered:
    """A cascade of two averages; `output` is a factor on latent w_0 that its output starts at."""

    alpha: float = 1e-2
    gamma: float = 0.1
    schedule: str = "constant"
    output: float = 0.0

    def alphas(self, steps: int) -> np.ndarray:
        """The rate of each step."""
        schedule = {
            "constant": lambda t: 0 * t + self.alpha,
            "default": default_alpha(start=self.alpha),
            "linear": keras.optimizers.schedules.PolynomialDecay(self.alpha, steps, 0.0),
        }[self.schedule]
        return np.asarray(schedule(tf.range(steps, dtype=tf.float32)), np.float32)


class Table(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that is looked up, so that one compiled step serves every schedule."""

    def __init__(self, steps: int):
        self.values = tf.Variable(tf.ones([steps]), trainable=False)

    def __call__(self, step):
        return tf.gather(self.values, tf.cast(step, tf.int64))

    def get_config(self):
        return {"steps": len(self.values)}


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
TREATMENTS = {
    "plain": (lambda: larq.quantizers.SteSign(**NO_GATE), None),
    "scaled": (lambda: larq.quantizers.MagnitudeAwareSign(**NO_GATE), None),
    "centred": (Centred, None),
    "clipped at 1": (lambda: larq.quantizers.SteSign(), 1.0),
    "clipped at 0.1": (lambda: larq.quantizers.SteSign(**NO_GATE), 0.1),
    "clipped at 0.01": (lambda: larq.quantizers.SteSign(**NO_GATE), 0.01),
}


class Lab:
    """Trains the network of one `Setting`; no run is done twice."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.data = datasets.load(
            setting.dataset, data_dir=setting.data_dir, train_examples=setting.train_examples
        )
        self.steps_per_epoch = self.data.steps_per_epoch(setting.batch_size)
        self.steps = self.steps_per_epoch * setting.epochs
        self._validation = list(self.data.validation(1000))
        self._trainers, self._starts, self._runs, self._batches_of = {}, {}, {}, {}

    def run(self, recipe, seed: int) -> dict:
        """Curves over epochs, and the binary weights after each of them (before the first too)."""
        if (recipe, seed) not in self._runs:
            trainer = self._trainer(recipe)
            trainer.reset(recipe, self.start(seed))
            batches = iter(self._batches(seed))
            curves = {"flip_ratio": [], "loss": [], "accuracy": []}
            signs = [trainer.signs()]
            for _ in range(self.setting.epochs):
                loss, flips = trainer.epoch(batches)
                signs.append(trainer.signs())
                curves["loss"].append(float(loss))
                curves["flip_ratio"].append(float(flips))
                curves["accuracy"].append(trainer.accuracy(self._validation))
            self._runs[recipe, seed] = {**curves, "signs": np.array(signs)}
        return self._runs[recipe, seed]

    def record(self, recipe, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of one binary kernel at every step of a run, and its latent w_0."""
        trainer = self._trainer(recipe)
        trainer.reset(recipe, self.start(seed))
        batches = iter(self._batches(seed))
        position = min(1, len(trainer.kernels) - 1)  # the first that sees binary inputs
        gradients = [trainer.one_step(*next(batches))[position] for _ in range(self.steps)]
        return np.array(gradients), self.start(seed)["kernels"][position]

    def start(self, seed: int) -> dict:
        """Initial weights of a seed: latent kernels and all others."""
        if seed not in self._starts:
            model = self._build(seed)
            kernels = [variable for _, variable in binary.binary_kernels(model)]
            known = {id(kernel.latent_variable) for kernel in kernels}
            self._starts[seed] = {
                "kernels": [binary.latent(kernel).numpy() for kernel in kernels],
                "others": [
                    variable.numpy()
                    for variable in model.variables
                    if id(getattr(variable, "latent_variable", variable)) not in known
                ],
            }
        return self._starts[seed]

    def _build(self, seed: int):
        keras.utils.set_random_seed(seed)
        return models.build(
            self.setting.model,
            input_shape=self.data.input_shape,
            num_classes=self.data.num_classes,
            width=self.setting.width,
        )

    def _batches(self, seed: int):
        """The batches of all epochs; small data are augmented once a seed and kept."""
        batch_size, epochs = self.setting.batch_size, self.setting.epochs
        if seed not in self._batches_of:
            batches = self.data.train(batch_size, seed=seed, epochs=epochs)
            if self.steps * batch_size * np.prod(self.data.input_shape) * 4 <= KEEP:
                arrays = zip(*batches.as_numpy_iterator(), strict=True)
                batches = tf.data.Dataset.from_tensor_slices(tuple(map(np.stack, arrays)))
            self._batches_of[seed] = batches
        return self._batches_of[seed]

    def _trainer(self, recipe):
        kind = getattr(recipe, "treatment", "filter")
        if kind not in self._trainers:
            free = to_latent_free(self._build(0))
            if kind == "filter":
                self._trainers[kind] = FilterTrainer(free, self.steps_per_epoch, self.steps)
            else:
                quantizer, limit = TREATMENTS[kind]
                clip = None if limit is None else larq.constraints.WeightClip(limit)
                latent = to_latent(free, quantizer(), clip, magnitude=1.0)
                self._trainers[kind] = LatentTrainer(latent, self.steps_per_epoch)
        return self._trainers[kind]


class Trainer:
    """A model, its optimizers and one compiled epoch; `reset` begins a new run."""

    def __init__(self, model, steps_per_epoch: int):
        self.model, self.steps_per_epoch = model, steps_per_epoch
        self.kernels = [variable for _, variable in binary.binary_kernels(model)]
        known = {id(kernel.latent_variable) for kernel in self.kernels}
        self.others = [
            variable
            for variable in model.variables
            if id(getattr(variable, "latent_variable", variable)) not in known
        ]
        self.loss = keras.losses.SparseCategoricalCrossentropy()
        self.optimizers = self.create_optimizers()
        self.fresh = [
            [variable.numpy() for variable in optimizer.variables] for optimizer in self.optimizers
        ]

    def reset(self, recipe, start: dict) -> None:
        for optimizer, values in zip(self.optimizers, self.fresh, strict=True):
            for variable, value in zip(optimizer.variables, values, strict=True):
                variable.assign(value)
        for variable, value in zip(self.others, start["others"], strict=True):
            variable.assign(value)
        self.apply(recipe, start["kernels"])

    @tf.function
    def epoch(self, batches):
        """Mean training loss, and mean share of the weights that changed sign in a step."""
        loss, flips = 0.0, 0.0
        for _ in tf.range(self.steps_per_epoch):
            before = self.current_signs()
            images, labels = next(batches)
            step_loss, _ = self.step(images, labels)
            loss += step_loss
            changed = tf.not_equal(before, self.current_signs())
            flips += tf.reduce_mean(tf.cast(changed, tf.float32))
        return loss / self.steps_per_epoch, flips / self.steps_per_epoch

    @tf.function
    def one_step(self, images, labels):
        return self.step(images, labels)[1]

    def step(self, images, labels):
        with tf.GradientTape() as tape:
            loss = self.loss(labels, self.model(images, training=True))
        variables = self.model.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.update(list(zip(gradients, variables, strict=True)))
        return loss, [g for g, v in zip(gradients, variables, strict=True) if binary.is_binary(v)]

    def accuracy(self, batches) -> float:
        right = sum(int(self.count_right(images, labels)) for images, labels in batches)
        return right / sum(len(labels) for _, labels in batches)

    @tf.function(reduce_retracing=True)
    def count_right(self, images, labels):
        guess = tf.argmax(self.model(images, training=False), -1, tf.int32)
        return tf.math.count_nonzero(guess == labels)

    @tf.function
    def current_signs(self):
        """All binary weights in one vector, true where the weight is -1."""
        return tf.concat([tf.reshape(binary.latent(k) < 0, [-1]) for k in self.kernels], 0)

    def signs(self) -> np.ndarray:
        return self.current_signs().numpy()


class LatentTrainer(Trainer):
    """Keras' SGD with momentum and decoupled weight decay on the latent kernels."""

    def create_optimizers(self):
        self.decay = tf.Variable(0.0, trainable=False)
        self.momentum = tf.Variable(0.0, trainable=False)
        self.sgd = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1)
        self.sgd.weight_decay, self.sgd.momentum = self.decay, self.momentum
        self.adam = keras.optimizers.Adam(ADAM_RATE)
        self.sgd.build(self.kernels)
        self.adam.build([v for v in self.model.trainable_variables if not binary.is_binary(v)])
        return [self.sgd, self.adam]

    def apply(self, recipe: Latent, w_0) -> None:
        self.sgd.learning_rate.assign(recipe.learning_rate)
        self.decay.assign(recipe.weight_decay)
        self.momentum.assign(recipe.momentum)
        for kernel, value in zip(self.kernels, w_0, strict=True):
            kernel.assign(recipe.magnitude * value)

    def update(self, pairs) -> None:
        self.sgd.apply_gradients([pair for pair in pairs if binary.is_binary(pair[1])])
        self.adam.apply_gradients([pair for pair in pairs if not binary.is_binary(pair[1])])


class FilterTrainer(Trainer):
    """`FilterOptimizer` with rates that are looked up in a table."""

    def __init__(self, model, steps_per_epoch: int, steps: int):
        self.steps = steps
        self.alpha, self.gamma = Table(steps), Table(steps)
        super().__init__(model, steps_per_epoch)

    def create_optimizers(self):
        self.optimizer = FilterOptimizer(
            filters.CascadedEMA(alpha=self.alpha, gamma=self.gamma),
            default_optimizer=keras.optimizers.Adam(ADAM_RATE),
        )
        self.optimizer.build(self.model.trainable_variables)
        return [self.optimizer]

    def apply(self, recipe: Filtered, w_0) -> None:
        self.alpha.values.assign(recipe.alphas(self.steps))
        self.gamma.values.assign(tf.fill([self.steps], recipe.gamma))
        for kernel, value in zip(self.kernels, w_0, strict=True):
            kernel.assign(binary.sign(value))
            state = [np.zeros_like(value), np.float32(recipe.output) * value]
            self.optimizer.set_filter_state(kernel, state)

    def update(self, pairs) -> None:
        self.optimizer.apply_gradients(pairs)


# The claims: each function runs its recipes and returns numbers, ready for a JSON file ------------


def magnitude(lab: Lab, seeds) -> dict:
    """Scaling w_0 and the learning rate by c and the weight decay by 1/c changes nothing."""
    base = Latent()
    translation = filter_from_sgd(
        base.learning_rate, base.weight_decay, base.momentum, decoupled=True
    )
    recipes = {"original": base}
    recipes |= {f"all three scaled by {c:g}": scaled(base, c) for c in (4.0, 3.0)}
    recipes["translated filter"] = Filtered(
        **translation.filter.rates_at(0), output=translation.initial_output
    )
    recipes["only the learning rate, by 4"] = dataclasses.replace(base, learning_rate=0.4)
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


def scaled(recipe: Latent, c: float) -> Latent:
    return dataclasses.replace(
        recipe,
        magnitude=c * recipe.magnitude,
        learning_rate=c * recipe.learning_rate,
        weight_decay=recipe.weight_decay / c,
    )


def product(lab: Lab, seeds) -> dict:
    """Learning rate times weight decay against either of them."""
    rates, products = (0.01, 0.1, 1.0, 10.0), (1e-1, 1e-2, 1e-3, 1e-4)
    latent = {
        f"{p:g}": {f"{e:g}": Latent(learning_rate=e, weight_decay=p / e) for e in rates}
        for p in products
    }
    return {
        "latent": {p: finals(lab, recipes, seeds) for p, recipes in latent.items()},
        "filter": finals(lab, {f"{p:g}": Filtered(alpha=p) for p in products}, seeds),
    }


def initialisation(lab: Lab, seeds) -> dict:
    """What the magnitude of w_0 does, and when it is forgotten."""
    base = Latent()
    large = {f"{c:g}": dataclasses.replace(base, magnitude=c) for c in (0.1, 1.0, 10.0, 100.0)}
    replayed, parted = {}, {}
    for p in (1e-1, 1e-2, 1e-3):
        recipe = Latent(weight_decay=p / base.learning_rate)
        other = dataclasses.replace(recipe, magnitude=10.0)
        parted[f"{p:g}"] = [
            (lab.run(recipe, s)["signs"] != lab.run(other, s)["signs"]).mean(1).tolist()
            for s in seeds
        ]
        replayed[f"{p:g}"] = [replay(lab, recipe, s).tolist() for s in seeds]
    return {"curves": curves(lab, large, seeds), "parted": parted, "replayed": replayed}


def replay(lab: Lab, recipe: Latent, seed: int) -> np.ndarray:
    """Share of one kernel's weights that differ, step by step, on gradients recorded once.

    Both filters see the gradients of the run with w_0; the second starts at ten times w_0.
    """
    gradients, w_0 = lab.record(recipe, seed)
    translation = filter_from_sgd(
        recipe.learning_rate, recipe.weight_decay, recipe.momentum, decoupled=True
    )
    signals = [
        translation.filter.run(gradients, translation.initial_state(c * w_0))[0]
        for c in (recipe.magnitude, 10 * recipe.magnitude)
    ]
    return np.mean((signals[0] > 0) != (signals[1] > 0), axis=(1, 2))


def clipping_scaling(lab: Lab, seeds) -> dict:
    """What is done to latent weights besides SGD, with weight decay and without."""
    data = {}
    for decay in (0.01, 0.0):
        recipes = {name: Latent(weight_decay=decay, treatment=name) for name in TREATMENTS}
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
        "constant 0.01": Filtered(),
        "constant 0.001": Filtered(alpha=1e-3),
        "default, from 0.01": Filtered(schedule="default"),
        "linear, 0.01 to 0": Filtered(schedule="linear"),
        "frozen at random": Latent(learning_rate=0.0, weight_decay=0.0),
    }
    return {"curves": curves(lab, recipes, seeds)}


def gamma(lab: Lab, seeds) -> dict:
    """Measured flips against those that white noise would cause."""
    data = {}
    for alpha in (3e-2, 1e-2, 3e-3):
        recipes = {f"{g:g}": Filtered(alpha=alpha, gamma=g) for g in (1.0, 0.3, 0.1, 0.03)}
        data[f"{alpha:g}"] = finals(lab, recipes, seeds)
        for g, recipe in recipes.items():
            f = filters.CascadedEMA(alpha=alpha, gamma=recipe.gamma)
            data[f"{alpha:g}"][g]["expected"] = analysis.expected_flip_ratio(f)
    return data


def order(lab: Lab, seeds) -> dict:
    """One average against two at the same memory 1/alpha."""
    alphas = (3e-2, 1e-2, 3e-3, 1e-3)
    return {
        schedule: {
            name: finals(
                lab,
                {f"{a:g}": Filtered(alpha=a, gamma=g, schedule=schedule) for a in alphas},
                seeds,
            )
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
    quarter = -max(1, lab.setting.epochs // 4)
    return {
        label: {
            quantity: [float(np.mean(lab.run(recipe, s)[quantity][quarter:])) for s in seeds]
            for quantity in ("flip_ratio", "accuracy")
        }
        for label, recipe in recipes.items()
    }


CLAIMS = {
    claim.__name__: claim
    for claim in (magnitude, product, initialisation, clipping_scaling, alpha_decay, gamma, order)
}
