"""How commands start and end, and what they say of themselves."""

import ast
import dataclasses
import logging
import os
import re
import subprocess
import sys

import pytest

from larq_filter.cli import __main__ as entry
from larq_filter.cli import command_line
from larq_filter.experiments import run_folder
from paths import ROOT

COMMANDS = ROOT / "larq_filter" / "cli"
QUIET = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def run(body, *arguments):
    """A script whose ``main`` is ``body``."""
    start = "from larq_filter.cli import command_line\ncommand_line.start(main, 'Go on.')"
    command = [sys.executable, "-c", f"def main():\n    {body}\n{start}", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=QUIET)
    # Without what TensorFlow says while it is imported.
    ended.stderr = re.sub(
        r"(?m)^([IWE]0000 |WARNING: All log messages before).*\n", "", ended.stderr
    )
    return ended


@pytest.mark.slow
@pytest.mark.parametrize(
    "body, arguments, status, said",
    [
        ("print('all well')", [], 0, ""),
        ("raise KeyboardInterrupt", [], 130, "\nInterrupted. Go on.\n"),
        ("open('no/such/file')", [], 1, "error: [Errno 2] No such file"),
        ("print('never')", ["--", "false"], 1, "error: 'false' belongs to no flag. Write --flag"),
    ],
)
def test_one_line_and_a_status(body, arguments, status, said):
    ended = run(body, *arguments)
    assert ended.returncode == status
    assert ended.stderr.startswith(said) and len(ended.stderr.strip().splitlines()) <= 1
    assert "never" not in ended.stdout


def test_what_the_user_cannot_mend_keeps_its_traceback():
    assert "Traceback" in run("{}['x']").stderr


def test_the_library_is_quiet_until_a_command_shows_what_it_says(capsys, monkeypatch):
    logger = logging.getLogger("larq_filter")
    assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)
    for name, value in [("handlers", []), ("level", logging.NOTSET), ("propagate", True)]:
        monkeypatch.setattr(logger, name, value)  # puts them back afterwards
    logger.getChild("experiments").info("never")
    for _ in range(2):
        command_line.show_progress()
    logger.getChild("experiments").info("epoch %d", 3)
    logger.getChild("experiments").debug("never")
    assert capsys.readouterr() == ("epoch 3\n", "")


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.parametrize("script", ["paper/figures.py", "benchmarks/models.py"])
def test_a_file_in_place_of_the_output_folder(script, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    command = [sys.executable, script, f"--output_dir={file}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"error: {file} can't be written: File exists")
    assert "Traceback" not in ended.stderr


def test_every_command_starts_so():
    scripts = [COMMANDS / f"{name}.py" for name in entry.COMMANDS]
    scripts += [ROOT / name for name in ("paper/figures.py", "benchmarks/models.py")]
    for path in [*scripts, ROOT / "benchmarks" / "benchmark.py"]:
        assert "\n    command_line.start(main" in path.read_text(), path
    for path in COMMANDS.glob("*.py"):
        assert ("app.run(" in path.read_text()) == (path.name == "command_line.py"), path


@pytest.mark.slow
@pytest.mark.parametrize("command", entry.COMMANDS)
def test_help_of_a_command_and_of_its_script(command):
    """The docstring and the flags of the module, whichever way it was started."""
    for start in (["-m", "larq_filter.cli", command], [f"examples/{command}.py"]):
        ended = subprocess.run(
            [sys.executable, *start, "--help"], cwd=ROOT, capture_output=True, text=True, env=QUIET
        )
        module = ast.parse((COMMANDS / f"{command}.py").read_text())
        assert ast.get_docstring(module).splitlines()[0] in ended.stdout
        flags = [
            node.args[0].value
            for node in ast.walk(module)
            if isinstance(node, ast.Call)
            and "DEFINE" in getattr(node.func, "attr", "")
            and isinstance(node.args[0], ast.Constant)
        ]
        assert flags
        for flag in flags:
            assert f"--{flag}" in ended.stdout or f"--[no]{flag}" in ended.stdout, flag
        if command == "train":
            assert_shows_the_config(ended.stdout)


def assert_shows_the_config(text):
    """Each field with its default and the lowest number; the words are those of its metadata."""
    shown = {
        name: " ".join(body.split())
        for name, body in re.findall(r"(?m)^  --(?:\[no\])?(\w+): ((?:.*\n(?!  -|\n))*.*)", text)
    }
    for field in dataclasses.fields(run_folder.Config):
        if field.name not in ("knobs", "method"):
            assert field.metadata["help"].split()[0] in shown[field.name]
            default = str(field.default).lower() if field.type is bool else field.default
            assert field.default is None or f"(default: '{default}')" in shown[field.name]
            if field.type is int:
                low = ("positive", "non-negative")[field.metadata["low"] == 0]
                assert f"(a {low} integer)" in shown[field.name]


def test_the_entry_says_which_commands_there_are(capsys):
    entry.run([])
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in entry.COMMANDS)
    with pytest.raises(SystemExit) as ended:
        entry.run(["trian"])
    assert ended.value.code == 2
    assert "Did you mean train?" in capsys.readouterr().err
