# Cupola: everything a person types. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Downloads and the stack are kept outside the clone where that is possible, so that a second clone need not make them again.
CUPOLA_CACHE ?= $(shell mkdir -p /var/cache/cupola 2>/dev/null && test -w /var/cache/cupola && echo /var/cache/cupola || echo $(CURDIR)/.cache)
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CUPOLA_CACHE CARGO_TARGET_DIR
PROFILE ?= dev
PACKAGES ?= -p cupola
OUT := $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
STATIC := $(CARGO_TARGET_DIR)/x86_64-unknown-linux-gnu/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
# Always the whole workspace: another selection has other features, and cargo would build every dependency once more.
SUITES := --workspace --lib --bins --test it --test tidy

ROUNDS ?= 4
SOAK_MINUTES ?= 30
SOAK_CHANGES ?= 1000
SOAK_HOSTS ?= 20000
BENCH = RUST_BACKTRACE=0 $(CARGO_TARGET_DIR)/dist/bench
PROGRAMS = --cupola bin/cupola --envoy $(CUPOLA_CACHE)/envoy

# Which targets the lints look at: CI leaves tests and benchmarks out for the sake of its time.
LINT_TARGETS ?= --all-targets

.PHONY: help setup build demo up test check lint postgres suites stories bench soak clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## / — /' | sed 's/^/  make /'

setup: ## install what is missing: Debian packages, Envoy, the stack
	@scripts/setup

build: setup ## build and leave bin/cupola with everything it needs beside it
	@echo "== building cupola ($(PROFILE) profile) into bin/"
	@scripts/with-progress cargo build --profile $(PROFILE) $(PACKAGES)
	@CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
	  cargo build --quiet --profile $(PROFILE) --target x86_64-unknown-linux-gnu -p inside
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --manifest-path examples/proxy/Cargo.toml \
	  --target x86_64-unknown-linux-gnu --target-dir $(CARGO_TARGET_DIR)/examples
	@mkdir -p bin
	@ln -f $(OUT)/cupola bin/cupola 2>/dev/null || cp -f $(OUT)/cupola bin/cupola
	@ln -f $(STATIC)/inside bin/inside 2>/dev/null || cp -f $(STATIC)/inside bin/inside
	@install -D $(CARGO_TARGET_DIR)/examples/x86_64-unknown-linux-gnu/release/proxy examples/proxy/bin/proxy
	@ln -sfn $(CUPOLA_CACHE)/envoy bin/envoy
	@ln -sfn $(CUPOLA_CACHE)/cflinuxfs4.tar bin/cflinuxfs4.tar

demo: build ## boot a throw-away foundation, push an app with a route, show the path of the route
	@bin/cupola demo

up: build ## run a foundation in the foreground (Ctrl-C stops it)
	@bin/cupola up

lint: ## format, and clippy with warnings denied
	@echo "== format and lints"
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace $(LINT_TARGETS) -- -D warnings

check: lint ## lints and all tests that need no root
	@echo "== fast tests"
	@cargo test --quiet $(SUITES)

test: build ## all tests, with real parts, as root
	@scripts/setup-tests
	@echo "== all tests with real containers, Envoy, iptables, nats-server"
	@CUPOLA_ROOT_TESTS=1 CUPOLA_INSIDE=$(CURDIR)/bin/inside CUPOLA_STACK=$(CUPOLA_CACHE)/cflinuxfs4.tar CUPOLA_ENVOY=$(CUPOLA_CACHE)/envoy \
	  scripts/run-tests $(SUITES)
	@$(MAKE) --no-print-directory postgres
	@$(MAKE) --no-print-directory suites
	@$(MAKE) --no-print-directory stories

postgres: build ## the suites of the components that use a database, on a PostgreSQL server of their own
	@scripts/setup-tests
	@echo "== the suites of kit, uaa, bbs and cloud-controller on PostgreSQL"
	@CUPOLA_TEST_DATABASE=postgres CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$(CURDIR)/scripts/database-suites \
	  scripts/run-tests --workspace --test it

suites: build ## attacks and conformance against the router, beside nginx and HAProxy (SUITE=name runs one)
	@scripts/setup-tests
	@scripts/run-tests --workspace --test suites -- $(SUITE)

stories: build ## the mission's stories, on a foundation of their own (STORY=name runs one)
	@scripts/setup-tests
	@scripts/run-tests --workspace --test stories -- $(STORY)

bench: ## the benchmarks, side by side (ONLY=section,… ROUNDS=1 for a quick look, BESIDE=other/bin/cupola); tables in target/bench/report.md
	@scripts/setup-bench $(findstring router-flame,$(ONLY))
	@$(MAKE) --no-print-directory PROFILE=dist PACKAGES="-p cupola -p bench" build
	@mkdir -p $(CARGO_TARGET_DIR)/bench
	@$(BENCH) run $(PROGRAMS) --rounds $(ROUNDS) $(if $(ONLY),--only $(ONLY)) $(if $(BESIDE),--beside $(BESIDE)) --report $(CARGO_TARGET_DIR)/bench/report.md

soak: ## SOAK_MINUTES (30) of full speed and SOAK_CHANGES (1000) route changes a second; the report is in target/bench/soak.md
	@$(MAKE) --no-print-directory PROFILE=dist PACKAGES="-p cupola -p bench" build
	@mkdir -p $(CARGO_TARGET_DIR)/bench
	@$(BENCH) soak $(PROGRAMS) --minutes $(SOAK_MINUTES) --changes $(SOAK_CHANGES) --hosts $(SOAK_HOSTS) --report $(CARGO_TARGET_DIR)/bench/soak.md

clean: ## remove what was built here
	rm -rf target bin .cache examples/proxy/bin
