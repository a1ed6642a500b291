# Everything works from nothing but Python 3.11+ and make. `make help` lists the targets.
#   make PYTHON=python3.12 test    another interpreter      make JOBS=8 test    more test processes
#   make UV= setup                 pip although uv is there make ARGS='model=qwen3_32b' report  more overrides

SHELL := /bin/sh
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
JOBS  ?= 2
ARGS  ?=
UV    ?= $(shell command -v uv 2>/dev/null)
# Tried in this order, and run rather than looked up: a version manager's stand-in may exist and not work.
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python)

.DEFAULT_GOAL := help
.PHONY: help setup report test test-slow check format lock bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv and install roofrack with the locked versions

report: $(READY)  ## the main job: ask all questions and write the site (ARGS='hardware=h200 model=qwen3_32b' for yours)
	@echo '== roofrack site $(ARGS)'
	@$(BIN)/roofrack site $(ARGS)

test: check  ## format, lint, types, arrows, then every test that is not slow
	@echo '== Tests (pytest, without the slow ones, $(JOBS) processes)'
	@$(BIN)/pytest -m 'not slow' -n $(JOBS)

test-slow: $(READY)  ## the slow tests: browser, wheel, every experiment
	@echo '== Slow tests (pytest, one process)'
	@$(BIN)/pytest -m slow

check: $(READY)  ## format, lint, types and the arrows between packages, without the tests
	@echo '== Format (ruff format --check)'
	@$(BIN)/ruff format --check
	@echo '== Lint (ruff check)'
	@$(BIN)/ruff check
	@echo '== Types (mypy)'
	@$(BIN)/mypy
	@echo '== Arrows (import-linter)'
	@$(BIN)/lint-imports --no-logo

format: $(READY)  ## rewrite the sources as ruff wants them
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

# No hashes and no index address: the file must install through whatever index its user has.
lock: $(READY)  ## renew requirements.lock from pyproject.toml (installs uv into .venv if missing)
	@uv='$(UV)'; if test -z "$$uv"; then $(BIN)/python -m pip install -q uv; uv=$(BIN)/uv; fi; \
	  $$uv pip compile -q pyproject.toml --extra dev --universal --no-header --no-annotate \
	    --no-emit-index-url -o requirements.lock $(ARGS)
	@echo '== requirements.lock renewed'

# Peers are measured where `python tests/bench_peers.py --install` has put them, and else skipped.
bench: $(READY)  ## points per second, beside NumPy and other tools (docs/bench), and the times a user feels
	@mkdir -p build
	@$(BIN)/python tests/bench_grid.py --points 1e9 --json build/bench_grid.json
	@$(BIN)/python tests/bench_peers.py --grid build/bench_grid.json
	@$(BIN)/python tests/bench.py

clean:  ## remove .venv, caches and built files; outputs/ stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find lib experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an interrupted installation is done again.
$(READY): pyproject.toml requirements.lock
	@set -e; \
	new_enough='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$new_enough" 2>/dev/null; then \
	  for python in $(PYTHONS); do \
	    if $$python -c "$$new_enough" 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if test -z "$$found"; then \
	    echo 'make: none of "$(PYTHONS)" is a Python 3.11 or newer; name one: make PYTHON=/path/to/python3' >&2; \
	    exit 1; \
	  fi; \
	  echo "== Making $(VENV) with $$($$found --version)"; \
	  $$found -m venv --clear $(VENV) || { \
	    echo "make: $$found cannot make a virtual environment (on Debian: apt-get install python3-venv)" >&2; exit 1; }; \
	fi; \
	echo '== Installing the locked versions (0.9 GB on disk; about a minute with pip)'; \
	if test -n '$(UV)'; then pip='$(UV) pip'; target='--python $(BIN)/python'; \
	else pip='$(BIN)/python -m pip --disable-pip-version-check'; target=; fi; \
	$$pip install -q $$target -r requirements.lock; \
	$$pip install -q $$target --no-build-isolation --no-deps -e .; \
	touch $@
