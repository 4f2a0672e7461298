# Everything a person types. One target directory and one profile (release) serve running, testing and measuring.
.DEFAULT_GOAL := help
.PHONY: help run test lint bench evaluate

BUNDLES ?= ../shared/data/bundles

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

run: ## build, and start everything with a simulated fleet; prints the address to open
	cargo run --release -- demo

test: ## install what the tests need, then format, lints and all tests: what CI runs
	scripts/install-test-needs
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo build --release
	cargo test --release --workspace

lint: ## format and lints; dependency policy where cargo-deny is installed
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "left out: cargo-deny is not installed"; fi

bench: ## messages and samples a second, durable, beside mosquitto: the figures of docs/benchmarks.md
	cargo run --release -p harbinger-store --example store_bench
	cargo run --release -p harbinger-ingest --example mqtt_load -- compare

evaluate: ## score the models on every bundle in BUNDLES=folder
	cargo build --release
	scripts/evaluate $(BUNDLES)
