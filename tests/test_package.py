"""What the project says of itself in several files is one thing."""

import re

import larq_filter
from paths import ROOT


def test_the_citation_is_of_this_version_and_of_the_paper():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", text, re.MULTILINE)[1] == larq_filter.__version__
    assert "arXiv:2303.02452" in text
    assert f"\n## [{larq_filter.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
