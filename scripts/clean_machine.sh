#!/usr/bin/env bash
# Tries the README's quick start for Postfix as a new user would, word by word, on a Debian that was installed a minute ago:
# unpacked below target/clean-debian, booted in a container without network. Then mail is sent: a message from outside gets
# its results, one of our own is signed.
# Needs root, debootstrap and systemd-nspawn (package systemd-container); says what is missing otherwise.
set -eu
cd "$(dirname "$0")/.."
here=$PWD
root=$here/target/clean-debian
cargo_home=${CARGO_HOME:-$HOME/.cargo}
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}

skip() {
    echo "SKIPPED: $*"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "a clean machine needs root"
for tool in debootstrap systemd-nspawn; do
    command -v "$tool" >/dev/null || skip "a clean machine needs $tool"
done

# What a user of Postfix on Debian has, and what the README asks for: make and Rust. swaks sends the mail.
packages=systemd,systemd-sysv,dbus,make,gcc,libc6-dev,sudo,iproute2,procps,swaks,man-db
if [ ! -e "$root/.complete" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include="$packages" stable "$root" >"$root.log" 2>&1 || { tail -n 5 "$root.log"; skip "no Debian to be had"; }
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    # Not chroot: without /proc the package finds no network and writes that into its configuration.
    systemd-nspawn --quiet --register=no --keep-unit --directory="$root" sh -c 'echo "postfix postfix/main_mailer_type select Internet Site
postfix postfix/mailname string mail.example.org" | debconf-set-selections &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postfix' >>"$root.log" 2>&1
    rm "$root/usr/sbin/policy-rc.d"
    touch "$root/.complete"
fi
cargo build --quiet --release --package mailproof-cli

# The block of the README, as it stands there.
quick_start=$(awk '/^\*\*Postfix\*\*/ {found = 1; next} found && /^```/ {if (inside) exit; inside = 1; next} inside' README.md)
cat >"$root/trial.sh" <<TRIAL
set -eu
export HOME=/root PATH=$cargo_home/bin:\$PATH CARGO_HOME=$cargo_home RUSTUP_HOME=$rustup_home CARGO_NET_OFFLINE=true
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-1}
ip link set lo up
ip address add 192.0.2.1/24 dev lo
ip address add 192.0.2.7/24 dev lo
systemctl start postfix
cd $here
$quick_start
mailproof check-config /etc/mailproof/mailproof.toml
systemctl is-active mailproof-milter
man -w mailproof-milter mailproof.toml
postconf -e inet_interfaces=all mydestination=localhost alias_maps=
systemctl restart postfix
timeout 60 sh -c 'until ss -Hltn | grep -q :25; do sleep 0.2; done' || { journalctl --no-pager -u 'postfix*'; exit 1; }
swaks --silent 2 --server 192.0.2.1 --local-interface 192.0.2.7 --from eve@example.com --to root@localhost --h-Subject incoming
swaks --silent 2 --server 127.0.0.1 --from ann@example.org --to root@localhost --h-Subject outgoing
timeout 60 sh -c 'until [ "\$(grep -c "^Subject: " /var/mail/root 2>/dev/null)" = 2 ]; do sleep 0.2; done' ||
    { mailq; journalctl --no-pager -u 'postfix*'; }
cat /var/mail/root
systemctl reload mailproof-milter
systemctl stop mailproof-milter
echo 'no-such-key = 1' >>/etc/mailproof/mailproof.toml
systemctl start mailproof-milter || systemctl show -p NRestarts -p ExecMainStatus mailproof-milter
journalctl --no-pager -o cat -b -u mailproof-milter
echo TRIED
TRIAL
cat >"$root/etc/systemd/system/trial.service" <<'UNIT'
[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/bash -x /trial.sh
StandardOutput=file:/trial.log
StandardError=inherit
TimeoutStartSec=900
[Install]
WantedBy=default.target
UNIT
ln -sf ../trial.service "$root/etc/systemd/system/multi-user.target.wants/trial.service"
rm -f "$root/trial.log" "$root/var/mail/root"
echo "127.0.0.1 localhost mail.example.org" >"$root/etc/hosts"
rm -rf "$root/etc/mailproof" "$root/etc/systemd/system/multi-user.target.wants/mailproof-milter.service"
# The filter of the container is not that of a machine: it knows nothing of Landlock.
SYSTEMD_SECCOMP=0 systemd-nspawn --quiet --register=no --keep-unit --private-network --hostname=mail.example.org --boot --directory="$root" \
    --bind-ro="$here" --bind="$here/target/release" --bind-ro="$cargo_home" --bind-ro="$rustup_home" \
    </dev/null >"$root.boot.log" 2>&1 || true

log=$root/trial.log
[ -s "$log" ] || { tail -n 5 "$root.boot.log"; skip "no container can be booted here"; }
for text in '^Authentication-Results: ' '^DKIM-Signature: ' 'event=start .*landlock=on.* seccomp=on' 'result=done' '^NRestarts=0' '^ExecMainStatus=78' '^TRIED$'; do
    grep -qE "$text" "$log" || { cat "$log"; echo "missing: $text"; exit 1; }
done
echo "the quick start works as written on Debian $(cat "$root/etc/debian_version")"
