"""Times a training step of each row of the CIFAR-10 runs, for the minutes on their page.

    TF_ENABLE_ONEDNN_OPTS=1 python paper/cifar10_times.py --data_dir=DIR

The rows take turns on one batch, a step each, on one thread and with nothing beside them: a few
minutes. It writes results/cifar10/times.json.

Rejected: the wall time of the runs, which their files have. They were made on several machines,
some beside other work, and equal epochs have taken 190 and 420 seconds.
"""

import functools
import os
import statistics
import time

from absl import app, flags

import cifar10
from larq_filter import datasets, models  # first: tf.keras is Keras 2 then
from larq_filter._keras import tf
from larq_filter.cli import command_line
from larq_filter.experiments import files, methods, run_folder, timing
from larq_filter.experiments.methods.knobs import from_dict

FLAGS = flags.FLAGS
PATH = cifar10.RESULTS / "times.json"
FORMAT = 1


def rows() -> dict[str, tuple[str, dict]]:
    """Row to method and knobs, at the rates of its search: they don't change the time."""
    found = {}
    for row in cifar10.ROWS:
        knobs = cifar10.knobs_of(row, cifar10.best(row) or {}, cifar10.rest_rate())
        found[row] = cifar10.METHOD.get(row, row), knobs
    return found | dict(cifar10.PUBLISHED)


def steps(images, labels) -> dict:
    """Name to a function that takes a step as `fit` does: a row, or `ROW, first stage`."""
    found = {}
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    for row, (method, given) in rows().items():
        knobs, earlier = from_dict(given), None
        stage = methods.first_stage(method, knobs, 2)
        if stage is not None:
            earlier = _compiled(stage.method, stage.knobs, images)
            found[f"{row}, first stage"] = functools.partial(earlier.make_train_function(), batches)
        model = _compiled(method, knobs, images, earlier)
        found[row] = functools.partial(model.make_train_function(), batches)
    return found


def _compiled(method, knobs, images, earlier=None):
    network = models.build("birealnet20", input_shape=images.shape[1:], num_classes=10)
    return methods.compile_for(method, network, knobs, cifar10.EPOCH_STEPS, earlier)


def main(arguments):
    """Times and writes."""
    if len(arguments) > 1:
        raise SystemExit(f"error: {arguments[1]!r} belongs to no flag.")
    command_line.show_progress()
    timing.set_threads(1)
    data = datasets.load("cifar10_jpeg", data_dir=FLAGS.data_dir)
    images, labels = next(iter(data.train(128, seed=0)))
    rounds, _ = timing.timed(steps(images, labels), FLAGS)
    by_filter = {row: timing.ratio(each, rounds["filter"]) for row, each in rounds.items()}
    content = {
        "format": FORMAT,
        "command": f"paper/cifar10_times.py --repeats={FLAGS.repeats} --calls={FLAGS.calls}",
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "as TensorFlow chooses"),
        "date": time.strftime("%Y-%m-%d"),
        "machine": timing.machine(),
        "versions": run_folder.versions(),
        "ms": {row: round(1e3 * statistics.median(each), 1) for row, each in rounds.items()},
        "by filter": {
            row: {end: round(value, 3) for end, value in each.items()}
            for row, each in by_filter.items()
        },
    }
    files.write_json(PATH, content, indent=1)
    print(PATH.read_text())


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder that holds cifar10_jpeg.", required=True)
    flags.DEFINE_integer("repeats", 9, "Rounds.", 1)
    flags.DEFINE_integer("calls", 3, "Turns of each row in a round.", 1)
    flags.DEFINE_integer("seed", 0, "Of the turns.", 0)
    app.run(main)
