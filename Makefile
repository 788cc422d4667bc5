# `make demo` runs the main job, `make test` every test a fresh machine can run; the rest is for developers.
.PHONY: build demo test test-long bench fuzz corpus lint install install-library install-library-files install-milter install-program

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
	@bash scripts/bench.sh

fuzz:
	@bash scripts/fuzz.sh $(FUZZ_SECONDS)

lint:
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --all-features -- -D warnings

install: install-program install-library

# Builds only what is not there: root, who installs, rarely has a compiler of Rust.
target/release/mailproof:
	cargo build --release --package mailproof-cli

install-program: target/release/mailproof
	install -D -m 755 target/release/mailproof $(DESTDIR)$(PREFIX)/bin/mailproof

# libmailproof: the header, the shared and the static library, and the file for pkg-config.
LIBRARY ?= target/libmailproof
$(LIBRARY)/mailproof.pc:
	cargo build --release --package mailproof-ffi
	sh ffi/link.sh target/release $(LIBRARY) $(PREFIX)

install-library: $(LIBRARY)/mailproof.pc
	$(MAKE) --no-print-directory install-library-files

# The same, of a library that ffi/link.sh has put into the folder LIBRARY.
install-library-files:
	install -D -m 644 ffi/include/mailproof.h $(DESTDIR)$(PREFIX)/include/mailproof.h
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 $(LIBRARY)/libmailproof.a $(DESTDIR)$(PREFIX)/lib/
	install -m 755 $(LIBRARY)/libmailproof.so.*.*.* $(DESTDIR)$(PREFIX)/lib/
	cp -P $$(find $(LIBRARY) -name 'libmailproof.so*' -type l) $(DESTDIR)$(PREFIX)/lib/
	sed 's,^prefix=.*,prefix=$(PREFIX),' $(LIBRARY)/mailproof.pc > $(DESTDIR)$(PREFIX)/lib/pkgconfig/mailproof.pc

# What the milter needs beside the program: its account, manual pages, unit, and a configuration if there is none.
install-milter: install-program
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
