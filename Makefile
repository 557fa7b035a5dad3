# Two commands do everything on a clean clone: `make demo` and `make test`.
# Each target first makes its own .venv from the pinned constraints file.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO   := demo-library

# On few cores OpenMP's spinning makes tiny networks 20-50 times slower.
export OMP_WAIT_POLICY ?= PASSIVE

# Hundreds of tests start the program anew, and without bytecode each of them compiles it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check docs pictures fuzz bench bench-try gpu tui clean family

demo: $(READY)
	$(BIN)/assetmgr demo $(DEMO)

test: check
	$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

tui: $(READY)
	ASSETMGR_HOME=$(DEMO)/home $(BIN)/assetmgr tui

# The site goes to build/docs; a warning is an error.
docs: $(READY)
	$(BIN)/python -m docs.scripts.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file .ci/mkdocs.yml

# The pictures of README and site, of the real screens on the demo's library.
pictures: demo
	$(BIN)/python -m docs.scripts.pictures $(DEMO)/home

# Broken files of every container, and the tests' laws with twenty times the examples.
fuzz: $(READY)
	$(BIN)/python -m benchmarks.fuzz_readers
	$(BIN)/python -m pytest -q -m hypothesis --hypothesis-profile=thorough --numprocesses auto

bench: $(READY)
	$(BIN)/python -m benchmarks.run

# Not to measure: whether every benchmark still runs, on tiny files.
bench-try: $(READY)
	$(BIN)/python -m benchmarks.run --scale 0.002 --rounds 1

# Tests and figures of a CUDA device, in five minutes.
gpu: $(READY)
	$(BIN)/python -m benchmarks.gpu

# Trains the small model family of the demo anew (under an hour on 2 cores).
family: $(READY)
	$(BIN)/python -m assetmgr.demo.train

# torch comes first and pinned: an unpinned dependant would fetch a build of several gigabytes.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[preview]" --group dev
	touch $(READY)

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
