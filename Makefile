# The two commands of a fresh machine are `make run` and `make test`; `make` alone lists the rest.

PYTHON ?= python3
VENV ?= .venv
KEYSTONE_VENV := .venv-keystone
TESTS ?= tests
JOBS ?= 2
SOAK_MINUTES ?= 30
CLIENT ?= wharfinger-client
# These take minutes; they have targets of their own, and `check` runs them too.
LONG := tests/model tests/sudden/test_kill_matrix.py tests/fuzz
# These need Chromium; the same holds for them.
BROWSER := tests/browser

BIN := $(VENV)/bin
# pip checks every file against the lock; where it finds them is the machine's own affair. The lock
# is whole, so nothing is resolved: a newer release of something must not get in the way.
INSTALL := $(BIN)/python -m pip install --quiet --require-hashes --no-deps \
	--disable-pip-version-check
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-header --no-emit-index-url --no-emit-find-links
UV ?= $(BIN)/uv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

##@ Use

.PHONY: run
run: setup ## Start with a made-up SWR, synchronise it over HTTP, stay up (RUN_FLAGS=--exit: do not)
	@$(BIN)/python -m wharfinger.testing.quickstart $(RUN_FLAGS)

.PHONY: setup
setup: $(VENV)/.run ## Make .venv from the lock; afterwards .venv/bin/wharfinger works

##@ Work on it

.PHONY: test
test: dev ## Run the tests, PostgreSQL included (TESTS=tests/cli: a part of them)
	@$(BIN)/python -m pytest -q -n $(JOBS) $(if $(filter tests,$(TESTS)),$(LONG:%=--ignore=%) $(BROWSER:%=--ignore=%)) $(TESTS)

.PHONY: long
long: dev ## The tests that take minutes: random days, sudden deaths, odd requests
	@$(BIN)/python -m pytest -q -n $(JOBS) $(LONG)

.PHONY: screenshots
screenshots: dev ## Take the pictures of the console that the documentation shows (needs Chromium)
	@WHARFINGER_SCREENSHOTS=docs/img $(BIN)/python -m pytest -q -n 0 $(BROWSER)/test_pictures.py

.PHONY: browser
browser: dev ## Use the console with a real browser (needs Chromium)
	@$(BIN)/python -m pytest -q -n 0 $(BROWSER)

.PHONY: model
model: dev ## Random days against a model: what is lost, held or retired wrongly (four minutes)
	@$(BIN)/python -m pytest -q -n $(JOBS) tests/model

.PHONY: hard-cases
hard-cases: dev ## Play the known bad days of registries and print which test shows what
	@$(BIN)/python -m pytest -q -n $(JOBS) --hard-cases

.PHONY: mutants
mutants: dev ## Plant bugs one by one and see the test beside each fail (MUTANTS=word: only those)
	@$(BIN)/python tests/mutants/run.py $(MUTANTS)

.PHONY: keystone
keystone: $(KEYSTONE_VENV)/.done ## Install OpenStack Keystone in .venv-keystone, for the tests that need it

.PHONY: check
check: dev format-check lint types imports test long browser ## All that must hold: format, lint, types, imports, tests

.PHONY: format
format: dev ## Format the code, and fix what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: format-check
format-check: dev ## See that the code is formatted
	@$(BIN)/ruff format --check .

.PHONY: lint
lint: dev ## Look for faults without running anything
	@$(BIN)/ruff check .

.PHONY: types
types: dev ## Check the types
	@$(BIN)/mypy

.PHONY: imports
imports: dev ## Check the layers
	@$(BIN)/lint-imports

.PHONY: fuzz
fuzz: dev ## Twenty thousand odd requests at a real service: no 5xx, no traceback, no row changed
	@FUZZ_REQUESTS=20000 $(BIN)/python -m pytest -q -n 0 -s tests/fuzz

.PHONY: kill-matrix
kill-matrix: dev ## Kill -9 worker, service and database at every kill point (five minutes)
	@$(BIN)/python -m pytest -q -n 0 tests/sudden/test_kill_matrix.py

.PHONY: bench
bench: dev ## Measure syncs beside the official SDK and curl (needs nginx; up to 20 minutes)
	@$(BIN)/python -m bench

