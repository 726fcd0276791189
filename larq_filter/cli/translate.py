r"""Says what the hyperparameters of latent weights become without latent weights.

    larq-filter translate --learning_rate=0.1 --weight_decay=5e-4 --momentum=0.9 \
        --batch_size=128 --dataset_size=50000
    larq-filter translate --preset=irnet --schedule=cosine --epochs=400
    larq-filter translate --preset=recu --plot=recu.pdf

The first line gives alpha 5.0e-4 and gamma 0.0995: it reads the weight decay as L2 inside the
gradient, as PyTorch's SGD and Keras' regularizers do. With --decoupled, as in Keras'
SGD(weight_decay=...), the same numbers mean alpha 5e-5 and gamma 0.1, a time constant ten
times as long.
"""

import math

from absl import flags

from larq_filter import analysis, filters, hyperparameters, plots  # first: it makes sure of Keras 2
from larq_filter.cli import command_line
from larq_filter.experiments import tables

import tensorflow as tf

FLAGS = flags.FLAGS

# Published recipes for 1-bit ResNets on CIFAR-10, in PyTorch: SGD, and a cosine, which stands for
# steps down in Equal-Bits and follows a warm-up in ReCU.
RECIPE = {"learning_rate": 0.1, "momentum": 0.9, "velocity": "pytorch", "schedule": "cosine"}
RECIPES = {
    "irnet": {**RECIPE, "weight_decay": 1e-4, "batch_size": 128},  # Qin et al. 2020
    "equalbits": {**RECIPE, "weight_decay": 5e-4, "batch_size": 128},  # Li et al. 2022
    "recu": {**RECIPE, "weight_decay": 5e-4, "batch_size": 256},  # Xu et al. 2021
}

flags.DEFINE_enum("preset", None, list(RECIPES), "A published recipe; flags replace its numbers.")
flags.DEFINE_float("learning_rate", 0.1, "Of latent SGD, positive; the value it starts from.", 0.0)
flags.DEFINE_float(
    "weight_decay", 5e-4, "Per step and unit of learning rate; 2 c for Keras' l2(c).", 0.0
)
flags.DEFINE_float("momentum", 0.9, "In [0, 1).", 0.0)
flags.DEFINE_bool("nesterov", False, "Momentum that looks one step ahead.")
flags.DEFINE_bool(
    "decoupled", False, "Decay beside the gradient, Keras' SGD(weight_decay=...). Default: inside."
)
flags.DEFINE_enum(
    "velocity",
    "keras",
    list(hyperparameters.VELOCITIES),
    "Where the learning rate stands: keras inside the velocity, pytorch outside.",
)
flags.DEFINE_enum(
    "schedule", "constant", ["constant", "linear", "cosine"], "Of the learning rate, down to 0."
)
flags.DEFINE_integer("batch_size", 128, "Images per step.", 1)
flags.DEFINE_integer("dataset_size", 50_000, "Training images; CIFAR-10: 50,000.", 1)
flags.DEFINE_integer("epochs", 200, "Passes over them, the horizon of the schedule.", 1)
command_line.define_path(
    "plot", None, "Also draw the frequency response into this file (pdf, png)."
)


def learning_rate_of(steps):
    """The learning rate as an object, and as Python."""
    start = FLAGS.learning_rate
    schedules = tf.keras.optimizers.schedules
    return {
        "constant": (start, repr(start)),
        "linear": (
            schedules.PolynomialDecay(start, steps, 0.0),
            f"tf.keras.optimizers.schedules.PolynomialDecay({start!r}, {steps}, 0.0)",
        ),
        "cosine": (
            schedules.CosineDecay(start, steps),
            f"tf.keras.optimizers.schedules.CosineDecay({start!r}, {steps})",
        ),
    }[FLAGS.schedule]


def arguments(**changes):
    """What filter_from_sgd takes besides the learning rate."""
    names = ("weight_decay", "momentum", "decoupled", "velocity", "nesterov")
    return {**{name: FLAGS[name].value for name in names}, **changes}


def rates_at(rate, **changes):
    """Alpha and gamma as people read them, at a constant learning rate."""
    f = hyperparameters.filter_from_sgd(rate, **arguments(**changes)).filter
    if isinstance(f, filters.EMA | filters.CascadedEMA):
        return f"{f.alpha:.3g}", f"{getattr(f, 'gamma', 1.0):.3g}"
    complex_poles = isinstance(f, filters.HeavyBall) and not f.nesterov
    return ("complex poles" if complex_poles else "-"), "-"


