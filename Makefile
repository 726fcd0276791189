# Needs Python, make and a package index. `make help` lists the targets.

PYTHON ?= python3
PYTHON215 ?= $(shell for python in python3.11 python3.10 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 10), (3, 11)])' \
	>/dev/null 2>&1 && echo $$python && break; done)
JOBS ?= 2

SOURCES = larq_filter larq_filter_cli.py setup.py examples benchmarks notebooks paper tests
PACKAGING = setup.cfg setup.py pyproject.toml

# What comes out otherwise with another TensorFlow and its Keras before anything else does.
OF_KERAS = tests/binary tests/conversion tests/optimizers/test_filter_optimizer.py \
    tests/optimizers/test_latent_optimizer.py tests/test_keras.py
FILES = tests/optimizers/test_saving.py

export TF_CPP_MIN_LOG_LEVEL = 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export NO_MKDOCS_2_WARNING = 1

# Else each of the many processes compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-slow test-all coverage test-tf215 test-newest test-distributed package docs soak \
    lint format clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' Makefile
	@echo 'PYTHON selects the interpreter (3.10 to 3.12): make test PYTHON=python3.11'

demo: .venv/installed  ## Train a small binary network and export it, a minute after the installation
	.venv/bin/larq-filter train
	.venv/bin/larq-filter export --run=runs/digits-starter-filter-0

test: lint  ## Lint and all tests but the slow ones; stops at the first failure
	.venv/bin/python -m pytest -n $(JOBS) -x -m "not slow and not docs"

test-slow: .venv/installed  ## The slow tests
	.venv/bin/python -m pytest -n $(JOBS) -m "slow and not docs"

test-all: test test-slow  ## Lint and all tests

coverage: .venv/installed  ## Branch coverage of all tests, which take half as long again
	.venv/bin/python -m pytest -n $(JOBS) -m "not docs" --cov

test-tf215: .venv-tf215/installed  ## What meets Keras, on TensorFlow 2.15, which ships Keras 2
	.venv-tf215/bin/python -m pytest -n $(JOBS) -m "not extras and not slow" $(OF_KERAS) $(FILES)
	.venv-tf215/bin/python -m pytest -n $(JOBS) -m "not extras and slow" tests/test_keras.py

test-newest: .venv-newest/installed  ## What meets Keras, on the newest of everything, nothing pinned
	.venv-newest/bin/python -m pytest -n $(JOBS) -m "not extras and not slow" $(OF_KERAS)

test-distributed: .venv/installed  ## Searches shared through PostgreSQL; needs its server program
	.venv/bin/python -m pytest tests/distributed

package: .venv/installed  ## sdist and wheel, into dist/, tried in an empty environment
	.venv/bin/python tests/package/run.py

docs: .venv-docs/installed  ## The site, into site/, and its tests in a browser; needs Chromium
	.venv-docs/bin/python -m mkdocs build --strict
	.venv-docs/bin/python -m pytest tests/site -m docs

soak: .venv/installed  ## Kills, damage, formats, strategies, fuzzing, many times: up to an hour
	.venv/bin/python tests/soak/run.py

lint: .venv/installed  ## Check style
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)

format: .venv/installed  ## Mend style
	.venv/bin/ruff check --fix $(SOURCES)
	.venv/bin/ruff format $(SOURCES)

clean:  ## Remove the environments and the caches
	rm -rf .venv .venv-tf215 .venv-newest .venv-docs site build dist .coverage .coverage.* \
	    .hypothesis .pytest_cache .ruff_cache .mypy_cache *.egg-info

# A stamp file for each environment: a second run uses what the first one installed.

SUPPORTED = $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 12) \
	    else "larq_filter needs Python 3.10, 3.11 or 3.12; $(PYTHON) is Python %d.%d. " % v + \
	    "Name another one: make PYTHON=python3.11 $(MAKECMDGOALS)")'

.venv/installed: $(PACKAGING) constraints.txt
	@$(SUPPORTED)
	@echo "Installing into .venv. The first time takes a few minutes and about 3 GB."
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e ".[all,test]"
	@touch $@

.venv-docs/installed: $(PACKAGING) constraints.txt constraints-docs.txt
	@$(SUPPORTED)
	@echo "Installing into .venv-docs. The first time takes a few minutes and about 2 GB."
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet -c constraints.txt -c constraints-docs.txt -e ".[docs]"
	@touch $@

.venv-tf215/installed: $(PACKAGING) constraints-tf215.txt
	@$(or $(PYTHON215),false) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 10), (3, 11)])' \
	    || { echo "TensorFlow 2.15 needs Python 3.10 or 3.11; found: $(or $(PYTHON215),neither)."; \
	    echo "Name one: make test-tf215 PYTHON215=/path/to/python3.11"; exit 1; } >&2
	@echo "Installing into .venv-tf215. The first time takes a few minutes and about 2 GB."
	$(PYTHON215) -m venv .venv-tf215
	.venv-tf215/bin/python -m pip install --quiet -c constraints-tf215.txt -e ".[test]"
	@touch $@

.venv-newest/installed: $(PACKAGING)
	@$(SUPPORTED)
	@echo "Installing into .venv-newest. The first time takes a few minutes and about 2 GB."
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet -e ".[test]"
	@touch $@
