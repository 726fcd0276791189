"""Several processes on 127.0.0.1, killed and not, and whole steps under XLA.

Everything is compared with one device, in float64: two machines add in another order than one, and
in float32 a weight whose signal is nearly zero would be decided by that.
"""

import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))  # the optimizers are the tests' own
import saving_cases  # noqa: E402
from larq_filter import FilterOptimizer, binary, filters, models, strategies, to_latent_free  # noqa: E402
from larq_filter._keras import keras, tf  # noqa: E402

ROOT = pathlib.Path(__file__).parent.parent.parent
TRAINING = ["--model=mlp", "--width=32", "--batch_size=50", "--control=no"]
LIMIT = 600  # seconds that a process may take; it takes about 30


class Workers:
    """Processes of one training by examples/train.py --strategy=multi_worker; their output."""

    def __init__(self, folder: pathlib.Path, arguments, count=2):
        self.folder = folder
        # A port is free when it is chosen and may be taken when it is used: then choose again.
        for _ in range(5):
            self._start(arguments, _free_ports(count))
            if not self._wait_for(r"Started server|[Aa]ddress already in use|error:"):
                break
            if "ddress already in use" not in self.output():
                break
            self.kill()

    def _start(self, arguments, ports):
        self.logs = [self.folder / f"worker{i}.log" for i in range(len(ports))]
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        self.processes = [
            _start(arguments, self.folder, log, {"cluster": cluster, "task": _task(index)})
            for index, log in enumerate(self.logs)
        ]

    def _wait_for(self, pattern):
        return wait_until(lambda: all(re.search(pattern, log.read_text()) for log in self.logs))

    def output(self) -> str:
        return "\n".join(log.read_text() for log in self.logs)

    def wait(self) -> list[int | None]:
        """Exit statuses; None for a process that had to be killed."""
        end = time.monotonic() + LIMIT
        codes = []
        for process in self.processes:
            try:
                codes.append(process.wait(timeout=max(1, end - time.monotonic())))
            except subprocess.TimeoutExpired:
                codes.append(None)
        self.kill()
        return codes

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


def _task(index):
    return {"type": "worker", "index": index}


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _start(arguments, folder, log, tf_config=None):
    """A process of examples/train.py in float64, on CPUs."""
    home = folder / "keras"
    home.mkdir(exist_ok=True, parents=True)
    (home / "keras.json").write_text(json.dumps({"floatx": "float64"}))
    environment = os.environ | {
        "KERAS_HOME": str(home),
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "0",
    }
    if tf_config is not None:
        environment["TF_CONFIG"] = json.dumps(tf_config)
        arguments = ["--strategy=multi_worker", *arguments]
    command = [sys.executable, "examples/train.py", *arguments]
    with log.open("w") as file:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
        )


def wait_until(condition, limit=LIMIT) -> bool:
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def alone(folder, arguments):
    """The run of one device."""
    folder.mkdir(parents=True)
    log = folder / "log"
    process = _start([*arguments, f"--output_dir={folder / 'run'}"], folder, log)
    if process.wait(timeout=LIMIT):
        raise RuntimeError(f"one device failed: {log.read_text()[-2000:]}")
    return folder / "run"


def difference(ours: pathlib.Path, theirs: pathlib.Path) -> str | None:
    """What two run folders don't share: kernels of -1 and +1, epochs, what flipped in each."""
    found = [
        keras.models.load_model(each / "model.keras", compile=False) for each in (ours, theirs)
    ]
    kernels = [
        [np.array(binary.latent(v)) for _, v in binary.binary_kernels(model, trainable_only=False)]
        for model in found
    ]
    if not kernels[0]:
        return "no binary kernel was found"
    if not all(np.all(np.abs(kernel) == 1) for kernel in kernels[0]):
        return "a kernel is not -1 and +1"
    wrong = sum(int(np.sum(a != b)) for a, b in zip(*kernels, strict=True))
    if wrong:
        return f"{wrong} binary weights are others"
    for name, columns in (("flips.csv", 4), ("metrics.csv", 1)):
        rows = [
            [line.split(",")[:columns] for line in (each / name).read_text().splitlines()]
            for each in (ours, theirs)
        ]
        if rows[0] != rows[1]:
            return f"{name} is another"
    return None


