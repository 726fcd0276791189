"""Checkpoints that a killed process, a full disk or a damaged file can't spoil.

    ckpt-3.index, ckpt-3.data-00000-of-00001    all variables after epoch 3, and whose they are
    checkpoint                                  names the newest, for ``tf.train.latest_checkpoint``

A checkpoint is written under another name and renamed, the index last: it is there as a whole or
not at all. It is read to its last byte before a variable is touched: TensorFlow compares checksums
when it reads a tensor, which for states of an optimizer is in the middle of the first step. And it
carries the config of its run: one of another filter can have the same names and shapes.

Rejected: ``tf.train.CheckpointManager``. It finds the checkpoints by the file ``checkpoint``, which
has no checksum, and its ``restore`` changes the model before it has read, or even compared, the
rest.
"""

import contextlib
import json
import logging
import pathlib
import re
import shutil

from larq_filter._keras import tf
from larq_filter._validation import first_line
from larq_filter.experiments.files import commit, write_whole

logger = logging.getLogger(__name__)

_PART = "writing"
_KEPT = 3  # of the newest
_OWNER = "owner/.ATTRIBUTES/py_state"


class Checkpoints:
    """Numbered checkpoints of one run.

    Args:
        folder: for nothing else; created when the first is saved.
        owner: what tells this run from others, as JSON would bring it back.
        objects: what is saved, as for ``tf.train.Checkpoint``.
    """

    def __init__(self, folder: pathlib.Path, owner: dict, **objects):
        self.folder, self.owner = folder, owner
        self._checkpoint = tf.train.Checkpoint(owner=_Text(json.dumps(owner)), **objects)

    def save(self, number: int) -> None:
        """Saves all objects as checkpoint ``number``, and removes what is too old.

        Raises:
            OSError, tf.errors.OpError: it can't be written; the earlier ones are intact.
        """
        self.folder.mkdir(exist_ok=True)
        try:
            self._write(number)
        except BaseException:
            with contextlib.suppress(OSError):
                self._remove_parts()  # on a full disk the space is needed
            raise
        self._sweep(number)

    def restore(self) -> int:
        """Restores the newest good one; returns its number, 0 if there is none.

        Removes what is too old: a kill may have come before that.

        Raises:
            RuntimeError: there are some, and none can be used.
            OSError: the folder can't be written.
        """
        numbers = self.numbers()
        for number in reversed(numbers):
            flaw = self.flaw(number)
            if flaw is None:
                self._restore(number)
                if number == numbers[-1]:
                    self._remove_parts()
                    self._sweep(number)
                return number
            logger.warning("Checkpoint %s %s; trying the one before.", self._path(number), flaw)
        # The data of the first without an index is a save that was interrupted.
        if numbers or max(map(_number, self._files()), default=0) > 1:
            raise RuntimeError(
                f"No checkpoint in {self.folder} can be read, so the run can't be continued. "
                "Choose another output_dir, or remove the folder of the run to start again."
            )
        return 0

    def numbers(self) -> list[int]:
        """Of all checkpoints, good or not, ascending."""
        return sorted(_number(path) for path in self._files() if path.suffix == ".index")

    def flaw(self, number: int) -> str | None:
        """What is wrong with a checkpoint; None if it is whole and of this run. Reads all of it."""
        try:
            reader = read_all(str(self._path(number)))
            owner = json.loads(reader.get_tensor(_OWNER)) if reader.has_tensor(_OWNER) else None
        except Exception as error:  # the reader of damaged files raises a dozen types
            return f"can't be read ({first_line(error)})"
        if not isinstance(owner, dict):
            return "is of no run"
        differs = differences(owner, self.owner)
        return f"is of another run ({differs})" if differs else None

    def _path(self, number: int) -> pathlib.Path:
        return self.folder / f"ckpt-{number}"

    def _files(self) -> list[pathlib.Path]:
        """Files of checkpoints; indices first, since the rest is nothing without them."""
        found = filter(_number, self.folder.glob("ckpt-*"))
        return sorted(found, key=lambda path: (path.suffix != ".index", path.name))

    def _write(self, number: int) -> None:
        self._remove_parts()
        self._checkpoint.write(str(self.folder / _PART))
        index = self.folder / f"ckpt-{number}.index"
        index.unlink(missing_ok=True)  # of a damaged one: it must not meet the new data
        for part in self.folder.glob(f"{_PART}.data-*"):
            commit(part, self.folder / f"ckpt-{number}{part.suffix}")
        commit(self.folder / f"{_PART}.index", index)

    def _restore(self, number: int) -> None:
        path = str(self._path(number))
        try:
            self._checkpoint.read(path).assert_existing_objects_matched()
        except (AssertionError, ValueError) as error:  # the program has changed, not the file
            raise RuntimeError(
                f"Checkpoint {path} is of this run, but its variables are not the model's now. Was "
                "it begun with other versions? config.json beside it has them."
            ) from error

    def _sweep(self, newest: int) -> None:
        kept = [number for number in self.numbers() if number <= newest][-_KEPT:]
        for path in self._files():
            if _number(path) <= newest and _number(path) not in kept:
                path.unlink()
        lines = [f'all_model_checkpoint_paths: "ckpt-{number}"\n' for number in kept]
        lines.insert(0, f'model_checkpoint_path: "ckpt-{newest}"\n')
        write_whole(self.folder / "checkpoint", "".join(lines))

    def _remove_parts(self) -> None:
        for path in self.folder.glob(f"{_PART}*"):
            if path.is_dir():  # TensorFlow's own intermediate files
                shutil.rmtree(path)
            else:
                path.unlink()


def read_all(prefix: str):
    """TensorFlow's reader of a checkpoint, once it has read everything, and compared checksums.

    Raises:
        Exception: one of a dozen types, where a file is damaged.
    """
    reader = tf.train.load_checkpoint(prefix)
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)
    return reader


def differences(found: dict, wanted: dict) -> str:
    """In which entries two configs differ, nested ones too, for people; empty if in none."""
    differs = []
    for name in sorted({*found, *wanted}):
        there, now = found.get(name), wanted.get(name)
        if isinstance(there, dict) and isinstance(now, dict):
            differs.append(differences(there, now))
        elif there != now:
            differs.append(f"{name}: {there!r} there, {now!r} now")
    return "; ".join(filter(None, differs))


class Tables(tf.train.experimental.PythonState):
    """Tables as a part of a checkpoint; restoring writes them as they were, without later rows.

    Args:
        paths: of the tables; those that don't exist yet are saved as missing.
    """

    def __init__(self, paths: list[pathlib.Path]):
        self.paths = paths

    def remove(self) -> None:
        """As before the first row."""
        self.deserialize("{}")

    def serialize(self):
        return json.dumps({p.name: p.read_bytes().decode() for p in self.paths if p.exists()})

    def deserialize(self, string_value):
        tables = json.loads(string_value)
        for path in self.paths:
            if path.name in tables:
                write_whole(path, tables[path.name])
            else:
                path.unlink(missing_ok=True)


class _Text(tf.train.experimental.PythonState):
    """Text that is saved, and read by other means than restoring."""

    def __init__(self, text: str):
        self.text = text

    def serialize(self):
        return self.text

    def deserialize(self, string_value):
        pass


def _number(path: pathlib.Path) -> int:
    """The number of the checkpoint that a file belongs to; 0 for other files."""
    match = re.fullmatch(r"ckpt-(\d+)\.(index|data-\d+-of-\d+)", path.name)
    return int(match[1]) if match else 0
