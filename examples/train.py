"""Trains a binary network and its control, and says what came out.

    python examples/train.py
    python examples/train.py --dataset=cifar10 --download --model=birealnet20 --epochs=100
    python examples/train.py --flagfile=my_recipe.txt

The first line trains a small Bi-Real net on handwritten digits in about a minute, and then the same
network with its binary kernels frozen at random, to show what training them is worth. The same
command again continues an interrupted run; a finished one is only reported.
"""

import dataclasses
import pathlib

from absl import app, flags, logging

from larq_filter import methods, models, training  # first: it makes sure tf.keras is Keras 2

FLAGS = flags.FLAGS

# Data
flags.DEFINE_string(
    "dataset", "digits", "digits (embedded), a tensorflow-datasets name, or a prepared folder."
)
flags.DEFINE_string("data_dir", None, "Folder of tensorflow-datasets' prepared data sets.")
flags.DEFINE_bool("download", False, "Let tensorflow-datasets download what is missing.")
flags.DEFINE_integer(
    "train_examples", None, "Use only the first so many training images. Default: all.", 1
)
flags.DEFINE_integer("image_size", None, "Resize images to this many pixels a side.", 1)
flags.DEFINE_bool("augment", True, "Random crops; mirror images too if the images have colours.")

# Model and method
flags.DEFINE_string("model", "birealnet20", f"One of: {', '.join(models.names())}.")
flags.DEFINE_integer("width", None, "Channels of the first stage, where the model has it.", 1)
flags.DEFINE_enum("method", "filter", list(methods.METHODS), "Who trains the binary kernels.")
flags.DEFINE_float(
    "alpha",
    None,
    "Adaptation rate per step, in (0, 1]: 1/alpha is the memory in steps. Default: 1e-2 for the "
    "filter; 1e-4 for bop, its paper's value (Helwegen et al. 2019), where it is called gamma.",
)
flags.DEFINE_float(
    "gamma",
    0.1,
    "Smoothing of the gradient before alpha, in (0, 1]; 1 is none. 0.1 is the momentum 0.9 of "
    "published latent recipes (1 - gamma).",
)
flags.DEFINE_enum(
    "alpha_schedule",
    "linear",
    list(methods.SCHEDULES),
    "Decay of alpha over the run: linear (Quist et al. 2023) and cosine end at 0, default is that "
    "of FilterOptimizer(), which needs no horizon (for bop: constant).",
)
flags.DEFINE_integer(
    "alpha_halving_steps",
    None,
    "Steps after which alpha has halved under alpha_schedule=default. Default: 100.",
    1,
)
flags.DEFINE_float(
    "threshold", 1e-8, "bop only: signal needed for a flip, in units of the gradient. 1e-8: paper."
)
flags.DEFINE_float(
    "learning_rate",
    None,
    "Of the real-valued variables, and of latent weights for adam and sgd. Default: 1e-2 (Helwegen "
    "et al. 2019), adam 1e-3, sgd 0.1.",
)
flags.DEFINE_enum(
    "learning_rate_schedule", "cosine", list(methods.SCHEDULES[1:]), "Its decay over the run."
)

# Run
flags.DEFINE_integer("batch_size", 50, "Images per step.", 1)
flags.DEFINE_integer("epochs", 30, "Passes over the training images.", 1)
flags.DEFINE_integer("steps_per_epoch", None, "Steps per epoch. Default: a whole pass.", 1)
flags.DEFINE_integer("seed", 0, "Of initialisation, data order and augmentation.", 0)
flags.DEFINE_string("output_dir", None, "Run folder. Default: runs/DATASET-MODEL-METHOD-SEED.")
flags.DEFINE_enum(
    "control",
    "auto",
    ["auto", "yes", "no"],
    "Also train the network with its binary kernels frozen at random. auto: only for digits.",
)


def config_from_flags() -> training.Config:
    """The run's config; every field has the flag of its name."""
    own = {field.name for field in dataclasses.fields(training.Config)} - {"knobs"}
    knobs = {field.name for field in dataclasses.fields(methods.Knobs)}
    return training.Config(
        **{name: FLAGS[name].value for name in own},
        knobs=methods.Knobs(**{name: FLAGS[name].value for name in knobs}),
    )


def table(result: training.Result, control: training.Result | None) -> str:
    """The result for people."""
    flipped, layers = result.flipped_layers
    rows = [("validation accuracy", f"{result.accuracy:.4f}")]
    if control is not None:
        rows.append(("  with its binary kernels frozen", f"{control.accuracy:.4f}"))
    rows += [
        ("flip ratio, last epoch", f"{result.flip_ratio:.2e} of the binary weights per step"),
        ("binary layers that flipped", f"{flipped} of {layers}"),
        ("wall time", f"{result.seconds:.0f} s for {result.epochs} epochs"),
        ("run folder", result.output_dir),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def main(_):
    logging.set_verbosity(logging.WARNING)  # absl would show TensorFlow's notes on checkpoints
    try:
        config = config_from_flags()
        dataset = pathlib.Path(config.dataset).name
        name = f"{dataset}-{config.model}-{config.method}-{config.seed}"
        folder = pathlib.Path(FLAGS.output_dir or f"runs/{name}")
        result = training.run(config, folder)
        control = None
        if FLAGS.control == "yes" or (FLAGS.control == "auto" and config.dataset == "digits"):
            if config.method != "frozen":
                print("The control: the same network, its binary kernels frozen.")
                frozen = dataclasses.replace(config, method="frozen")
                control = training.run(frozen, folder.with_name(f"{folder.name}-control"))
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"\n{table(result, control)}")
    print(f"\nNext: tensorboard --logdir {folder}")
    print(
        "      python examples/train.py --help    # the three knobs: alpha, gamma, alpha_schedule"
    )


if __name__ == "__main__":
    app.run(main)
