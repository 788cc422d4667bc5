"""The package against the Rust engine, on the same stream of messages in memory and on the same threads.

Usage: python stream.py DIR [--rust EXAMPLE] [--passes N]

DIR is from `mailproof-testkit stream`, EXAMPLE is `target/release/examples/stream` of the crate `mailproof`. Prints
microseconds a message, the median of the warm passes, and how much more Python takes.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import mailproof

NOW = 1_795_435_200


def load(folder: Path) -> list[dict[str, str]]:
    """The lines of the stream, with the octets of each message."""
    lines = [json.loads(line) for line in (folder / "stream.jsonl").read_text().splitlines()]
    return [line | {"octets": (folder / line["path"]).read_bytes()} for line in lines]


def pass_of(call: Callable[[], int], count: int) -> float:
    """Microseconds a message of one pass."""
    started = time.perf_counter()
    assert call() == count
    return (time.perf_counter() - started) * 1e6 / count


class Rust:
    """The example in Rust, which makes a pass whenever it is told to."""

    def __init__(self, example: Path, folder: Path, threads: int, way: str) -> None:
        """Starts it."""
        words = [str(example), str(folder), str(threads), "-", way]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def one_pass(self) -> float:
        """Microseconds a message of one pass."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found = re.search(r": ([0-9.]+) us", self.process.stdout.readline())
        assert found
        return float(found.group(1))

    def end(self) -> None:
        """Ends it."""
        self.process.communicate()


class Pairs:
    """Passes of Rust and of Python in turns, so that what else the machine does meets both alike."""

    def __init__(self, rust: Rust, call: Callable[[], int], count: int, passes: int) -> None:
        """Measures; the first pass of each, which fills the caches, does not count."""
        rust.one_pass()
        pass_of(call, count)
        self.pairs = []
        for number in range(passes):
            if number % 2 == 0:
                of_rust = rust.one_pass()
                self.pairs.append((of_rust, pass_of(call, count)))
            else:
                of_python = pass_of(call, count)
                self.pairs.append((rust.one_pass(), of_python))
        rust.end()

    def rust(self) -> float:
        """Microseconds a message in Rust, the median of the passes."""
        return statistics.median(rust for rust, _ in self.pairs)

    def python(self) -> float:
        """The same in Python."""
        return statistics.median(python for _, python in self.pairs)

    def more(self) -> tuple[float, float, float]:
        """What Python takes more, in microseconds a message: quartiles and, in the middle, median of the pairs."""
        lower, middle, upper = statistics.quantiles((python - rust for rust, python in self.pairs), n=4)
        return lower, middle, upper

    def fastest(self) -> float:
        """The fastest pass of Python against the fastest of Rust, in percent more: what is left when nothing disturbs."""
        return (min(python for _, python in self.pairs) / min(rust for rust, _ in self.pairs) - 1) * 100

    def percent(self) -> tuple[float, float, float]:
        """The same as a share of Rust's time, in percent."""
        lower, middle, upper = statistics.quantiles(((python / rust - 1) * 100 for rust, python in self.pairs), n=4)
        return lower, middle, upper


async def submitted(engine: mailproof.Engine, stream: list[dict[str, str]], together: int) -> int:
    """Awaits all messages, so many at a time."""
    places = asyncio.Semaphore(together)

    async def one(line: dict[str, str]) -> mailproof.Verdict:
        async with places:
            return await engine.averify(line["octets"], ip=line["ip"], helo=line["helo"], mail_from=line["mail_from"])

    return len(await asyncio.gather(*map(one, stream)))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rust", type=Path, default=Path("target/release/examples/stream"))
    parser.add_argument("--passes", type=int, default=21)
    arguments = parser.parse_args()
    folder, passes = arguments.folder, arguments.passes
    stream = load(folder)
    engine = mailproof.Engine(zone=folder / "zone.yml", now=NOW, authserv_id="mx.example.net")
    requests = [
        mailproof.Request(line["octets"], ip=line["ip"], helo=line["helo"], mail_from=line["mail_from"], id=line["id"])
        for line in stream
    ]
    calls = [(line["octets"], line["ip"], line["helo"], line["mail_from"]) for line in stream]

    def one_by_one() -> int:
        for octets, ip, helo, mail_from in calls:
            engine.verify(octets, ip=ip, helo=helo, mail_from=mail_from)
        return len(calls)

    octets = sum(len(call[0]) for call in calls)
    print(f"{len(calls)} messages of {octets // len(calls)} octets, {passes} warm passes in turns, {os.cpu_count()} processors")
    print("medians in us a message; what Python takes more is the median of the pairs, in brackets their quartiles")

    def line(name: str, threads: int, way: str, call: Callable[[], int], *, in_percent: bool) -> float:
        pairs = Pairs(Rust(arguments.rust, folder, threads, way), call, len(calls), passes)
        lower, middle, upper = pairs.percent() if in_percent else pairs.more()
        unit = "%" if in_percent else "us a call"
        print(
            f"{name:24} Rust {pairs.rust():7.2f}   Python {pairs.python():7.2f}   {middle:+.2f} {unit} ({lower:+.2f} to {upper:+.2f}),"
            f" fastest passes {pairs.fastest():+.2f} %",
            flush=True,
        )
        return pairs.python()

    line("verify, 1 thread", 1, "whole", one_by_one, in_percent=False)
    of_one = 0.0
    for threads in (1, 2, 8):
        many = functools.partial(lambda threads: sum(1 for _ in engine.verify_many(requests, threads=threads)), threads)
        micros = line(f"verify_many, {threads} threads", threads, "session", many, in_percent=True)
        of_one = of_one or micros
        print(f"{'':24} {of_one / micros:.2f} times the rate of one thread")
    line("averify, zone", 1, "whole", lambda: asyncio.run(submitted(engine, stream, 256)), in_percent=False)


if __name__ == "__main__":
    main()
