# Every target sets up .venv by itself; a machine with Python 3.11 or later and make is enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# One stamp per set of packages: pyproject.toml changed means install again, otherwise no network.
RUNTIME := $(VENV)/.runtime
DEV     := $(VENV)/.dev

GENERATED := calib/v1
PROTOS    := $(sort $(wildcard protos/calib/v1/*.proto))

# The packages of the tests in Node, as their lock file names them.
NODE_CLIENT   := tests/node_client
NODE_PACKAGES := $(NODE_CLIENT)/node_modules/.package-lock.json

.PHONY: help demo test check bench drills protos clean
.PHONY: check-format check-lint check-types check-imports check-protos check-generated

help:
	@echo "make demo    a server, a replayed market, live calibration and a subscriber; ends by itself"
	@echo "make test    every test"
	@echo "make check   format, lint, types, import order, proto lint, generated code fresh"
	@echo "make bench   timings and fit quality, side by side with other libraries"
	@echo "make drills  kill loops, fuzzing, real markets: minutes to an hour"
	@echo "make protos  write calib/v1 anew from protos/"
	@echo "make clean   remove .venv, caches and the demo's output"

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "calib needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml | $(BIN)/pip
	$(PIP) install --quiet --editable .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/pip
	$(PIP) install --quiet --editable '.[dev,notebook]'
	@touch $(RUNTIME) $@

# Where there is no npm, or nothing to be had from its registry, the tests that need them skip.
$(NODE_PACKAGES): $(NODE_CLIENT)/package-lock.json
	@if command -v npm >/dev/null; then \
	cd $(NODE_CLIENT) && npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 || \
	echo "$(NODE_CLIENT): no packages, its tests are skipped"; fi

demo: $(RUNTIME)
	$(BIN)/python -m calib demo

# A file stays with one of two workers, so that what it started is shared by its tests.
test: $(DEV) $(NODE_PACKAGES)
	$(BIN)/python -m pytest tests --ignore=tests/benchmarks -m "not drill" \
		-n 2 --dist loadfile --benchmark-disable

bench: $(DEV)
	$(BIN)/python -m pytest tests/benchmarks -m "not drill" --timeout=1800 -s

drills: $(DEV)
	$(BIN)/python -m pytest tests -m drill --timeout=3600 -s

check: check-format check-lint check-types check-imports check-protos check-generated

check-format: $(DEV)
	$(BIN)/ruff format --check .

check-lint: $(DEV)
	$(BIN)/ruff check .

check-types: $(DEV)
	$(BIN)/mypy

check-imports: $(DEV)
	$(BIN)/lint-imports

check-protos: $(DEV)
	$(BIN)/buf lint protos

# $(call generate,FOLDER) writes FOLDER/calib/v1 from the protos.
define generate
PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iprotos \
	--python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)
endef

protos: $(DEV)
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(call generate,"$$fresh") && \
	rm -f $(GENERATED)/*_pb2* && cp "$$fresh/$(GENERATED)"/* $(GENERATED)/

check-generated: $(DEV)
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(call generate,"$$fresh") && \
	if diff -r -x __init__.py -x __pycache__ "$$fresh/$(GENERATED)" $(GENERATED); \
	then echo "$(GENERATED) is what protos/ generates"; \
	else echo "$(GENERATED) is not what protos/ generates; run: make protos" >&2; exit 1; fi

clean:
	rm -rf $(VENV) .benchmarks .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf build dist calib-demo $(NODE_CLIENT)/node_modules
	find calib tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
