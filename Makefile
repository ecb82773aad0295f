# PATROL Edge. `make demo` and `make test` need nothing but git, make and Python >= 3.11.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(if $(shell command -v $(p) 2>/dev/null),$(p))))
VENV ?= .venv
BIN := $(VENV)/bin
VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS = $(wildcard constraints/python$(VERSION).txt)
INSTALLED := $(VENV)/.installed

# GNU OpenMP's idle threads spin and starve every other process unless this is set before torch is imported.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: help demo env lint unit test test-system test-full docs dist clean

help:
	@echo "make demo         the whole pipeline on the synthetic fleet; ends with the path of a report"
	@echo "make test         style, types, import contract and the unit tests"
	@echo "make test-system  tests with a browser and other programs of the system"
	@echo "make test-full    long matrices and fuzzing"
	@echo "make docs         the documentation in build/site; a warning is an error"
	@echo "make dist         wheel and sdist in dist, checked"

$(INSTALLED): setup.cfg pyproject.toml $(wildcard constraints/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (about a minute, 2 GB) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) \
	  torch==2.13.0 -e '.[host,rtx,dev]'
	@touch $@

env: $(INSTALLED)

demo: env
	@$(BIN)/patrol-edge run configs/demo.yaml

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: env
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not full" tests/unit

test: lint unit

test-system: env
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[cluster]'
	$(BIN)/pytest -m system tests/system

test-full: env
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 tests/unit
	$(BIN)/pytest -m system tests/system
	$(MAKE) docs dist

docs: env
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

dist: env
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[dist]'
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
