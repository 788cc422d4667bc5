"""verify_many: order, laziness, threads, errors, signals."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import mailproof
import pytest

from .conftest import ENVELOPE, MESSAGE, ZONE, run_python

LOOK_AHEAD = 256


@pytest.fixture(scope="module")
def engine() -> mailproof.Engine:
    return mailproof.Engine(zone=ZONE)


def numbered(count: int | None = None) -> Iterator[mailproof.Request]:
    for number in itertools.count() if count is None else range(count):
        # Of very different sizes, so that threads overtake each other.
        body = b"x" * (100_000 if number % 17 == 0 else 10)
        yield mailproof.Request(MESSAGE + body, **ENVELOPE, id=str(number))


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("look_ahead", [1, 2, 7, LOOK_AHEAD])
def test_verdicts_come_in_order(engine: mailproof.Engine, threads: int, look_ahead: int) -> None:
    verdicts = engine.verify_many(numbered(600), threads=threads, look_ahead=look_ahead)
    assert [it.id for it in verdicts] == [str(number) for number in range(600)]
    assert next(verdicts, None) is None


def test_the_iterable_is_consumed_as_verdicts_are_taken(engine: mailproof.Engine) -> None:
    fetched = 0

    def source() -> Iterator[bytes]:
        nonlocal fetched
        while True:
            fetched += 1
            yield MESSAGE

    verdicts = engine.verify_many(source(), look_ahead=16)
    assert fetched == 0
    for taken in range(1, 200):
        next(verdicts)
        assert taken <= fetched <= taken + 16


def test_large_messages_are_fetched_ahead_by_octets(engine: mailproof.Engine) -> None:
    fetched = 0
    large = b"X: y\r\n\r\n" + bytes(20 * 1024 * 1024)

    def source() -> Iterator[bytes]:
        nonlocal fetched
        for _ in range(8):
            fetched += 1
            yield large

    verdicts = engine.verify_many(source())
    next(verdicts)
    assert fetched == 4
    assert len(list(verdicts)) == 7


def test_what_the_iterable_raises_comes_behind_the_verdicts_before(engine: mailproof.Engine) -> None:
    def source() -> Iterator[Any]:
        yield MESSAGE
        yield MESSAGE
        raise LookupError("gone")

    for messages, error in [(source(), LookupError), ([MESSAGE, MESSAGE, "text"], TypeError)]:
        verdicts = engine.verify_many(messages)
        assert next(verdicts).dmarc.result == next(verdicts).dmarc.result == "fail"
        with pytest.raises(error):
            next(verdicts)
        assert list(verdicts) == []
    assert list(engine.verify_many([])) == []


@pytest.mark.parametrize(
    "keywords",
    [{name: number} for name, most in [("threads", 1024), ("look_ahead", 65_536)] for number in (-1, 0, most + 1, 1 << 64)],
)
def test_numbers_out_of_range_are_refused(engine: mailproof.Engine, keywords: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(keywords))):
        engine.verify_many([], **keywords)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        engine.verify_many(7)  # type: ignore[arg-type]


def test_an_iterator_that_is_dropped_lets_go_of_everything(engine: mailproof.Engine) -> None:
    class Source:
        def __iter__(self) -> Iterator[bytes]:
            yield from itertools.repeat(MESSAGE)

    for _ in range(20):
        source = iter(Source())
        alive = weakref.ref(source)
        verdicts = engine.verify_many(source, threads=4)
        next(verdicts)
        del verdicts, source
        gc.collect()
        assert alive() is None
    ended = wait_until(lambda: sum(thread.startswith("mailproof-batch") for thread in thread_names()) == 0)
    assert ended, thread_names()


@pytest.mark.parametrize("threads", [1, None])
def test_a_slow_source_keeps_back_no_verdict(engine: mailproof.Engine, threads: int | None) -> None:
    fetched = 0

    def source() -> Iterator[bytes]:
        nonlocal fetched
        for _ in range(300):
            until = time.monotonic() + 0.002
            while time.monotonic() < until:
                pass
            fetched += 1
            yield MESSAGE

    verdicts = engine.verify_many(source(), threads=threads)
    next(verdicts)
    # The second starts another thread, which has the first verdict by the third.
    assert fetched <= 8
    assert len(list(verdicts)) == 299


def test_who_keeps_the_verdicts_that_its_messages_come_from_is_collected(engine: mailproof.Engine) -> None:
    class Keeper:
        def __init__(self) -> None:
            self.verdicts = engine.verify_many(self.messages())

        def messages(self) -> Iterator[bytes]:
            while True:
                yield MESSAGE

    keeper = Keeper()
    next(keeper.verdicts)
    alive = weakref.ref(keeper)
    del keeper
    gc.collect()
    assert alive() is None


def batch_threads() -> int:
    return sum(name.startswith("mailproof-batch") for name in thread_names())


def test_threads_end_with_the_source(engine: mailproof.Engine) -> None:
    assert wait_until(lambda: batch_threads() == 0)
    verdicts = engine.verify_many(numbered(300), threads=8)
    next(verdicts)
    processors = len(os.sched_getaffinity(0))
    if processors > 1:
        assert batch_threads() > 0
    assert len(list(verdicts)) == 299
    assert wait_until(lambda: batch_threads() == 0), thread_names()
    assert next(verdicts, None) is None


def test_no_more_threads_than_processors(engine: mailproof.Engine) -> None:
    assert wait_until(lambda: batch_threads() == 0)
    processors = os.sched_getaffinity(0)
    try:
        for some in ({min(processors)}, processors):
            os.sched_setaffinity(0, some)
            verdicts = engine.verify_many(numbered(), threads=8)
            for _ in range(300):
                next(verdicts)
                assert batch_threads() <= len(some) - 1
            del verdicts
            assert wait_until(lambda: batch_threads() == 0)
    finally:
        os.sched_setaffinity(0, processors)


def test_other_threads_of_python_go_on_meanwhile(engine: mailproof.Engine) -> None:
    large = b"From: a@example.org\r\n\r\n" + b"x" * 5_000_000
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1
            stop.wait(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    list(engine.verify_many([large] * 4, threads=1))
    stop.set()
    thread.join()
    assert counted > 1


def test_one_iterator_has_one_taker(engine: mailproof.Engine, fault_dns: Any) -> None:
    slow = mailproof.Engine([fault_dns(ZONE, {"fault": {"delay": {"milliseconds": 500}}})])
    verdicts = slow.verify_many(numbered(3))
    first: list[mailproof.Verdict] = []
    begun = threading.Event()

    def take() -> None:
        begun.set()
        first.append(next(verdicts))

    thread = threading.Thread(target=take)
    thread.start()
    begun.wait()
    with pytest.raises(ValueError, match="another thread"):
        for _ in range(1000):
            next(verdicts)
    thread.join()
    assert first[0].id == "0"


def test_messages_that_wait_for_the_dns_hold_no_thread(fault_dns: Any) -> None:
    names = [f"d{number}.example" for number in range(200)]
    zone = {f"_dmarc.{name}": [{"TXT": "v=DMARC1; p=none"}] for name in names}
    engine = mailproof.Engine([fault_dns(zone, {"fault": {"delay": {"milliseconds": 200}}})])
    started = time.monotonic()
    messages = (f"From: a@{name}\r\n\r\n".encode() for name in names)
    results = [it.dmarc.result for it in engine.verify_many(messages, threads=1)]
    assert results == ["fail"] * 200
    assert time.monotonic() - started < 5, "one after the other they take 40 s"


INTERRUPTED = """
import itertools, os, signal, sys, threading, mailproof
# Whoever started the tests may ignore it, which is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
engine = mailproof.Engine(**eval(sys.argv[1]))
message = b"From: ann@example.org\\r\\n\\r\\n" + b"x" * 30_000
ways = {
    "verify": lambda: engine.verify(message),
    "verify_many": lambda: sum(1 for _ in engine.verify_many(itertools.repeat(message), threads=2)),
    "session": lambda: (session := engine.session(), session.push(message), session.finish()),
    "explain": lambda: engine.explain(message),
    "spf": lambda: engine.spf("192.0.2.7", mail_from="a@example.org"),
}
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    ways[sys.argv[2]]()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("way", "waits"),
    [(way, True) for way in ("verify", "verify_many", "session", "explain", "spf")] + [("verify_many", False)],
)
def test_a_signal_ends_the_call(way: str, waits: bool, silent_server: str) -> None:
    settings = {"resolvers": [silent_server]} if waits else {"zone": {}}
    started = time.monotonic()
    done = run_python(INTERRUPTED, repr(settings), way)
    assert done.stdout == "interrupted\n", done.stderr
    assert time.monotonic() - started < 4


