"""What CONTRIBUTING.md names is there."""

import re

from larq_filter import __version__
from paths import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_paths_exist():
    named = re.findall(r"`([\w.]+(?:/[\w.]*)+)`|\]\((\S+?)\)", TEXT)
    paths = {one or other for one, other in named} - {"larq_filter/cli/COMMAND.py", "dist/"}
    assert len(paths) > 12
    for path in paths:
        assert (ROOT / path).exists(), path


def test_targets_exist():
    made = set(re.findall(r"(?m)^([\w./-]+):", (ROOT / "Makefile").read_text()))
    named = set(re.findall(r"(?:^    |`)make ([\w./-]+)", TEXT, re.MULTILINE))
    assert {"test", "package"} <= named <= made


def test_the_version_stands_where_a_release_changes_it():
    assert f'__version__ = "{__version__}"' in (ROOT / "larq_filter" / "__init__.py").read_text()
