"""What pages say of the package, held to the package; needs neither site nor browser."""

import dataclasses
import importlib
import inspect
import re
import sys

import pytest

import helps
from larq_filter import analysis, filters, flips, hyperparameters, models, presets
from larq_filter.experiments import methods
from paths import ROOT

import tensorflow as tf

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
TEXTS = {path.name: path.read_text() for path in PAGES}

# Methods ------------------------------------------------------------------------------------------


def tables():
    """Heading to the rows below it: method to its cells."""
    found = {}
    for part in re.split(r"^## ", TEXTS["methods.md"], flags=re.MULTILINE)[1:]:
        rows = [line for line in part.splitlines() if "`--method=" in line]
        names = [re.search(r"`--method=(\w+)` \|$", row)[1] for row in rows]
        assert len(set(names)) == len(names)
        heading = part.splitlines()[0]
        found[heading] = {
            name: row.strip("| ").split(" | ") for name, row in zip(names, rows, strict=True)
        }
    return found


def test_every_method_has_a_row():
    found = tables()
    stages = {name for name, method in methods.METHODS.items() if method.stage_only}
    assert set(found["Latent-free"]) == set(methods.names("latent_free"))
    assert set(found["Latent"]) == set(methods.names("latent"))
    assert set(found["First stages"]) == stages
    width = {len(row) for name in ("Latent-free", "Latent") for row in found[name].values()}
    assert width == {4}


def test_flags_in_the_table_of_parts_exist():
    allowed = {each.name: each.metadata["choices"] for each in dataclasses.fields(methods.Knobs)}
    allowed |= {"method": tuple(methods.METHODS), "model": models.names()}
    section = TEXTS["methods.md"].split("## Parts for every method")[1].split("\n## ")[0]
    found = re.findall(r"--(\w+)=(\w+)", section)
    assert len(found) >= 10
    for flag, value in found:
        assert value == "NAME" or value in allowed[flag], (flag, value)


def test_stages_name_the_methods_that_need_them():
    def stage_of(name):
        stage = methods.first_stage(name, methods.Knobs(), epochs=10)
        return stage and stage.method

    for stage, (_, of, _) in tables()["First stages"].items():
        needs = {name for name in methods.METHODS if stage_of(name) == stage}
        assert set(re.findall(r"`(\w+)`", of)) == needs


@pytest.mark.parametrize("column, room", [(1, filters), (2, flips)])
def test_names_in_the_tables_exist(column, room):
    for heading in ("Latent-free", "Latent"):
        for cells in tables()[heading].values():
            for name in re.findall(r"`([A-Z]\w+)", cells[column]):
                assert hasattr(room, name), name


@pytest.mark.parametrize("name", sorted(set(presets.PRESETS) & set(methods.names("latent_free"))))
def test_the_row_of_a_preset_names_its_parts(name):
    make = presets.PRESETS[name]
    needed = (
        {"steps_per_epoch": 10} if "steps_per_epoch" in inspect.signature(make).parameters else {}
    )
    optimizer = make(**needed)
    f = optimizer.gradient_filter
    _, as_filter, as_rule, _ = tables()["Latent-free"][name]
    parts = f.stages if isinstance(f, filters.Cascade) else [f]
    for part in parts:
        assert f"`{type(part).__name__}" in as_filter
    assert f"`{type(optimizer.flip_rule).__name__}`" in as_rule


# Numbers ------------------------------------------------------------------------------------------


def test_memories_of_published_recipes():
    """Those of docs/knobs.md and the tutorial: what `translate` says."""
    schedule = tf.keras.optimizers.schedules.CosineDecay
    for decay, epochs, batches, memory in [
        (1e-4, 400, 391, "26 epochs"),
        (5e-4, 350, 391, "5.1 epochs"),
        (5e-4, 600, 196, "10 epochs"),
    ]:
        f = hyperparameters.filter_from_sgd(
            schedule(0.1, epochs * batches), decay, 0.9, velocity="pytorch"
        ).filter
        assert f"{analysis.time_constant(f) / batches:.2g} epochs" == memory
        assert f"| {memory} |" in TEXTS["knobs.md"]
    assert f"{analysis.time_constant(f) / 196:.1f} epochs" == "10.2 epochs"
    assert "10.2 epochs" in TEXTS["tutorial.md"]


def test_suggestion():
    said = str(hyperparameters.suggest(390, 100)).splitlines()[0]
    assert f"print(suggestion)  # {said}, and why" in TEXTS["knobs.md"]


# Links, pictures, commands ------------------------------------------------------------------------


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", TEXTS["README.md"]))
def test_links_of_the_readme(link):
    assert (ROOT / link.partition("#")[0]).is_file()


@pytest.mark.extras
def test_pictures_of_the_concepts():
    """All that the script draws are there and shown, each with a text for those who see none."""
    sys.path.insert(0, str(ROOT / "paper"))
    try:
        drawn = importlib.import_module("pictures").PICTURES
    finally:
        sys.path.pop(0)
    shown = dict(re.findall(r"!\[(.+)\]\(pictures/(\w+)\.svg\)", TEXTS["concepts.md"]))
    files = {path.stem for path in (DOCS / "pictures").iterdir()}
    assert files == set(drawn) == set(shown.values())
    assert all(path.stat().st_size < 150_000 for path in (DOCS / "pictures").iterdir())


def test_pictures_have_a_text():
    for name, text in TEXTS.items():
        assert not re.search(r"!\[\]", text), name


def test_the_project_names_no_host_of_its_own():
    assert re.search(r'^site_url: ""', (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)


COMMAND = re.compile(
    r"(?:python ((?:examples|benchmarks|paper)/\w+\.py)|larq-filter ([a-z]+))((?:[^`\n]|\\\n)*)"
)


def commands():
    """Script or command to the flags that pages give it."""
    used = {}
    for text in TEXTS.values():
        for script, command, rest in COMMAND.findall(text):
            if script == "examples/quickstart.py":
                assert "--" not in rest  # it has no flags
                continue
            flags = re.findall(r"--([a-z]\w*)", re.sub(r" # .*", "", rest))
            used.setdefault(script or command, set()).update(flags)
    return used


def start(script):
    is_script = (ROOT / script).is_file()
    return (*([script] if is_script else ["-m", "larq_filter_cli", script]), "--helpfull")


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.parametrize("script, used", sorted(commands().items()))
def test_commands_have_the_flags_that_pages_give_them(script, used):
    _, text, _ = helps.printed(tuple(map(start, sorted(commands()))))[start(script)]
    known = set(re.findall(r"^  --(?:\[no\])?(\w+)", text, re.MULTILINE))
    known |= {f"no{name}" for name in known} | {"help", "flagfile"}
    assert used <= known


def test_make_targets_that_pages_name():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name, text in TEXTS.items():
        named = re.findall(r"(?:`|^    )make ([a-z][\w-]*)", text, re.MULTILINE)
        assert set(named) <= targets, name


def test_names_of_the_package_that_pages_use():
    """`lf.a.b` in code is there."""
    import larq_filter as lf

    for page, text in TEXTS.items():
        for dotted in set(re.findall(r"\blf\.([A-Za-z_][\w.]*\w)", text)):
            value = lf
            for name in dotted.split("."):
                if name in ("NAME", "py"):
                    break
                assert hasattr(value, name), f"{page}: lf.{dotted}"
                value = getattr(value, name)
                if not inspect.ismodule(value):
                    break
