# Every target sets itself up: `make demo` in a fresh clone is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.osasis-installed
RUNTIME := $(VENV)/.osasis-runtime

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow nightly fuzz check format bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP) ## create .venv and install osasis with what its development needs

# redone only when what is to be installed changes; an existing .venv is used as it is
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing osasis into $(VENV) (the first time this downloads torch)"
	@$(BIN)/pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(RUNTIME) $@

$(RUNTIME): pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing osasis into $(VENV) (the first time this downloads torch)"
	@$(BIN)/pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

demo: $(RUNTIME) ## learn a painting and redraw six faces into demo/
	@$(BIN)/osasis demo

test: $(STAMP) ## the quick tests
	@$(BIN)/pytest -q -m 'not slow'

test-slow: $(STAMP) ## the tests that take minutes
	@$(BIN)/pytest -q -m slow

fuzz: $(STAMP) ## twenty times as many malformed inputs as `make test` tries
	@OSASIS_FUZZ=20 $(BIN)/pytest -q tests/unit/test_fuzz.py --timeout 3600

nightly: check test test-slow ## all of it; needs a browser (CI=true fails without one)

check: $(STAMP) ## lint, formatting and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: $(STAMP) ## put the code into the form that `make check` asks for
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(STAMP) ## time osasis on this machine
	@$(BIN)/osasis bench

clean: ## remove what the other targets made, .venv included
	@rm -rf $(VENV) build dist demo src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
