"""A PostgreSQL server for the tests: of its own, in a temporary folder, on the loopback only.

The server refuses to run as root, so root starts it as an unprivileged user. It ends with the
fixture; if the tests are killed, the kernel ends it.
"""

import contextlib
import ctypes
import glob
import os
import pathlib
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

ADDRESS = "127.0.0.1"
USER = "searcher"
PR_SET_PDEATHSIG = 1


def program(name):
    """Path of a server program; Debian keeps them off the path."""
    found = shutil.which(name) or max(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None)
    if found is None:
        pytest.exit(
            f"There is no {name}: install the PostgreSQL server (Debian: apt-get install "
            "postgresql) or put its programs on the path.",
            returncode=1,
        )
    return os.path.realpath(found)  # it finds its own files beside it


def unprivileged():
    """Arguments of subprocess that give up root; none without root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return pytest.exit("Neither a user postgres nor nobody exists to run the server.", returncode=1)


def end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def free_port():
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return probe.getsockname()[1]


class Server:
    """A running server; ``stop`` and ``start`` as often as wanted."""

    def __init__(self, folder):
        self.folder, self.port, self.process = pathlib.Path(folder), free_port(), None
        self.password, self.as_user = secrets.token_hex(8), unprivileged()
        if self.as_user:
            os.chown(folder, self.as_user["user"], self.as_user["group"])
        secret = self.folder / "password"
        secret.write_text(self.password)
        self._run(
            *("initdb", "-D", self.folder / "data", "-U", USER, f"--pwfile={secret}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
        )

    def _run(self, name, *arguments):
        done = subprocess.run(
            [program(name), *map(str, arguments)],
            **{"capture_output": True, "text": True, "cwd": self.folder, **self.as_user},
        )
        assert done.returncode == 0, done.stderr

    def start(self):
        options = {
            "listen_addresses": ADDRESS,
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
        }
        flags = [f"-c{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program("postgres"), "-D", str(self.folder / "data"), *flags],
                **{"stdout": log, "stderr": log, "cwd": self.folder, **self.as_user},
                preexec_fn=end_with_parent,
            )
        deadline = time.monotonic() + 60
        while not self._accepts():
            log = (self.folder / "log").read_text()
            assert self.process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)

    def _accepts(self):
        import psycopg2

        try:
            psycopg2.connect(self._url("postgresql", "postgres")).close()
        except psycopg2.OperationalError:
            return False
        return True

    def stop(self):
        """Fast shutdown: connections are cut."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait()

    def database(self, name):
        """URL of a new, empty database."""
        import psycopg2

        connection = psycopg2.connect(self._url("postgresql", "postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
        connection.close()
        return self._url("postgresql+psycopg2", name)

    def _url(self, scheme, database):
        return f"{scheme}://{USER}:{self.password}@{ADDRESS}:{self.port}/{database}"


@pytest.fixture(scope="session")
def server():
    folder = tempfile.mkdtemp(prefix="postgresql-")  # pytest's own can't be entered by other users
    made = None
    try:
        made = Server(folder)
        made.start()
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(server, request):
    """URL of a database of the test's own, with its password."""
    if server.process.poll() is not None:
        server.start()
    return server.database(request.node.name)
