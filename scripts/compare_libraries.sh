#!/usr/bin/env bash
# Builds target/compare/c_rival, which `compare` asks: Debian's libopendkim, libspf2 and libopendmarc behind one small C
# program. The packages are unpacked below target/compare, not installed. Needs apt's lists and cc, not root; says what
# is missing otherwise, and the row of the comparison says it too.
set -eu
cd "$(dirname "$0")/.."
packages=(libopendkim-dev libopendkim11 libspf2-dev libspf2-2 libopendmarc-dev libopendmarc2 libbsd0 libmd0 libdb5.3 libssl3 libssl-dev
    publicsuffix)
root=$PWD/target/compare
source=benches/compare/c_rival.c
done_mark=$root/.complete
wanted="${packages[*]}"
command -v apt-get >/dev/null && command -v cc >/dev/null || { echo "no apt, or no cc"; exit 1; }
if ! { [ -f "$done_mark" ] && [ "$(cat "$done_mark")" = "$wanted" ]; }; then
    rm -rf "$root"
    mkdir -p "$root/archives"
    # As root apt drops its rights, and can not write here; it says so and goes on.
    (cd "$root/archives" && apt-get download -qq "${packages[@]}" 2>/dev/null) || { echo "apt-get download failed"; exit 1; }
    for archive in "$root"/archives/*.deb; do
        dpkg -x "$archive" "$root"
    done
    rm -rf "$root/archives"
    echo "$wanted" >"$done_mark"
fi
[ "$root/c_rival" -nt "$source" ] && exit 0
libraries=$root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || cc -print-multiarch)
cc -O2 -std=gnu11 -Wall -Wextra -Werror -o "$root/c_rival" "$source" -isystem "$root/usr/include" \
    -isystem "$root/usr/include/${libraries##*/}" \
    -DSUFFIXES="\"$root/usr/share/publicsuffix/public_suffix_list.dat\"" -L"$libraries" -L"$root/usr/lib" \
    -Wl,-rpath,"$libraries:$root/usr/lib" -Wl,-rpath-link,"$libraries" \
    -lopendkim -lspf2 -lopendmarc
