# Everything a person types. One target directory and one profile (release) serve running, testing and measuring.
.DEFAULT_GOAL := help
.PHONY: help run test lint bench torture soak evaluate

BUNDLES ?= ../shared/data/bundles
ROUNDS ?= 100
HOURS ?= 2

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

run: ## build, and start everything with a simulated fleet; prints the address to open
	cargo run --release -- demo

test: ## install what the tests need, then format, lints and all tests: what CI runs
	scripts/install-test-needs
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo build --release --workspace --bins --tests
	cargo test --release --workspace --bins --tests
	cargo test --release --workspace --doc

lint: ## format and lints; dependency policy where cargo-deny is installed
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "left out: cargo-deny is not installed"; fi

bench: ## samples and messages a second, bytes, reads, beside other servers: the figures of docs/benchmarks.md
	cargo build --release
	cargo run --release -p harbinger-store --example store_bench
	cargo run --release -p harbinger-tests --example stores_beside -- --bundles $(BUNDLES)
	cargo run --release -p harbinger-ingest --example mqtt_load -- compare

torture: ## a hundred kills in the middle of everything that writes; ROUNDS=n for another number
	cargo build --release
	HARBINGER_KILL_ROUNDS=$(ROUNDS) cargo test --release -p harbinger-tests --test end_to_end kill_nine -- --nocapture

soak: ## HOURS=2 of ingest, compaction, retention and checked reads at once
	cargo run --release -p harbinger-tests --example soak -- --hours $(HOURS)

evaluate: ## score the models on every bundle in BUNDLES=folder
	cargo build --release
	scripts/evaluate $(BUNDLES)
