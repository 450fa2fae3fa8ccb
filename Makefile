# Two commands: `make demo` shows what skipgrad does, `make test` proves it. Both set up the same .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test setup lint docs browser clean help

help:
	@echo "make demo   set up, then run the main job on embedded data and print the path of its report"
	@echo "make test   set up with the test extras, then run the tests"
	@echo "make setup  only the installing"
	@echo "make lint   ruff, pyright, import contracts"
	@echo "make docs   build the documentation into site/"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "skipgrad needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp a set of extras: a second run installs nothing until the pins or the package's own needs change.
$(VENV)/.setup-demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt -e '.[data]'
	@touch $@

$(VENV)/.setup-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.setup-demo

setup: $(VENV)/.setup-demo

demo: $(VENV)/.setup-demo
	@$(BIN)/skipgrad check skipgrad:plain56 --data digits --out demo-report

test: $(VENV)/.setup-dev browser
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2

# The browser tests want a Chromium and its driver; they say so and are skipped where neither can be had.
browser:
	@sh tests/browser_setup.sh

lint: $(VENV)/.setup-dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/pyright
	$(BIN)/lint-imports

# NO_MKDOCS_2_WARNING: the theme's announcement of its end is answered in docs/design/site.md.
docs: $(VENV)/.setup-dev
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python benchmarks/pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site docs/generated build dist demo-report skipgrad-runs
