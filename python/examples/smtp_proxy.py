"""An SMTP proxy that refuses forged mail while its sender still listens, and passes on the rest with its results.

Usage: python smtp_proxy.py LISTEN_HOST:PORT NEXT_HOST:PORT [ZONE.yml]
"""

from __future__ import annotations

import asyncio
import signal
import smtplib
import sys
from typing import cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

import mailproof


class Proxy:
    """Verifies what aiosmtpd has received; the reply that it returns is the one to DATA."""

    def __init__(self, engine: mailproof.Engine, next_host: str, next_port: int) -> None:
        self.engine, self.next = engine, (next_host, next_port)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        message, (ip, *_) = cast(bytes, envelope.content), cast(tuple[str, int], session.peer)
        verdict = await self.engine.averify(
            message, ip=ip, helo=session.host_name or "", mail_from=envelope.mail_from or ""
        )
        if verdict.action == "reject":
            return f"550 5.7.1 {verdict.dmarc.from_domain} does not let you send in its name"
        if verdict.action == "defer":
            return "451 4.7.1 The sender could not be verified for now"
        field = f"Authentication-Results: {verdict.authentication_results}\r\n".encode()
        return await asyncio.to_thread(self.pass_on, envelope, field + message)

    def pass_on(self, envelope: Envelope, message: bytes) -> str:
        try:
            with smtplib.SMTP(*self.next, timeout=60) as client:
                client.sendmail(envelope.mail_from or "", envelope.rcpt_tos, message)
        except smtplib.SMTPResponseException as refusal:
            return f"{refusal.smtp_code} {refusal.smtp_error!r}"
        except (OSError, smtplib.SMTPException):
            return "451 4.3.0 The next server can not be reached"
        return "250 2.0.0 Passed on"


if __name__ == "__main__":
    (host, port), (next_host, next_port) = (word.rsplit(":", 1) for word in sys.argv[1:3])
    engine = mailproof.Engine(zone=sys.argv[3] if len(sys.argv) > 3 else None, policy="7489")
    controller = Controller(Proxy(engine, next_host, int(next_port)), hostname=host, port=int(port))
    controller.start()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    controller.stop()
