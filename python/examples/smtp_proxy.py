"""An SMTP proxy that refuses forged mail while its sender still listens, and passes on the rest with its results.

Usage: python smtp_proxy.py LISTEN_HOST:PORT NEXT_HOST:PORT [ZONE.yml]
"""

import asyncio
import contextlib
import signal
import smtplib
import sys
from typing import Any

import mailproof
from aiosmtpd.controller import Controller


class Proxy:
    """Asks the next server about each recipient when it is named, so that its sender learns who gets nothing."""

    def __init__(self, engine: mailproof.Engine, next_host: str, next_port: int) -> None:
        self.engine, self.next = engine, (next_host, next_port)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        reply = await asyncio.to_thread(self.ask, envelope, [address])
        envelope.rcpt_tos += [address] if reply.startswith("2") else []
        return reply

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        content, ip, helo = envelope.content, session.peer[0], session.host_name
        verdict = await self.engine.averify(content, ip=ip, helo=helo, mail_from=envelope.mail_from)
        if verdict.action in ("reject", "defer"):
            return f"{'550 5' if verdict.action == 'reject' else '451 4'}.7.1 Not verified: {verdict.dmarc.from_domain}"
        message = verdict.results_field() + mailproof.remove_forged(content, self.engine.authserv_id)
        return await asyncio.to_thread(self.ask, envelope, envelope.rcpt_tos, message)

    def ask(self, envelope: Any, recipients: list[str], message: bytes = b"") -> str:
        try:
            client = smtplib.SMTP(*self.next, timeout=60)
            client.ehlo_or_helo_if_needed()
            options = [it for it in envelope.mail_options if it == "SMTPUTF8" or it.startswith("BODY=")]
            replies = [client.mail(envelope.mail_from, options), *map(client.rcpt, recipients)]
            code, text = next((it for it in replies if it[0] >= 400), replies[-1])  # One refusal is for all.
            code, text = client.data(message) if message and code < 400 else (code, text)
            with contextlib.suppress(OSError):
                client.quit()
        except (UnicodeError, smtplib.SMTPNotSupportedError):
            code, text = 553, b"5.6.7 The next server takes no such addresses"
        except OSError as error:
            code, text = getattr(error, "smtp_code", 451), getattr(error, "smtp_error", b"4.4.1 No next server")
        return f"{code} {' '.join(text.decode('ascii', 'replace').split())}"


if __name__ == "__main__":
    (host, port), (next_host, next_port) = (word.rsplit(":", 1) for word in sys.argv[1:3])
    engine = mailproof.Engine(zone=sys.argv[3:] or None, policy="7489", defer_on_temperror=True)
    controller = Controller(Proxy(engine, next_host.strip("[]"), int(next_port)), host.strip("[]"), int(port))
    controller.start()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    controller.stop()
