# make demo   a real protein: trained, refined, run in LAMMPS, judged, reported (7 minutes on 2 cores)
# make test   the quick tests; make test-slow the others, make test-all both
# All set up .venv from the pinned requirements first.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Processes that share the tests; each takes up to 4 GB. tests/order.py says which test runs in which, and when.
WORKERS ?= 2
PYTEST  := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder

# Without kept bytecode each of the processes that the tests start compiles all modules that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-all bench lint lock clean

demo: $(READY)
	@# 0 pass, 3 fail, 4 inconclusive: the loop ran and gave a verdict
	@$(BIN)/cgloop cycle examples/chignolin/config.yaml $(DEMO_OPTIONS) || \
	  { code=$$?; [ $$code -eq 3 ] || [ $$code -eq 4 ] || exit $$code; }

test: $(READY)
	$(PYTEST) -m "not slow" $(TEST_OPTIONS)

test-slow: $(READY)
	$(PYTEST) -m slow $(TEST_OPTIONS)

test-all: $(READY)
	$(PYTEST) $(TEST_OPTIONS)

bench: $(READY)
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-columns=median,iqr,rounds

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(READY): requirements/pinned.txt requirements/chemtrain.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "cgloop needs Python 3.11 to 3.13; set PYTHON=..."; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps $(PIP_OPTIONS) -r requirements/pinned.txt \
	  -r requirements/chemtrain.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

# Needs `uv` on the path. No index is written into the file: whoever installs decides where from.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --constraint requirements/constraints.txt --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --output-file requirements/pinned.txt --quiet
	uv pip compile requirements/chemtrain.in --no-deps --universal --python-version 3.11 \
	  --constraint requirements/pinned.txt --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --output-file requirements/chemtrain.txt --quiet

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
