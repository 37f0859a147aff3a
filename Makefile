# Set-up and checks. Every target creates the environment in .venv if it is missing or pyproject.toml has changed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 2
# waiting threads release their core; otherwise two test processes, or other work during a training, slow each other down
export OMP_WAIT_POLICY ?= passive
# one folder for all processes, so that code compiled by one test process is loaded by the others and the demo
export NUMBA_CACHE_DIR ?= $(CURDIR)/.numba_cache
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: install lint test test-all demo docs clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the fast tests, in less than five minutes on two cores
test: install
	$(PYTEST) -m "not slow"

test-all: install
	$(PYTEST)

demo: install
	$(BIN)/nucbench demo --no-progress

# the site of docs/, in build/site; a broken link is an error
docs: install
	$(BIN)/python -m benchmark.commands.docs_gallery docs/gallery
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo build docs/gallery *.egg-info .mypy_cache .numba_cache .ruff_cache .pytest_cache
