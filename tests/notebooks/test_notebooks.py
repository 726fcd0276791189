"""The notebooks run whole in a fresh kernel, as in Jupyter, and what they say is true."""

import json
import os
import re
import subprocess

import pytest
from packaging.requirements import Requirement

import larq_filter_cli
from paths import ROOT

FOLDER = ROOT / "notebooks"
# What is asked of each in its kernel, after its last cell; and the number of its figures.
# With binary weights frozen at random the first accuracy is 0.55, the second 0.76.
ASKED = {
    "first_steps": (
        2,
        """
        assert accuracy > 0.9
        assert set(map(tuple, kernel_values.values())) == {(-1.0, 1.0)} and len(kernel_values) == 3
        flips = history.history["flip_ratio"]
        assert 0 < flips[-1] < flips[0] / 2
        """,
    ),
    "from_latent_to_tflite": (
        1,
        """
        assert differing == [0] * 20 and flipped > 50
        assert all(history["val_accuracy"][-1] > 0.85 for history in histories.values())
        assert len(reports) == 2 and all(report.ok for report in reports.values())
        assert len(flatbuffer) < 12_000
        """,
    ),
    "your_own_filter": (
        3,
        """
        assert difference < 1e-12
        flips = {name: history["flip_ratio"][-1] for name, (_, history) in results.items()}
        assert flips["smoothed average"] < flips["average"] < flips["double average"]
        for name, each in filters.items():
            assert abs(flips[name] / lf.analysis.expected_flip_ratio(each) - 1) < 0.4
        assert loaded.optimizer.gradient_filter.rates() == double.rates()
        """,
    ),
}


def code(name):
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def first_cell(name="first_steps"):
    return "".join(code(name)[0]["source"])


def test_all_are_tested_and_lie_there_without_outputs():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(ASKED)
    page = (ROOT / "docs/notebooks.md").read_text()
    assert re.findall(r"\(notebooks/(\w+)\.ipynb\)", page) == list(ASKED)
    for name in ASKED:
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code(name))


def test_the_first_cell_is_one():
    """The address of the package stands in one line, the same in all of them."""
    assert len({first_cell(name) for name in ASKED}) == 1, "Copy the new first cell to the others."
    assert re.findall(r'^ADDRESS = "(.*)"$', first_cell(), re.MULTILINE) == [""]


def run_without_the_package(monkeypatch, source):
    """The first cell where larq_filter is missing; what it would have typed."""
    typed = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "check_call", typed.append)
    with pytest.raises((ImportError, RuntimeError)) as raised:
        exec(source, {})
    return typed, str(raised.value)


def test_the_first_cell_installs(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")  # which it sets, and is taken back
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    typed, said = run_without_the_package(monkeypatch, first_cell())
    assert not typed and "not installed" in said and "pip install" in said
    source = first_cell().replace('ADDRESS = ""', 'ADDRESS = "git+https://example.org/it.git"')
    ((*pip, package),), said = run_without_the_package(monkeypatch, source)
    assert pip[1:] == ["-m", "pip", "install", "--quiet"]
    assert "restart the runtime" in said  # numpy and TensorFlow are loaded here
    requirement = Requirement(package)
    assert requirement.url == "git+https://example.org/it.git"
    assert requirement.name == re.search(r"^name = (.*)$", setup(), re.MULTILINE)[1]
    extras = setup().partition("[options.extras_require]")[2]
    assert requirement.extras <= set(re.findall(r"^(\w+) =$", extras, re.MULTILINE))


def setup():
    return (ROOT / "setup.cfg").read_text()


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.parametrize("name", ASKED)
def test_it_runs_whole(name, tmp_path, monkeypatch):
    import nbclient
    import nbformat

    for variable in ("TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.delenv(variable, raising=False)  # the notebook sets them
    figures, asked = ASKED[name]
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell(f"if True:{asked}"))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    shown = [[each for each in found if "image/png" in each.get("data", ())] for found in outputs]
    assert sum(map(bool, shown)) == sum(map(len, shown)) == figures  # each of them once
    errors = [each.text for found in outputs for each in found if each.get("name") == "stderr"]
    lines = [line for text in errors for line in text.splitlines() if line]
    assert not [line for line in lines if not larq_filter_cli._NOTES.match(line.encode())]
    assert not list(tmp_path.iterdir())
