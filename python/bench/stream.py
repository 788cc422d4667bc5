"""The package against the Rust engine, on the same stream of messages in memory and on the same threads.

Usage: python stream.py DIR [--rust EXAMPLE] [--passes N]

DIR is from `mailproof-testkit stream`, EXAMPLE is `target/release/examples/stream` of the crate `mailproof`. Prints
microseconds a message, the median of the warm passes, and how much more Python takes.
"""

from __future__ import annotations

import argparse
import asyncio
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


def measure(call: Callable[[], int], count: int, passes: int) -> float:
    """Microseconds a message; the first pass, which fills the caches, does not count."""
    times = []
    for _ in range(passes):
        started = time.perf_counter()
        assert call() == count
        times.append((time.perf_counter() - started) * 1e6 / count)
    return statistics.median(times[1:])


def rust(example: Path, folder: Path, threads: int, passes: int, way: str) -> float:
    """The same of the Rust example."""
    words = [str(example), str(folder), str(threads), str(passes), way]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    times = [float(found) for found in re.findall(r": ([0-9.]+) us", done.stdout)]
    return statistics.median(times[1:])


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
    parser.add_argument("--passes", type=int, default=7)
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
    print(f"{len(calls)} messages of {octets // len(calls)} octets, {passes - 1} warm passes, {os.cpu_count()} processors")
    whole = rust(arguments.rust, folder, 1, passes, "whole")
    single = measure(one_by_one, len(calls), passes)
    print(f"verify        1 thread   Rust {whole:7.2f}   Python {single:7.2f}   {single - whole:+.2f} us a call")
    of_one = 0.0
    for threads in (1, 2, 8):
        base = rust(arguments.rust, folder, threads, passes, "session")
        many = measure(lambda: sum(1 for _ in engine.verify_many(requests, threads=threads)), len(calls), passes)  # noqa: B023
        of_one = of_one or many
        percent, times = (many / base - 1) * 100, of_one / many
        print(f"verify_many {threads:3} threads  Rust {base:7.2f}   Python {many:7.2f}   {percent:+.1f} %   {times:.2f} times one")
    awaited = measure(lambda: asyncio.run(submitted(engine, stream, 256)), len(calls), passes)
    print(f"averify, zone            Rust {whole:7.2f}   Python {awaited:7.2f}   {awaited - whole:+.2f} us a call")


if __name__ == "__main__":
    main()
