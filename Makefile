# Every target sets up .venv by itself; only Python >= 3.11, make and a package index are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1
WORKERS ?= 2

.PHONY: demo test test-slow check docs bench readme clean help
help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "medward needs Python >= 3.11, got %s.%s; set PYTHON=" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)   ## protect and validate a real clinical model; ends with the findings and the report's path
	$(BIN)/medward demo --out out/demo

test: $(STAMP)   ## the whole suite but the slow part
	$(BIN)/python -m pytest -q -n $(WORKERS) -m 'not slow'

test-slow: $(STAMP)  ## minutes-long tests
	$(BIN)/python -m pytest -q -m slow

check: $(STAMP)  ## format, lint, types, import arrows, links of the documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs

docs: $(STAMP)   ## the documentation as a site under out/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(STAMP)  ## every measured claim, or one: make bench NAME=<claim>
	$(BIN)/python tests/benchmarks/run.py $(NAME)

readme: $(STAMP) ## render the documents' tables from docs/results
	$(BIN)/python docs/render.py

clean:           ## remove everything that make made
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
