"""The commands of README and tutorial, typed in their order in an empty folder, made small."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from paths import ROOT

PAGES = {page.stem: page for page in (ROOT / "README.md", ROOT / "docs/tutorial.md")}
# What stands for a command of the README: the first that the Makefile has for it.
STAND_INS = {"make demo": "larq-filter train"}
NOT_RUN = {
    r"make \S+": "installs environments and runs all of these tests",
    "pip install .*": "installs; `make package` tries it in an empty environment",
    r"source \.venv/bin/activate": "of the shell",
    "python -m http.server .*": "serves until somebody stops it; the tests of the site do it",
    "python benchmarks/benchmark.py": "13 minutes; tests/test_benchmark.py runs its parts",
    "python paper/figures.py .*": "trains 30 networks; tests/test_figures.py draws its figure",
}
SMALL = {"larq-filter train": "--epochs=2"}
# The files that a command writes, the words that it prints.
PROMISED = {
    "larq-filter train": (
        "runs/digits-starter-filter-0/model.keras",
        "binary kernels frozen",
    ),
    "larq-filter export --run=runs/digits-starter-filter-0": (
        "runs/digits-starter-filter-0/model.tflite",
        "every claim holds",
    ),
    "python examples/quickstart.py": ("", "validation accuracy 0.9"),
    "larq-filter predict --pretrained=birealnet20-cifar10 cat.png": ("", "cat.png"),
    "larq-filter translate --preset=recu": ("", "  10.2  "),
    "larq-filter translate": ("", "optimizer.set_filter_state(kernel, state)"),
    "larq-filter train --model=starter": (
        "runs/digits/model.keras",
        "Next: larq-filter export --run=runs/digits ",
    ),
    "larq-filter export --run=runs/digits --output=digits.tflite": (
        "digits.tflite",
        "every claim holds",
    ),
}


def commands(page):
    """In the order of the page: lines of code, and code within the text."""
    text = re.sub(r"^```.*?^```", "", PAGES[page].read_text(), flags=re.DOTALL | re.MULTILINE)
    words = r"(?:python|larq-filter|make|pip|source|jupyter) "
    found = re.findall(rf"^    ({words}.*)|`({words}[^`]*)`", text, re.MULTILINE)
    lines = [" ".join((line or code).partition(" #")[0].split()) for line, code in found]
    known = STAND_INS if page == "README" else {}
    return list(dict.fromkeys(known.get(line, line) for line in lines))


def best(table, command):
    """The entry whose key is the longest beginning of the command."""
    keys = [key for key in table if f"{command} ".startswith(f"{key} ")]
    return table[max(keys, key=len)] if keys else None


def test_the_makefile_runs_the_stand_ins():
    recipes = (ROOT / "Makefile").read_text()
    for target, command in STAND_INS.items():
        name = target.split()[1]
        assert re.search(rf"^{name}:.*\n\t\.venv/bin/{command}$", recipes, re.MULTILINE)


def test_every_exception_is_needed():
    lines = [line for page in PAGES for line in commands(page)]
    for pattern in NOT_RUN:
        assert any(re.fullmatch(pattern, line) for line in lines), pattern


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.parametrize("page", PAGES)
def test_commands_do_what_the_page_says(page, tmp_path):
    run = [c for c in commands(page) if not any(re.fullmatch(each, c) for each in NOT_RUN)]
    assert len(run) >= 3
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(256, size=(48, 64, 3), dtype="uint8")
    image.fromarray(pixels).save(tmp_path / "cat.png")
    for command in run:
        promised, said = best(PROMISED, command)
        start, what, *flags = shlex.split(f"{command} {best(SMALL, command) or ''}")
        own = {"python": [ROOT / what], "larq-filter": ["-m", "larq_filter_cli", what]}
        done = subprocess.run(
            [sys.executable, *own[start], *flags],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert said in done.stdout + " ", f"{command}\n{done.stdout}"
        assert (tmp_path / promised).exists(), command
