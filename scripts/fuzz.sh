#!/usr/bin/env bash
# Fuzzes every target for a number of seconds each. Usage: scripts/fuzz.sh [SECONDS [TARGET...]]
# Needs a nightly toolchain and `cargo install cargo-fuzz`. Crashing inputs are left under engine/fuzz/artifacts.
set -eu
cd "$(dirname "$0")/../engine"
seconds=${1:-180}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(cargo +nightly fuzz list)
fi
for target in "${targets[@]}"; do
    printf '== %s for %s s\n' "$target" "$seconds"
    mkdir -p "fuzz/corpus/$target"
    cargo +nightly fuzz run "$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 2>&1 |
        grep -E 'stat::number_of_executed_units|stat::peak_rss_mb|SUMMARY|panicked|Test unit' || true
done
ls fuzz/artifacts/*/* 2>/dev/null && exit 1
echo "no crash"
