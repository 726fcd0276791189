"""Times the step of an optimizer on binary weights, beside what one would take in its place.

    larq-filter benchmark
    larq-filter benchmark --peers=filter,Adam,"preset bop" --weights=1000000

Each peer steps on 16 kernels of its own, without a network. In each turn all peers take one step,
in random order; a round is CALLS turns, its result the median of each peer, and ratios are formed
within each round, so that whatever else the machine does moves times and few ratios. The table has
the medians of the rounds and, in brackets, their 10th and 90th percentile.

Whole training steps, the input pipeline, memory and PyTorch are in the project's
benchmarks/benchmark.py, which needs its sources.
"""

import re

from absl import flags, logging

# First: it makes sure that tf.keras is Keras 2.
from larq_filter.cli import command_line
from larq_filter.experiments import bare_steps, run_folder, tables, timing

import tensorflow as tf

FLAGS = flags.FLAGS
PEERS = [*bare_steps.OPTIMIZERS, *bare_steps.preset_names()]
BASES = ("Adam", "Larq Bop")  # that times are compared with

flags.DEFINE_list(
    "peers",
    "filter,Adam,legacy Adam,SGD,Larq Bop",
    f"Some of: {'; '.join(PEERS)}; order N. One with a comma in quotes: 'filter,\"Adam, XLA\"'.",
)
flags.DEFINE_integer("weights", bare_steps.WEIGHTS, "Binary weights, about.", 1)
flags.DEFINE_integer("repeats", 7, "Rounds. More of them narrow the ratios.", 1)
flags.DEFINE_integer("calls", 5, "Turns of each peer in a round.", 1)
flags.DEFINE_integer("threads", None, "Threads of TensorFlow. Default: its own choice.", 1)
flags.DEFINE_integer("seed", 0, "Of gradients and turns.", 0)


def main():
    known = re.compile("|".join([*map(re.escape, PEERS), r"order [1-9]\d?"]))
    unknown = [name for name in FLAGS.peers if not known.fullmatch(name)]
    if unknown or not FLAGS.peers:
        raise ValueError(
            f"--peers: {'; '.join(unknown) or 'nothing'} is no peer; choose some of "
            f"{'; '.join(PEERS)}; order 3. One with a comma stands in quotes: "
            "--peers='filter,\"Adam, XLA\"'."
        )
    logging.set_verbosity(logging.ERROR)  # absl would show notes of Larq
    tf.get_logger().setLevel("ERROR")
    if FLAGS.threads:
        timing.set_threads(FLAGS.threads)
    shapes = bare_steps.kernel_shapes(FLAGS.weights)
    gradients = bare_steps.random_gradients(shapes, FLAGS.seed)
    steps = {name: bare_steps.OptimizerStep(name, gradients) for name in FLAGS.peers}
    rounds, columns = timing.timed(steps, FLAGS)
    for name, step in steps.items():
        columns[name]["state bytes/weight"] = step.bytes_per_weight()
    rows = timing.rows_of(rounds, [base for base in BASES if base in steps], columns)
    versions = ", ".join(f"{name} {value}" for name, value in run_folder.versions().items())
    weights = steps[FLAGS.peers[0]].weights
    print(f"\nOne optimizer step on {weights:,} binary weights in {len(shapes)} kernels.")
    print("{cpu}, {cores} cores".format(**timing.machine()), versions, sep="; ", end="\n\n")
    print(tables.markdown(rows, text=timing.text_of))


def start() -> None:
    """Reads the command line and runs."""
    command_line.start(main)
