"""The Python of README and pages, typed from top to bottom."""

import re

import numpy as np
import pytest

from paths import ROOT

README = ROOT / "README.md"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "docs/api/index.md"]
# What a page leaves to the reader; a model and a loss of one's own.
LEFT_OPEN = {"scaling_out.md": ["model = ...", "loss=..."]}


def stripes(count, size=28):
    """Images of ten patterns in noise, and the pattern of each."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, count)
    rows, columns = np.mgrid[:size, :size]
    images = [np.sin((k % 4) * rows + (k // 4) * columns) for k in labels]
    noise = random.normal(scale=0.3, size=(count, size, size))
    return (np.stack(images) + noise)[..., None].astype("float32"), labels


def blocks(path):
    text = path.read_text()
    found = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(found) == text.count("```python")
    return found


def typed(*paths):
    """What the names are in the end; before: data, a loss, the length of training."""
    images, labels = stripes(320)
    names = {"images": images, "labels": labels, "epochs": 2, "steps_per_epoch": 10}
    names["loss"] = "sparse_categorical_crossentropy"
    for path in paths:
        for block in blocks(path):
            exec(block, names)
    return names


def test_pages_that_leave_something_open_say_what():
    for name, marks in LEFT_OPEN.items():
        text = "\n".join(blocks(ROOT / "docs" / name))
        assert all(mark in text for mark in marks)


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.parametrize(
    "path",
    [README, *(p for p in PAGES if p.name not in LEFT_OPEN and blocks(p))],
    ids=lambda path: path.name,
)
def test_the_blocks_run_one_after_the_other(path, tmp_path, monkeypatch):
    """Those of a page after the README's twelve lines, whose model they go on with."""
    monkeypatch.chdir(tmp_path)
    names = typed(README) if path == README else typed(README, path)
    if "report" in names:
        assert names["report"].ok, str(names["report"])
    if path.name == "extending.md":  # the last of its rules trains
        names["model"].fit(names["images"], names["labels"], verbose=0)
    if path.name == "tutorial.md":
        assert names["accuracy"] > 0.9
        assert (tmp_path / "digits.tflite").stat().st_size < 30_000
