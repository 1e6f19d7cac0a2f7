# Everything a newcomer needs. `make demo` and `make test` work on a fresh machine: each makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test lint clean

install: $(INSTALLED)

# torch first: the kernels are compiled against it, which pip's isolated builds cannot see.
$(INSTALLED): pyproject.toml setup.py $(wildcard dynamic_atss/ops/csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "setuptools>=77" "torch>=2.10"
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/python tools/demo.py

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dynamic_atss/ops/*.so output .pytest_cache .ruff_cache .mypy_cache *.egg-info
