# Every command of the project. Needs rustup's cargo, gcc, python3 and git; everything else is fetched by cargo and pip (into .venv).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO ?= cargo
PYTHON ?= python3
# How the Python package's native half is built: `wheel` as it is installed (slow to build), `release`, or `dev-python` for the inner loop.
PROFILE ?= dev-python
VENV := .venv
# Of the benches alone: an installed wheel, as users have it, and the peers.
VENV_BENCH := .venv-bench
# Of the tests with large libraries alone.
VENV_WILD := .venv-wild
export RUST_BACKTRACE ?= 0
export PIP_QUIET ?= 1

.PHONY: help demo demo-rust test test-rust test-python test-wild lint python conformance fmt doc bench bench-python wheel loom crash clean
help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/ready ## words, images and small tasks in Python, multiprocessing beside procession, with progress and a table of times
	$(VENV)/bin/maturin develop --quiet --profile wheel
	$(VENV)/bin/python examples/wordcount/main.py

demo-rust: ## word count and checksums of a real source tree in Rust, sequential and in processes
	$(CARGO) run --quiet --release -p procession-examples --bin checksums

test: test-rust test-python ## all tests, Rust and Python

test-rust: ## unit, integration and documentation tests, and the examples end to end
	$(CARGO) test -p procession --lib --tests -- --skip crash_
	$(CARGO) test -p procession --doc
	$(CARGO) test -p procession-examples

test-python: python ## the Python package's own tests (TESTS="tests/test_pool.py -k killed")
	$(VENV)/bin/python -m pytest $(TESTS)

test-wild: python $(VENV_WILD)/ready ## by hand: real PyTorch, mpire, pandas and others, handed ours (tests/wild/README.md)
	$(VENV_WILD)/bin/python -m pytest $(or $(TESTS),tests/wild)

# Torch may be too large for the machine: without it, its tests are skipped.
$(VENV_WILD)/ready: tests/wild/requirements.txt
	$(PYTHON) -m venv $(VENV_WILD)
	$(VENV_WILD)/bin/python -m pip install --quiet -r tests/wild/requirements.txt
	$(VENV_WILD)/bin/python -c 'import sysconfig; print("$(abspath python)", file=open(sysconfig.get_path("purelib") + "/procession.pth", "w"))'
	touch $@

lint: python ## formatting, clippy, ruff and documentation, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy -p procession -p procession-examples --all-targets -- -D warnings
	PYO3_PYTHON=$(abspath $(VENV)/bin/python) $(CARGO) clippy -p procession-python --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc -p procession --no-deps --document-private-items
	$(VENV)/bin/ruff check --quiet
	$(VENV)/bin/ruff format --quiet --check
	$(VENV)/bin/mypy

python: $(VENV)/ready ## build the Python package into python/procession, for .venv (PROFILE=wheel to measure)
	$(VENV)/bin/maturin develop --quiet --profile $(PROFILE)

# With everything that tests and builds need; made anew when the list changes.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)/bin/python -m pip install --quiet --group dev
	touch $@

PYTHONS ?= 3.11 3.12 3.13
METHODS ?= fork spawn forkserver
conformance: $(VENV)/ready ## CPython's own tests, ours beside the stdlib (PYTHONS=3.12 METHODS="fork spawn" CONFORMANCE="-k TestPool -v")
	$(VENV)/bin/python tests/conformance build --pythons $(PYTHONS) --profile $(PROFILE)
	$(VENV)/bin/python tests/conformance run --pythons $(PYTHONS) --methods $(METHODS) --retry 1 $(CONFORMANCE)

wheel: $(VENV)/ready ## build a wheel for each Python into target/dist, install it into a fresh environment and try it (PYTHONS=3.12)
	rm -rf target/dist
	$(VENV)/bin/python tests/wheel target/dist --pythons $(PYTHONS)

fmt: $(VENV)/ready ## format the sources
	$(CARGO) fmt --all
	$(VENV)/bin/ruff check --quiet --fix
	$(VENV)/bin/ruff format --quiet

doc: ## build the documentation: target/doc/procession/index.html
	$(CARGO) doc -p procession --no-deps

bench: ## ours beside ipc-channel, iceoryx2 and procspawn in one run (BENCH="--quick" for a minute's worth)
	$(CARGO) run --release -p procession-benches -- $(BENCH)

bench-python: $(VENV_BENCH)/ready ## ours beside multiprocessing, concurrent.futures and 8 peers in one run (BENCH="--quick --only queue")
	$(VENV_BENCH)/bin/python -m pip install --quiet .
	$(VENV_BENCH)/bin/python -m benches.python $(BENCH)

# Ray and Dask may have no wheel for this interpreter; the run then reports them as missing.
$(VENV_BENCH)/ready: benches/python/requirements.txt benches/python/requirements-clusters.txt
	$(PYTHON) -m venv $(VENV_BENCH)
	$(VENV_BENCH)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV_BENCH)/bin/python -m pip install --quiet -r benches/python/requirements.txt
	$(VENV_BENCH)/bin/python -m pip install --quiet -r benches/python/requirements-clusters.txt || echo 'bench-python: goes on without Ray or Dask'
	touch $@

loom: ## explore the state machines with the model checker
	RUSTFLAGS="--cfg procession_loom" $(CARGO) test -p procession --release --lib --target-dir target/loom loom_

crash: ## kill participants at every instruction, then a storm of kills
	$(CARGO) test -p procession --profile crash --lib --test it crash_ -- --nocapture --test-threads=1

clean: ## remove everything that was built
	$(CARGO) clean
