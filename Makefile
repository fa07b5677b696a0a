# Every target first makes .venv what requirements.lock says; that returns at once when nothing has changed.
# PYTHON is only asked to run deploy/bootstrap.py (3.9 or newer); a python3 that does not run is passed over.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
PYTEST_WORKERS ?= 2
LONG_TESTS ?= tests/property
PACKAGES := controlplane forecasters actuators policies
CHECKED := $(PACKAGES) tests deploy benchmarks

.DEFAULT_GOAL := help
.PHONY: help demo test long check bench format clean environment

help: ## list the targets
	@echo "usage: make TARGET [ARGS='…']"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "variables:"
	@echo "  ARGS            more arguments for the command behind demo (tidegate demo), test (pytest) and bench"
	@echo "  PYTEST_WORKERS  test processes, 2 unless told; 0 runs all in one"
	@echo "  PYTHON          a Python 3.9 or newer that runs deploy/bootstrap.py, python3 unless told"

demo: environment ## play a week of real traffic with a launch wave on embedded NATS and a simulated cloud (ARGS=--headless)
	@$(BIN)/tidegate demo $(ARGS)

test: environment ## run all tests; absent components are named at the end (ARGS='-k decide')
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) $(ARGS)

long: environment ## run the property suite at 10,000 examples of each property, for hours (ARGS='-k budget')
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --timeout 0 $(LONG_TESTS) $(ARGS)

check: environment ## check format, lint, types and the import rules
	$(BIN)/ruff format --check $(wildcard $(CHECKED))
	$(BIN)/ruff check $(wildcard $(CHECKED))
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports --no-cache

bench: environment ## run every script of benchmarks/ and print its figures
	@set -e; for script in $(wildcard benchmarks/*.py); do echo "== $$script"; $(BIN)/python $$script $(ARGS); done

format: environment ## rewrite the code as ruff likes it
	$(BIN)/ruff format $(wildcard $(CHECKED))
	$(BIN)/ruff check --fix $(wildcard $(CHECKED))

clean: ## remove the environment and all caches
	rm -rf .venv .tools .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
	find $(wildcard $(CHECKED)) -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3.10 python3.9 /usr/bin/python3 /usr/local/bin/python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; then exec $$python deploy/bootstrap.py; fi; \
	done; echo "make: no Python 3.9 or newer runs here; install python3, or name one with PYTHON=" >&2; exit 1
