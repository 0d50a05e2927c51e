# Everything runs in a virtual environment of its own; `make test` and `make demo` need only Python.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python -m
INSTALL = $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt
SEED ?= 0
OUT ?= runs/spice-digits-$(SEED)
LAWS ?= tests

.PHONY: help demo test check laws coverage mutants lowest docs clean

help:
	@echo "make demo    cluster 1,797 digit images with SPICE, all three stages (SEED=0, OUT=runs/...)"
	@echo "make test    lint, formats, types, doctests and the whole test suite"
	@echo "make check   lint, formats and types only"
	@echo "make laws    10,000 examples of every property and law: hours; some by LAWS=tests/losses"
	@echo "make coverage  lines and branches that the tests of the package reach; those that need CUDA apart"
	@echo "make mutants   errors planted all over the package: how many do the tests notice?"
	@echo "make lowest  the tests with the oldest versions that pyproject.toml allows: gigabytes of torch"
	@echo "make docs    build the documentation into site/"

demo: $(VENV)/demo
	$(VENV)/bin/python examples/spice.py --seed $(SEED) --out $(OUT)

test: check
	$(RUN) pytest -n auto -q

check: $(VENV)/dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

laws: $(VENV)/dev
	HYPOTHESIS_PROFILE=laws $(RUN) pytest -n auto -q -m "hypothesis or laws" $(LAWS)

coverage: $(VENV)/dev
	HYPOTHESIS_PROFILE=dev $(RUN) pytest -n auto -q --cov --cov-report= --ignore tests/meta --ignore tests/examples
	$(VENV)/bin/python benchmarks/covered.py --at-least 98

mutants: $(VENV)/dev
	$(INSTALL) --editable ".[dev,mutants]"
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/mutation.py

lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet --disable-pip-version-check uv
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest --resolution lowest-direct \
		--editable ".[faiss-cpu,examples,test]"
	$(VENV)-lowest/bin/python -m pytest -n auto -q

docs: $(VENV)/dev
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

clean:
	rm -rf $(VENV) $(VENV)-lowest site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(INSTALL) --editable ".[examples]"
	touch $@

$(VENV)/dev: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(INSTALL) --editable ".[dev]"
	touch $@
