"""Forks, and interpreters that end with work under way: no hang, no crash."""

from __future__ import annotations

import multiprocessing
import pathlib
import time
from typing import Any

import mailproof
import pytest

from .conftest import ENVELOPE, MESSAGE, ZONE, run_python

FORK = """
import os, sys, asyncio, mailproof
message = b"From: ann@example.org\\r\\n\\r\\nHello.\\r\\n"
engine = mailproof.Engine([sys.argv[1]])
envelope = dict(ip="192.0.2.7", helo="mx.example.org", mail_from="ann@example.org")
def all_ways():
    assert engine.verify(message, **envelope).action == "accept"
    assert [it.action for it in engine.verify_many([mailproof.Request(message, **envelope)] * 3)] == ["accept"] * 3
    assert asyncio.run(engine.averify(message, **envelope)).action == "accept"
    session = engine.session(**envelope); session.push(message)
    assert session.finish().action == "accept"
all_ways()
session, verdicts = engine.session(**envelope), engine.verify_many([message] * 1000)
next(verdicts)
for generation in range(2):
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        all_ways()
        break
    all_ways()
    for stale in (session.finish, lambda: next(verdicts)):
        try:
            stale()
        except RuntimeError as error:
            assert "forked" in str(error)
        else:
            raise AssertionError
print("done", flush=True)
"""


def test_a_child_has_an_engine_of_its_own(fault_dns: Any) -> None:
    done = run_python(FORK, fault_dns(ZONE))
    assert (done.returncode, done.stdout.split()) == (0, ["done"] * 3), done.stderr


def in_child(number: int) -> str:
    return mailproof.Engine(zone=ZONE).verify(MESSAGE, **ENVELOPE, id=str(number)).to_json()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_a_pool_verify(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process that is not forked imports this module by its name.
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parents[1]))
    in_child(0)
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map_async(in_child, range(4)).get(timeout=60)
    assert found == [in_child(number) for number in range(4)]


AT_THE_END = {
    "a message that waits in another thread": """
threading.Thread(target=lambda: engine.verify(message), daemon=True).start()
time.sleep(0.2)
""",
    "a stream that is not taken to its end": """
verdicts = engine.verify_many([message] * 100, threads=4)
threading.Thread(target=lambda: next(verdicts), daemon=True).start()
time.sleep(0.2)
""",
    "tasks that wait": """
async def main():
    tasks = [asyncio.ensure_future(engine.averify(message)) for _ in range(100)]
    await asyncio.sleep(0.2)
asyncio.run(main())
""",
    "a loop that is left": """
loop = asyncio.new_event_loop()
tasks = [loop.create_task(engine.averify(message)) for _ in range(100)]
loop.run_until_complete(asyncio.sleep(0.2))
""",
    "a session": """
session = engine.session(ip="192.0.2.7", mail_from="a@example.org")
session.push(message)
""",
    "threads that verify all the time": """
quick = mailproof.Engine(zone={})
def forever():
    while True:
        quick.verify(message * 100)
        sum(1 for _ in quick.verify_many([message] * 50))
for _ in range(4):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.3)
""",
    "sys.exit in the middle": """
for verdict in mailproof.Engine(zone={}).verify_many(itertools.repeat(message), threads=4):
    sys.exit(0)
""",
}
BEGINNING = """
import asyncio, itertools, sys, threading, time, mailproof
engine = mailproof.Engine([sys.argv[1]])
message = b"From: ann@example.org\\r\\n\\r\\n" + b"x" * 30_000
"""


@pytest.mark.parametrize("what", AT_THE_END)
def test_the_interpreter_ends_with(what: str, silent_server: str) -> None:
    started = time.monotonic()
    done = run_python(BEGINNING + AT_THE_END[what], silent_server)
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr and "panicked" not in done.stderr, done.stderr
    assert time.monotonic() - started < 5


def test_an_engine_that_is_dropped_waits_for_nobody(silent_server: str) -> None:
    done = run_python(
        BEGINNING
        + """
completions = engine._completions()
for _ in range(1000):
    completions.submit(message[:40], None, "", "", "")
time.sleep(0.1)
started = time.monotonic()
del completions, engine
assert time.monotonic() - started < 1, time.monotonic() - started
""",
        silent_server,
    )
    assert done.returncode == 0, done.stderr