def methods_on_two_processes(folder, seed):
    """Each reaches the kernels of one device."""
    for method in ("filter", "bop", "bold", "prob_bop", "larq_bop", "distilled"):
        arguments = [*TRAINING, f"--method={method}", f"--seed={seed}", "--epochs=2"]
        theirs = alone(folder / method / "alone", arguments)
        ours = folder / method / "run"
        workers = Workers(folder / method, [*arguments, f"--output_dir={ours}"])
        codes = workers.wait()
        if codes == [0, 0]:
            problem = difference(ours, theirs)
        else:
            problem = f"exit statuses {codes}: {workers.output()[-3000:]}"
        yield None if problem is None else f"{method}: {problem}"


def a_killed_worker(folder, seed):
    """The other one ends by itself; both started again finish as if nothing had happened."""
    chance = random.Random(seed)
    arguments = [*TRAINING, f"--seed={seed}", "--epochs=8"]
    theirs = alone(folder / "alone", arguments)
    for attempt, victim in enumerate((1, 0, 1, 0)):
        place = folder / str(attempt)
        place.mkdir()
        ours = place / "run"
        arguments_here = [*arguments, f"--output_dir={ours}"]
        workers = Workers(place, arguments_here)
        epoch = chance.randrange(1, 6)
        backups = ours / "backup" / "chief"
        wait_until(lambda b=backups, e=epoch: _epochs(b) >= e)
        time.sleep(chance.random())  # anywhere in an epoch, or while it is being written
        workers.processes[victim].kill()
        codes = workers.wait()
        if (ours / "result.json").exists():
            yield f"try {attempt}: finished before it could be killed"
            continue
        if codes[1 - victim] in (0, None):
            yield f"try {attempt}: the survivor did not end by itself, exit statuses {codes}"
            continue
        if codes[1 - victim] == 1 and "error: another worker has ended" not in workers.output():
            yield f"try {attempt}: the survivor does not say why: {workers.output()[-3000:]}"
            continue
        workers = Workers(place, arguments_here)
        codes, output = workers.wait(), workers.output()
        if codes != [0, 0]:
            yield f"try {attempt}: exit statuses after the restart {codes}: {output[-3000:]}"
        elif "Continues the run" not in output:
            yield f"try {attempt}: it began again instead of going on"
        else:
            yield difference(ours, theirs)


def _epochs(backups: pathlib.Path) -> int:
    """Epochs backed up so far: the number of the newest checkpoint."""
    numbers = [int(path.stem.split("-")[1]) for path in backups.glob("ckpt-*.index")]
    return max(numbers, default=0)


def presets_on_two_replicas(folder, seed):
    """Every preset and more on a network without batch normalisation, on integers: exact."""
    strategy = strategies.make("mirrored", replicas=2)
    for name, optimizer in saving_cases.OPTIMIZERS.items():
        ends = [_trained_on_integers(optimizer, scope, seed) for scope in (None, strategy)]
        wrong = [int(np.sum(a != b)) for (_, a), (_, b) in zip(*ends, strict=True)]
        still = [int(np.sum(start != end)) for start, end in ends[0]]
        if any(wrong):
            yield f"{name}: {wrong} binary weights are others"
        else:
            yield None if all(still) else f"{name}: {still} binary weights have flipped"


