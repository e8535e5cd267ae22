# Everything here runs in .venv, made by `make install` from the pinned constraints.txt. After that, no target
# needs the network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint types bench clean

help:
	@echo "make demo       install, run the embedded model on examples/shapes, check its answers"
	@echo "make test       the tests (under 10 minutes on 2 cores)"
	@echo "make test-slow  the tests that take longer"
	@echo "make lint       ruff: rules and format"
	@echo "make types      mypy, strict"
	@echo "make bench      the benchmark"
	@echo "make install    only set up $(VENV)"
	@echo "make clean      remove what these made"

install: $(STAMP)

# The pins hold for what builds the package too: older pips read them for that from PIP_CONSTRAINT, newer ones from
# PIP_BUILD_CONSTRAINT. torch first and by itself: later versions of it bring gigabytes of CUDA packages.
$(STAMP): export PIP_CONSTRAINT := constraints.txt
$(STAMP): export PIP_BUILD_CONSTRAINT := constraints.txt
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

demo: install
	$(BIN)/pixano-vlm generate examples/shapes/manifest.jsonl --model shapes --output demo.outputs.jsonl --overwrite
	$(BIN)/python examples/shapes/check.py demo.outputs.jsonl

test: install
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: install
	$(BIN)/python -m pytest -n 2 -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis demo.outputs.jsonl*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
