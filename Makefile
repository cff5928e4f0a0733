# `make` lists the commands. Each one sets up .venv by itself; another interpreter: make test PYTHON=python3.12

# The first interpreter that is new enough; looked up only when .venv is made.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check simulate mutants coverage bench kafka

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## a .venv with everything for development

demo: $(INSTALLED) ## food ordering, live in the terminal: no Docker, no Java
	@$(BIN)/streamstate demo $(ARGS)

test: $(INSTALLED) ## all tests; some of them: make test ARGS='tests/journal -x'
	@$(BIN)/python -m pytest $(ARGS)

check: $(INSTALLED) ## format, lint, layers, types and tests: what a change must pass
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest $(ARGS)

SEEDS ?= 0..2000
simulate: $(INSTALLED) ## seeded simulations of the engine: make simulate SEEDS=0..50000
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

mutants: $(INSTALLED) ## one-line bugs in a copy of the engine; the tests must see each
	@$(BIN)/python -m tests.mutants $(ARGS)

coverage: $(INSTALLED) ## how much of each package its own tests cover
	@$(BIN)/python -m tests.coverage_table $(ARGS)

bench: $(INSTALLED) ## benchmarks on a real broker; one of them: make bench ARGS='kafka_state --json'
	@$(BIN)/python -m benchmarks $(ARGS)

kafka: $(INSTALLED) ## start a Kafka broker and print its address
	@$(BIN)/python -m tests.brokers $(ARGS)

$(INSTALLED): pyproject.toml
	@test -x $(BIN)/python || test -n "$(PYTHON)" || \
	  { echo "streamstate needs Python 3.11 or newer, and there is none on PATH: make PYTHON=/where/python3.11/is" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
