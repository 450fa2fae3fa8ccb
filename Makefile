# Two commands: `make demo` shows what skipgrad does, `make test` proves it. Both set up the same .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-slow test-numeric setup lint docs system clean help

help:
	@echo "make demo   set up, then run the main job on embedded data and print the path of its report"
	@echo "make test   set up with the test extras, then run the tests"
	@echo "make test-slow the tests that take long: trainings to their end, kills, processes, every page in a browser"
	@echo "make test-numeric   the tests of figures again, with the vector units of an AVX2 processor"
	@echo "make system only what some tests need of the system: a browser, Graphviz"
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

test: $(VENV)/.setup-dev system
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/.setup-dev system
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2 -m slow

# Figures depend in their last bits on the vector units, and what training makes of last bits is not small. A processor
# with AVX-512 runs these tests as one with AVX2 would; another setting: make test-numeric ISA=sse
ISA ?= avx2
ISA_avx2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
ISA_sse := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2
NUMERIC := tests/lab tests/remedies tests/train tests/race tests/ledger tests/probes tests/check tests/boost tests/diagnosis/test_real_nets.py \
	tests/finder/test_random.py tests/models/test_builtin.py tests/blocks

test-numeric: $(VENV)/.setup-dev
	$(ISA_$(ISA)) OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2 -m "not slow and not browser" $(NUMERIC)

# Some tests want a Chromium with its driver, or Graphviz; they say so and are skipped where neither can be had.
system:
	@sh tests/system_setup.sh

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
