# Everything a newcomer needs: `make demo` shows it working, `make test` proves it.
.PHONY: demo test test-ssh test-e2e bench chaos chaos-short soak fuzz lint build setup docs clean package lint-package test-package test-deploy

# The real Jira clients that play the vendor in the end-to-end tests.
export E2E_PYTHON := $(CURDIR)/.venv/bin/python
export E2E_NODE_DIR := $(CURDIR)/tests/clients/node

build:
	cargo build --locked --workspace

setup:
	tools/setup

demo: ## One of everything through the tunnel, then leaves it running (ONCE=1: exits).
	tools/setup demo
	cargo build --locked --workspace
	target/debug/server-stub demo $(if $(ONCE),--once)

test: setup build ## All tests, on real parts.
	cargo nextest run --locked --workspace
	cargo test --locked --doc --quiet -p agent-base

test-ssh: setup ## The gate for every version of russh (docs/dev/ssh.md).
	cargo nextest run --locked -p agent -p agent-ssh -E 'package(agent-ssh)'
	cargo nextest run --locked -p e2e --test ssh_gate

test-e2e: setup build
	cargo nextest run --locked -p e2e

bench: ## Speed and memory side by side with OpenSSH, as ratios (target/bench.json).
	tools/setup bench
	cargo build --release --locked --config packaging/at-rest/build.toml --workspace
	target/release/bench

chaos: ## Faults, restarts, cuts, distance, overload: each figure beside its goal (docs/dev/reliability.md); as root, 45 minutes.
	tools/setup
	cargo build --release --locked --config packaging/at-rest/build.toml --workspace
	target/release/chaos $(CHAOS)

chaos-short: setup build ## Two minutes of it, as in CI; as root.
	target/debug/chaos --short $(CHAOS)

soak: ## All faults in random order under load for MINUTES (10), every request accounted for; as root.
	tools/setup
	cargo build --release --locked --config packaging/at-rest/build.toml --workspace
	target/release/chaos soak --json target/soak.json --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

fuzz: ## Each parser of bytes from outside with millions of inputs (fuzz/README.md).
	tools/fuzz

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items --quiet
	cargo metadata --locked --manifest-path fuzz/Cargo.toml --format-version 1 >/dev/null
	tools/check-docs
	tools/check-names
	tools/check-rooms
	@if cargo deny --version >/dev/null 2>&1; then tools/check-dependencies; \
	elif [ -n "$$CI" ]; then echo "cargo-deny is missing" >&2; exit 1; \
	else echo "skipped: cargo-deny is not installed (cargo install --locked cargo-deny)"; fi

docs: build ## Regenerates the references that a test compares with the code.
	target/debug/agent config reference > docs/configuration.md
	target/debug/agent status --schema > docs/status.schema.json
	target/debug/agent check --schema > docs/check.schema.json
	target/debug/agent events --schema > docs/events.schema.json

package: ## dist/: .deb, .rpm, checksums and SBOM from one portable binary.
	packaging/build

lint-package: ## lintian, rpmlint and systemd-analyze on dist/.
	tools/setup packages
	packaging/lint

test-package: ## Both packages in booted Debians 11, 12 and 13: needs root, and says what else (packaging/test/roots).
	packaging/test/roots
	cargo build --locked -p server-stub
	packaging/test/run

test-deploy: build ## All of deploy/: linters, schemas, gateway, Ansible on a booted Debian, images; as root.
	deploy/test/run

clean:
	cargo clean
