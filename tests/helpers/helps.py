"""What commands and scripts print for ``--help``, all in one process, as TensorFlow starts slowly.

Each is run in a fork, as flags are defined once in a process. TensorFlow has computed nothing by
then, so it has no threads that a fork would lose.
"""

import functools
import json
import subprocess
import sys

from paths import ROOT

_PROGRAM = """
import contextlib, io, json, os, runpy, sys, traceback
import larq_filter.cli.command_line

def said(start):
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if start[0] == "-m":
                sys.argv = start[1:]
                runpy.run_module(start[1], run_name="__main__", alter_sys=True)
            else:
                sys.argv, sys.path[0] = start, os.path.dirname(os.path.abspath(start[0]))
                runpy.run_path(start[0], run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            status = 1
            traceback.print_exc()
    return [status, out.getvalue(), err.getvalue()]

found = []
for start in json.loads(sys.argv[1]):
    reading, writing = os.pipe()
    if os.fork() == 0:
        with os.fdopen(writing, "w") as pipe:
            json.dump(said(start), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found.append(json.load(pipe))
    os.wait()
print(json.dumps(found))
"""


@functools.cache
def printed(starts: tuple[tuple[str, ...], ...]) -> dict:
    """Exit status, stdout and stderr of each start, such as ``("examples/train.py", "--help")``."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(starts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(starts, json.loads(done.stdout.splitlines()[-1]), strict=True))
