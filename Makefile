# The only commands a person needs.
#   make run     everything from nothing: environment, servers, schema, sample market, service
#   make test    every check and test on servers of its own
#   make check   the checks without the tests
#   make faults  the long proof that faults lose nothing, up to an hour (SEED=7: one of them again)
#   make bench   the speed measurements (ONLY=rest: one of them)
#   make assets  what browsers load: /docs and the live SDK (`make run` and `make test` bring it too)
#   make openapi the documents in docs/ that are made from the code, after an operation, event or error has changed
#   make checksums, make requirements   after a new migration, after a change of a requirements*.in
.PHONY: run test check faults bench assets openapi requirements checksums

PYTHON ?= python3
BIN := .venv/bin
RUNTIME := requirements.txt requirements-embedded.txt
ASSETS := node_modules/.package-lock.json
INSTALL = $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-deps --require-hashes

run: .venv/runtime
	@$(MAKE) --silent assets 2>/dev/null || echo "Without the npm packages /docs answers 503, all else works: make assets tells why"
	@exec $(BIN)/python run.py serve

test: check
	-@$(MAKE) --silent assets
	@$(BIN)/python -m tests.programs
	$(BIN)/python -m pytest -n 2

check: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: .venv/dev
	$(BIN)/python -m tests.faults.proof $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS))
	$(BIN)/python -m pytest -n 0 -q -m long -o faulthandler_timeout=900 tests/live/test_autobahn.py

bench: .venv/dev
	$(BIN)/python -m bench $(ONLY)

assets: $(ASSETS)

openapi: .venv/runtime
	$(BIN)/python run.py openapi

# The exact versions of everything, with hashes, from the short lists a person edits.
requirements: .venv/dev
	for name in requirements requirements-embedded requirements-dev requirements-node \
		$(patsubst %.in,%,$(wildcard bench/peers/*/requirements.in)); do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
			--no-annotate --custom-compile-command "make requirements" $$name.in -o $$name.txt || exit 1; \
	done
	for home in . $(dir $(wildcard bench/peers/*/package.json)); do \
		$(BIN)/python tools/node.py npm --prefix $$home install --package-lock-only \
			--omit-lockfile-registry-resolved --ignore-scripts || exit 1; \
	done

# What the migrations read. Only for those that no database outside of development has yet: the others are history.
checksums: .venv/runtime
	$(BIN)/python -m k2k.infra.migrations > sql/migrations/checksums.txt

# The system's pip fills the environment, so a Python without ensurepip (Debian's) will do.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Key2Key needs Python 3.11 or newer")'
	$(PYTHON) -m venv --without-pip .venv

.venv/runtime: $(RUNTIME) | .venv/bin/python
	@echo "Installing what the service needs (once, about a minute) …"
	$(INSTALL) $(addprefix -r ,$(RUNTIME))
	@touch $@

.venv/dev: requirements-dev.txt .venv/runtime
	@echo "Installing what the checks need (once, about a minute) …"
	$(INSTALL) -r requirements-dev.txt
	@touch $@

# npm writes this file last. The .npmrc beside says what it may not do.
$(ASSETS): package.json package-lock.json requirements-node.txt | .venv/runtime
	@echo "Installing what browsers load (once, some seconds) …"
	@$(BIN)/python tools/node.py 2>/dev/null || $(INSTALL) --retries 1 -r requirements-node.txt
	@$(BIN)/python tools/node.py npm ci --loglevel=error
	@touch $@