.PHONY: bench-compare
bench-compare: dev ## Hold the newest figures of make bench against the last committed ones
	@$(BIN)/python -m bench.compare

.PHONY: bench-fleet
bench-fleet: dev ## Measure 1, 2 and 4 workers, one killed, and a shared limit (needs nginx; four minutes)
	@$(BIN)/python -m bench.fleet

.PHONY: bench-large
bench-large: dev ## Measure reading a million images over HTTP (crowds need wrk; a few minutes)
	@$(BIN)/python -m bench.large

.PHONY: bench-growth
bench-growth: dev ## Measure syncs of 10,000 to 1,000,000 images: what grows how fast (needs nginx; eight minutes)
	@$(BIN)/python -m bench.growth

.PHONY: bench-plots
bench-plots: dev ## Draw the last bench-growth and bench.timeline into docs/img
	@$(BIN)/python -m bench.plots

.PHONY: scale
scale: dev ## Ask a model, calibrated on measured runs, about a billion images (two minutes)
	@$(BIN)/python -m bench.scale

.PHONY: soak
soak: dev ## Faults, kills and changes in twenty registries at once (SOAK_MINUTES=30)
	@$(BIN)/python -m bench.soak --minutes $(SOAK_MINUTES)

.PHONY: client
client: dev ## Write a Python client of the APIs, ready for pip (CLIENT=wharfinger-client: where)
	@$(BIN)/python tests/generated_client.py $(CLIENT)

.PHONY: coverage-hss
coverage-hss: dev ## Print which operations of HSS are offered, and how many (WRITE=1: into docs/ as well)
	@$(BIN)/python tests/http/hss_coverage.py $(if $(WRITE),--write)

.PHONY: docs
docs: dev ## Build the documentation site in build/site, its reference made from the code
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

.PHONY: wheel
wheel: dev ## Build dist/*.whl and dist/*.tar.gz
	@$(BIN)/python -m build --no-isolation

.PHONY: changelog
changelog: ## Move the fragments in changes/ into CHANGELOG.md (VERSION=0.2.0)
	@$(PYTHON) changes/collect.py $(VERSION)

.PHONY: lock
lock: dev ## Resolve requirements/*.txt again, keeping what still fits (UPGRADE=1: the newest)
	@$(COMPILE) $(if $(UPGRADE),--upgrade) -c requirements/constraints.in pyproject.toml \
		-o requirements/run.txt
	@$(COMPILE) $(if $(UPGRADE),--upgrade) -c requirements/run.txt --all-extras --group dev pyproject.toml \
		-o requirements/dev.txt
	@$(COMPILE) -c requirements/dev.txt requirements/build.in -o requirements/build.txt
	@$(COMPILE) $(if $(UPGRADE),--upgrade) requirements/keystone.in -o requirements/keystone.txt

.PHONY: clean
clean: ## Remove what was built and cached; clean-all removes .venv too
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: clean-all
clean-all: clean
	@rm -rf $(VENV) $(KEYSTONE_VENV)

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@ / {printf "\n%s:\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- the environment: each stamp says which locks it holds, so an unchanged lock costs nothing ---

.PHONY: dev
dev: $(VENV)/.dev

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
		echo "Wharfinger needs Python 3.11 or newer; there is no $(PYTHON)." \
		"Say which to use: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Wharfinger needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)." \
		"Say which to use: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) -V)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python's venv module is incomplete; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements/run.txt requirements/build.txt pyproject.toml
	@echo "installing what it runs on (requirements/run.txt)"
	@$(INSTALL) -r requirements/run.txt -r requirements/build.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
		--no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "installing what its tests need (requirements/dev.txt)"
	@$(INSTALL) -r requirements/dev.txt
	@touch $@

# Keystone's hundred packages pin what ours may not, so they live apart; a fresh lock makes it anew.
$(KEYSTONE_VENV)/.done: requirements/keystone.txt
	@echo "installing Keystone (requirements/keystone.txt) in $(KEYSTONE_VENV)"
	@rm -rf $(KEYSTONE_VENV)
	@$(PYTHON) -m venv $(KEYSTONE_VENV)
	@$(KEYSTONE_VENV)/bin/python -m pip install --quiet --require-hashes --no-deps \
		--disable-pip-version-check -r requirements/keystone.txt
	@touch $@
