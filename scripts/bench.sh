#!/usr/bin/env bash
# Measures, writes benches/record/<machine>/<day>.csv and a picture for each table, and says what moved.
# Usage: scripts/bench.sh [--instructions | --short] [--gate]
#   --instructions  counts instructions only          --short  only a few of them, and writes nothing: for `make test`
#   --gate          fails, and writes nothing, when an instruction count moved by more than 0.5 % since the former record of
#                   this machine, or when one of that record is missing
set -u
cd "$(dirname "$0")/.."
what=all
gate=()
for word in "$@"; do
    case $word in
    --instructions | --short) what=${word#--} ;;
    --gate) gate=(--gate) ;;
    *)
        printf 'bench.sh: unknown: %s\n' "$word" >&2
        exit 64
        ;;
    esac
done
out=$PWD/target/bench
counts=$out/instructions
mkdir -p "$out"
rm -rf "$counts"
sources=()

# The program that runs callgrind has to be of the version of the crate.
version=$(sed -nE 's/^gungraun = .*"=?([0-9.]+)".*/\1/p' Cargo.toml)
runner=$PWD/target/tools/bin/gungraun-runner
install_runner() {
    [ -x "$runner" ] && grep -qs "\"gungraun-runner $version " target/tools/.crates.toml && return 0
    cargo install --quiet --debug --locked --force --root target/tools --target-dir target/tools/build gungraun-runner --version "$version"
}

count_instructions() {
    if ! command -v valgrind >/dev/null; then
        echo "SKIPPED: needs valgrind: instructions are not counted"
        return 1
    fi
    if ! install_runner >"$out/runner.log" 2>&1; then
        tail -n 3 "$out/runner.log"
        echo "SKIPPED: instructions: gungraun-runner $version can not be installed"
        return 1
    fi
    GUNGRAUN_RUNNER=$runner GUNGRAUN_HOME=$counts cargo bench --quiet --package mailproof-benches --bench instructions -- \
        "$@" >"$out/instructions.log" 2>&1 || {
        tail -n 20 "$out/instructions.log"
        echo "FAILED: instructions"
        exit 1
    }
    sources+=(--instructions "$counts")
}

# What comes next, and how many seconds went before it.
part() {
    printf '%4d s: %s\n' "$SECONDS" "$1"
}

record() {
    cargo run --quiet --release --package mailproof-benches --example record -- --day "$(date -u +%F)" \
        --commit "$(git describe --always --dirty 2>/dev/null || echo unknown)" "${gate[@]}" "$@"
}

if [ "$what" = short ]; then
    count_instructions 'instructions::list::short::*' || exit 0
    record --short "${sources[@]}"
    exit
fi
part instructions
count_instructions || [ "$what" = all ] || exit 0
if [ "$what" = all ]; then
    part "rivals and builds"
    # Those that are compared and are not in Rust; without them their rows say so.
    [ -e target/node/node_modules/mailauth ] || npm install --silent --no-audit --no-fund --prefix target/node mailauth@4.13.3 ||
        echo "mailauth is not there"
    .venv/bin/python -c 'import spf, dkim' 2>/dev/null ||
        { python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check -r scripts/oracles.txt; } ||
        echo "dkimpy and pyspf are not there"
    bash scripts/compare_libraries.sh || echo "libopendkim, libspf2 and libopendmarc are not there"
    cargo build --quiet --release --locked --manifest-path benches/compare/viaspf/Cargo.toml --target-dir target/viaspf ||
        echo "viaspf is not there"
    cargo bench --quiet --package mailproof-benches --bench cases --bench allocations --bench dns --no-run || exit 1
    cargo build --quiet --release --package mailproof-benches --example compare --example record || exit 1
    rm -rf target/criterion
    part times
    cargo bench --quiet --package mailproof-benches --bench cases || exit 1
    part allocations
    cargo bench --quiet --package mailproof-benches --bench allocations -- --table "$out/allocations.csv" || exit 1
    part compare
    cargo run --quiet --release --package mailproof-benches --example compare -- --table "$out/compare.csv" || exit 1
    part "cold questions"
    cargo bench --quiet --package mailproof-benches --bench dns -- --table "$out/dns.csv" || exit 1
    sources+=(--times target/criterion)
    for table in allocations compare dns; do
        sources+=(--table "$out/$table.csv")
    done
fi
part record
record "${sources[@]}" || exit
part done
