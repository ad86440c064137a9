# Two commands matter: `make run` and `make test`. Each prepares what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --quiet
# What the bid runs through is compiled from this; pyproject.toml says which of it, and why not all.
SOURCES := $(wildcard rtb/*.py rtb/*/*.py rtb/*/*/*.py rtb/*/*.pyx rtb/*/*/*.pxd segments/model/identity.py segments/model/record.py segments/store/keys.py)

# What the bench is made of; what lacks something is reported as skipped.
PEERS = sh .ci/debian wrk "command -v wrk"; \
	sh .ci/debian nginx "ls /usr/sbin/nginx"; \
	sh .ci/debian libnginx-mod-http-lua "ls /usr/lib/nginx/modules/ngx_http_lua_module.so"; \
	sh .ci/debian lua-cjson "ls /usr/lib/*/lua/5.1/cjson.so"; \
	for name in valyala-fasthttp tidwall-gjson gomodule-redigo; do \
		sh .ci/debian golang-github-$$name-dev "ls -d /usr/share/gocode/src/github.com/$$(echo $$name | tr - /)"; \
	done

# Every test of a service starts processes, and each that finds no bytecode makes it anew, for 2 s.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run test test-long check bench bench-scale lock clean interpreted debian-test

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: $(VENV)/compiled ## the whole service on this machine with a demo audience
	$(BIN)/python -m loadtest demo

test: $(VENV)/compiled debian-test ## every test that CI runs
	$(BIN)/pytest -m "not long"

test-long: $(VENV)/compiled debian-test ## the long ones too
	$(BIN)/pytest

check: $(VENV)/installed ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/compiled ## CPU, requests/s and latency beside four peers; rows/s beside redis-cli --pipe
	-@sh .ci/debian redis-tools "command -v redis-cli"
	-@$(PEERS)
	$(BIN)/python -m loadtest bench
	$(BIN)/python -m loadtest load-bench

bench-scale: $(VENV)/compiled ## CPU and latency as work grows, in tables and data/scale/*.png
	$(BIN)/python -m loadtest scale --output data/scale

lock: ## resolve the dependencies anew
	$(UV_COMPILE) --group dev -o requirements.lock
	$(UV_COMPILE) --group build -o requirements-build.lock
	$(UV_COMPILE) -o requirements-run.lock

interpreted: ## the bid path as plain Python again, to step through it
	find rtb segments -name '*.so' -delete
	rm -f *__mypyc*.so $(VENV)/compiled

clean: interpreted ## remove everything that was made here
	rm -rf $(VENV) data .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Marked done only when every step was: a broken install is begun again.
$(VENV)/installed: requirements.lock pyproject.toml
	@sh .ci/debian python3-venv "$(PYTHON) -c 'import ensurepip'"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Compiled where a C compiler can be had; all the same, and at half the speed, where not.
$(VENV)/compiled: $(VENV)/installed $(SOURCES)
	@if sh .ci/debian gcc "command -v cc" && sh .ci/debian libc6-dev "ls /usr/include/stdio.h" \
		&& sh .ci/debian python3-dev "test -e `$(BIN)/python -c 'import sysconfig as s; print(s.get_path("include"))'`/Python.h"; \
	then echo "compiling the bid path, a minute or so"; \
		HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .; \
	else echo "no C compiler: the bid path stays interpreted, at half its speed" >&2; fi
	@touch $@

# What the tests run against for real.
debian-test:
	@sh .ci/debian redis-server "command -v redis-server"
	@sh .ci/debian postgresql "ls /usr/lib/postgresql/*/bin/postgres"
	@sh .ci/debian openssh-client "command -v sftp && command -v ssh-keygen"
	@sh .ci/debian curl "command -v curl"
	@sh .ci/debian nodejs "command -v node"
	@sh .ci/debian redis-tools "command -v redis-cli"
	-@$(PEERS)
