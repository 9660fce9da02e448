# `make help` lists the targets. Each one sets up what it needs by itself; a second call finds it ready at once.
# Needed: make, and Python 3.11 or newer with its venv module.

PYTHON ?= python3
BIN := .venv/bin

# Three processes on the two cores of the smallest machine that runs the suite: tests wait a lot. Each starts its own
# servers on free ports.
# A file stays in one process, so that its servers and disks are made once; tests/conftest.py puts them in order.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 1

# The pure core, where every branch is tested, and the tests that do it.
FLOOR_SOURCES := holdfast.model holdfast.planning holdfast.formats holdfast.errors
FLOOR_TESTS := tests/holdfast/model tests/holdfast/planning tests/holdfast/formats tests/holdfast/test_errors.py

# Some hosts forbid bytecode files. Every process of a test or a demonstration would then compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench soak audit lock clean ready-demo ready-dev ready-lock
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ready-demo ## protect, lose and recover machines on this computer
	$(BIN)/holdfast demo

test: ready-dev ## run the whole test suite, except soak tests
	-@$(BIN)/python -c 'from workers.vcenter_lab import build; build()' # tests tell why where it cannot be built
	$(PYTEST)

check: ready-dev ## format, lint, types, imports, tidy tests, coverage of the pure core
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo
	$(PYTEST) tests/architecture
	$(PYTEST) --quiet --cov-branch --cov-fail-under=100 --cov-report=term-missing:skip-covered \
		$(FLOOR_SOURCES:%=--cov=%) $(FLOOR_TESTS)

fix: ready-dev ## format, and repair what lint can repair
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

bench: ready-dev ## measure formats, pipeline and storage
	$(BIN)/python -m tests.bench

soak: ready-dev ## run the long tests with random faults; `make soak ONLY=explorer` all crash states of upkeep
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "soak$(if $(ONLY), and $(ONLY))" --timeout 3600 -o faulthandler_timeout=7200 -rP

audit: ready-dev ## look for dead code and unused dependencies; before a release
	$(BIN)/python -m vulture
	$(BIN)/python -m deptry .

lock: ready-lock ## pin dependencies in requirements/; `make lock UPGRADE=1` takes the newest
	$(BIN)/python scripts/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove what the tools leave behind; .venv stays
	rm -rf build dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +

ready-demo ready-dev ready-lock: ready-%:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "set-up: Python 3.11 or newer is needed, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
			"name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) scripts/environment.py $*
