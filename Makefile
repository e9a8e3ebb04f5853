# The chores of this repository, one verb each; CI runs `make test` and nothing else.
#
#   make quickstart    installs the core, then trains a small model that answers questions
#   make test          installs the test extras, then lint, format check, type check and tests
#   make install       the environment alone: .venv with everything the tests need
#   make browser       a Chromium for the tests of the chat page, if there is none; CI does this by itself
#   make check         lint, format check, type check (under a minute)
#   make format        rewrites the files as the format check wants them
#   make bench         the benchmarks, beside transformers
#   make bench-peers   the peers' own environments under bench/peers
#   make bench-serving-peers   the same for vLLM and llama.cpp (compiles for some ten minutes)
#   make clean         removes what the verbs above have made
#
# PYTHON=python3.12    which interpreter makes .venv (3.11 or newer)
# TORCH=cpu|cuda|npu   which build of torch; without it, pip takes the one it finds first.
#                      A build that lives outside pip's usual sources needs PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL
#                      in the environment; docs/dependencies.md says more.
# ARGS="..."           passed on: make quickstart ARGS="--minutes 5", make bench ARGS="--help"

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
TORCH ?=
ARGS ?=
TORCH_VERSION := 2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
LOCK := requirements.lock

# `===` compares the whole version, so a local build (2.13.0+cpu) does not answer for the registry's CUDA build.
TORCH_PIN := torch==$(TORCH_VERSION)
ifeq ($(TORCH),cpu)
ifeq ($(shell uname -s),Linux)
TORCH_PIN := torch==$(TORCH_VERSION)+cpu
endif
else ifeq ($(TORCH),cuda)
TORCH_PIN := torch===$(TORCH_VERSION)
else ifeq ($(TORCH),npu)
TORCH_PIN := torch==$(TORCH_VERSION) torch-npu
else ifneq ($(TORCH),)
$(error TORCH=$(TORCH): expected cpu, cuda or npu)
endif

# A stamp remembers what was installed and which torch was asked for, so that a second run is instant.
CORE := $(VENV)/.core$(if $(TORCH),-$(TORCH))
TEST := $(VENV)/.test$(if $(TORCH),-$(TORCH))

.PHONY: help install quickstart test browser check format bench bench-peers bench-serving-peers clean

help:
	@sed -n '3,/^$$/p' Makefile | cut -c3-

install: $(TEST)
	@echo "ready: $(BIN)/beichen --help"

quickstart: $(if $(wildcard $(TEST)),$(TEST),$(CORE))
	@$(BIN)/beichen quickstart $(ARGS)

test: $(TEST) $(if $(CI),browser)
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest $(ARGS)

browser: $(TEST)
	@$(BIN)/python -m tests.chromium

check: $(TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(TEST)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(TEST)
	$(BIN)/python -m bench $(ARGS)

bench-peers: bench/peers/.venv/.ready
	@echo "ready: bench/peers/.venv/bin/python"

bench-serving-peers: bench/peers/serving/.ready
	@echo "ready: bench/peers/serving/bin/python"

$(CORE): pyproject.toml $(LOCK)
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; Beichen needs Python 3.11 or newer (name another with PYTHON=...)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; ok = sys.version_info >= (3, 11); ok or print(f"error: $(PYTHON) is Python {sys.version.split()[0]}; Beichen needs 3.11 or newer (name another with PYTHON=...)", file=sys.stderr); sys.exit(not ok)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) has no venv or ensurepip module; install it (Debian, Ubuntu: the package python3-venv)" >&2; exit 1; }
	@echo "installing torch $(TORCH_VERSION)$(if $(TORCH), for $(TORCH)) and the core into $(VENV)"
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $(VENV)/.core* $(VENV)/.test*
	@$(PIP) $(TORCH_PIN) -c $(LOCK) || { echo "error: pip did not install $(TORCH_PIN). Where it finds no such version, set PIP_EXTRA_INDEX_URL to an index that has it (for CPU: the one on PyTorch's Get Started page, or a mirror of it), or PIP_FIND_LINKS to a folder of wheels; docs/dependencies.md says more" >&2; exit 1; }
	@$(PIP) -e . -c $(LOCK)
	@touch $@

$(TEST): $(CORE)
	@echo "installing the test extras into $(VENV)"
	@$(PIP) -e '.[test]' -c $(LOCK)
	@touch $@

bench/peers/.venv/.ready: bench/peers.txt $(LOCK) $(TEST)
	@echo "installing the peers into bench/peers/.venv"
	@mkdir -p bench/peers
	@$(PYTHON) -m venv --clear bench/peers/.venv
	@bench/peers/.venv/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH_PIN) -c $(LOCK)
	@bench/peers/.venv/bin/python -m pip --disable-pip-version-check install --quiet -r bench/peers.txt -c $(LOCK)
	@touch $@

bench/peers/serving/.ready: bench/serving_peers.txt $(TEST)
	@echo "installing vLLM and llama.cpp into bench/peers/serving"
	@mkdir -p bench/peers
	@$(PYTHON) -m venv --clear bench/peers/serving
	@bench/peers/serving/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH_PIN) -c $(LOCK)
	@CMAKE_ARGS="-DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF $${CMAKE_ARGS:-}" bench/peers/serving/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r bench/serving_peers.txt
	@touch $@

clean:
	rm -rf $(VENV) bench/peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find beichen tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
