"""Files of a run folder: written whole or not at all, and plain words where they can't be written.

Full disks and read-only folders come as ``OSError``, with or without a path, from TensorFlow as one
of five errors, and from HDF5 as text. They are told by the words of the operating system, which all
of them repeat. Rejected: testing before each write, which says nothing about the write itself.
"""

import contextlib
import errno
import json
import os
import pathlib
import re
from collections.abc import Mapping

from larq_filter._keras import tf

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


class NotWritable(OSError):
    """The disk is full, or the folder can't be written."""


@contextlib.contextmanager
def whole(path: pathlib.Path):
    """Gives the name to write a file under, which gets the name ``path`` once it is on the disk.

    A reader never sees half a file, nor does one after a kill. Only one process at a time may write
    a file of one name. The name given ends as ``path`` does: some writers go by that.
    """
    part = _part_of(path)
    try:
        yield part
        commit(part, path)
    except BaseException:
        _remove(part)
        raise


def write_whole(path: pathlib.Path, content: bytes | str) -> None:
    """Writes whole or not at all; text as UTF-8."""
    write_together({path: content})


def write_json(path: pathlib.Path, content, indent: int | None = 2) -> None:
    """Writes whole or not at all."""
    write_whole(path, as_json(content, indent))


def as_json(content, indent: int | None = 2) -> str:
    """The text of a JSON file."""
    return f"{json.dumps(content, indent=indent)}\n"


def write_together(contents: Mapping[pathlib.Path, bytes | str]) -> None:
    """Writes several files or, where one of them can't be written, none; text as UTF-8.

    All are on the disk before the first gets its name; a kill in between leaves some with names.

    Raises:
        IsADirectoryError: one of the names is that of a folder.
    """
    for path in contents:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder has the name of the file", str(path))
    try:
        for path, content in contents.items():
            content = content if isinstance(content, bytes) else content.encode()
            _part_of(path).write_bytes(content)
            _sync(_part_of(path))
        for path in contents:
            os.replace(_part_of(path), path)
    except BaseException:
        for path in contents:
            _remove(_part_of(path))
        raise


def commit(part: pathlib.Path, path: pathlib.Path) -> None:
    """Gives a written file its name, once its content is on the disk."""
    _sync(part)
    os.replace(part, path)


def _part_of(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.stem}.part{path.suffix}")


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(part: pathlib.Path) -> None:
    """On a full disk the space is needed."""
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def plain_errors(folder: pathlib.Path, continued: bool = True):
    """Turns whatever a full disk or a read-only ``folder`` raises into one sentence.

    ``continued``: whether the same command goes on with what it saved before.

    Raises:
        NotWritable: says the reason, the folder and the fix.
    """
    try:
        yield
    except NotWritable:
        raise
    except (OSError, RuntimeError, tf.errors.OpError) as error:  # RuntimeError: of HDF5
        text = " ".join(str(error).split())
        reason = _reason(error, text, _FULL)
        if reason:
            advice = "Make room"
        else:
            reason = _concerns(error, text, folder) and _reason(error, text, _REFUSED)
            advice = "Choose another folder, or make this one writable"
        if not reason:
            raise
        raise NotWritable(
            f"{folder} can't be written: {reason}. {advice} and give the same command again; what "
            f"was saved before is intact{' and will be continued' * continued}."
        ) from error


def name_of(*parts) -> str:
    """One name of a file or folder out of several words, whatever these hold.

    Only letters, digits and ``_ + = . -`` stay as they are, so that the name has no ``/``, and it
    can't be ``..``: it stays in the folder that it is put into.
    """
    words = [re.sub(r"[^\w+=.-]", "_", str(part)).strip(".") or "_" for part in parts]
    return "-".join(words)


def _reason(error, text: str, numbers) -> str | None:
    """The operating system's words, if ``error`` is one of these ``numbers``."""
    for number in numbers:
        words = os.strerror(number)
        if getattr(error, "errno", None) == number or words in text:
            return words
    return None


def _concerns(error, text: str, folder: pathlib.Path) -> bool:
    """Whether a path in ``error`` is the folder, a part of it or what it lies in."""
    name = getattr(error, "filename", None)
    if name is None:
        return str(folder) in text
    folder, path = pathlib.Path(os.path.abspath(folder)), pathlib.Path(os.path.abspath(name))
    return path in folder.parents or folder in (path, *path.parents)


@contextlib.contextmanager
def locked(path: pathlib.Path, wait: bool = True):
    """Holds an exclusive ``flock`` on a file, which is created and never removed.

    The operating system frees it when its holder ends, however it ends. The file system must have
    such locks; NFS has them from version 4 on.

    Args:
        path: of the file.
        wait: until another holder gives it back.

    Yields:
        True; without ``wait`` False if another holds it.

    Raises:
        OSError: no such locks on this system or file system, or the file can't be written.
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError("locks on files need Linux, macOS or another Unix") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            taken = False
        else:
            taken = True
        yield taken
