#!/usr/bin/env bash
# Puts what `mailproof-loadtest compare` measures against below target/rivals: Debian's OpenDKIM, OpenDMARC, policyd-spf,
# rspamd and Postfix, and what is needed to build a filter on libmilter. They are unpacked, not installed: nothing of the
# machine's own mail is touched. Needs apt; without it the rows that need a package are left out.
set -eu
cd "$(dirname "$0")/.."
packages=(opendkim opendmarc postfix-policyd-spf-python rspamd postfix publicsuffix libmilter-dev libmilter1.0.1)
root=$PWD/target/rivals
done_mark=$root/.complete
wanted="${packages[*]}"
[ -f "$done_mark" ] && [ "$(cat "$done_mark")" = "$wanted" ] && exit 0
command -v apt-get >/dev/null || { echo "no apt"; exit 1; }

rm -rf "$root"
mkdir -p "$root/archives/partial"
# With all they depend on that is not installed already.
apt-get install --download-only --reinstall -y -qq --no-install-recommends -o "Dir::Cache::archives=$root/archives" \
    "${packages[@]}" >/dev/null
for archive in "$root"/archives/*.deb; do
    dpkg -x "$archive" "$root"
done
rm -rf "$root/archives"
echo "$wanted" >"$done_mark"
