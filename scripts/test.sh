#!/usr/bin/env bash
# Runs every test that this machine can run, and ends with the line `N passed, N failed`.
# Usage: scripts/test.sh [--long]        --long adds the slow sweeps.
set -u
cd "$(dirname "$0")/.."
long=${1:-}
passed=0
failed=0
skipped=0
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT

say() { printf '\n== %s\n' "$*"; }

# One check that counts as one test: its output is shown, its exit code decides.
check() {
    local name=$1
    shift
    say "$name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$name"
    fi
}

# A run of `cargo test`: its closing lines are added up; a run that failed without a failing test counts as one failure.
cargo_tests() {
    local name=$1 code
    shift
    say "$name"
    cargo test "$@" 2>&1 | tee "$log/cargo" | grep -vE '^(test .* \.\.\. ok|running [0-9]+ tests?|)$'
    code=${PIPESTATUS[0]}
    local sums ok bad
    sums=$(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' "$log/cargo" |
        awk '{ok += $1; bad += $2} END {print ok + 0, bad + 0}')
    ok=${sums% *}
    bad=${sums#* }
    if [ "$code" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    skipped=$((skipped + $(grep -c '^SKIPPED: ' "$log/cargo")))
}

# Debian packages that tests use when they are there: a real resolver, a DNS client, Python for the second opinions, and what
# C programs are built and watched with.
install_packages() {
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 0
    local missing=() package
    for package in unbound knot knot-dnsutils python3-venv libevent-dev pkg-config valgrind; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    say "Debian packages: ${missing[*]}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; } >"$log/apt" 2>&1 ||
        { tail -n 5 "$log/apt"; printf 'not installed; the tests that need them say so\n'; }
}

install_oracles() {
    [ -x .venv/bin/python ] && .venv/bin/python -c 'import spf, dkim' 2>/dev/null && return 0
    say "Python environment for the second opinions"
    { python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check -r scripts/oracles.txt; } >"$log/pip" 2>&1 ||
        { tail -n 5 "$log/pip"; printf 'not installed; the comparisons that need it say so\n'; }
}

# Postfix, Sendmail and Exim, unpacked below target, for the tests of the milter and of the library.
unpack_mail_servers() {
    [ -e target/mail-servers/usr/sbin/exim4 ] && [ -e target/mail-servers/.complete ] && return 0
    say "Postfix, Sendmail, Exim, OpenDKIM's tools: unpacked below target/mail-servers"
    scripts/mail_servers.sh >"$log/servers" 2>&1 ||
        { tail -n 5 "$log/servers"; printf 'not there; the tests that need them say so\n'; }
}

# The Python package: its wheel is built as for development, installed into an environment of its own, and tested there.
python_tests() {
    local name=$1 environment=target/python-venv wheels=target/wheels
    say "$name"
    if ! command -v python3 >/dev/null || ! python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        printf 'SKIPPED: python3 of version 3.11 or later with venv is not there\n'
        skipped=$((skipped + 1))
        return
    fi
    { [ -x $environment/bin/python ] || python3 -m venv $environment; } >"$log/python" 2>&1 &&
        $environment/bin/pip install --quiet --disable-pip-version-check -r python/tests/requirements.txt >>"$log/python" 2>&1 ||
        {
            tail -n 5 "$log/python"
            printf 'SKIPPED: what the tests of the package need can not be installed\n'
            skipped=$((skipped + 1))
            return
        }
    rm -rf $wheels
    check "the wheel is built" $environment/bin/maturin build --quiet --profile dev --manifest-path python/Cargo.toml \
        --interpreter $environment/bin/python --out $wheels
    check "the wheel is installed" $environment/bin/pip install --quiet --force-reinstall --no-deps --no-index $wheels/*.whl
    check "licences in the wheel are those of what is in it" python3 python/third_party_licences.py --check
    package_tests "tests of the package" $environment
    [ "$long" = --long ] || return 0
    local later
    for later in python3.12 python3.13 python3.14; do
        $later -c 'import venv' 2>/dev/null || { printf '%s is not there: the package is not tested with it\n' "$later"; continue; }
        environment=target/$later-venv
        { $later -m venv $environment && $environment/bin/pip install --quiet --disable-pip-version-check -r python/tests/requirements.txt; } \
            >"$log/python" 2>&1 ||
            {
                tail -n 5 "$log/python"
                printf 'SKIPPED: what the tests of the package need can not be installed for %s\n' "$later"
                skipped=$((skipped + 1))
                continue
            }
        check "the wheel is installed for $later" $environment/bin/pip install --quiet --force-reinstall --no-deps --no-index $wheels/*.whl
        package_tests "tests of the package, $later" $environment
    done
}

# The tests of the Python package in an environment that has it.
package_tests() {
    local name=$1 environment=$2 sums ok bad code
    say "$name"
    MAILPROOF_WHEEL=$(echo "$PWD"/target/wheels/*.whl) $environment/bin/python -m pytest --quiet -p no:cacheprovider python 2>&1 | tee "$log/python"
    code=${PIPESTATUS[0]}
    sums=$(tail -n 1 "$log/python")
    ok=$(sed -nE 's/.*\b([0-9]+) passed.*/\1/p' <<<"$sums")
    bad=$(sed -nE 's/.*\b([0-9]+) (failed|errors?).*/\1/p' <<<"$sums")
    [ "$code" -eq 0 ] || [ -n "$bad" ] || bad=1
    passed=$((passed + ${ok:-0}))
    failed=$((failed + ${bad:-0}))
    skipped=$((skipped + $(grep -c 'SKIPPED: ' "$log/python")))
}

install_packages
install_oracles
unpack_mail_servers
check "formatting" cargo fmt --all --check
check "lints" cargo clippy --quiet --workspace --all-targets --all-features -- -D warnings
# With every feature a name may be used that is not with fewer.
lint_features() {
    local package features
    for features in "" network blocking-resolver zone-files "network blocking-resolver zone-files"; do
        cargo clippy --quiet --package mailproof --no-default-features --features "$features" -- -D warnings || return 1
    done
    for package in mailproof-ffi mailproof-proto; do
        cargo clippy --quiet --package $package --no-default-features -- -D warnings || return 1
    done
}
[ "$long" != --long ] || check "lints of the smaller builds" lint_features
check "dependencies: direction and licences" python3 scripts/check_dependencies.py
cargo_tests "tests of every crate" --all-features --no-fail-fast
cargo_tests "what reads and draws the records of benches" --package mailproof-benches --lib
python_tests "Python package"
check "corpus" cargo run --quiet --package mailproof-testkit -- corpus --if-present
check "differential: mail-auth, pyspf, dkimpy" cargo run --quiet --package mailproof-testkit -- differential --count 2000
check "demo" make --no-print-directory demo
cargo build --quiet --package mailproof-cli --package mailproof-loadtest
check "load scenarios, short" target/debug/mailproof-loadtest scenario --quiet --mailproof target/debug/mailproof
count_instructions() {
    scripts/bench.sh --short --gate | tee "$log/instructions"
    local code=${PIPESTATUS[0]}
    skipped=$((skipped + $(grep -c '^SKIPPED: ' "$log/instructions")))
    return "$code"
}
check "instructions of the short cases" count_instructions
check "simulator, 2,000 seeds" target/debug/mailproof-loadtest sim --seeds 2000 --from 1
if [ "$long" = --long ]; then
    check "differential, long" cargo run --quiet --release --package mailproof-testkit -- differential --count 200000 --python-count 20000
    cargo_tests "every DNS fault, 20,000 messages a row" --release --package mailproof --test faults -- --ignored
    cargo_tests "a million forged answers" --release --package mailproof --test forgery -- --ignored
    check "soak of the DNS client, 30 minutes" cargo run --quiet --release --package mailproof-fault-dns --example soak -- 30
    cargo_tests "the milter, half an hour of disturbances" --release --package mailproof-cli --test milter -- --ignored --nocapture
    scripts/cross_compiler.sh || printf 'not there; the tests that need it say so\n'
    cargo_tests "libmailproof instrumented whole, and for other processors" --all-features --package mailproof-ffi --test library -- --ignored
    check "the quick start on a clean machine" scripts/clean_machine.sh
    cargo build --quiet --release --package mailproof-cli --package mailproof-loadtest
    for backend in uring epoll; do
        check "load scenarios, $backend" target/release/mailproof-loadtest scenario --long --quiet --backend "$backend"
    done
    check "simulator, 200,000 seeds" target/release/mailproof-loadtest sim --seeds 200000
    check "simulator, planted bugs" scripts/planted_bugs.sh
    check "hostile inputs, timed" cargo run --quiet --release --package mailproof-testkit -- hostile
fi

[ "$skipped" -eq 0 ] || printf '\n%s tests or parts of tests were left out; each says above what it needs\n' "$skipped"
printf '\n%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
