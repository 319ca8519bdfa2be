# Every target sets up .venv by itself; only Python >= 3.11, make and a package index are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FLOWER := .venv-flower
export OMP_NUM_THREADS ?= 1
WORKERS ?= 2

.PHONY: demo test test-slow test-flower check docs bench readme clean help
help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "medward needs Python >= 3.11, got %s.%s; set PYTHON=" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(FLOWER)/.installed: pyproject.toml constraints-flower.txt
	$(PYTHON) -m venv $(FLOWER)
	$(FLOWER)/bin/python -m pip install --quiet --constraint constraints-flower.txt torch setuptools
	$(FLOWER)/bin/python -m pip install --quiet --constraint constraints-flower.txt --editable '.[flower,private,serve]' \
	  pytest pytest-timeout pytest-xdist hypothesis httpx2
	@touch $@

demo: $(STAMP)   ## protect and validate a real clinical model; ends with the findings and the report's path
	$(BIN)/medward demo --out out/demo

test: $(STAMP)   ## the whole suite but the slow part
	$(BIN)/python -m pytest -q -n $(WORKERS) -m 'not slow'

test-slow: $(STAMP) $(FLOWER)/.installed  ## minutes-long tests
	$(BIN)/python -m pytest -q -m slow
	$(FLOWER)/bin/python -m pytest -q -m slow tests/integrations/test_flower_processes.py tests/test_examples.py \
	  -k 'killed_server or real_federation'

test-flower: $(FLOWER)/.installed  ## what needs Flower, in .venv-flower: it holds back libraries that the rest needs newer
	$(FLOWER)/bin/python -m pytest -q -n $(WORKERS) -m 'not slow' $(wildcard tests/integrations/test_flower*.py)

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
	rm -rf $(VENV) $(FLOWER) out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
