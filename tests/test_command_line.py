"""How the example scripts start and end."""

import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def run(body, *arguments):
    """A script whose ``main`` is ``body``."""
    script = f"import command_line\ndef main():\n    {body}\ncommand_line.start(main, 'Go on.')"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True)


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


@pytest.mark.extras
@pytest.mark.parametrize("script", ["figures.py", "models.py"])
def test_a_file_in_place_of_the_output_folder(script, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    command = [sys.executable, script, f"--output_dir={file}"]
    ended = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"error: {file} can't be written: File exists")
    assert "Traceback" not in ended.stderr


def test_every_script_with_flags_starts_so():
    names = "train compare sweep export translate figures models benchmark".split()
    for name in names:
        assert "\n    command_line.start(main" in (EXAMPLES / f"{name}.py").read_text(), name
    for path in EXAMPLES.glob("*.py"):
        assert ("app.run(" in path.read_text()) == (path.name == "command_line.py"), path
