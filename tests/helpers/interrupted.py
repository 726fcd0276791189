"""What tests of interrupted runs share: all that a run leaves behind, to compare bit for bit."""

import ctypes
import io
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import h5py

from larq_filter._keras import tf
from paths import ROOT

DROP_CAPABILITY, OVERRIDE_PERMISSIONS = 24, 1  # of prctl(2) and capabilities(7)


class Stop(Exception):
    """Stands for a crash."""


def stop_after(epochs):
    """A ``report`` of ``training.run`` that crashes once the checkpoint of an epoch is written."""

    def report(epoch, logs):
        if epoch + 1 == epochs:
            raise Stop

    return report


def left_behind(folder):
    """All that the runs in ``folder`` have written, but times, paths and TensorBoard's files.

    Every array of models, optimizers and checkpoints; tables as bytes; and which files there are.
    """
    found = {}
    for run in (path.parent for path in sorted(pathlib.Path(folder).rglob("config.json"))):
        own = {"files": sorted(p.name for p in run.iterdir() if p.is_file())}
        own["checkpoints"] = sorted(p.name for p in (run / "checkpoints").iterdir())
        own["config"] = json.loads((run / "config.json").read_text())["config"]
        own |= {path.name: path.read_bytes() for path in run.glob("*.csv")}
        result = json.loads((run / "result.json").read_text())
        own |= {f"result {name}": value for name, value in result.items()}
        del own["result seconds"], own["result output_dir"]
        own |= _keras_file(run / "model.keras")
        for index in (run / "checkpoints").glob("*.index"):
            own |= {f"{index.stem}: {n}": v for n, v in tensors(index.with_suffix("")).items()}
        found |= {f"{run.relative_to(folder)}: {name}": value for name, value in own.items()}
    return found


def tensors(prefix):
    """The values of a checkpoint, as bytes, without the wall time."""
    reader = tf.train.load_checkpoint(str(prefix))
    names = set(reader.get_variable_to_shape_map())
    names -= {"_CHECKPOINTABLE_OBJECT_GRAPH", "seconds/.ATTRIBUTES/VARIABLE_VALUE"}
    values = {name: reader.get_tensor(name) for name in names}
    return {n: v if isinstance(v, bytes) else v.tobytes() for n, v in values.items()}


def difference(expected, found):
    """Names of what differs; None if nothing does."""
    assert expected, "nothing to compare with"
    names = [n for n in sorted({*expected, *found}) if expected.get(n) != found.get(n)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} differ" if names else None


def script(name, *flags, **options):
    """A script of the examples as a process that is still to end."""
    command = [sys.executable, str(ROOT / "examples" / name), *flags]
    options.setdefault("env", os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"})
    return subprocess.Popen(command, text=True, **options)


def output_of(name, *flags, **options):
    """Exit status and what a script prints, of both kinds."""
    process = script(name, *flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def obey_permissions():
    """For ``preexec_fn``: root, too, may then only write where the permissions let it."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(DROP_CAPABILITY, OVERRIDE_PERMISSIONS, 0, 0, 0)


def permissions_hold(folder):
    """Whether a process that obeys permissions is kept out of a read-only folder here."""
    folder.chmod(0o555)
    code = f"open({str(folder / 'x')!r}, 'w')"
    tried = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=obey_permissions, capture_output=True
    )
    folder.chmod(0o755)
    return tried.returncode != 0 and b"PermissionError" in tried.stderr


def flip(path, place, bit=0):
    """Turns one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def _keras_file(path):
    """The architecture, and the arrays of model and optimizer, by their place in the file."""
    with zipfile.ZipFile(path) as archive:
        found = {"architecture": json.loads(archive.read("config.json"))}
        weights = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(weights)) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    # The sums of the last epoch's metrics are no weights: Keras resets them before it uses them.
    return {name: value for name, value in found.items() if not name.startswith("metrics/")}


def _truncate(path, rng):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def _flip_any(path, rng):
    flip(path, rng.randrange(path.stat().st_size), rng.randrange(8))


HARMS = {
    "truncated": _truncate,
    "bit-flipped": _flip_any,
    "emptied": lambda path, rng: path.write_bytes(b""),
    "overwritten": lambda path, rng: path.write_bytes(rng.randbytes(path.stat().st_size)),
    "removed": lambda path, rng: path.unlink(),
}
