"""The README's Python, typed from top to bottom."""

import re

import numpy as np
import pytest

from paths import ROOT

README = (ROOT / "README.md").read_text()


def stripes(count, size=28):
    """Images of ten patterns in noise, and the pattern of each."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, count)
    rows, columns = np.mgrid[:size, :size]
    images = [np.sin((k % 4) * rows + (k // 4) * columns) for k in labels]
    noise = random.normal(scale=0.3, size=(count, size, size))
    return (np.stack(images) + noise)[..., None].astype("float32"), labels


@pytest.mark.slow
@pytest.mark.extras
def test_the_blocks_run_one_after_the_other():
    """What they leave to the reader: data, a loss, the length of training."""
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) == README.count("```python")
    images, labels = stripes(320)
    names = {"images": images, "labels": labels, "epochs": 2, "steps_per_epoch": 10}
    names["loss"] = "sparse_categorical_crossentropy"
    for block in blocks:
        exec(block, names)
    assert names["report"].ok, str(names["report"])
