"""Classifies images with a trained network.

    larq-filter predict --run=runs/digits-starter-filter-0 one.png two.jpg
    larq-filter predict --run=runs/pets FOLDER
    larq-filter predict --model_file=model.tflite images.npz
    larq-filter predict --pretrained=birealnet20-cifar10 one.png

Prints a table: the image, its class, the probability of that, and the three likeliest classes. Each
image is made ready as in training: at the size of the network (resized as --image_size does it, the
aspect ratio not kept), by the mean and deviation that lie beside the model, in model.images.json.
A folder stands for all image files in it; of an .npz file the array images, x, x_test, x_validation
or x_train is read. What can't be read is named on stderr; then the exit status is 1.
"""

import dataclasses
import itertools
import pathlib
import sys

import numpy as np
from absl import flags

# First: it makes sure that tf.keras is Keras 2.
from larq_filter import datasets, models
from larq_filter.cli import command_line, network_flags, networks, user_code
from larq_filter.datasets import preparation
from larq_filter.experiments import prediction, run_folder, tables

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(network_flags)  # else --help would not show them
flags.adopt_module_key_flags(user_code)
flags.DEFINE_enum(
    "pretrained",
    None,
    [name + end for name in models.pretrained_names() for end in ("", ".tflite")],
    "A network that comes with the package, in place of --run: in Keras, or (.tflite) in Larq "
    "Compute Engine.",
)
command_line.require_one_of("run", "model_file", "pretrained")
TOP = 3  # classes in the last column
BATCH = 64

# For a model with no .images.json beside it: the data that it was trained on, as it was given them.
DATA = ("dataset", "data_dir", "image_size", "train_examples")
command_line.define_flags(run_folder.Config, DATA, dataset=None)


def pretrained(name: str) -> pathlib.Path:
    """The file of a network that comes with the package.

    Raises:
        ValueError: a flag is given besides that says something of another network.
    """
    given = [f"--{flag}" for flag in (*DATA, "mean", "std", "model", "import") if FLAGS[flag].value]
    if given:
        raise ValueError(
            f"--pretrained={name} knows its layers and how it takes its images: leave out "
            f"{', '.join(given)}."
        )
    plain = name.removesuffix(".tflite")
    return models.pretrained_file(plain, ".npz" if plain == name else ".tflite")


def network() -> prediction.Network:
    """The network, once the flags have been found to agree with the file beside it."""
    if FLAGS.pretrained:
        return prediction.load(pretrained(FLAGS.pretrained))
    model = networks.source()
    user_code.load()
    known, prepare = preparation.beside(model), None
    if FLAGS.dataset is not None:
        arguments = {name: FLAGS[name].value for name in DATA if name != "dataset"}
        data = datasets.load(FLAGS.dataset, **arguments)
        prepare = networks.recorded(known, data) if known.is_file() else data.preparation()
    elif known.is_file():
        prepare = networks.at_its_scale(known)
    used = prediction.load(model, prepare)
    return dataclasses.replace(used, prepare=networks.scaled(used.prepare))


def rows(names, probabilities: np.ndarray, classes) -> list[tuple]:
    """The lines of the table for some images."""
    found = []
    for name, row in zip(names, probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:TOP]
        named = [f"{classes[i]} {row[i]:.3f}" for i in order]
        found.append((name, classes[order[0]], f"{row[order[0]]:.3f}", ", ".join(named)))
    return found


def main(places):
    if not places:
        raise ValueError("no images are named: give image files, folders or .npz files.")
    used = network()
    table = [("file", "class", "probability", f"top {TOP}")]
    unread = 0
    images = prediction.images_of(places, used.prepare)
    while batch := list(itertools.islice(images, BATCH)):
        good = [(name, image) for name, image in batch if not isinstance(image, ValueError)]
        for name, reason in (pair for pair in batch if isinstance(pair[1], ValueError)):
            unread += 1
            print(f"error: {name}: {reason}", file=sys.stderr)
        if good:
            names, raw = zip(*good, strict=True)
            table += rows(names, used.probabilities(np.stack(raw)), used.prepare.class_names)
    if len(table) > 1:
        print(tables.aligned(table))
    if unread:
        raise SystemExit(1)


def start() -> None:
    """Reads the command line and runs."""
    command_line.start(main, takes_files=True)