def course(translation, steps_per_epoch):
    """Alpha, gamma, time constant and expected flips, over training where there is a schedule."""
    f, rate = translation.filter, translation.latent.learning_rate
    shares = (0, 0.25, 0.5, 0.75, 0.95) if filters.is_schedule(rate) else (0,)
    rows = [("epoch", "alpha", "gamma", "time constant (steps)", "(epochs)", "expected flip ratio")]
    for share in shares:
        epoch = share * FLAGS.epochs
        step = round(epoch * steps_per_epoch)
        now = float(rate(step)) if filters.is_schedule(rate) else rate
        constant = analysis.time_constant(f, step)
        flips = f"{analysis.expected_flip_ratio(f, step):.2e}" if constant < math.inf else "-"
        rows.append(
            (
                f"{epoch:g}",
                *rates_at(now),
                f"{constant:.0f}",
                f"{constant / steps_per_epoch:.1f}",
                flips,
            )
        )
    return tables.aligned(rows, right=True)


def readings(translation):
    """Which reading of the weight decay was taken, and what each of the two gives."""
    latent = translation.latent
    if not latent.weight_decay or not latent.momentum or latent.nesterov:
        return ""
    (inside, smooth), (beside, smoother) = (
        rates_at(FLAGS.learning_rate, decoupled=decoupled) for decoupled in (False, True)
    )
    taken = "decoupled" if latent.decoupled else "L2 inside the gradient"
    return (
        f"The weight decay was read as {taken}. The two readings:\n"
        f"  inside the gradient  alpha {inside}, gamma {smooth}  "
        f"(PyTorch; Keras' l2({latent.weight_decay / 2:g}))\n"
        f"  decoupled            alpha {beside}, gamma {smoother}  "
        f"(Keras' SGD(weight_decay={latent.weight_decay:g}))"
    )


def python(translation, rate_source):
    """Lines that build the optimizer, to paste."""
    usual = {"momentum": 0.0, "decoupled": False, "velocity": "keras", "nesterov": False}
    given = {name: v for name, v in arguments().items() if v != usual.get(name)}
    given = "".join(f", {name}={argument!r}" for name, argument in given.items())
    f = translation.filter
    averages = isinstance(f, filters.EMA | filters.CascadedEMA)
    rates = ", ".join(f"{name}={rate!r}" for name, rate in f.rates().items())
    is_constant = not filters.is_schedule(translation.latent.learning_rate)
    same = f"  # {type(f).__name__}({rates})" if averages and is_constant else ""
    return [
        "import larq_filter as lf",
        *([] if is_constant else ["import tensorflow as tf"]),
        f"translation = lf.hyperparameters.filter_from_sgd({rate_source}{given})",
        f"optimizer = lf.FilterOptimizer(translation.filter){same}",
    ]


START = """
To start from the weights of a latent model too, and not at zero:
states = [translation.initial_state(kernel) for _, kernel in lf.binary.binary_kernels(model)]
model = lf.to_latent_free(model)
optimizer.build(model.trainable_variables)
for (_, kernel), state in zip(lf.binary.binary_kernels(model), states):
    optimizer.set_filter_state(kernel, state)"""


def draw(translation, steps_per_epoch):
    plots.bode(translation.filter, steps_per_epoch=steps_per_epoch).savefig(FLAGS.plot)
    print(f"\nfrequency response: {FLAGS.plot}")


def main():
    for name, value in RECIPES.get(FLAGS.preset, {}).items():
        FLAGS.set_default(name, value)  # in place of what was not given
    steps_per_epoch = math.ceil(FLAGS.dataset_size / FLAGS.batch_size)
    rate, source = learning_rate_of(steps_per_epoch * FLAGS.epochs)
    translation = hyperparameters.filter_from_sgd(rate, **arguments())
    print(f"{translation}\n\n{course(translation, steps_per_epoch)}")
    print("\nExpected flips: the share of weights that flip per step if gradients were noise.")
    print(readings(translation), "\nPython:", *python(translation, source), START, sep="\n")
    if FLAGS.plot:
        draw(translation, steps_per_epoch)


def start() -> None:
    """Reads the command line and runs."""
    command_line.start(main)
