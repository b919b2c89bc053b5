# The two commands are `make demo` and `make test`; both set up what they need.
#   make demo [FOLDER=path] [JSON=1]   the way of a folder's files: phone, kiosk, server, and back
#   make test                          every test
#   make lint                          format, clippy, documentation, all warnings denied; licences where cargo-deny is
#   make bench [FIGURES="a b"]         the figures of docs/performance.md
#   make build                         the programs, for use from target/debug

SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
export CARGO_TARGET_DIR := $(abspath $(TARGET))
PROGRAMS := -p waypost-gateway -p waypost-phone -p waypost-destination

.PHONY: setup build demo test lint bench deny

setup:
	@tests/tools/setup.sh

build: setup
	@$(CARGO) build --locked $(PROGRAMS)

demo: setup
	@$(CARGO) build --locked --quiet $(PROGRAMS)
	@"$(CARGO_TARGET_DIR)/debug/waypost" demo $(if $(JSON),--json) $(if $(FOLDER),-- "$$FOLDER")

# The folder reaches the shell as a variable of the environment, whatever characters it has.
demo: export FOLDER := $(FOLDER)

test: setup
	@tests/tools/step.sh "build" $(CARGO) build --locked --workspace --all-targets
	@tests/tools/step.sh "unit tests and scenarios" $(CARGO) test --locked --workspace --no-fail-fast

lint: setup
	@tests/tools/step.sh "format" $(CARGO) fmt --all --check
	@tests/tools/step.sh "third-party notices" tests/tools/third-party.sh --check
	@tests/tools/step.sh "clippy" $(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" tests/tools/step.sh "docs" $(CARGO) doc --locked --workspace --no-deps --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    tests/tools/step.sh "licences, bans, sources" $(CARGO) deny --offline check bans licenses sources; \
	else echo "== licences, bans, sources: left out, cargo-deny is not installed (make deny installs it)"; fi

deny: setup
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	@$(CARGO) deny check bans licenses sources

bench: setup
	@$(CARGO) build --locked --release --workspace
	@"$(CARGO_TARGET_DIR)/release/waypost-bench" $(FIGURES)
