#!/bin/sh
# Makes libmailproof of what cargo has built: the shared library with its soname and versioned symbols, the static one, and
# the file for pkg-config. Usage: ffi/link.sh FOLDER-OF-CARGO FOLDER-TO-WRITE [PREFIX]
#
# A cdylib of rustc has an anonymous map of symbols, beside which a linker takes no versions; so the shared library is linked
# here, of the static one. CC and LDFLAGS are looked at.
set -eu
mkdir -p "$2"
built=$(cd "$1" && pwd)
out=$(cd "$2" && pwd)
prefix=${3:-/usr/local}
cd "$(dirname "$0")"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' ../Cargo.toml | head -n 1)
# While the first number is 0, every second number is an interface of its own.
case $version in
    0.*) interface=${version%.*} ;;
    *) interface=${version%%.*} ;;
esac
# What Rust's standard library needs of the system.
private='-lpthread -lm -ldl -lrt -lutil -lgcc_s -lc'

cp "$built/libmailproof_ffi.a" "$out/libmailproof.a"
# Only what the exported symbols need comes out of the static library.
wanted=$(sed -n 's/^ *\(mailproof_[a-z_]*\);$/-Wl,-u,\1/p' mailproof.map)
# shellcheck disable=SC2086 # several words each
${CC:-cc} -shared -o "$out/libmailproof.so.$version" $wanted "$out/libmailproof.a" \
    -Wl,-soname,"libmailproof.so.$interface" -Wl,--version-script=mailproof.map -Wl,--gc-sections \
    -Wl,-z,relro,-z,now -Wl,--no-undefined -Wl,--as-needed ${LDFLAGS:-} $private
ln -sf "libmailproof.so.$version" "$out/libmailproof.so.$interface"
ln -sf "libmailproof.so.$interface" "$out/libmailproof.so"
sed -e "s,@PREFIX@,$prefix," -e "s,@VERSION@,$version," -e "s,@PRIVATE@,$private," mailproof.pc.in >"$out/mailproof.pc"
