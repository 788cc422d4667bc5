# `make demo` runs the main job, `make test` every test a fresh machine can run; the rest is for developers.
.PHONY: demo test test-long bench fuzz corpus lint install

PREFIX ?= /usr/local
FUZZ_SECONDS ?= 180

demo:
	@cargo build --quiet --release --package mailproof-cli
	@sh demo/run.sh target/release/mailproof

test:
	@bash scripts/test.sh

test-long:
	@bash scripts/test.sh --long

corpus:
	@cargo run --quiet --release --package mailproof-testkit -- corpus

bench:
	@cargo bench --package mailproof-benches

fuzz:
	@bash scripts/fuzz.sh $(FUZZ_SECONDS)

lint:
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --all-features -- -D warnings

install:
	cargo build --release --package mailproof-cli
	install -D -m 755 target/release/mailproof $(DESTDIR)$(PREFIX)/bin/mailproof
