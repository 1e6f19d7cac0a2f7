# Everything a newcomer needs. `make` lists it. Each target works on a fresh machine: it makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NATIVE := $(wildcard dynamic_atss/ops/csrc/* tests/ops/*.h tests/ops/*.cpp)

# Versions that the tests passed with. `make install CONSTRAINTS=` takes the newest of everything;
# the choice is kept until another one is given.
CHOSEN := $(VENV)/.constraints
CONSTRAINTS ?= $(if $(wildcard $(CHOSEN)),$(shell cat $(CHOSEN)),constraints.txt)
PIP_INSTALL := $(BIN)/pip install --quiet \
	$(if $(CONSTRAINTS),--constraint $(CONSTRAINTS),--upgrade --upgrade-strategy eager)
# Who asks for the newest gets it again; who asked for it earlier keeps what there is.
NEWEST := $(if $(CONSTRAINTS),,$(if $(findstring command,$(origin CONSTRAINTS)),FORCE))

.PHONY: help install demo test test-fast test-machines lint docs asan gpu clean FORCE

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make .venv with everything, compile the kernels: three minutes

# torch first: the kernels are compiled against it, which pip's isolated builds cannot see.
$(INSTALLED): pyproject.toml setup.py $(wildcard $(CONSTRAINTS)) $(CHOSEN) $(NEWEST) \
		dynamic_atss/ops/sources.py $(wildcard dynamic_atss/ops/csrc/*)
	$(PIP_INSTALL) "setuptools>=77" torch torchvision
	$(PIP_INSTALL) --no-build-isolation --editable ".[dev,docs]"
	touch $@

# Rewritten only when another CONSTRAINTS is asked for, which then installs again.
$(CHOSEN): FORCE
	@test -z "$(CONSTRAINTS)" || test -f "$(CONSTRAINTS)" || { \
		echo "error: CONSTRAINTS=$(CONSTRAINTS) is not there: give a file, or nothing for the newest"; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@test "$$($(PYTHON) -V)" = "$$($(BIN)/python -V)" || { \
		echo "error: $(VENV) has $$($(BIN)/python -V), PYTHON=$(PYTHON) is $$($(PYTHON) -V): make clean first"; exit 2; }
	@echo "$(CONSTRAINTS)" | cmp -s - $@ || echo "$(CONSTRAINTS)" > $@
FORCE:

demo: $(INSTALLED)  ## train on generated images, score and draw: two to five minutes on two cores
	$(BIN)/python tools/demo.py

# A thread each: most tests start processes or wait for them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)  ## run all tests: a quarter of an hour on two cores
	$(PYTEST)

# The tests that a change of a rule, an operator, a loss or a key breaks first.
FAST := $(addprefix tests/,test_boxes.py test_losses.py test_types.py test_imports.py test_project_files.py \
	assigners ops modeling config engine inference/test_docstrings.py)

test-fast: $(INSTALLED)  ## run what breaks first, without the tests marked slow: a minute on two cores
	$(PYTEST) -m "not slow" $(FAST)

# The numerical tests as other processors run them; QUICK=1: operators and rules, in three runs.
test-machines: $(INSTALLED)  ## run the numerical tests as other processors do; QUICK=1: in three runs
	$(BIN)/python tests/machines.py $(if $(QUICK),--quick)

lint: $(INSTALLED)  ## check style, types and format, without changing a file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

# The site, in build/site; a dead link is an error. The variable silences the theme's notice.
docs: $(INSTALLED)  ## build the site into build/site; a dead link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The CPU kernels under AddressSanitizer, which ends the tests at the first access out of bounds.
asan: $(INSTALLED)  ## run the CPU kernels under AddressSanitizer
	CFLAGS="-fsanitize=address -fno-omit-frame-pointer" $(BIN)/python setup.py --quiet build_ext \
		--build-lib build/asan --build-temp build/asan_objects
	DYNAMIC_ATSS_NATIVE=build/asan/dynamic_atss/ops ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
		$(BIN)/python -m pytest tests/ops tests/assigners -k "not cuda_on_cpu and not build"

# On a machine with a GPU and perhaps no network: its Python, which has PyTorch, and no .venv.
# WHEELS: a folder with the packages that it lacks.
gpu:  ## build, test, train and measure on a machine with an NVIDIA GPU (INSTALL.md)
	$(PYTHON) tools/gpu_check.py $(if $(WHEELS),--wheels "$(WHEELS)") $(GPU_ARGS)

clean:  ## remove .venv, builds, caches and output/
	rm -rf $(VENV) build dynamic_atss/ops/*.so output .pytest_cache .ruff_cache .mypy_cache *.egg-info
