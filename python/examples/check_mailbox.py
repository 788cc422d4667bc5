"""Checks every message of a mailbox and shows what came of it, month by month: as a picture where matplotlib is installed,
otherwise in text.

Usage: python check_mailbox.py MAILBOX [--plot FILE.png] [--zone ZONE.yml] [--now SECONDS]

MAILBOX is an mbox file or a Maildir. A stored message says nothing dependable about the client that brought it, so SPF is
left out and DKIM alone decides about DMARC.
"""

from __future__ import annotations

import argparse
import email.utils
import mailbox
from collections import Counter
from collections.abc import Iterator
from email.parser import BytesHeaderParser
from pathlib import Path

import mailproof

RESULTS = ("pass", "fail", "none", "temperror", "permerror")
COLOURS = dict(zip(RESULTS, ("#2a7f3f", "#b3261e", "#8a8a8a", "#c98a00", "#6b3fa0"), strict=True))
BAR = 40


def messages(box: mailbox.Mailbox[mailbox.Message], months: dict[str, str]) -> Iterator[mailproof.Request]:
    """The messages of a mailbox as they were sent; notes the month of each."""
    for key in box.iterkeys():
        octets = box.get_bytes(key)
        if isinstance(box, mailbox.mbox):
            octets = mailproof.unquoted(octets)
        date = str(BytesHeaderParser().parsebytes(octets).get("Date", ""))
        try:
            months[str(key)] = email.utils.parsedate_to_datetime(date).strftime("%Y-%m")
        except (ValueError, TypeError, OverflowError):
            months[str(key)] = "no date"
        yield mailproof.Request(octets, id=str(key))


def show(counts: dict[str, Counter[str]], failing: Counter[str]) -> None:
    """Bars of text, with the numbers beside them."""
    most = max((sum(counter.values()) for counter in counts.values()), default=1)
    for month, counter in sorted(counts.items()):
        bar = "".join(result[0] * round(BAR * counter[result] / most) for result in RESULTS)
        numbers = ", ".join(f"{counter[result]} {result}" for result in RESULTS if counter[result])
        print(f"{month:8} {bar:{BAR}} {numbers}")
    for domain, count in failing.most_common(10):
        print(f"fails DMARC: {count:5} {domain}")


def plot(counts: dict[str, Counter[str]], file: Path) -> None:
    """Stacked columns of results, one a month."""
    from matplotlib.figure import Figure

    months, figure = sorted(counts), Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    below = [0] * len(months)
    for result in RESULTS:
        heights = [counts[month][result] for month in months]
        axes.bar(months, heights, bottom=below, label=result, color=COLOURS[result])
        below = [low + high for low, high in zip(below, heights, strict=True)]
    axes.set_title("DMARC results by month")
    axes.set_ylabel("messages")
    axes.legend()
    figure.savefig(file)
    print(f"the picture is in {file}")


def main() -> None:
    """Runs the check."""
    parser = argparse.ArgumentParser(description="Checks a mailbox and shows the results by month.")
    parser.add_argument("mailbox", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--zone", type=Path)
    parser.add_argument("--now", type=int)
    arguments = parser.parse_args()
    path = arguments.mailbox
    box = mailbox.Maildir(path, create=False) if path.is_dir() else mailbox.mbox(path, create=False)
    months: dict[str, str] = {}
    counts: dict[str, Counter[str]] = {}
    failing: Counter[str] = Counter()
    for verdict in mailproof.Engine(zone=arguments.zone, now=arguments.now).verify_many(messages(box, months)):
        counts.setdefault(months[verdict.id], Counter())[verdict.dmarc.result] += 1
        failing.update([str(verdict.dmarc.from_domain)] if verdict.dmarc.result == "fail" else [])
    show(counts, failing)
    if arguments.plot:
        try:
            plot(counts, arguments.plot)
        except ImportError:
            print("no picture: matplotlib is not installed")


if __name__ == "__main__":
    main()
