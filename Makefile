# From a fresh clone, with Rust, a C compiler and Python >= 3.10: make demo, make test, make bench.

PYTHON ?= python3
VENV   := .venv
OLDER  := .venv-older
BIN    := $(VENV)/bin
PIP    := -m pip --disable-pip-version-check install --no-compile
RUST   := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name Cargo.toml)
WHEEL  := dist/.stamp

# pip finds maturin in .venv; a shell without a login does not have rustup's cargo on its path.
export PATH := $(CURDIR)/$(BIN):$(PATH):$(HOME)/.cargo/bin
# One interpreter for every build, so that switching between cargo and maturin rebuilds nothing.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.DELETE_ON_ERROR:
.PHONY: help build test test-older-torch check format demo nadoo bench mobile fixtures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(VENV)/.extension ## the package, installed in place into .venv

test: $(VENV)/.extension $(VENV)/.nadoo ## every test and check, with a summary at the end
	@.ci/test

test-older-torch: $(OLDER)/.installed ## the core API with a torch and a transformers about a year older
	@$(OLDER)/bin/python -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
	$(OLDER)/bin/python -m pytest -p no:cacheprovider -m "not current"

check: $(VENV)/.dependencies ## formatting, lints, types, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --log-level error check bans licenses sources; \
	else echo 'cargo deny: not installed, skipped'; fi

format: $(VENV)/.dependencies ## format everything
	cargo fmt --all
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format

demo: $(VENV)/.extension $(VENV)/.demo ## two real models in a quarter of their memory
	@$(BIN)/python examples/demo

nadoo: $(VENV)/.extension $(VENV)/.nadoo ## the example project's page: a world simulation for construction, streamed
	@$(BIN)/nadoo-video serve

bench: $(VENV)/.extension $(VENV)/.bench ## against the alternatives, in memory cgroups; options: make bench BENCH=--quick
	@$(BIN)/python -m bench $(BENCH)

mobile: ## static libraries of the C interface for Android and iOS, into target/mobile
	@.ci/mobile

fixtures: $(VENV)/.dependencies ## the cases that Rust's operators are tested with, computed by torch
	@$(BIN)/python crates/graph/tests/operators/generate.py

clean: ## what was built and installed; .cache (downloads, converted models) stays
	rm -rf $(VENV) $(OLDER) dist target python/weightstream/*.so

# A stamp is written only when its step has succeeded, so an interrupted step runs again.

$(VENV)/.created:
	@command -v cargo >/dev/null || { echo 'Rust is missing: https://rustup.rs'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo 'Python >= 3.10 is needed: make PYTHON=...'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { echo 'The venv module is missing: apt install python3-venv'; exit 1; }
	$(BIN)/python $(PIP) --quiet --constraint constraints.txt pip maturin ruff mypy
	@touch $@

$(VENV)/.dependencies: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python $(PIP) --no-build-isolation --constraint constraints.txt --editable '.[test]'
	@$(BIN)/python -c 'import torch, transformers' || { echo 'The installation is broken: make clean, and again'; exit 1; }
	@touch $@

$(VENV)/.extension: $(VENV)/.dependencies $(RUST)
	$(BIN)/maturin develop --release --skip-install --quiet
	@touch $@

$(VENV)/.demo: $(VENV)/.dependencies examples/demo/requirements.txt
	$(BIN)/python $(PIP) --quiet --constraint constraints.txt --requirement examples/demo/requirements.txt
	@touch $@

$(VENV)/.nadoo: $(VENV)/.dependencies examples/nadoo-video/pyproject.toml
	$(BIN)/python $(PIP) --quiet --no-build-isolation --constraint constraints.txt --editable 'examples/nadoo-video[test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dependencies
	$(BIN)/python $(PIP) --quiet --no-build-isolation --constraint constraints.txt --editable '.[bench]'
	@touch $@

$(WHEEL): $(VENV)/.created pyproject.toml $(RUST) $(shell find python -name '*.py' -o -name '*.pyi')
	rm -rf dist
	$(BIN)/maturin build --release --quiet --out dist
	@touch $@

$(OLDER)/.created:
	$(PYTHON) -m venv --clear $(OLDER)
	@touch $@

$(OLDER)/.installed: $(OLDER)/.created $(WHEEL) constraints-older.txt
	$(OLDER)/bin/python $(PIP) --constraint constraints-older.txt torch torchvision transformers accelerate safetensors sentencepiece pytest hypothesis psutil
	$(OLDER)/bin/python $(PIP) --quiet --force-reinstall --no-deps dist/*.whl
	@touch $@
