# Two commands matter: `make run` and `make test`. Each prepares what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --quiet
# What the bid runs through is compiled from this, by the rule in pyproject.toml: all of `rtb`,
# and the files of `segments` that `include` names there.
SOURCES := $(shell find rtb -name '*.py' -o -name '*.pyx' -o -name '*.pxd') \
	$(shell sed -n 's|^ *"/\(segments/.*\.py\)".*|\1|p' pyproject.toml)

# Every test of a service starts processes, and each that finds no bytecode makes it anew, for 2 s.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.NOTPARALLEL: # `test` says what is missing before it makes anything
.PHONY: help run test test-long container-test check bench bench-shapes bench-scale docs lock clean interpreted deps venv

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: $(VENV)/compiled ## the whole service on this machine with a demo audience
	$(BIN)/python -m loadtest demo

# 2: only what the tests can do without is missing, and has been named.
deps: ## install the Debian packages that are missing, having said which; DEPS=no only says
	@PYTHON=$(PYTHON) sh .ci/debian venv compile test peers || test $$? -eq 2

venv: $(VENV)/installed ## the Python packages, in .venv

test: deps $(VENV)/compiled ## every test that CI runs
	$(BIN)/pytest -m "not long"

test-long: deps $(VENV)/compiled ## the long ones too
	$(BIN)/pytest -o faulthandler_timeout=0 --ignore=tests/container

container-test: $(VENV)/installed ## build the image, and run it as hosts do; root, a quarter of an hour
	@PYTHON=$(PYTHON) sh .ci/debian container
	$(BIN)/pytest -n0 -o faulthandler_timeout=0 tests/container

check: $(VENV)/installed ## style, types, import contracts, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.make --check

bench: $(VENV)/compiled ## CPU, requests/s and latency beside peers; rows/s of loading; SHAPES="eu-app tls": only those shapes of a bid
	@sh .ci/debian peers || test $$? -eq 2
	$(if $(SHAPES),,$(BIN)/python -m loadtest bench)
	$(BIN)/python -m loadtest shapes $(SHAPES)
	$(if $(SHAPES),,$(BIN)/python -m loadtest low-rates)
	$(if $(SHAPES),,$(BIN)/python -m loadtest calls)
	$(if $(SHAPES),,$(BIN)/python -m loadtest load-bench)

bench-shapes: $(VENV)/compiled ## CPU of each shape of a bid and at low rates, and latencies, beside Go
	@sh .ci/debian peers || test $$? -eq 2
	$(BIN)/python -m loadtest shapes
	$(BIN)/python -m loadtest low-rates
	$(BIN)/python -m loadtest tails

bench-scale: $(VENV)/compiled ## CPU and latency as work grows, in tables and data/scale/*.png
	$(BIN)/python -m loadtest scale --output data/scale

docs: $(VENV)/installed ## the pages and pictures that are made from the code
	$(BIN)/python -m docs.make

# Only the first is resolved freely: an image runs and is built from versions that the tests had.
lock: ## resolve the dependencies anew
	$(UV_COMPILE) --all-extras --group dev -o requirements.lock
	$(UV_COMPILE) --group build -c requirements.lock -o requirements-build.lock
	$(UV_COMPILE) --all-extras -c requirements.lock -o requirements-run.lock
	$(UV_COMPILE) -c requirements-run.lock -o requirements-slim.lock

interpreted: ## the bid path as plain Python again, to step through it
	find rtb segments -name '*.so' -delete
	rm -f *__mypyc*.so $(VENV)/compiled

clean: interpreted ## remove everything that was made here
	rm -rf $(VENV) data .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Marked done only when every step was: a broken install is begun again.
$(VENV)/installed: requirements.lock pyproject.toml
	@PYTHON=$(PYTHON) sh .ci/debian venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Compiled where a C compiler can be had; all the same, and at half the speed, where not.
$(VENV)/compiled: $(VENV)/installed $(SOURCES)
	@if PYTHON=$(BIN)/python sh .ci/debian compile; \
	then echo "compiling the bid path, a minute or so"; \
		HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .; \
	else echo "no C compiler: the bid path stays interpreted, at half its speed" >&2; fi
	@touch $@
