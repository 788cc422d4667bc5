#!/usr/bin/env bash
# Puts a compiler of Rust with the sources of its standard library below target/cross-compiler, and installs C compilers and
# emulators for ARM: the long tests of libmailproof build it for other processors with them, and instrument it whole.
# The compiler is Debian's (rustc-web, of the security archive), unpacked, not installed: it excludes Debian's other ones.
# Needs apt and root; without them the tests that need it say so.
set -eu
cd "$(dirname "$0")/.."
packages=(rustc-web libstd-rust-web-dev rust-web-src)
tools=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross qemu-user)
root=target/cross-compiler
[ -f "$root/.complete" ] && exit 0
command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || { echo "no apt, or not root"; exit 1; }

apt-get update -qq >/dev/null 2>&1 || true
# The libraries of the compiler have its version in their names.
libraries=$(for package in libstd-rust-web-dev $(apt-cache depends libstd-rust-web-dev | sed -nE 's/^  Depends: (libstd-rust.*)$/\1/p'); do
    apt-cache depends "$package"
done | sed -nE 's/^  Depends: ((libstd-rust|libllvm|libz3)[a-z0-9.+-]*)$/\1/p' | sort -u)
# LLVM needs one more of its own.
libraries="$libraries libz3-4"

rm -rf "$root"
mkdir -p "$root/archives"
# shellcheck disable=SC2086 # several words
(cd "$root/archives" && apt-get download -qq "${packages[@]}" $libraries 2>/dev/null)
for archive in "$root"/archives/*.deb; do
    dpkg -x "$archive" "$root"
done
rm -rf "$root/archives"
missing=()
for tool in "${tools[@]}"; do
    dpkg -s "$tool" >/dev/null 2>&1 || missing+=("$tool")
done
if [ ${#missing[@]} -gt 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu "$root/usr/bin/rustc" --version
touch "$root/.complete"
