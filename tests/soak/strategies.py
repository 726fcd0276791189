"""Several processes, killed and not, several replicas, and whole steps under XLA.

Trainings are compared with those of one device, the compiled step with the plain one.
"""

import pathlib
import random
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helpers"))
import saving_cases  # noqa: E402
import workers  # noqa: E402
from larq_filter import FilterOptimizer, binary, filters, models, to_latent_free  # noqa: E402
from larq_filter._keras import keras, tf  # noqa: E402
from larq_filter.experiments import strategies


def methods_on_two_processes(folder, seed):
    """Each reaches the kernels of one device."""
    for method in ("filter", "bop", "bold", "prob_bop", "larq_bop", "distilled"):
        arguments = [*workers.TRAINING, f"--method={method}", f"--seed={seed}", "--epochs=2"]
        theirs = workers.alone(folder / method / "alone", arguments)
        ours = folder / method / "run"
        with workers.Workers(folder / method, [*arguments, f"--output_dir={ours}"]) as pair:
            codes = pair.wait()
        if codes == [0, 0]:
            problem = workers.difference(ours, theirs)
        else:
            problem = f"exit statuses {codes}: {pair.output()[-3000:]}"
        yield None if problem is None else f"{method}: {problem}"


def a_killed_worker(folder, seed):
    """The other one ends by itself; both started again finish as if nothing had happened."""
    chance = random.Random(seed)
    arguments = [*workers.TRAINING, f"--seed={seed}", "--epochs=8"]
    theirs = workers.alone(folder / "alone", arguments)
    for attempt, victim in enumerate((1, 0, 1, 0)):
        epoch, delay = chance.randrange(1, 6), chance.random()  # while writing or in an epoch
        place = folder / str(attempt)
        place.mkdir()
        lost = workers.killed_and_started_again(place, arguments, theirs, victim, epoch, delay)
        yield lost and f"try {attempt}: {lost}"


def presets_on_two_replicas(folder, seed):
    """Every preset and more on a network without batch normalisation, on integers: exact."""
    strategy = strategies.make("mirrored", replicas=2)
    for name, optimizer in saving_cases.OPTIMIZERS.items():
        ends = [_trained_on_integers(optimizer, scope, seed) for scope in (None, strategy)]
        wrong = [int(np.sum(a != b)) for (_, a), (_, b) in zip(*ends, strict=True)]
        still = [int(np.sum(start != end)) for start, end in ends[0]]
        if any(wrong):
            yield f"{name}: {wrong} binary weights are others"
        else:
            yield None if all(still) else f"{name}: {still} binary weights have flipped"


def _trained_on_integers(optimizer, strategy, seed):
    """Kernels before and after 50 steps, of all replicas; sums of integers depend on no order."""
    import larq

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    draw = np.random.default_rng(seed)
    x = draw.integers(-3, 4, (50 * 16, 8)).astype("float32")
    y = draw.integers(-4, 5, (50 * 16, 4)).astype("float32")
    dense = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}
    with (strategy or tf.distribute.get_strategy()).scope():
        model = keras.Sequential(
            [
                keras.Input((8,)),
                larq.layers.QuantDense(16, **dense),
                larq.layers.QuantDense(4, input_quantizer=larq.quantizers.SteSign(8.0), **dense),
            ]
        )
        model.compile(optimizer(), "mse")
        model.optimizer.build(model.trainable_variables)
    ends = [_of_all_replicas(model)]
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    return list(zip(*ends, _of_all_replicas(model), strict=True))


def _of_all_replicas(model) -> list[np.ndarray]:
    kernels = [
        [np.array(binary.latent(copy)) for copy in binary.replicas(variable)]
        for _, variable in binary.binary_kernels(model)
    ]
    for first, *others in kernels:
        for other in others:
            if not np.array_equal(first, other):
                raise RuntimeError("the replicas hold different kernels")
    return [first for first, *_ in kernels]


def a_whole_step_under_xla(folder, seed):
    """What a TPU needs: one XLA program for the whole step of Bi-Real ResNet-20.

    Each step starts from one state. A weight may differ only if its signal is rounding: a kernel
    element whose input never changes has gradient zero behind a batch normalisation.
    """
    keras.backend.set_floatx("float64")
    try:
        draw = np.random.default_rng(seed)
        x, y = draw.normal(size=(5, 8, 8, 8, 1)), draw.integers(0, 4, (5, 8))
        plain, compiled = Stepper(False, seed), Stepper(True, seed)
        for images, labels in zip(x, y, strict=True):
            losses = [
                float(each.step(tf.constant(images), tf.constant(labels)))
                for each in (plain, compiled)
            ]
            yield _compare_steps(plain, compiled, losses)
            for a, b in zip(plain.variables(), compiled.variables(), strict=True):
                b.assign(a)
    finally:
        keras.backend.set_floatx("float32")


class Stepper:
    """A network, its optimizer and one training step."""

    def __init__(self, jit_compile, seed):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        shape = {"input_shape": (8, 8, 1), "num_classes": 4, "width": 4}
        self.model = to_latent_free(models.build("birealnet20", **shape))
        self.optimizer = FilterOptimizer(filters.EMA(0.1))
        self.optimizer.build(self.model.trainable_variables)
        self.loss = keras.losses.SparseCategoricalCrossentropy()
        self.step = tf.function(self._step, jit_compile=jit_compile)

    def variables(self):
        return [*self.model.variables, *self.optimizer.variables]

    def kernels(self):
        kernels = binary.binary_kernels(self.model)
        return [np.array(binary.latent(variable)) for _, variable in kernels]

    def _step(self, images, labels):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            value = self.loss(labels, self.model(images, training=True))
        self.optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        return value


def _compare_steps(plain, compiled, losses) -> str | None:
    if not np.isclose(*losses, rtol=1e-6):
        return f"the losses are {losses}"
    ties = total = 0
    states = [each.optimizer.state_variables() for each in (plain, compiled)]
    kernels = [each.kernels() for each in (plain, compiled)]
    for s, t, a, b in zip(*states, *kernels, strict=True):
        if not np.allclose(s, t, rtol=1e-5, atol=1e-9):
            return "the filter states differ by more than rounding"
        if np.any(np.abs(s.numpy()[a != b]) > 1e-9):
            return "a weight with a clear signal differs"
        ties, total = ties + np.sum(a != b), total + a.size
    return f"{ties} of {total} weights are undecided" if ties > 0.02 * total else None


CASES = {
    "several methods on two processes": methods_on_two_processes,
    "a worker is killed": a_killed_worker,
    "presets on two replicas": presets_on_two_replicas,
    "a whole step under XLA": a_whole_step_under_xla,
}
