"""Files are written whole or not at all, and their content is on the disk before their name is."""

import errno
import json
import os

import pytest

from larq_filter.experiments import files


def test_the_content_is_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    path, steps = tmp_path / "result.json", []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (steps.append("replace"), replace(*names)))
    files.write_json(path, {"loss": 0.5})
    assert steps == ["fsync", "replace"]
    assert path.read_text() == json.dumps({"loss": 0.5}, indent=2) + "\n"


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "model.keras"
    files.write_whole(path, b"old")
    with pytest.raises(type(error)), files.whole(path) as part:
        assert part.suffix == ".keras"  # by which Keras goes
        part.write_bytes(b"half of the n")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_several_files_are_written_together_or_not_at_all(tmp_path, monkeypatch):
    report, model, fsync, calls = tmp_path / "report.json", tmp_path / "m.tflite", os.fsync, []
    files.write_together({report: "old", model: b"old"})

    def full(file):
        calls.append(file)
        if len(calls) == 2:  # that of the last file
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_together({report: "new", model: b"new"})
    assert report.read_text() == "old" and model.read_bytes() == b"old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        files.write_together({report: "new", tmp_path / "folder": b"new"})
    assert report.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "m.tflite", "report.json"]


def test_text_is_utf_8(tmp_path):
    files.write_whole(tmp_path / "table.md", "0.5 ± 0.1\n")
    assert (tmp_path / "table.md").read_bytes() == "0.5 ± 0.1\n".encode()
