"""What benchmarks/benchmark.py measures: optimizers on bare weights, training steps, input, memory.

A peer is a function without arguments that takes one step. Two measurements need a process of their
own, since they are of a whole process or of an environment variable. Such a process is

    python benchmarks/peers.py FUNCTION '{"argument": value, ...}'

which prints what one function of this file returns as JSON; ``child`` starts it.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np

from larq_filter import datasets, models
from larq_filter._keras import tf
from larq_filter.datasets.pipelines import Augmentation, Memory
from larq_filter.experiments import methods, timing
from larq_filter.experiments.bare_steps import OptimizerStep, random_gradients
from larq_filter.experiments.methods.knobs import Knobs

RETURNS_MEMORY = {  # so that what is freed leaves the process, and a peak is one
    "TF_DISABLE_MKL": "1",  # the allocator of TensorFlow's oneDNN builds keeps everything
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "MALLOC_MMAP_THRESHOLD_": "65536",  # glibc's own moves
}


# Whole training steps -----------------------------------------------------------------------------


def compiled(method: str, width: int, image_size: int, channels: int = 3, num_classes: int = 10):
    """Bi-Real ResNet-20 as the examples train it by ``method``."""
    model = models.birealnet20((image_size, image_size, channels), num_classes, width)
    return methods.compile_for(method, model, Knobs(), steps=10_000)


def random_batch(batch_size: int, image_size: int, seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(batch_size, image_size, image_size, 3)).astype("float32")
    return tf.constant(images), tf.constant(rng.integers(0, 10, batch_size).astype("int32"))


def training_step(model, batch, jit_compile=None):
    """``train_step`` of a compiled model in a graph, on one constant batch."""

    @tf.function(jit_compile=jit_compile)
    def step():
        return model.train_step(batch)

    return step


def fit(model, batch, steps_per_execution: int, steps: int):
    """``fit`` of a compiled model, ``steps`` steps on one constant batch."""
    model.compile(
        model.optimizer, model.loss, metrics=["accuracy"], steps_per_execution=steps_per_execution
    )
    data = tf.data.Dataset.from_tensors(batch).repeat(steps)
    return lambda: model.fit(data, verbose=0)


# Input --------------------------------------------------------------------------------------------


def image_data(
    dataset: str, data_dir: str | None, examples: int | None, image_size: int, seed: int
) -> datasets.ImageData:
    """The data set of the flags; ``random``: noise of the size of CIFAR-10, in memory."""
    if dataset != "random":
        return datasets.load(dataset, data_dir=data_dir, train_examples=examples)
    examples, rng = examples or 50_000, np.random.default_rng(seed)
    shape = (image_size, image_size, 3)
    images = rng.integers(0, 256, (examples, *shape), np.uint8)
    labels = rng.integers(0, 10, examples).astype(np.int32)
    one = images[:1], labels[:1]
    return datasets.ImageData(
        name="random",
        input_shape=shape,
        num_classes=10,
        class_names=tuple("0123456789"),
        train_examples=examples,
        validation_examples=1,
        test_examples=1,
        mean=np.full(3, 127.5, np.float32),
        std=np.full(3, 73.9, np.float32),
        augmentation=Augmentation(pad=max(1, image_size // 8), flip=True),
        _source=Memory(train=(images, labels), **dict.fromkeys(("validation", "test"), one)),
    )


class Fed:
    """Training steps on batches of a pipeline; notes how long each step waited for its batch.

    Args:
        model: a compiled model.
        data: a ``tf.data.Dataset`` of batches; every call goes through all of it.
    """

    def __init__(self, model, data):
        self.data = data
        self.clear()

        @tf.function
        def step(images, labels):
            return model.train_step((images, labels))

        self._step = step

    def clear(self):
        """Forgets the waits so far."""
        self.waits, self.seconds = [], 0.0

    def __call__(self):
        start = time.perf_counter()
        batches = iter(self.data)
        for _ in range(len(self.data)):
            asked = time.perf_counter()
            batch = next(batches)
            self.waits.append(time.perf_counter() - asked)
            self._step(*batch)
        self.seconds += time.perf_counter() - start


# Processes of their own ---------------------------------------------------------------------------


def child(function: str, environment=None, **arguments):
    """What ``function(**arguments)`` of this file returns in a fresh process.

    Args:
        function: its name.
        environment: variables to set there.
        **arguments: JSON-ready.

    Raises:
        RuntimeError: the process failed; with its last line.
    """
    command = [sys.executable, __file__, function, json.dumps(arguments)]
    environment = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"`{function}` in a process of its own failed: {said}")
    return json.loads(done.stdout.splitlines()[-1])


def _kilobytes(what: str) -> int:
    """A number of this process's memory, from Linux: VmRSS now, VmHWM the highest."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1])


def peak_memory(optimizer: str, shapes, threads: int, steps: int = 3) -> dict:
    """Bytes per weight that this process takes for steps of an optimizer, above what it has before.

    Exact in an environment of ``RETURNS_MEMORY``; Linux only.

    Returns:
        held: between two steps, with weights, gradients and optimizer state.
        peak: the most during a step; first_peak: up to the end of the first, which compiles.
        state: what the optimizer keeps.
    """
    timing.set_threads(threads)
    OptimizerStep(optimizer, random_gradients([(3, 3, 1, 1)] * 2, 0))()  # starts TensorFlow and XLA
    before = _kilobytes("VmRSS")
    step = OptimizerStep(optimizer, random_gradients(shapes, 0))
    step()
    first = _kilobytes("VmHWM")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the highest is now the present
    held = _kilobytes("VmRSS")
    for _ in range(steps):
        step()
    found = {"held": held, "peak": _kilobytes("VmHWM"), "first_peak": first}
    per_weight = {name: 1024 * (value - before) / step.weights for name, value in found.items()}
    return per_weight | {"state": step.bytes_per_weight()}


def seconds_per_step(
    method: str, width: int, image_size: int, batch_size: int, threads: int, steps: int
) -> float:
    """The median of ``steps`` training steps after three that warm up."""
    timing.set_threads(threads)
    step = training_step(compiled(method, width, image_size), random_batch(batch_size, image_size))
    seconds = []
    for _ in range(3 + steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[3:]))


if __name__ == "__main__":
    functions = {"peak_memory": peak_memory, "seconds_per_step": seconds_per_step}
    print(json.dumps(functions[sys.argv[1]](**json.loads(sys.argv[2]))))
