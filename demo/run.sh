#!/bin/sh
# Shows what mailproof does with a small mailbox: no network, the DNS comes from demo/zone.yml.
# Usage: sh demo/run.sh [BINARY]        BINARY defaults to the `mailproof` on the PATH.
set -eu
binary=${1:-mailproof}
demo=$(dirname "$0")
# Everything is judged as of noon, 23 November 2026, so that the outcome is the same on every day.
judge="--from-trace --zone $demo/zone.yml --now 1795435200 --authserv-id mx.lantern-lane.example"

printf 'A mailbox of 36 messages: honest, passed on, forged, gone wrong, tampered with.\n\n'
# The options hold no spaces but those between them.
# shellcheck disable=SC2086
"$binary" verify $judge "$demo/mailbox.mbox"

printf '\nWhy does "lantern-list" fail?  mailproof explain message.eml\n\n'
# shellcheck disable=SC2086
"$binary" explain $judge "$demo/message.eml"
