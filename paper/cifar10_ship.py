"""Makes the files of a trained network that the package carries, from a finished CIFAR-10 run.

    python paper/cifar10_ship.py --job=all_images/filter --data_dir=DIR --output_dir=RUNS \
        --target=FOLDER

It exports the model of the run, proves that the export computes the same, counts both on all test
images, and writes to FOLDER:

    birealnet20-cifar10.npz           the weights, a bit for each binary one (`models.pack`), and
                                      the model card: data, recipe, seed, accuracies, versions
    birealnet20-cifar10.tflite        the export
    birealnet20-cifar10.images.json   how both take images

RUNS is the folder that `paper/cifar10.py` was given. What can't be proven is not written. FOLDER is
larq_filter/models/weights for the network that the package carries. Of that one

    python paper/cifar10_ship.py --data_dir=DIR

counts both files on all test images again; it is an error if the model card says otherwise.
"""

import hashlib
import json
import pathlib
import tempfile

import numpy as np
from absl import app, flags

import cifar10
from larq_filter import binary, datasets, export, models, serialization, to_latent_free
from larq_filter.cli import command_line
from larq_filter.experiments import files, run_folder

FLAGS = flags.FLAGS
NAME = "birealnet20-cifar10"
VERIFIED, BATCH = 256, 500  # images to prove the export on; test images at a time


def signs_of(model):
    """The network as it computes: kernels exactly -1 and +1."""
    model = to_latent_free(model)
    wrong = [layer.name for layer, kernel in binary.binary_kernels(model, trainable_only=False)
             if not binary.holds_signs(kernel)]  # fmt: skip
    if wrong:
        raise ValueError(f"Kernels that are not -1 and +1: {', '.join(wrong)}.")
    return model


def accuracies(network, flatbuffer: bytes, prepare: datasets.Preparation, test) -> dict[str, float]:
    """The share of the raw test images and labels whose class Keras and LCE's interpreter find."""
    interpreter, right = export.Interpreter(flatbuffer), {"Keras": 0, "LCE": 0}
    for first in range(0, len(test[1]), BATCH):
        images, labels = (part[first : first + BATCH] for part in test)
        images = prepare(images).numpy()
        outputs = {"Keras": network.predict_on_batch(images), "LCE": interpreter.predict(images)[0]}
        for name, output in outputs.items():
            right[name] += int(np.sum(output.argmax(axis=1) == labels))
    return {name: round(found / len(test[1]), 4) for name, found in right.items()}


def card(run: dict, found: dict, report: export.Report, flatbuffer: bytes, data, validated) -> dict:
    """What is said about the network.

    Args:
        run: the file of its run.
        found: of ``accuracies``.
        report: on the export, whose claims all hold.
        flatbuffer: the export.
        data: what it was trained on, ``ImageData``.
        validated: whether its validation images were held out of training.
    """
    result, config = run["result"], run["config"]
    validation = {"validation": round(result["accuracy"], 4)} if validated else {}
    given = {name: value for name, value in config["knobs"].items() if value is not None}
    return {
        "network": config["model"],
        "width": config["width"],
        "input_shape": list(data.input_shape),
        "num_classes": data.num_classes,
        "images": data.preparation().to_json(),
        "data": data.name,
        "examples": {
            "training": data.train_examples,
            "validation": data.validation_examples if validated else 0,
            "test": data.test_examples,
        },
        "recipe": {
            "run": run["name"],
            **({"start": run["start"]} if "start" in run else {}),
            "method": config["method"],
            "knobs": given,
            "batch_size": config["batch_size"],
            "epochs": config["epochs"],
            "seed": config["seed"],
            "commit": run["commit"],
        },
        "accuracy": {
            **validation,
            "test": round(result["test_accuracy"], 4),
            **{f"test, these files in {name}": share for name, share in found.items()},
        },
        "export": {
            "proven": [claim.name for claim in report.claims],
            "on images": VERIFIED,
            "bytes": len(flatbuffer),
            "sha256": hashlib.sha256(flatbuffer).hexdigest(),
        },
        "versions": run_folder.versions("larq-compute-engine"),
    }


