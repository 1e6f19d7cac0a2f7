# Everything a newcomer needs. `make demo` and `make test` work on a fresh machine: each makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NATIVE := $(wildcard dynamic_atss/ops/csrc/* tests/ops/*.h tests/ops/*.cpp)

.PHONY: install demo test lint asan gpu clean

install: $(INSTALLED)

# torch first: the kernels are compiled against it, which pip's isolated builds cannot see.
$(INSTALLED): pyproject.toml setup.py dynamic_atss/ops/sources.py $(wildcard dynamic_atss/ops/csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "setuptools>=77" "torch>=2.10" torchvision
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
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

# The CPU kernels under AddressSanitizer, which ends the tests at the first access out of bounds.
asan: $(INSTALLED)
	CFLAGS="-fsanitize=address -fno-omit-frame-pointer" $(BIN)/python setup.py --quiet build_ext \
		--build-lib build/asan --build-temp build/asan_objects
	DYNAMIC_ATSS_NATIVE=build/asan/dynamic_atss/ops ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
		$(BIN)/python -m pytest tests/ops tests/assigners -k "not cuda_on_cpu and not build"

# On a machine with a GPU and perhaps no network: its own Python, which has PyTorch, and no .venv.
# WHEELS: a folder with the packages that it lacks.
gpu:
	$(PYTHON) tools/gpu_check.py $(if $(WHEELS),--wheels $(WHEELS)) $(GPU_ARGS)

clean:
	rm -rf $(VENV) build dynamic_atss/ops/*.so output .pytest_cache .ruff_cache .mypy_cache *.egg-info
