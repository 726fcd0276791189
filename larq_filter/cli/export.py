"""Exports a trained network to Larq Compute Engine, and proves that it still computes the same.

    larq-filter export --run=runs/digits-starter-filter-0 --output=model.tflite
    larq-filter export --model_file=model.keras --dataset=cifar10 --benchmark
    larq-filter export --model_file=model.keras --import=mylayers --dataset=FOLDER

Prints what the engine will not run on bits (lint), converts, and runs the converted network beside
the original one on validation images. If every claim of the report holds, OUTPUT.tflite is written,
and OUTPUT.images.json, which says how the network takes its images. OUTPUT.report.json and .html
are written in every case. If a claim fails, the exit status is 1, and an earlier OUTPUT.tflite and
its report stay as they are: the new report is OUTPUT.failed.report.json then. --allow=outputs takes
the file all the same, under the name OUTPUT.unproven.tflite.
"""

import dataclasses
import pathlib
import statistics
import tempfile
import time

import numpy as np
from absl import flags

# First: it makes sure that tf.keras is Keras 2.
from larq_filter import datasets, export
from larq_filter.cli import command_line, network_flags, networks, user_code
from larq_filter.datasets import preparation, splits
from larq_filter.experiments import exports, files, prediction, run_folder, user_inputs
from larq_filter.export import linting, reports

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(network_flags)  # else --help would not show them
flags.adopt_module_key_flags(user_code)
command_line.require_one_of("run", "model_file")

# What
command_line.define_path(
    "output", None, "The file to write. Default: beside the model, by its name."
)
flags.DEFINE_list(
    "allow_float", [], "Names of quantized layers that may stay float, QuantDense ones for example."
)
flags.DEFINE_list(
    "allow",
    [],
    f"Claims that may fail: {', '.join(export.ALLOWABLE)}. The file is then OUTPUT.unproven.tflite "
    "and its report says so.",
)

# Data to verify with; what is not given comes from the run.
# Size and number of the training images are to be those of the training: they normalise the images.
DATA = ("dataset", "data_dir", "image_size", "train_examples")
command_line.define_flags(run_folder.Config, DATA, dataset=None)
flags.DEFINE_integer("images", 256, "Validation images to compare the two networks on.", 2)

# Speed
flags.DEFINE_bool("benchmark", False, "Time both networks here, and say how to on a device.")
flags.DEFINE_integer("repeats", 30, "Interleaved timings; their median is given.", 3)

ON_DEVICES = """
On a Raspberry Pi with a 64-bit system, after copying {name} there:
  wget https://github.com/larq/compute-engine/releases/latest/download/lce_benchmark_model_aarch64
  chmod +x lce_benchmark_model_aarch64
  ./lce_benchmark_model_aarch64 --graph={name} --num_threads=1

On an Android phone with USB debugging on:
  wget https://github.com/larq/compute-engine/releases/latest/download/lce_benchmark_model_android_arm64
  adb push lce_benchmark_model_android_arm64 /data/local/tmp
  adb push {path} /data/local/tmp
  adb shell chmod +x /data/local/tmp/lce_benchmark_model_android_arm64
  adb shell /data/local/tmp/lce_benchmark_model_android_arm64 \\
      --graph=/data/local/tmp/{name} --num_threads=1
"""


def load_data(run: pathlib.Path | None) -> datasets.ImageData:
    """The data of the run, unless a flag says otherwise."""
    config, trained_on = {}, None
    if run is not None:
        saved = run_folder.read_config(run)["config"]
        trained_on = run_folder.read_described(run).get("data", {}).get("fingerprint")
        config = {name: saved.get(name) for name in DATA}
        if saved.get("split") != splits.SPLIT:
            print(
                "This run was begun with another division of the images: some of the validation "
                "images of today may have trained it. Whether the two networks are the same can be "
                "seen on them all the same; how accurate they are can not."
            )
    config.update({name: FLAGS[name].value for name in DATA if FLAGS[name].value is not None})
    if config.get("dataset") is None:
        raise ValueError("--model_file needs --dataset, the data that the model was trained on.")
    if str(config["dataset"]).startswith(user_inputs.FROM_PYTHON):
        raise ValueError(
            f"The images of {run} came from variables of a program. Name them: --dataset=FOLDER of "
            "images by class, or an .npz file."
        )
    name = config.pop("dataset")
    try:
        data = datasets.load(name, **config)
    except (ValueError, FileNotFoundError) as error:
        if run is None or FLAGS.dataset is not None:
            raise
        raise type(error)(
            f"{error}\n{run} was trained on {name!r}, seen from the folder where that command was "
            "given. If it is elsewhere now: --dataset=PATH."
        ) from error
    if trained_on not in (None, data.fingerprint):
        print(
            "These are not the images that this run was trained on: they have changed since, or "
            "are others. Whether the two networks are the same can be seen on them all the same."
        )
    return data


def as_trained(data: datasets.ImageData, source: pathlib.Path) -> tuple:
    """The data with images scaled as the model in ``source`` takes them, and that preparation.

    Raises:
        ValueError: the data or the flags contradict the file beside the model.
    """
    known = preparation.beside(source)
    if known.is_file():
        prepare = networks.recorded(known, data)
        if prepare.mean.shape == data.mean.shape:  # else they are the images of another network
            data = dataclasses.replace(data, mean=prepare.mean, std=prepare.std)
        return data, prepare
    if networks.is_scale_given():
        data = networks.scaled(data)
    elif not FLAGS.run:
        mean, std = (", ".join(f"{x:.4g}" for x in each) for each in (data.mean, data.std))
        print(
            f"No {known.name} beside {source}: its images are taken to be (pixel - mean) / std, as "
            f"larq-filter train has them,\nmean {mean}, std {std}. If yours were scaled otherwise "
            "say so: --mean=M --std=S (x / 255: --std=255).\nThe images to verify with are held "
            f"out of {data.name} here. If your training saw them, accuracy says little."
        )
    return data, data.preparation()