def _trained_on_integers(optimizer, strategy, seed):
    """Kernels before and after 50 steps, of all replicas; sums of integers depend on no order."""
    import larq

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    draw = np.random.default_rng(seed)
    x = draw.integers(-3, 4, (50 * 16, 8)).astype("float32")
    y = draw.integers(-4, 5, (50 * 16, 4)).astype("float32")
    dense = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}
    with (strategy or tf.distribute.get_strategy()).scope():
        model = keras.Sequential(
            [
                keras.Input((8,)),
                larq.layers.QuantDense(16, **dense),
                larq.layers.QuantDense(4, input_quantizer=larq.quantizers.SteSign(8.0), **dense),
            ]
        )
        model.compile(optimizer(), "mse")
        model.optimizer.build(model.trainable_variables)
    ends = [_of_all_replicas(model)]
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    return list(zip(*ends, _of_all_replicas(model), strict=True))


def _of_all_replicas(model) -> list[np.ndarray]:
    kernels = [
        [np.array(binary.latent(copy)) for copy in binary.replicas(variable)]
        for _, variable in binary.binary_kernels(model)
    ]
    for first, *others in kernels:
        for other in others:
            if not np.array_equal(first, other):
                raise RuntimeError("the replicas hold different kernels")
    return [first for first, *_ in kernels]


def a_whole_step_under_xla(folder, seed):
    """What a TPU needs: one XLA program for the whole step of Bi-Real ResNet-20.

    Each step starts from one state. A weight may differ only if its signal is rounding: a kernel
    element whose input never changes has gradient zero behind a batch normalisation.
    """
    keras.backend.set_floatx("float64")
    try:
        draw = np.random.default_rng(seed)
        x, y = draw.normal(size=(5, 8, 8, 8, 1)), draw.integers(0, 4, (5, 8))
        plain, compiled = Stepper(False, seed), Stepper(True, seed)
        for images, labels in zip(x, y, strict=True):
            losses = [
                float(each.step(tf.constant(images), tf.constant(labels)))
                for each in (plain, compiled)
            ]
            yield _compare_steps(plain, compiled, losses)
            for a, b in zip(plain.variables(), compiled.variables(), strict=True):
                b.assign(a)
    finally:
        keras.backend.set_floatx("float32")


class Stepper:
    """A network, its optimizer and one training step."""

    def __init__(self, jit_compile, seed):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        shape = {"input_shape": (8, 8, 1), "num_classes": 4, "width": 4}
        self.model = to_latent_free(models.build("birealnet20", **shape))
        self.optimizer = FilterOptimizer(filters.EMA(0.1))
        self.optimizer.build(self.model.trainable_variables)
        self.loss = keras.losses.SparseCategoricalCrossentropy()
        self.step = tf.function(self._step, jit_compile=jit_compile)

    def variables(self):
        return [*self.model.variables, *self.optimizer.variables]

    def kernels(self):
        kernels = binary.binary_kernels(self.model)
        return [np.array(binary.latent(variable)) for _, variable in kernels]

    def _step(self, images, labels):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            value = self.loss(labels, self.model(images, training=True))
        self.optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        return value


def _compare_steps(plain, compiled, losses) -> str | None:
    if not np.isclose(*losses, rtol=1e-6):
        return f"the losses are {losses}"
    ties = total = 0
    states = [each.optimizer.state_variables() for each in (plain, compiled)]
    kernels = [each.kernels() for each in (plain, compiled)]
    for s, t, a, b in zip(*states, *kernels, strict=True):
        if not np.allclose(s, t, rtol=1e-5, atol=1e-9):
            return "the filter states differ by more than rounding"
        if np.any(np.abs(s.numpy()[a != b]) > 1e-9):
            return "a weight with a clear signal differs"
        ties, total = ties + np.sum(a != b), total + a.size
    return f"{ties} of {total} weights are undecided" if ties > 0.02 * total else None


CASES = {
    "several methods on two processes": methods_on_two_processes,
    "a worker is killed": a_killed_worker,
    "presets on two replicas": presets_on_two_replicas,
    "a whole step under XLA": a_whole_step_under_xla,
}
