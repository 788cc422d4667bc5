# `make demo` runs the main job, `make test` every test a fresh machine can run; the rest is for developers.
.PHONY: build demo test test-long bench fuzz corpus lint install install-milter

PREFIX ?= /usr/local
FUZZ_SECONDS ?= 180

build:
	cargo build --release --package mailproof-cli

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

# Builds only what is not there: root, who installs, rarely has a compiler of Rust.
target/release/mailproof:
	cargo build --release --package mailproof-cli

install: target/release/mailproof
	install -D -m 755 target/release/mailproof $(DESTDIR)$(PREFIX)/bin/mailproof

# What the milter needs beside the program: its account, manual pages, unit, and a configuration if there is none.
install-milter: install
	install -D -m 644 milter/man/mailproof-milter.8 $(DESTDIR)$(PREFIX)/share/man/man8/mailproof-milter.8
	install -D -m 644 milter/man/mailproof.toml.5 $(DESTDIR)$(PREFIX)/share/man/man5/mailproof.toml.5
	install -D -m 644 milter/systemd/mailproof.conf $(DESTDIR)/usr/lib/sysusers.d/mailproof.conf
	install -d $(DESTDIR)/usr/lib/systemd/system
	for unit in milter/systemd/mailproof-milter.*; do \
		sed 's,/usr/bin/mailproof,$(PREFIX)/bin/mailproof,' $$unit > $(DESTDIR)/usr/lib/systemd/system/$$(basename $$unit); \
	done
	[ -n "$(DESTDIR)" ] || getent passwd mailproof >/dev/null || \
		useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin mailproof
	[ -n "$(DESTDIR)" ] || install -d -m 2750 -g mailproof /etc/mailproof/keys
	[ -e $(DESTDIR)/etc/mailproof/mailproof.toml ] || \
		install -D -m 644 milter/examples/postfix/mailproof.toml $(DESTDIR)/etc/mailproof/mailproof.toml