def test_after_a_signal_the_iterator_goes_on(engine: mailproof.Engine) -> None:
    class Interruption(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interruption

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        large = b"From: a@example.org\r\n\r\n" + b"x" * 2_000_000
        verdicts = engine.verify_many([large] * 20, threads=1)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        count = interruptions = 0
        while True:
            try:
                next(verdicts)
                count += 1
            except Interruption:
                interruptions += 1
            except StopIteration:
                break
        assert interruptions <= 1 and count >= 20 - interruptions
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


class Interrupting:
    """300 messages, in the 100th of which somebody presses Ctrl-C."""

    def __init__(self) -> None:
        self.given = 0
        self.is_interrupted = False

    def __iter__(self) -> Interrupting:
        return self

    def __next__(self) -> bytes:
        if self.given == 99 and not self.is_interrupted:
            self.is_interrupted = True
            signal.raise_signal(signal.SIGINT)
        if self.given == 300:
            raise StopIteration
        self.given += 1
        return MESSAGE


@pytest.mark.parametrize("is_generator", [False, True])
def test_an_interruption_of_the_source_comes_at_once(engine: mailproof.Engine, is_generator: bool) -> None:
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        verdicts = engine.verify_many((it for it in Interrupting()) if is_generator else Interrupting())
        taken = 0
        with pytest.raises(KeyboardInterrupt):
            for _ in verdicts:
                taken += 1
        assert taken < 99
        # A generator that raises has ended.
        assert taken + len(list(verdicts)) == (99 if is_generator else 300)
    finally:
        signal.signal(signal.SIGINT, old)


def thread_names() -> list[str]:
    import pathlib

    names = []
    for task in pathlib.Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:
            continue
    return names


def wait_until(is_so: Any, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        threading.Event().wait(0.01)
    return True
