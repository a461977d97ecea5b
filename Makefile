# The only commands a person needs.
#   make run     everything from nothing: environment, servers, schema, sample market, service
#   make test    every check and test on servers of its own
#   make check   the checks without the tests
#   make bench   the speed measurements (ONLY=rest: one of them)
.PHONY: run test check bench requirements

PYTHON ?= python3
BIN := .venv/bin
RUNTIME := requirements.txt requirements-embedded.txt
INSTALL = $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-deps --require-hashes

run: .venv/runtime
	@exec $(BIN)/python run.py serve

test: check
	$(BIN)/python -m pytest -n 2

check: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev
	$(BIN)/python -m bench $(ONLY)

# The exact versions of everything, with hashes, from the short lists a person edits.
requirements: .venv/dev
	for name in requirements requirements-embedded requirements-dev bench/peers/fastapi/requirements; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
			--no-annotate --custom-compile-command "make requirements" $$name.in -o $$name.txt || exit 1; \
	done

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
