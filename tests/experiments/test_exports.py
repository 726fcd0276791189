"""What an export leaves on the disk, for every outcome; with made reports, without the engine."""

import hashlib
import json

import numpy as np
import pytest

from html_reading import Page
from larq_filter import export
from larq_filter.datasets.preparation import Preparation
from larq_filter.experiments import exports
from larq_filter.export import Claim, causes

PREPARE = Preparation((2, 2, 1), ("cat", "dog"), np.zeros(1), np.ones(1), "uint8")
REPORT = ["m.report.json", "m.report.html"]
GOOD = {"binary kernels": True, "outputs": True, "top-1": True}


def exported(allowed=(), flatbuffer=b"the file", **changes):
    states = {**GOOD, **{name.replace("_", " "): ok for name, ok in changes.items()}}
    claims = tuple(Claim(name, ok, f"<b>{name}</b>", {"share": 0.5}) for name, ok in states.items())
    return exports.Export(export.Report("a & b", claims, {}), flatbuffer, PREPARE, allowed)


@pytest.mark.parametrize(
    ("made", "earlier", "names"),
    [
        (exported(), False, ["m.tflite", "m.images.json", *REPORT]),
        (exported(["outputs"]), True, ["m.tflite", "m.images.json", *REPORT]),
        (exported(outputs=False), False, REPORT),
        (exported(outputs=None), True, ["m.failed.report.json", "m.failed.report.html"]),
        (exported(["top-1"], outputs=False), False, REPORT),
        (
            exported(["outputs"], outputs=False),
            True,
            [
                f"m.unproven.{end}"
                for end in ("tflite", "images.json", "report.json", "report.html")
            ],
        ),
        (exported(export.ALLOWABLE, binary_kernels=False), False, REPORT),
        (exported(export.ALLOWABLE, None, conversion=False), False, REPORT),
    ],
)
def test_files_of_each_outcome(made, earlier, names, tmp_path):
    path = tmp_path / "m.tflite"
    others = [path, tmp_path / "m.report.json", tmp_path / "m.report.html"] if earlier else []
    for other in others:
        other.write_bytes(b"earlier")
    assert [each.name for each in made.write(path)] == names
    expected = {*names, *[each.name for each in others]}
    assert {each.name for each in tmp_path.iterdir()} == expected
    for other in others:
        assert (other.read_bytes() == b"earlier") == (other.name not in names)
    report = json.loads((tmp_path / names[-2]).read_text())
    page = Page((tmp_path / names[-1]).read_text())
    assert page.verdict.lower().startswith(report["outcome"])
    assert [row[0] for row in page.tables[0][1:]] == [each["name"] for each in report["claims"]]
    assert "<b>outputs</b>" in [row[2] for row in page.tables[0]] and "b" not in page.tags
    failed = [each["name"] for each in report["claims"] if each["ok"] is not True]
    assert report["not_proven"] == failed
    assert (report["file"] is None) == (len(names) == 2)
    if report["file"]:
        content = (tmp_path / names[0]).read_bytes()
        assert report["file"] == {
            "name": names[0],
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }


def test_what_may_not_be_allowed():
    with pytest.raises(ValueError, match="binary kernels can't be allowed.*outputs, top-1"):
        export.Report("m", (), {}).missing(["binary kernels"])
    report = export.Report("m", (Claim("top-1", None, ""), Claim("outputs", False, "")), {})
    assert report.missing("top-1") == report.missing(["top-1"]) == ("outputs",)


def test_numbers_of_a_model_that_gives_nan_are_reported(tmp_path):
    claim = Claim("precision", False, "nan", {"median": float("nan"), "inputs": 12.0})
    made = exports.Export(export.Report("m", (claim,), {}), b"the file", PREPARE, ())
    names = [each.name for each in made.write(tmp_path / "m.tflite")]
    text = Page((tmp_path / names[-1]).read_text()).tables
    assert any("nan" in cell for table in text for row in table for cell in row)


def test_one_line_a_cause():
    found = [(f"conv_{i}", f"{16 * i} channels") for i in (1, 2, 3, 4)] + [("dense", "is dense")]
    assert causes.by_cause([*found, ("conv_4", "64 channels")]) == [
        "4 layers (conv_1, conv_2, ...), the first: 16 channels",
        "dense: is dense",
    ]
