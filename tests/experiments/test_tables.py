"""Tables for people and for programs."""

import csv

import pytest

from larq_filter.experiments import tables


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (0, "0"),
        (1_234_567, "1,234,567"),
        (0.12345, "0.123"),
        (1234.5, "1234"),
        (float("nan"), "nan"),
        ("a|b", "a/b"),
    ],
)
def test_a_cell(value, text):
    assert tables.text_of(value) == text


def test_markdown():
    rows = [{"name": "a", "loss": 0.5}, {"name": "b", "size": 3}]
    assert tables.markdown(rows).splitlines() == [
        "| name | loss | size |",
        "| --- | --- | --- |",
        "| a | 0.5 | - |",
        "| b | - | 3 |",
    ]
    chosen = tables.markdown(rows, {"size": "how many"}, text=repr)
    assert chosen == "| how many |\n| --- |\n| None |\n| 3 |"


def test_aligned_left_and_right():
    rows = [("name", "n"), ("b", 100)]
    assert tables.aligned(rows) == "name  n\nb     100"
    assert tables.aligned(rows, right=True) == "name    n\n   b  100"


def test_csv_holds_every_digit(tmp_path):
    path, value = tmp_path / "t.csv", 1 / 3
    tables.write_csv(path, [{"a": value, "b": "x,y"}])
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["a"]) == value and row["b"] == "x,y"
    tables.write_csv(path, [], ["a", "b"])
    assert path.read_text() == "a,b\n"
