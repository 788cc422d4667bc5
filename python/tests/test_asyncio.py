"""averify on plain asyncio: one descriptor, no threads, cancellation, no leak."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

import mailproof
import pytest
from mailproof import _messages

from .conftest import ENVELOPE, MESSAGE, ZONE

COUNT = 10_000


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def no_sockets() -> int:
    """Descriptors that are no sockets: the DNS client opens ports as it needs them, up to 64 a thread."""
    count = 0
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += not os.readlink(entry.path).startswith("socket:")
    return count


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wild_zone() -> dict[str, list[Any]]:
    """Every `dN.example` has an SPF record and a policy."""
    return {"*.example": [{"TXT": "v=spf1 ip4:192.0.2.7 -all"}, {"TXT": "v=DMARC1; p=reject"}]}


def mail(number: int, body: bytes = b"Text.\r\n") -> bytes:
    return f"From: a@d{number}.example\r\nSubject: {number}\r\n\r\n".encode() + body


async def ten_thousand(engine: mailproof.Engine) -> None:
    await engine.averify(mail(0), **ENVELOPE)
    loop: Any = asyncio.get_running_loop()
    before = no_sockets(), threads()
    # The pair by which the loop wakes itself has one, the engine the other.
    assert len(loop._selector.get_map()) == 2
    tasks = [
        asyncio.ensure_future(
            engine.averify(
                mail(number), ip="192.0.2.7", helo="mx.example", mail_from=f"a@d{number}.example", id=str(number)
            )
        )
        for number in range(COUNT)
    ]
    most = before
    while not all(task.done() for task in tasks):
        await asyncio.wait(tasks, timeout=0.05)
        most = max(most[0], no_sockets()), max(most[1], threads())
        assert len(loop._selector.get_map()) == 2
    assert most == before
    for number, task in enumerate(tasks):
        verdict = task.result()
        assert verdict.id == str(number) and verdict.spf.result == "pass" and verdict.dmarc.result == "pass"


def test_ten_thousand_wait_for_a_slow_resolver(fault_dns: Any) -> None:
    address = fault_dns(wild_zone(), {"fault": {"delay": {"milliseconds": 300}}})
    engine = mailproof.Engine([address], cache_size=0)
    started = time.monotonic()
    asyncio.run(ten_thousand(engine))
    print(f"{COUNT} messages in {time.monotonic() - started:.1f} s")


def test_cancelling_frees_at_once(silent_server: str) -> None:
    engine = mailproof.Engine([silent_server])
    body = b"x" * 100_000

    async def run() -> list[int]:
        sizes = []
        for round_ in range(6):
            gc.collect()
            tasks = [asyncio.ensure_future(engine.averify(mail(round_ * COUNT + n, body))) for n in range(COUNT // 5)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            started = time.monotonic()
            for task in tasks:
                task.cancel()
            assert set(map(type, await asyncio.gather(*tasks, return_exceptions=True))) == {asyncio.CancelledError}
            assert time.monotonic() - started < 2
            (channel,) = engine._channels.values()
            assert not channel._waiting
            sizes.append(resident_bytes())
        return sizes

    # Each round had 200 MB of messages on their way. What is freed in one serves the next.
    sizes = asyncio.run(run())
    assert sizes[-1] - sizes[2] < 200 << 20, sizes


def test_no_more_are_on_their_way_than_the_limit(silent_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailproof._engine.SUBMITTED_MAX", 2)

    async def on_their_way(engine: mailproof.Engine, count: int) -> int:
        tasks = [asyncio.ensure_future(engine.averify(mail(number))) for number in range(count)]
        await asyncio.sleep(0.05)
        (channel,) = engine._channels.values()
        submitted = len(channel._waiting)
        if submitted:
            # Those that wait for a place can be cancelled like those that have one.
            for task in reversed(tasks):
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not channel._waiting
        return submitted

    assert asyncio.run(on_their_way(mailproof.Engine([silent_server]), 2)) == 2
    assert asyncio.run(on_their_way(mailproof.Engine([silent_server]), 5)) == 2
    assert asyncio.run(on_their_way(mailproof.Engine(zone=ZONE), 5)) == 0


def test_a_time_limit_ends_one_call_and_no_other(fault_dns: Any) -> None:
    zone = {**ZONE, **wild_zone()}
    slow = {"below": "d1.example", "fault": {"delay": {"milliseconds": 2000}}}
    engine = mailproof.Engine([fault_dns(zone, slow)])

    async def run() -> None:
        late = asyncio.ensure_future(asyncio.wait_for(engine.averify(mail(1)), 0.3))
        verdict = await engine.averify(mail(2))
        assert verdict.dmarc.result == "fail"
        with pytest.raises(TimeoutError):
            await late
        assert (await engine.averify(mail(3))).dmarc.policy == "reject"

    asyncio.run(run())


def test_nothing_is_left_of_many_calls() -> None:
    engine = mailproof.Engine(zone=ZONE)

    async def run(count: int) -> None:
        for _ in range(count):
            await asyncio.gather(*(engine.averify(MESSAGE, **ENVELOPE) for _ in range(100)))

    asyncio.run(run(10))
    gc.collect()
    before = len(gc.get_objects()), descriptors(), resident_bytes()
    for _ in range(20):
        asyncio.run(run(25))
    gc.collect()
    after = len(gc.get_objects()), descriptors(), resident_bytes()
    assert after[0] - before[0] < 200 and after[1] == before[1]
    assert after[2] - before[2] < 16 << 20, "50,000 messages"


def test_engines_and_loops_come_and_go() -> None:
    before = descriptors(), threads()

    async def run() -> None:
        # An engine that goes first takes its descriptor along.
        for _ in range(3):
            assert (await mailproof.Engine(zone=ZONE).averify(MESSAGE, **ENVELOPE)).action == "accept"
            gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert descriptors() <= before[0] + LOOP_DESCRIPTORS

    for _ in range(3):
        asyncio.run(run())
    engine = mailproof.Engine(["127.0.0.1:9"])
    for _ in range(3):
        asyncio.run(engine.averify(b"From: nobody\r\n\r\n"))
    del engine
    gc.collect()
    assert descriptors() <= before[0] and threads() <= before[1]


#: The selector of a loop, and the two sockets by which it wakes itself.
LOOP_DESCRIPTORS = 3


def test_loops_that_are_closed_with_calls_under_way_leave_nothing(silent_server: str) -> None:
    engine = mailproof.Engine([silent_server], threads=1)

    def leave() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        task = loop.create_task(engine.averify(MESSAGE))
        loop.run_until_complete(asyncio.sleep(0))
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    leave()
    before = no_sockets()
    # What is left goes with the next loop, not with the garbage.
    gc.disable()
    try:
        for _ in range(50):
            leave()
    finally:
        gc.enable()
    assert len(engine._channels) == 1
    # The engine's thread lets go of what it was asked, too.
    until = time.monotonic() + 10
    while no_sockets() > before:
        assert time.monotonic() < until, no_sockets() - before
        threading.Event().wait(0.01)
    gc.collect()


def test_a_file_is_read_by_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = mailproof.Engine(zone=ZONE)
    (tmp_path / "message").write_bytes(MESSAGE)
    read = _messages.octets
    readers = set()

    def octets(message: object) -> bytes:
        readers.add(threading.get_ident())
        return read(message)

    monkeypatch.setattr("mailproof._messages.octets", octets)
    verdict = asyncio.run(engine.averify(tmp_path / "message", **ENVELOPE))
    assert verdict == engine.verify(MESSAGE, **ENVELOPE)
    assert readers and threading.get_ident() not in readers
    with pytest.raises(FileNotFoundError):
        asyncio.run(engine.averify(tmp_path / "nothing"))


def test_one_engine_serves_loops_of_several_threads() -> None:
    engine = mailproof.Engine(zone=ZONE)
    wrong: list[object] = []

    def run() -> None:
        async def body() -> None:
            verdicts = await asyncio.gather(*(engine.averify(MESSAGE, **ENVELOPE, id=str(n)) for n in range(500)))
            wrong.extend(it for n, it in enumerate(verdicts) if it.id != str(n) or it.action != "accept")

        asyncio.run(body())

    workers = [threading.Thread(target=run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_misuse_is_raised_where_it_is_awaited() -> None:
    engine = mailproof.Engine(zone=ZONE)
    with pytest.raises(TypeError):
        asyncio.run(engine.averify("text"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ip"):
        asyncio.run(engine.averify(MESSAGE, ip="nowhere"))
    with pytest.raises(RuntimeError, match="no running event loop"):
        engine.averify(MESSAGE).send(None)
