"""How commands start and end, and what they say of themselves."""

import ast
import dataclasses
import logging
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

import helps
import larq_filter_cli
from larq_filter._keras import tf
from larq_filter.cli import __main__ as entry
from larq_filter.cli import command_line, help
from larq_filter.experiments import run_folder
from paths import ROOT

COMMANDS = ROOT / "larq_filter" / "cli"
NOISY = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
NOISY |= {"PYTHONPATH": str(ROOT)}
QUIET = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
ASCII = {"PYTHONIOENCODING": "ascii"}


def script(body):
    """One whose ``main`` is ``body``."""
    start = "from larq_filter.cli import command_line\ncommand_line.start(main, 'Go on.')"
    return f"def main():\n    {body}\n{start}"


def run(body, *arguments):
    """What came of a script whose ``main`` is ``body``."""
    command = [sys.executable, "-c", script(body), *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=QUIET | ASCII)
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
        ("raise MemoryError('8 GB')", [], 1, "error: the memory is too small (8 GB). Take a sm"),
        ("print('K\\u00e4tzchen \\u732b')", [], 0, ""),
        ("print('never')", ["--", "false"], 1, "error: 'false' belongs to no flag. Write --flag"),
    ],
)
def test_one_line_and_a_status(body, arguments, status, said):
    ended = run(body, *arguments)
    assert ended.returncode == status
    assert ended.stderr.startswith(said) and len(ended.stderr.strip().splitlines()) <= 1
    assert "never" not in ended.stdout


@pytest.mark.slow
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


@pytest.mark.parametrize("command", entry.COMMANDS)
def test_the_script_of_a_command_is_that_command(command):
    body = ast.parse((ROOT / "examples" / f"{command}.py").read_text()).body[1:]
    assert [ast.unparse(node) for node in body] == [
        "import sys",
        "from larq_filter_cli import main",
        f"if __name__ == '__main__':\n    main(['{command}', *sys.argv[1:]])",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("command", entry.COMMANDS)
def test_help_of_a_command(command):
    """The docstring and the flags of the module, and nothing else."""
    module = ast.parse((COMMANDS / f"{command}.py").read_text())
    used = [module]
    if "network_flags" in ast.unparse(module):
        used.append(ast.parse((COMMANDS / "network_flags.py").read_text()))
    starts = tuple(("-m", "larq_filter_cli", each, "--help") for each in entry.COMMANDS)
    status, text, err = helps.printed(starts)[("-m", "larq_filter_cli", command, "--help")]
    assert (status, err) == (0, "")
    assert text.startswith(ast.get_docstring(module))
    assert max(map(len, text.splitlines())) <= 120
    flags = [
        node.args[0].value
        for each in used
        for node in ast.walk(each)
        if isinstance(node, ast.Call)
        and ("DEFINE" in (name := getattr(node.func, "attr", "")) or name == "define_path")
        and isinstance(node.args[0], ast.Constant)
    ]
    assert flags
    for flag in flags:
        assert re.search(rf"(?m)^  --(\[no\])?{flag}(=|$)", text), flag
    if command == "train":
        assert_shows_the_config(text)


def started(start, *arguments, cwd):
    """A command as somebody types it, with all that TensorFlow has to say."""
    command = [sys.executable, *start, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=NOISY)


def assert_shows_the_config(text):
    """Each field in its group, with its default and the words of its metadata."""
    shown = {
        name: " ".join(body.split())
        for name, body in re.findall(
            r"(?m)^  --(?:\[no\])?(\w+)(?:=\S+)?\n((?:      .*\n?)+)", text
        )
    }
    for field in dataclasses.fields(run_folder.Config):
        if field.name not in ("knobs", "method"):
            assert " ".join(field.metadata["help"].split()) in shown[field.name]
            default = str(field.default).lower() if field.type is bool else field.default
            default = "starter" if field.name == "model" else default  # of this command alone
            assert field.default is None or shown[field.name].endswith(f"Default: {default}.")
    titles = [text.index(f"\n{each}:\n") for each in ("This command", *help.TITLES, "Methods")]
    assert titles == sorted(titles)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["train", "--alhpa=0.1"], 2, "error: Unknown command line flag 'alhpa'. Did you mean: al"),
        (["train", "--alpha=7"], 1, "error: alpha is 7.0; it must lie in (0, 1]."),
        (
            ["train", "--method=bpo", "--help"],
            1,
            "error: Unknown method 'bpo'; did you mean bop?\n",
        ),
        (["trian"], 2, "error: there is no command 'trian'. Did you mean train?"),
    ],
)
def test_mistakes_on_the_command_line(arguments, status, said, tmp_path):
    ended = started(["-m", "larq_filter_cli"], *arguments, cwd=tmp_path)
    assert ended.returncode == status and ended.stderr.startswith(said)
    assert ended.stdout == "" and not list(tmp_path.iterdir())


