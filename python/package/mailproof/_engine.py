"""The engine for programs: what the extension has, and asyncio."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import _mailproof
from ._mailproof import Request, SpfCheck, Verdict

if TYPE_CHECKING:
    import mailbox

    from ._mailproof import Verdicts
    from ._types import Address, Message

#: Messages that ``averify`` has on their way at a time on one loop; further ones wait for a place, and are not copied yet.
SUBMITTED_MAX = 65_536

_lock = threading.Lock()


class Engine(_mailproof.Engine):
    """Verifies messages. Cheap to use from many threads at once; all share its cache.

    resolvers: DNS servers to ask instead of those of the system: ``IP``, ``IP:PORT`` or ``[IP]:PORT``, with ``#NAME``
    behind it for DNS over TLS to a server of that name. zone: answers from here and asks nobody: a path, a list of paths
    (YAML, or an RFC 1035 master file when the name ends in ``.zone``), or a dictionary of names. cache_size: octets of
    the DNS cache. authserv_id: the name written into Authentication-Results, the name of this host if not given. policy:
    ``"9989"`` (tree walk; ``p=reject`` alone quarantines) or ``"7489"`` (public suffix list; ``p=reject`` rejects).
    defer_on_temperror: defer a message when DMARC ends in a temporary error, instead of accepting it. honour_length: let a
    signature pass whose ``l=`` leaves octets uncovered. strictest_of_several: judge a From of several domains by the
    strictest policy. now: judge as of this moment, in seconds since 1970. threads: those that ask the DNS and serve
    ``averify``, 1 to 1024, one a processor if not given. backend: ``auto``, ``uring`` or ``epoll``.

    Raises ValueError for what is written wrong or out of range, OSError when there is no resolver or the system gives no threads.

    >>> Engine(zone={"example.org": [{"TXT": "v=spf1 -all"}]}).spf("192.0.2.7", mail_from="a@example.org").spf.result
    'fail'

    In a process that was forked off the engine goes on, with threads of its own and an empty cache.
    """

    __slots__ = ("__weakref__", "_channels")

    #: There from the first ``averify`` on.
    _channels: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Channel]

    def verify_many(
        self,
        messages: Iterable[Message | Request] | mailbox.Mailbox[mailbox.Message],
        *,
        threads: int | None = None,
        look_ahead: int = 256,
    ) -> Verdicts:
        """Verifies a stream of messages on several threads and gives an iterator over their verdicts, in order.

        ``messages`` is any iterable of messages, of ``Request`` objects, which have an envelope, or a mailbox, whose keys
        become the ``id`` of the verdicts. It is consumed as verdicts are taken, at most ``look_ahead`` messages (1 to
        65,536) and 64 MiB ahead. ``threads`` (1 to 1024) counts those that verify, the calling one included; one a processor
        if not given, and no more than the processors are used: a message that waits for the DNS holds no thread.

        A source that waits for something itself, such as a queue, keeps back the verdicts of what it gave before;
        ``look_ahead=1``, or ``averify``, is for such. What the iterable raises is raised behind the verdicts of what it
        gave before, but ``KeyboardInterrupt``, and whatever else is no ``Exception``, at once: the verdicts can still be
        taken then. Raises ValueError for numbers out of range.

        >>> engine = Engine(zone={})
        >>> [verdict.dmarc.problem for verdict in engine.verify_many([b"From: a@b.example\\r\\n\\r\\n", b""])]
        ['no-record', 'from-missing']
        """
        module = sys.modules.get("mailbox")
        if module is not None and isinstance(messages, module.Mailbox):
            from ._messages import of_mailbox

            messages = of_mailbox(messages)
        return super().verify_many(messages, threads=threads, look_ahead=look_ahead)

    async def averify(
        self,
        message: Message,
        *,
        ip: Address | None = None,
        helo: str = "",
        mail_from: str = "",
        id: str = "",
    ) -> Verdict:
        """Verifies one message as ``verify`` does, on the engine's threads, while the event loop goes on.

        All calls of a loop share one descriptor, which the loop watches; none has a thread, but that the file of a path
        object is read by ``asyncio.to_thread``. Cancelling the task forgets the message at once. An engine with a zone
        has no threads and verifies on the calling one, a message at a time. Needs an event loop with ``add_reader``.
        Raises what ``verify`` raises.

        >>> async def check() -> str:
        ...     return (await Engine(zone={}).averify(b"From: a@b.example\\r\\n\\r\\n")).dmarc.result
        >>> asyncio.run(check())
        'none'
        """
        loop = asyncio.get_running_loop()
        try:
            channels = self._channels
        except AttributeError:
            with _lock:
                if not hasattr(self, "_channels"):
                    self._channels = weakref.WeakKeyDictionary()
            channels = self._channels
        channel = channels.get(loop)
        if channel is None:
            # A loop that was closed with calls under way is kept alive by them, and runs none of them to its end.
            for other in [reference() for reference in channels.keyrefs()]:
                if other is not None and other.is_closed() and (left := channels.pop(other, None)) is not None:
                    left.close()
            channel = channels[loop] = _Channel(self._completions(), loop)
        return await channel.verify(loop, message, ip, helo, mail_from, id)


class _Channel:
    """The verdicts of one engine on their way to one event loop."""

    __slots__ = ("__weakref__", "_completions", "_end", "_places", "_waiting")

    def __init__(self, completions: _mailproof.Completions, loop: asyncio.AbstractEventLoop) -> None:
        self._completions = completions
        self._waiting: dict[int, asyncio.Future[Verdict]] = {}
        self._places = asyncio.Semaphore(SUBMITTED_MAX)
        descriptor = completions.fileno()
        # The loop keeps the descriptor open by what it calls; when the engine goes first, it takes the reader along.
        loop.add_reader(descriptor, functools.partial(_deliver, weakref.ref(self), completions))
        self._end = weakref.finalize(self, _leave, weakref.ref(loop), descriptor, completions)
        self._end.atexit = False

    async def verify(
        self,
        loop: asyncio.AbstractEventLoop,
        message: Message,
        ip: Address | None,
        helo: str,
        mail_from: str,
        id: str,
    ) -> Verdict:
        async with self._places:
            if isinstance(message, os.PathLike):
                from ._messages import octets

                message = await asyncio.to_thread(octets, message)
            token = self._completions.submit(message, ip, helo, mail_from, id)
            future: asyncio.Future[Verdict] = loop.create_future()
            self._waiting[token] = future
            try:
                return await future
            finally:
                if self._waiting.pop(token, None) is not None:
                    self._completions.cancel(token)

    def close(self) -> None:
        """Lets go of the descriptor, and of the calls of a loop that is closed."""
        for token in self._waiting:
            self._completions.cancel(token)
        self._waiting.clear()
        self._end()
        del self._completions

    def deliver(self) -> None:
        for token, verdict in self._completions.drain():
            future = self._waiting.pop(token, None)
            if future is None or future.done():
                continue
            if verdict is None:
                future.set_exception(RuntimeError("a defect of the engine: the message has no verdict"))
            else:
                future.set_result(verdict)


def _deliver(channel: weakref.ref[_Channel], completions: _mailproof.Completions) -> None:
    found = channel()
    if found is None:
        completions.drain()
    else:
        found.deliver()


def _leave(
    loop: weakref.ref[asyncio.AbstractEventLoop], descriptor: int, completions: _mailproof.Completions
) -> None:
    found = loop()
    if found is not None and not found.is_closed():
        found.call_soon_threadsafe(found.remove_reader, descriptor)
    del completions


_default: Engine | None = None


def _default_engine() -> Engine:
    global _default
    if _default is None:
        with _lock:
            if _default is None:
                _default = Engine()
    return _default


def verify(
    message: Message,
    *,
    ip: Address | None = None,
    helo: str = "",
    mail_from: str = "",
    id: str = "",
) -> Verdict:
    """Verifies one message with the resolvers of the system, as ``Engine.verify`` does.

    The engine behind it is made by the first call and kept. Raises what ``Engine`` and ``Engine.verify`` raise.
    """
    return _default_engine().verify(message, ip=ip, helo=helo, mail_from=mail_from, id=id)


def spf(ip: Address, *, helo: str = "", mail_from: str = "") -> SpfCheck:
    """Checks a client against the SPF records of MAIL FROM and HELO, with the resolvers of the system."""
    return _default_engine().spf(ip, helo=helo, mail_from=mail_from)


def explain(
    message: Message,
    *,
    ip: Address | None = None,
    helo: str = "",
    mail_from: str = "",
    full: bool = False,
    color: bool = False,
) -> str:
    """Tells in words how the verdict on a message comes about, with the resolvers of the system."""
    return _default_engine().explain(message, ip=ip, helo=helo, mail_from=mail_from, full=full, color=color)
