"""Trains a binary network and its control, and says what came out.

    larq-filter train
    larq-filter train --dataset=cifar10 --download --model=birealnet20 --epochs=100
    larq-filter train --dataset=FOLDER --image_size=64 --model=mymodels:build
    larq-filter train --flagfile=quicknet    # a recipe of the package, or a file of yours
    larq-filter train --strategy=mirrored    # all GPUs of a machine: docs/scaling_out.md

The first line trains a small network, `starter`, on handwritten digits in about a minute, and then
the same network with its binary kernels frozen at random, to show what training them is worth. The
same command again continues an interrupted run; a finished one is only reported. FOLDER holds a
folder of images for each class; build(input_shape, num_classes) in mymodels.py makes a Larq model.
`larq-filter export --run=FOLDER` makes a file for a phone of the network of a run folder.
"""

import dataclasses
import pathlib
import shlex

from absl import flags

from larq_filter.cli import command_line, run_flags, user_code

# Before anything else of Keras: it makes sure that tf.keras is Keras 2.
from larq_filter.experiments import (
    methods,
    run_folder,
    strategies,
    tables,
    training,
    user_inputs,
)
from larq_filter.experiments.methods import knobs

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(run_flags)  # else --help would not show them
flags.adopt_module_key_flags(user_code)

FLAGS.set_default("model", "starter")  # a first run is to reach the device

flags.DEFINE_enum(
    "method", "filter", list(methods.METHODS), "Who trains the binary kernels; listed below."
)


def define_knobs():
    """One flag for each knob, with the interval in its help."""
    define = {float: flags.DEFINE_float, int: flags.DEFINE_integer, str: flags.DEFINE_string}
    for field in dataclasses.fields(knobs.Knobs):
        kind, interval, choices = (field.metadata[key] for key in ("kind", "interval", "choices"))
        text = field.metadata["help"]
        if choices or interval:
            text += f" One of {', '.join(choices)}." if choices else f" In {interval}."
        define[kind](field.name, None, text)


define_knobs()

# Run
command_line.define_flags(run_folder.Config, ["seed"])
command_line.define_path("output_dir", None, "Run folder. Default: runs/DATASET-MODEL-METHOD-SEED.")
flags.DEFINE_enum(
    "control",
    "auto",
    ["auto", "yes", "no"],
    "Also train the network with its binary kernels frozen at random. auto: only for digits.",
)

# Devices
flags.DEFINE_enum(
    "strategy",
    "none",
    strategies.NAMES,
    "Devices that share each batch. none: one; mirrored: all GPUs of this machine, or logical CPUs "
    "where there is none; multi_worker: all machines that TF_CONFIG names. --batch_size is that of "
    "all together.",
)
flags.DEFINE_integer(
    "replicas", None, "Of mirrored. Default: all GPUs, or 2 logical CPUs where there is none.", 1
)
flags.DEFINE_bool(
    "synchronized_batch_norm",
    True,
    "Under a strategy: batch normalisation by the statistics of all replicas, as on one device; "
    "no: of each by itself, which needs no communication and gives other kernels.",
)


def config_from_flags() -> run_folder.Config:
    """The run's config; every field and every knob has the flag of its name."""
    given = {field.name: FLAGS[field.name].value for field in dataclasses.fields(knobs.Knobs)}
    return run_flags.config(method=FLAGS.method, knobs=knobs.Knobs(**given), seed=FLAGS.seed)


def control_of(config: run_folder.Config) -> run_folder.Config | None:
    """The run with frozen kernels that --control asks for beside this one."""
    asked = FLAGS.control == "yes" or (FLAGS.control == "auto" and config.dataset == "digits")
    if not asked or config.method == "frozen":
        return None
    own = config.knobs.only(methods.METHODS["frozen"].knobs)
    return dataclasses.replace(config, method="frozen", knobs=own)


def table(result: run_folder.Result, control: run_folder.Result | None) -> str:
    """The result for people."""
    flipped, layers = result.flipped_layers
    epochs = "epoch" if result.epochs == 1 else "epochs"
    rows = [("validation accuracy", f"{result.accuracy:.4f}")]
    if control is not None:
        rows.append(("  with its binary kernels frozen", f"{control.accuracy:.4f}"))
    if result.test_accuracy is not None:
        rows.append(("test accuracy", f"{result.test_accuracy:.4f}"))
    if control is not None and control.test_accuracy is not None:
        rows.append(("  with its binary kernels frozen", f"{control.test_accuracy:.4f}"))
    skipped = []
    if result.skipped_steps:
        skipped = [("steps skipped, gradient not finite", f"{result.skipped_steps}")]
    rows += [
        ("flip ratio, last epoch", f"{result.flip_ratio:.2e} of the binary weights per step"),
        ("binary layers that flipped", f"{flipped} of {layers}"),
        *skipped,
        ("wall time", f"{result.seconds:.0f} s for {result.epochs} {epochs}"),
        ("run folder", result.output_dir),
    ]
    return tables.aligned(rows)


def next_steps(folder: pathlib.Path, config: run_folder.Config) -> str:
    """Commands to paste into a shell."""
    path = shlex.quote(str(folder))
    own = [f"--model={config.model}"] if user_inputs.is_function(config.model) else []
    export = " ".join(["larq-filter export", f"--run={path}", *own, *user_code.imports()])
    first = list(methods.METHODS[config.method].knobs)[:3]  # all would be 160 characters
    return (
        f"Next: {export}    # a .tflite file, and its proof\n"
        f"      tensorboard --logdir {path}\n"
        f"      larq-filter train --help    # the first knobs: {', '.join(first)}"
    )


def main():
    try:
        config = config_from_flags()
        names = run_flags.dataset_name(), config.model, config.method, config.seed
        folder = run_flags.output_folder(FLAGS.output_dir, *names)
        strategy = strategies.make(FLAGS.strategy, FLAGS.replicas)
        scaled = {"strategy": strategy, "synchronized": FLAGS.synchronized_batch_norm}
        scaled["model"] = user_code.load()
        frozen, beside = control_of(config), folder.with_name(f"{folder.name}-control")
        if frozen is not None:  # hours before its turn
            scale = strategies.describe(strategy, FLAGS.synchronized_batch_norm)
            run_folder.refuse_other_run(beside, frozen, scale)
        result = training.run(config, folder, **scaled)
        control = None
        if frozen is not None:
            print("The control: the same network, its binary kernels frozen.")
            control = training.run(frozen, beside, **scaled)
    except Exception as error:
        if not strategies.is_lost_worker(error):
            raise
        raise SystemExit(
            "error: another worker has ended. Start all of them again with the same commands: the "
            f"run goes on after its last whole epoch.\n{error}"
        ) from None
    print(f"\n{table(result, control)}")
    print(f"\n{next_steps(folder, config)}")


def start() -> None:
    """Reads the command line and runs."""
    command_line.start(main, "The same command continues.")