def ship(
    model, run: dict, data: datasets.ImageData, folder: pathlib.Path, validated: bool = True
) -> dict:
    """Writes the files of a network to a folder; returns its card.

    The arguments are those of ``card``.

    Raises:
        ValueError: a kernel is not binary, a claim of the export does not hold, or the weights that
            were packed are not those of the model.
    """
    network = signs_of(model)
    flatbuffer = export.convert(network)
    images, labels = next(iter(data.first("validation", VERIFIED).validation(VERIFIED)))
    report = export.verify(network, flatbuffer, images.numpy(), labels.numpy())
    if not report.ok:
        raise ValueError(f"Not every claim of the export holds.\n{report}")
    found = accuracies(network, flatbuffer, data.preparation(), data.arrays("test"))
    about = card(run, found, report, flatbuffer, data, validated)
    packed = models.pack(network, about)
    given = network.predict_on_batch(images)
    if not np.array_equal(_unpacked(packed).predict_on_batch(images), given):
        raise ValueError("The packed weights give other outputs than the model.")
    contents = {
        "npz": packed,
        "images.json": files.as_json(data.preparation().to_json()),
        "tflite": flatbuffer,
    }
    with files.plain_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files.write_together({folder / f"{NAME}.{end}": each for end, each in contents.items()})
    return about


def _unpacked(packed: bytes):
    """The model that users build of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f"{NAME}.npz")
        path.write_bytes(packed)
        return models.load(path)


def main(arguments):
    """Ships the model of a run, or counts the files of the package."""
    if len(arguments) > 1:
        raise SystemExit(f"error: {arguments[1]!r} belongs to no flag.")
    command_line.show_progress()
    if FLAGS.job is None:
        network, flatbuffer = (models.pretrained_file(NAME, end) for end in (".npz", ".tflite"))
        about = models.model_card(NAME)
        said, prepare = about["accuracy"], datasets.Preparation.from_json(about["images"])
        test = cifar10.load_data(cifar10.DATASET, FLAGS.data_dir).arrays("test")
        found = accuracies(models.load(network), flatbuffer.read_bytes(), prepare, test)
        print(found)
        if any(said[f"test, these files in {name}"] != share for name, share in found.items()):
            raise SystemExit(f"error: the model card says {said}.")
        return
    run = cifar10.read(FLAGS.job)
    path = pathlib.Path(FLAGS.output_dir, *FLAGS.job.split("/"), "model.keras")
    if run is None or not path.is_file():
        missing = path if run else cifar10.RESULTS / f"{FLAGS.job}.json"
        raise SystemExit(f"error: the run {FLAGS.job} is not finished here: there is no {missing}.")
    (job,) = [job for job in cifar10.jobs() if job.name == FLAGS.job]
    data = cifar10.load_data(cifar10.DATASET, FLAGS.data_dir, job.all_images)
    target = pathlib.Path(FLAGS.target)
    about = ship(serialization.load_model(path), run, data, target, validated=not job.all_images)
    print(json.dumps(about, indent=1))


if __name__ == "__main__":
    for name, text in {
        "job": "The run, as paper/cifar10.py --list names it. Default: none, the package's files.",
        "data_dir": "Folder that holds cifar10_jpeg as tensorflow-datasets.",
        "output_dir": "Run folders, of paper/cifar10.py.",
        "target": "Folder of the files.",
    }.items():
        flags.DEFINE_string(name, None, text, required=name == "data_dir")
    flags.register_multi_flags_validator(
        ["job", "output_dir", "target"],
        lambda given: len({value is None for value in given.values()}) == 1,
        message="--job, --output_dir and --target are needed together.",
    )
    app.run(main)
