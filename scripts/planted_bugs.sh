#!/usr/bin/env bash
# Plants each bug of loadtest/sim/planted into a copy of this tree, and demands that the simulator finds it.
# Usage: scripts/planted_bugs.sh [PATCH...]     SEEDS (10000), PROFILE (release) and PLANTED_TARGET may be set.
set -u
cd "$(dirname "$0")/.."
root=$PWD
seeds=${SEEDS:-10000}
profile=${PROFILE:-release}
copy=$root/target/planted/tree
export CARGO_TARGET_DIR=${PLANTED_TARGET:-$root/target/planted/build}
folder=$profile
[ "$profile" = dev ] && folder=debug
[ $# -gt 0 ] || set -- loadtest/sim/planted/*.patch

git worktree remove --force "$copy" 2>/dev/null
mkdir -p "$root/target/planted"
git worktree add --quiet --detach "$copy" HEAD || exit 71
trap 'git -C "$root" worktree remove --force "$copy"' EXIT
failed=0
table=$(printf '%-28s %12s  %s' bug 'seeds needed' invariant)
for patch in "$@"; do
    name=$(basename "$patch" .patch)
    git -C "$copy" reset --quiet --hard HEAD
    if ! git -C "$copy" apply --3way "$root/$patch" 2>/dev/null; then
        row=$(printf '%-28s %12s  %s' "$name" - 'the patch no longer applies: the code it breaks has moved; make it again')
        failed=1
    elif ! (cd "$copy" && cargo build --quiet --profile "$profile" --package mailproof-loadtest); then
        row=$(printf '%-28s %12s  %s' "$name" - 'does not build')
        failed=1
    else
        output=$("$CARGO_TARGET_DIR/$folder/mailproof-loadtest" sim --from 1 --seeds "$seeds" 2>/dev/null)
        code=$?
        line=$(sed -nE 's/^seed [0-9]+ failed, the ([0-9]+)\. one: ([a-z-]+): .*/\1 \2/p' <<<"$output" | head -n 1)
        if [ $code -eq 1 ] && [ -n "$line" ]; then
            row=$(printf '%-28s %12s  %s' "$name" "${line% *}" "${line#* }")
        else
            row=$(printf '%-28s %12s  %s' "$name" - "not found within $seeds seeds (exit code $code)")
            failed=1
        fi
    fi
    printf '%s\n' "$row"
    table+=$'\n'$row
done
printf '\n%s\n' "$table"
exit $failed
