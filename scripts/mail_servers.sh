#!/usr/bin/env bash
# Puts Debian's Postfix, Sendmail, Exim, OpenDKIM's tools and miltertest below target/mail-servers, for the tests that use them.
# The packages are unpacked, not installed: they exclude each other, and nothing of the machine's own mail is touched. Only
# shared libraries that they need are installed. Needs apt and root; without them the tests that need a server say so.
set -eu
cd "$(dirname "$0")/.."
packages=(postfix sendmail-bin sendmail-base sendmail-cf m4 miltertest opendkim opendkim-tools exim4-daemon-heavy exim4-dev)
root=target/mail-servers
done_mark=$root/.complete
wanted="${packages[*]}"
[ -f "$done_mark" ] && [ "$(cat "$done_mark")" = "$wanted" ] && exit 0
command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || { echo "no apt, or not root"; exit 1; }

rm -rf "$root"
mkdir -p "$root/archives"
libraries=$(for package in "${packages[@]}"; do apt-cache depends "$package"; done |
    sed -nE 's/^  Depends: (lib[a-z0-9.+-]+)$/\1/p' | sort -u)
missing=()
for library in $libraries; do
    dpkg -s "$library" >/dev/null 2>&1 || missing+=("$library")
done
if [ ${#missing[@]} -gt 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
(cd "$root/archives" && apt-get download -qq "${packages[@]}" 2>/dev/null)
for archive in "$root"/archives/*.deb; do
    dpkg -x "$archive" "$root"
done
rm -rf "$root/archives"
echo "$wanted" >"$done_mark"