def keep_what_is_another_models(path: pathlib.Path, source: pathlib.Path, prepare) -> None:
    """Raises ValueError if ``path`` is where another model says how it takes its images."""
    other, known = path.with_suffix(".keras"), preparation.beside(path)
    if other.is_file() and known.is_file() and not other.samefile(source):
        if preparation.read(known).to_json() != prepare.to_json():
            raise ValueError(
                f"--output={path}: {known.name} beside it is of {other.name}, another model, and "
                "would be overwritten. Give another name."
            )


def validation_images(data: datasets.ImageData, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of the validation set, mixed, and their labels."""
    count = min(count, data.validation_examples)
    ((images, labels),) = data.first("validation", count).validation(count).as_numpy_iterator()
    return images, labels


def latencies(flatbuffers: dict, image: np.ndarray, repeats: int) -> dict:
    """Median milliseconds for one image, on one thread.

    One network after the other in each repeat: what slows the machine down for a while meets both.
    """
    times = {name: [] for name in flatbuffers}
    interpreters = {
        name: export.Interpreter(content, xnnpack=True) for name, content in flatbuffers.items()
    }
    for repeat in range(repeats + 1):
        for name, interpreter in interpreters.items():
            began = time.perf_counter()
            interpreter.predict(image)
            if repeat:  # the first one warms up
                times[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def benchmark(model, flatbuffer: bytes, image: np.ndarray, path: pathlib.Path) -> None:
    plain = export.to_float_flatbuffer(model)
    found = latencies({"LCE": flatbuffer, "TFLite, floats": plain}, image, FLAGS.repeats)
    print(f"\nLatency of one image, one thread, median of {FLAGS.repeats} interleaved repeats:")
    for name, value in found.items():
        print(f"  {name:<15} {value:8.2f} ms")
    print(
        "LCE is made for ARM: on x86 its kernels are not optimised, and these times say nothing "
        "about a device." + ON_DEVICES.format(name=path.name, path=path)
    )


def main():
    reports.require_allowable(FLAGS.allow)
    run = pathlib.Path(FLAGS.run) if FLAGS.run else None
    source = networks.source()
    path = pathlib.Path(FLAGS.output or source.with_suffix(".tflite"))
    if path.suffix != ".tflite":
        raise ValueError(f"--output={path} must end in .tflite.")
    if path.is_dir():
        raise ValueError(f"--output={path} is a folder; the name of a file is needed.")
    if run is not None and (run / "config.json").exists():
        user_code.refuse_unnamed(run_folder.read_config(run)["config"], str(run))
    user_code.load()
    model = prediction.load_network(source)
    data, prepare = as_trained(load_data(run), source)
    networks.refuse_other_classes(model, data)
    networks.refuse_other_images(model, data)
    keep_what_is_another_models(path, source, prepare)
    images, labels = validation_images(data, FLAGS.images)
    made = {"model file": str(source), "data": data.name, "images": f"{len(images)} of validation"}
    with files.plain_errors(path.parent, continued=False):  # before the work
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=path.parent).cleanup()
    temporary_folder = pathlib.Path(tempfile.gettempdir())  # the converter needs it
    with files.plain_errors(temporary_folder, continued=False):
        found = prove(model, images, labels)
    exported = exports.Export(*found, prepare, FLAGS.allow, made)
    written = exported.write(path)
    print("\nWritten:", *written, sep="\n  ")
    if exported.outcome == exports.FAILED:
        raise SystemExit(f"\n{advice(exported.report, path)}")
    if exported.outcome == exports.UNPROVEN:
        print(f"{written[0]} is not proven: {', '.join(exported.report.missing())}.")
    if FLAGS.benchmark:
        benchmark(model, exported.flatbuffer, images[:1], written[0])


def prove(model, images, labels) -> tuple[export.Report, bytes | None]:
    """Converts and verifies, and prints what is found; None where it can't be converted."""
    for line in linting.summary(export.lint(model)):
        print(line)
    try:
        flatbuffer = export.convert(model)
    except ValueError as error:
        flatbuffer, report = None, export.refused(model, str(error))
    else:
        report = export.verify(model, flatbuffer, images, labels, FLAGS.allow_float)
    print(f"\n{report}")
    return report, flatbuffer


def advice(report: export.Report, path: pathlib.Path) -> str:
    """What to do about an export that failed."""
    missing = report.missing()
    lines = [f"Not every claim holds ({', '.join(missing)}): {path} was not written."]
    if path.exists():
        lines.append(f"The {path.name} that is there is of an earlier export, and is as it was.")
    if "operators on bits" in missing:
        names = ",".join(name for name in report.float_layers if name not in FLAGS.allow_float)
        lines.append(f"If layers may stay float, name them: --allow_float={names}")
    if set(missing) <= set(export.ALLOWABLE):
        lines.append(f"To take the file all the same, as unproven: --allow={','.join(missing)}")
    return "\n".join(lines)


def start() -> None:
    """Reads the command line and runs."""
    command_line.start(main)
