"""The import map: imports go downwards only, and each optional package has one room."""

import ast
import graphlib
import subprocess
import sys

import pytest

from paths import ROOT

PACKAGE = ROOT / "larq_filter"

# Lowest first. A module imports from the layers below its own only.
LAYERS = [
    ["_keras", "_validation"],
    ["serialization", "stateless_random"],
    ["filters", "order_statistics"],
    ["binary", "datasets", "flips", "latent_rules", "models", "quantizers"],
    ["analysis", "conversion", "export"],
    ["hyperparameters", "optimizers", "plots"],
    ["callbacks", "presets"],
    ["experiments"],
    ["cli"],
]
RANK = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}

# Optional packages, and the only file of larq_filter that may import each.
ROOMS = {
    "larq_compute_engine": "export/engine.py",
    "larq_zoo": "models/zoo.py",
    "matplotlib": "plots/style.py",
    "optuna": "experiments/sweeps/_optuna.py",
    "sklearn": "datasets/sources.py",
    "tensorflow_datasets": "datasets/sources.py",
}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = [name for name in FILES if name != "larq_filter"]


def imported(node):
    """Names of the modules that one statement or call imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: relative import"
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in FILES else node.module for name in full]
    if isinstance(node, ast.Call):
        function = getattr(node.func, "attr", getattr(node.func, "id", None))
        argument = node.args[0] if node.args else None
        if function in ("import_module", "__import__") and isinstance(argument, ast.Constant):
            return [argument.value]
    return []


def parsed(name):
    return ast.parse(FILES[name].read_text())


def imports(path):
    """Everything that a file imports, and the part of it that is imported with the file."""
    tree = ast.parse(path.read_text())
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    everything = {name for node in ast.walk(tree) for name in imported(node)}
    at_once = {name for node in ast.walk(tree) if node not in inside for name in imported(node)}
    return everything, at_once


def unit(name):
    """The first name below larq_filter: `filters` for `larq_filter.filters.averages`."""
    return (name.split(".") + [""])[1]


def test_every_module_has_a_layer():
    assert {unit(name) for name in MODULES} == set(RANK)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards(name):
    everything, _ = imports(FILES[name])
    ours = {other for other in everything if other.split(".")[0] == "larq_filter"}
    assert "larq_filter" not in ours, "import from the module that defines the name"
    upwards = {
        other
        for other in ours
        if unit(other) != unit(name) and RANK[unit(other)] >= RANK[unit(name)]
    }
    assert not upwards


@pytest.mark.parametrize("package", [name for name in RANK if (PACKAGE / name).is_dir()])
def test_no_cycle_within(package):
    graph = {
        name: {other for other in imports(path)[0] if other in FILES and unit(other) == package}
        for name, path in FILES.items()
        if unit(name) == package
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("name", [name for name in FILES if unit(name) == "filters"])
def test_filters_need_numpy_and_scipy_only(name):
    _, at_once = imports(FILES[name])
    outside = {other for other in at_once if unit(other) not in ("filters", "_validation")}
    packages = {other.split(".")[0] for other in outside}
    assert packages <= {"numpy", "scipy"} | sys.stdlib_module_names


@pytest.mark.parametrize("name", FILES)
def test_optional_packages_stay_in_their_rooms(name):
    everything, at_once = imports(FILES[name])
    file = FILES[name].relative_to(PACKAGE).as_posix()
    for package in {other.split(".")[0] for other in everything} & set(ROOMS):
        assert file == ROOMS[package], f"{package} belongs to {ROOMS[package]}"
        assert package not in at_once, f"import {package} where it is used, inside a function"


def test_the_package_does_not_import_its_examples_or_tests():
    strangers = {"benchmarks", "examples", "paper", "tests", "pytest"}
    for name, path in FILES.items():
        assert not {other.split(".")[0] for other in imports(path)[0]} & strangers, name


def test_importing_the_package_imports_no_optional_package():
    optional = sorted(ROOMS)
    code = f"import sys, larq_filter; print(*[p for p in {optional} if p in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


@pytest.mark.parametrize("name", [name for name in FILES if unit(name) != "cli"])
def test_only_commands_print(name):
    named = [node for node in ast.walk(parsed(name)) if isinstance(node, ast.Name)]
    assert not [node.lineno for node in named if node.id == "print"], "log it: logging.getLogger"


@pytest.mark.parametrize("name", [name for name in FILES if unit(name) != "cli"])
def test_flags_are_read_by_commands_only(name):
    """TensorFlow itself imports absl, so it is there for everybody."""
    assert "absl" not in {other.split(".")[0] for other in imports(FILES[name])[0]}
