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

# Root, who installs, rarely has a compiler of Rust: then what was built before is installed. Where there is one, what is
# installed is what the sources say now.
LIBDIR ?= $(PREFIX)/lib
BUILT = $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: built-program built-library
built-program:
	@if command -v cargo >/dev/null; then cargo build --release --package mailproof-cli; \
	else test -e $(BUILT)/mailproof || { echo "cargo is not there, and $(BUILT)/mailproof has not been built" >&2; exit 1; }; fi

install-program: built-program
	install -D -m 755 $(BUILT)/mailproof $(DESTDIR)$(PREFIX)/bin/mailproof

# libmailproof: the header, the shared and the static library, and the file for pkg-config.
LIBRARY ?= target/libmailproof
built-library:
	@if command -v cargo >/dev/null; then cargo build --release --package mailproof-ffi && \
	    sh ffi/link.sh $(BUILT) $(LIBRARY) $(PREFIX); \
	else test -e $(LIBRARY)/mailproof.pc || { echo "cargo is not there, and $(LIBRARY) has not been built" >&2; exit 1; }; fi

# A program finds a library in a folder that the linker's cache does not know yet only after ldconfig.
install-library: built-library
	$(MAKE) --no-print-directory install-library-files
	[ -n "$(DESTDIR)" ] || ldconfig || echo "run ldconfig as root before a program is started"

# The same, of a library that ffi/link.sh has put into the folder LIBRARY.
install-library-files:
	install -D -m 644 ffi/include/mailproof.h $(DESTDIR)$(PREFIX)/include/mailproof.h
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 644 $(LIBRARY)/libmailproof.a $(DESTDIR)$(LIBDIR)/
	install -m 755 $(LIBRARY)/libmailproof.so.*.*.* $(DESTDIR)$(LIBDIR)/
	cp -P $$(find $(LIBRARY) -name 'libmailproof.so*' -type l) $(DESTDIR)$(LIBDIR)/
	sed -e 's,^prefix=.*,prefix=$(PREFIX),' -e 's,^libdir=.*,libdir=$(LIBDIR),' $(LIBRARY)/mailproof.pc \
		> $(DESTDIR)$(LIBDIR)/pkgconfig/mailproof.pc

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
