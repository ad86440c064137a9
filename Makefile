# Two commands matter: `make run` and `make test`. Each prepares what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --quiet

.DEFAULT_GOAL := help
.PHONY: help run test test-long check bench lock clean debian-test

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: $(VENV)/installed ## the whole service on this machine with a demo audience
	$(BIN)/python -m loadtest demo

test: $(VENV)/installed debian-test ## every test that CI runs
	$(BIN)/pytest -m "not long"

test-long: $(VENV)/installed debian-test ## the long ones too
	$(BIN)/pytest

check: $(VENV)/installed ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed ## CPU per request beside the floor and the peers
	$(BIN)/python -m loadtest bench

lock: ## resolve the dependencies anew
	$(UV_COMPILE) --group dev -o requirements.lock
	$(UV_COMPILE) --group build -o requirements-run.lock

clean: ## remove everything that was made here
	rm -rf $(VENV) data .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Marked done only when every step was: a broken install is begun again.
$(VENV)/installed: requirements.lock pyproject.toml
	@sh .ci/debian python3-venv "$(PYTHON) -c 'import ensurepip'"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What the tests run against for real.
debian-test:
	@sh .ci/debian redis-server "command -v redis-server"
	@sh .ci/debian postgresql "ls /usr/lib/postgresql/*/bin/postgres"
	@sh .ci/debian openssh-client "command -v sftp && command -v ssh-keygen"
	@sh .ci/debian curl "command -v curl"
