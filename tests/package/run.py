"""Builds the package, and tries it as somebody does who has nothing else of the project.

    make package

1. dist/ gets the sdist, and the wheel that is built from it.
2. The sdist holds every file that git knows, the wheel the package and no more.
3. The wheel goes into an empty environment outside of the tree, with the newest of what it needs:
   the quickstart, a training, the recipes.
4. The sdist is unpacked, and tests which read files of all its folders run there.

Rejected: `twine check`. Of a README in Markdown it asks no more than step 2 does, and it would
bring 25 packages to pin.
"""

import email
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).parents[2]
DIST = ROOT / "dist"
TELLING = [
    "tests/test_architecture.py",
    "tests/test_security.py",
    "tests/test_figures.py",
    "tests/test_package.py",
    "tests/optimizers/test_saving.py",
    "tests/quantizers/test_standardized.py",
    "tests/site/test_pages.py",
]


def run(*command, cwd, **environment) -> None:
    """Runs a command, shown; what fails ends everything."""
    words = [str(word) for word in command]
    print(f"  {' '.join(words)}"[:120], flush=True)
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(words, cwd=cwd, env=own | environment, check=True)


def build() -> tuple[pathlib.Path, pathlib.Path]:
    """The sdist, and the wheel built from it."""
    shutil.rmtree(DIST, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT)]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}error: the package can't be built.")
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    return sdist, wheel


def check_contents(sdist: pathlib.Path, wheel: pathlib.Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    known = set(listed.stdout.split("\n")) - {""}
    if listed.returncode or not known:
        raise SystemExit("error: the files of the project are known from git: make a clone of it.")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (each for each in archive.namelist() if each.endswith("/METADATA"))
        about = email.message_from_bytes(archive.read(metadata))
    package = {name for name in known if name.startswith("larq_filter")}  # and larq_filter_cli.py
    _refuse("the sdist lacks", known - packed)
    _refuse("the wheel lacks", package - installed)
    _refuse("the wheel holds besides", installed - package)
    _refuse(
        "the metadata lack",
        {each for each in ("Summary", "License", "Keywords") if not about[each]},
    )
    if about["Description-Content-Type"] != "text/markdown" or "# larq_filter" not in str(about):
        raise SystemExit("error: the metadata have no description in Markdown.")


def _refuse(what: str, names: set) -> None:
    if names:
        raise SystemExit(f"error: {what}: {', '.join(sorted(names))}")


def try_wheel(wheel: pathlib.Path, place: pathlib.Path) -> None:
    """In an environment that holds the wheel, what it needs, and scikit-learn for the digits."""
    run(sys.executable, "-m", "venv", place / "empty", cwd=place)
    python = place / "empty" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, "scikit-learn", cwd=place)
    shutil.copy(ROOT / "examples" / "quickstart.py", place)
    run(python, "quickstart.py", cwd=place)
    command = place / "empty" / "bin" / "larq-filter"
    run(command, "train", "--model=mlp", "--epochs=2", "--output_dir=run", cwd=place)
    recipe = "from larq_filter.cli.command_line import RECIPES as r; print(*r.glob('quicknet.txt'))"
    run(python, "-c", f"{recipe}; assert [*r.glob('quicknet.txt')]", cwd=place)


def try_sdist(sdist: pathlib.Path, place: pathlib.Path) -> None:
    """The tests that it brings, in the environment of this Python."""
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    (unpacked,) = place.glob("larq_filter-*")
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not docs"]
    run(sys.executable, *tests, *TELLING, cwd=unpacked, PYTHONPATH=str(unpacked))


def main() -> None:
    if importlib.util.find_spec("build") is None:
        raise SystemExit('error: the package build is missing: pip install -e ".[test]"')
    sdist, wheel = build()
    check_contents(sdist, wheel)
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        try_wheel(wheel, place)
        try_sdist(sdist, place)
    print(f"\nBuilt and tried: {sdist.relative_to(ROOT)}, {wheel.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
