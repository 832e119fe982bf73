# Everything a person types here. `make` alone lists it.
# PYTHON only picks the interpreter that creates .venv: `make setup PYTHON=python3.12`.

RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do \
  "$$p" -c '$(RECENT)' 2>/dev/null && echo "$$p" && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MASKS ?= out/masks.png

# The commands of dvc.yaml say `python`: they must find this environment's. Nothing phones home.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
# Not the caller's environment: another project's modules or virtual environment.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup repro test test-slow lint format types check docs omniboard masks lock clean distclean

help:  ## this list
	@echo "make TARGET, of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## create .venv with the pinned dependencies and this project

# The stamp is newer than what it was made from, so a second call does nothing. An interpreter is
# chosen only when there is no .venv; `make distclean` first to change it.
$(STAMP): requirements.lock pyproject.toml
	@[ -x $(BIN)/python ] || "$(PYTHON)" -c '$(RECENT)' 2>/dev/null || { \
	  echo "error: PYTHON: $(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=python3.12 ..." >&2; \
	  exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "error: $(PYTHON) cannot make a virtual environment (Debian: apt install python3-venv)" >&2; \
	  exit 1; }
	@echo "installing the pinned dependencies into $(VENV): several GB and minutes, once"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

repro: $(STAMP)  ## a clone to a report: prepare, pretrain, evaluate, report
	@$(BIN)/ijepa db start || echo "ijepa: no database; runs stay in the journal, 'ijepa runs sync' fills it later" >&2
	@$(BIN)/dvc repro
	@$(BIN)/python -m ijepa.report --line

# Two processes, a file at a time: its tests share what takes long to make.
test: $(STAMP)  ## the fast tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations 15 -m "slow and not gpu"

lint: $(STAMP)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## ruff: mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

check: lint types test  ## what a change must pass: lint, types, test

# A warning is an error. The one that is let pass: Python 3.11 cannot evaluate array[int].
docs: $(STAMP)  ## the API reference from docstrings: build/api/index.html
	@$(BIN)/python -W error::UserWarning -W "ignore:Error parsing type annotation array:UserWarning" \
	  -m pdoc --docformat google --output-directory build/api ijepa
	@echo build/api/index.html

omniboard: $(STAMP)  ## browse the runs in a web page on this machine
	$(BIN)/ijepa omniboard

masks: $(STAMP)  ## draw a gallery of masks: make masks MASKS=out/masks.png
	$(BIN)/ijepa masks --out "$(MASKS)"

# Keeps the pins that still fit; `make lock UPGRADE=--upgrade` takes the newest of everything.
lock: $(STAMP)  ## pin the dependencies of pyproject.toml again
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --annotation-style line \
	  --custom-compile-command "make lock" --quiet $(UPGRADE) --output-file requirements.lock

clean:  ## remove caches and build files; keeps .venv, data, results and the journal
	find . \( -path ./$(VENV) -o -path ./.ijepa -o -path ./.git -o -path ./.dvc -o -name node_modules \) -prune \
	  -o \( -name __pycache__ -o -name .pytest_cache -o -name .mypy_cache -o -name .ruff_cache -o -name '*.egg-info' \) \
	  -type d -exec rm -rf {} +

distclean: clean  ## also stop the database and remove .venv
	@if [ -x $(BIN)/ijepa ]; then $(BIN)/ijepa db stop || true; fi
	rm -rf $(VENV)