ONE_PROCESS = """
import dataclasses, pathlib, sys
from absl import flags
from larq_filter.cli import command_line, run_flags, train
from larq_filter.experiments import methods

flags.DEFINE_string("this", None, "")
flags.DEFINE_string("that", None, "")
def parse(*words):
    try:
        command_line._parse(["larq-filter train", *words])
    except SystemExit as ended:
        print("status", ended.code, file=sys.stderr)


for mistake in sys.argv[1:]:
    parse(mistake)
command_line.require_one_of("this", "that")
parse()
parse("--this=a", "--import=a module", "--import=layers", "--output_dir=~/runs/a")
print(flags.FLAGS.output_dir)
pathlib.Path("text.txt").touch()
for given in "text.txt", "text.txt/run", "/proc/x", None, "a/b/run":
    try:
        print(run_flags.output_folder(given, "a", 0))
    except OSError as error:
        print(error)
print(sorted(path.name for path in pathlib.Path().iterdir()))
config = dataclasses.replace(train.config_from_flags(), model="mine:build")
print(train.next_steps(pathlib.Path("my runs/1"), config))
for method in methods.METHODS:
    config = dataclasses.replace(config, method=method)
    print(len(train.next_steps(pathlib.Path("my runs/1"), config).splitlines()[-1]))
parse("--that=b")
"""


@pytest.mark.slow
def test_flags_that_are_wrong_folders_that_can_not_be_made_and_lines_to_paste(tmp_path):
    mistakes = {
        "--method=fliter": "--method=fliter: did you mean filter?",
        "--method=zzzzzz": "--method=zzzzzz: there is no such choice.",
        "--control=maybe": "--control=maybe: it is one of auto, yes, no.",
        "--seed=abc": "--seed=abc: a whole number is needed.",
        "--alpha=abc": "--alpha=abc: a number is needed.",
        "--download=3": "--download=3: a switch is --download or --nodownload.",
        "--batch_size=0": "--batch_size=0: 0 is not a positive integer",
        "--gpu=0": "There is no flag --gpu. A command uses the first GPU that TensorFlow sees; the "
        "variable CUDA_VISIBLE_DEVICES=1 before the command chooses another, and larq-filter train "
        "--strategy=mirrored shares the work between all.",
    }
    ended = subprocess.run(
        [sys.executable, "-c", ONE_PROCESS, *mistakes],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=QUIET,
    )
    said = [line for line in ended.stderr.splitlines() if line[:6] in ("error:", "status")]
    pair = "give --this=... or --that=..., and only one of them."
    assert said == [
        line
        for words in [*mistakes.values(), pair, pair]
        for line in (f"error: {words}", "status 2")
    ]
    assert "\nlarq-filter train --help lists the flags, and what they take.\n" in ended.stderr
    lines = ended.stdout.splitlines()
    is_file = " is a file. Give the name of a folder; it is made if it is not there."
    assert lines.pop(0) == os.path.expanduser("~/runs/a")
    assert lines[:2] == [
        f"--output_dir=text.txt: text.txt{is_file}",
        f"--output_dir=text.txt/run: {tmp_path / 'text.txt'}{is_file}",
    ]
    assert lines[2].startswith("--output_dir=/proc/x can't be made: ")
    assert lines[2].endswith(". Choose another folder, or make this one writable.")
    assert lines[3:5] == [str(pathlib.Path("runs", "a-0")), str(pathlib.Path("a", "b", "run"))]
    assert lines[5] == "['text.txt']"  # nothing else was made
    export, board, help_line = (shlex.split(line, comments=True) for line in lines[6:9])
    assert help_line == ["larq-filter", "train", "--help"]
    assert len(lines) > 40 and max(map(int, lines[9:])) <= 120  # the knobs of each method
    assert export[1:] == [
        *("larq-filter", "export", "--run=my runs/1", "--model=mine:build"),
        "--import=a module",
        "--import=layers",
    ]
    assert board == ["tensorboard", "--logdir", "my runs/1"]


