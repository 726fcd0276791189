"""Locks between processes that the operating system frees when their holder ends, however it ends.

Optuna's own locks of its file storage, a symbolic link or a file created exclusively, outlive a
killed process, and the others wait half a minute before they break them. They were made for network
file systems without ``fcntl`` locks (NFS before version 4); these here need a file system with.
"""

import os
import pathlib


class FileLock:
    """An exclusive ``flock`` on a file, which is created and never removed.

    It has the two methods that Optuna's ``JournalFileBackend`` asks of a lock.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self._descriptor = None

    def acquire(self, wait: bool = True) -> bool:
        """Takes the lock; without ``wait`` returns False if another holds it.

        Raises:
            OSError: no such locks on this system or file system, or the file can't be written.
        """
        try:
            import fcntl
        except ImportError as error:
            raise OSError("locks on files need Linux, macOS or another Unix") from error
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Gives the lock back; without one does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    close = release

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *_):
        self.release()


def drop_torn_line(path: pathlib.Path) -> bool:
    """Removes what follows the last end of line; returns whether there was anything.

    A full disk or a power failure can leave half a record. The next one would be appended to it,
    and a file with an unreadable line in the middle could not be opened again. Hold the lock.
    """
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return False
    os.truncate(path, whole)
    return True
