"""What a type checker says to a user of the package: nothing of good code, something of bad."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from paths import ROOT

CONSUMER = pathlib.Path(__file__).with_name("consumer.py")


@pytest.mark.extras
def test_strict_checking_finds_what_is_wrong_and_nothing_else(tmp_path):
    """From another folder, as a package that is installed."""
    options = ["--strict", "--ignore-missing-imports", "--cache-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--follow-imports=silent", str(CONSUMER)],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    found = {int(line) for line in re.findall(r"consumer\.py:(\d+): error:", done.stdout)}
    lines = CONSUMER.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(wrong) > 5 and found == wrong, done.stdout + done.stderr