@pytest.mark.slow
def test_a_good_run_is_silent_on_stderr_and_short_on_stdout(tmp_path):
    """What TensorFlow notes while it starts does not show; a line an epoch, of 120 characters."""
    run = ["--model=mlp", "--width=16", "--epochs=2", "--steps_per_epoch=3", "--control=no"]
    command = ["-m", "larq_filter_cli", "train", "--output_dir=run", *run]
    lines = []
    for _ in range(2):
        ended = started(command, cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        lines.append(ended.stdout.splitlines())
        assert max(map(len, lines[-1])) <= 120 and len(lines[-1]) <= 14
        (tmp_path / "run" / "result.json").unlink()
    assert lines[0][0].startswith("Epoch 1/2: loss ") and lines[0][1].startswith("Epoch 2/2: ")
    assert lines[1][0].startswith("Continues the run in run after epoch 2 of 2")
    (tmp_path / "new-control").mkdir()
    (tmp_path / "new-control" / "thesis.txt").touch()
    command = ["-m", "larq_filter_cli", "train", "--output_dir=new", *run[:-1], "--control=yes"]
    ended = started(command, cwd=tmp_path)
    assert ended.returncode == 1 and ended.stderr.startswith("error: new-control is not empty")
    assert not (tmp_path / "new").exists()  # before hours of the main run


def test_errors_of_native_code_pass_the_filter_and_its_notes_do_not():
    noise = [
        b"2026-11-28 00:10:30.24: I tensorflow/core/util/port.cc:153] oneDNN",
        b"2026-11-28 00:10:30.28: E external/x.cc:467] Unable to register cuFFT factory: ...",
        b"2026-11-28 02:19:23.16: E external/x.h:177] SetPriority unimplemented for this stream.",
        b"E0000 00:00:1795824630.322489   16978 cuda_dnn.cc:8579] Unable to register cuDNN",
        b"I0000 00:00:1795824641.479681   16978 service.cc:152] XLA service",
        b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    ]
    assert all(larq_filter_cli._NOTES.match(line) for line in noise)
    errors = [
        b"2026-11-28 00:10:30.24: F tensorflow/core/x.cc:1] Check failed",
        b"2026-11-28 00:10:30.24: E tensorflow/core/x.cc:1] Out of memory",
        b"Fatal Python error: Segmentation fault",
        b"terminate called after throwing an instance of 'std::bad_alloc'",
    ]
    assert not any(larq_filter_cli._NOTES.match(line) for line in errors)


def test_an_interruption_before_the_command_begins_is_one_too(monkeypatch):
    def imported(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry.importlib, "import_module", imported)
    monkeypatch.setattr(sys, "argv", [])
    with pytest.raises(SystemExit) as ended:
        entry.run(["train"])
    assert ended.value.code == 130


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "larq_filter_cli", "train", "--help"],
        ["-m", "larq_filter_cli", "translate", "--preset=recu"],
        ["-c", script("print('much ' * 100_000)")],
    ],
    ids=["help", "command", "script"],
)
def test_output_that_nobody_reads(command):
    """As of ``... | head -0``."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, *command]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=QUIET, cwd=ROOT)
    os.close(write)
    assert ended.returncode == 1 and b"roken" not in ended.stderr, ended.stderr


@pytest.mark.slow
def test_a_training_goes_on_when_nobody_reads_its_lines(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "larq_filter_cli", "train", "--model=mlp", "--epochs=2"]
    command += ["--control=no", f"--output_dir={tmp_path / 'run'}"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=NOISY, cwd=ROOT)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, b"")
    assert run_folder.read_result(tmp_path / "run").epochs == 2


@pytest.mark.slow
def test_a_broken_pipe_that_is_not_stdout_is_told():
    ended = run("raise BrokenPipeError(32, 'the server has gone')")
    assert ended.returncode == 1 and ended.stderr == "error: [Errno 32] the server has gone\n"


@pytest.mark.parametrize("words", [["--method", "bop"], ["--method=filter", "--method=bop"]])
def test_help_knows_the_method_with_a_blank_or_a_sign(words):
    assert help._method_of([*words, "--help"]) == "bop"


def test_the_entry_says_which_commands_there_are(capsys):
    entry.run([])
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in entry.COMMANDS) and "--version" in said
    entry.run(["--version"])
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"tensorflow {tf.__version__}" in said
    assert re.search(r"\bpython 3\..*, larq_filter .*, larq \d", said)
    with pytest.raises(SystemExit) as ended:
        entry.run(["trian"])
    assert ended.value.code == 2
    assert "Did you mean train?" in capsys.readouterr().err
