"""Processes of examples/train.py that train together on 127.0.0.1, and one device to compare with.

In float64: two machines add in another order than one, and in float32 a weight whose signal is
nearly zero would be decided by that.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from larq_filter import binary
from larq_filter._keras import keras
from paths import ROOT

TRAINING = ["--model=mlp", "--width=32", "--batch_size=50", "--control=no"]
LIMIT = 600  # seconds that a process may take; it takes about 30


class Workers:
    """Processes of one training by examples/train.py --strategy=multi_worker; their output.

    A context, at whose end none of them is left.
    """

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

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill()

    def _start(self, arguments, ports):
        self.logs = [self.folder / f"worker{i}.log" for i in range(len(ports))]
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        self.processes = [
            _start(arguments, self.folder, log, {"cluster": cluster, "task": _task(index)})
            for index, log in enumerate(self.logs)
        ]

    def _wait_for(self, pattern):
        def has_begun():
            ended = any(process.poll() is not None for process in self.processes)
            return ended or all(re.search(pattern, log.read_text()) for log in self.logs)

        return wait_until(has_begun)

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
        "LARQ_FILTER_NOTES": "1",  # that a server has started
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
    try:
        if process.wait(timeout=LIMIT):
            raise RuntimeError(f"one device failed: {log.read_text()[-2000:]}")
    finally:
        process.kill()
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


def killed_and_started_again(
    folder: pathlib.Path, arguments, theirs: pathlib.Path, victim: int, epoch: int, delay: float
) -> str | None:
    """What is lost where one of two workers is killed, and both are started again.

    Args:
        folder: an empty one.
        arguments: of examples/train.py.
        theirs: the run folder of one device.
        victim: which worker is killed.
        epoch: after how many saved epochs.
        delay: seconds after that.
    """
    run = folder / "run"
    arguments = [*arguments, f"--output_dir={run}"]
    with Workers(folder, arguments) as pair:
        if not wait_until(lambda: _epochs_saved(run / "backup" / "chief") >= epoch):
            return f"no epoch {epoch} was saved: {pair.output()[-3000:]}"
        time.sleep(delay)
        pair.processes[victim].kill()
        codes, output = pair.wait(), pair.output()
    if (run / "result.json").exists():
        return "finished before it could be killed"
    if codes[1 - victim] not in (1, -signal.SIGABRT):  # TensorFlow may abort by itself
        return f"the survivor did not end by itself, exit statuses {codes}: {output[-3000:]}"
    if codes[1 - victim] == 1 and "error: another worker has ended" not in output:
        return f"the survivor does not say why: {output[-3000:]}"
    with Workers(folder, arguments) as pair:
        codes, output = pair.wait(), pair.output()
    if codes != [0, 0]:
        return f"exit statuses after the restart {codes}: {output[-3000:]}"
    if "Continues the run" not in output:
        return "it began again instead of going on"
    return difference(run, theirs)


def _epochs_saved(backups: pathlib.Path) -> int:
    """Epochs backed up so far: the number of the newest checkpoint."""
    numbers = [int(path.stem.split("-")[1]) for path in backups.glob("ckpt-*.index")]
    return max(numbers, default=0)
