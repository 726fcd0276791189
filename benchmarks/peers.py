"""What benchmarks/benchmark.py measures: optimizers on bare weights, training steps, input, memory.

A peer is a function without arguments that takes one step. Two measurements need a process of their
own, since they are of a whole process or of an environment variable. Such a process is

    python benchmarks/peers.py FUNCTION '{"argument": value, ...}'

which prints what one function of this file returns as JSON; ``child`` starts it.
"""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np

from larq_filter import datasets, filters, models, presets
from larq_filter._keras import keras, tf
from larq_filter.datasets.pipelines import Augmentation, Memory
from larq_filter.experiments import methods
from larq_filter.experiments.methods.knobs import Knobs
from larq_filter.optimizers import FilterOptimizer

import larq  # isort: skip

STAGES = ((512, 4), (256, 4), (128, 8))  # channels and number of the 3x3 kernels
WEIGHTS = sum(number * 9 * channels**2 for channels, number in STAGES)  # 13 M
RETURNS_MEMORY = {  # so that what is freed leaves the process, and a peak is one
    "TF_DISABLE_MKL": "1",  # the allocator of TensorFlow's oneDNN builds keeps everything
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "MALLOC_MMAP_THRESHOLD_": "65536",  # glibc's own moves
}


# Optimizers on bare weights -----------------------------------------------------------------------


def two_emas(**kwargs) -> FilterOptimizer:
    own = filters.CascadedEMA(alpha=1e-3, gamma=0.1)
    return FilterOptimizer(own, default_optimizer=None, **kwargs)


OPTIMIZERS = {
    "legacy Adam": lambda: keras.optimizers.legacy.Adam(1e-3),
    "Adam": lambda: keras.optimizers.Adam(1e-3),
    "SGD": lambda: keras.optimizers.SGD(1e-2),
    "Larq Bop": lambda: larq.optimizers.Bop(threshold=1e-8, gamma=1e-4),
    "Adam, XLA": lambda: keras.optimizers.Adam(1e-3),
    "Larq Bop, XLA": lambda: larq.optimizers.Bop(threshold=1e-8, gamma=1e-4),
    "filter": lambda: two_emas(jit_compile=True),
    "filter, no XLA": lambda: two_emas(jit_compile=False),
}
"""The optimizers by name; ``make_optimizer`` knows the presets and the orders too.

Those with XLA in the name, which Keras does not use on a CPU, have their whole step compiled.
"""


def preset_names() -> list[str]:
    return [f"preset {name}" for name in presets.PRESETS]


def make_optimizer(name: str):
    """An optimizer by its name: of ``OPTIMIZERS``, ``preset NAME``, or ``order N``.

    The last is a cascade of N equal moving averages.
    """
    kind, _, rest = name.partition(" ")
    if kind == "preset":
        more = {"steps_per_epoch": 500} if rest == "prob_bop" else {}  # it has no default
        return presets.PRESETS[rest](default_optimizer=None, **more)
    if kind == "order":
        cascade = filters.Cascade([filters.EMA(0.1)] * int(rest))
        return FilterOptimizer(cascade, default_optimizer=None)
    return OPTIMIZERS[name]()


def kernel_shapes(weights: int = WEIGHTS) -> list[tuple]:
    """Shapes of 16 kernels as of a residual network, about ``weights`` in all."""
    scale = math.sqrt(weights / WEIGHTS)
    sides = [max(1, round(channels * scale)) for channels, number in STAGES for _ in range(number)]
    return [(3, 3, side, side) for side in sides]


def small_shapes(weights: int, number: int) -> list[tuple]:
    """Shapes of ``number`` kernels of two neighbouring sizes, about ``weights`` in all."""
    side = max(1, math.isqrt(weights // (9 * number)))
    missing = weights - number * 9 * side**2
    larger = min(number, max(0, round(missing / (9 * (2 * side + 1)))))
    sides = [side + 1] * larger + [side] * (number - larger)
    return [(3, 3, side, side) for side in sides]


def equal_shapes(weights: int, number: int = 10) -> list[tuple]:
    """Shapes of ``number`` equal kernels; ``weights`` is a multiple of ``10 * number``."""
    return [(10, weights // (10 * number))] * number


def random_gradients(shapes, seed: int) -> list:
    return [tf.random.stateless_normal(shape, (seed, i)) for i, shape in enumerate(shapes)]


class OptimizerStep:
    """One step of an optimizer on weights of its own with the same gradients each time.

    Args:
        name: as ``make_optimizer`` takes it.
        gradients: a list of tensors, one a kernel.
    """

    def __init__(self, name: str, gradients):
        self.optimizer = make_optimizer(name)
        signs = [tf.where(gradient < 0, 1.0, -1.0) for gradient in gradients]
        self.variables = [tf.Variable(each) for each in signs]
        self.weights = sum(int(tf.size(gradient)) for gradient in gradients)
        if isinstance(self.optimizer, FilterOptimizer):
            quantizer = larq.quantizers.NoOp(precision=1)
            self.variables = [
                larq.quantized_variable.QuantizedVariable.from_variable(v, quantizer, precision=1)
                for v in self.variables
            ]
        if hasattr(self.optimizer, "build"):  # the legacy ones build themselves
            self.optimizer.build(self.variables)

        @tf.function(jit_compile=name.endswith(", XLA") or None)
        def step():
            self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))

        self._step = step

    def __call__(self):
        self._step()

    def bytes_per_weight(self) -> float:
        """What the optimizer keeps from step to step, scalars left out."""
        variables = self.optimizer.variables
        variables = variables() if callable(variables) else variables
        arrays = [v for v in variables if v.shape.rank]
        return sum(v.shape.num_elements() * v.dtype.size for v in arrays) / self.weights


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
    set_threads(threads)
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
    set_threads(threads)
    step = training_step(compiled(method, width, image_size), random_batch(batch_size, image_size))
    seconds = []
    for _ in range(3 + steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[3:]))


def set_threads(threads: int) -> None:
    """How many threads TensorFlow computes with; to be called before it computes anything."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


if __name__ == "__main__":
    functions = {"peak_memory": peak_memory, "seconds_per_step": seconds_per_step}
    print(json.dumps(functions[sys.argv[1]](**json.loads(sys.argv[2]))))
