"""The examples, run as a reader would run them."""

from __future__ import annotations

import importlib.util
import json
import mailbox
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mailproof
import pytest

from .conftest import MESSAGE, NOW, ROOT, ZONE, skip

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_mailbox_is_checked_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    words = [EXAMPLES / "check_mailbox.py", ROOT / "demo/mailbox.mbox", "--zone", ROOT / "demo/zone.yml"]
    words += ["--now", NOW, "--plot", picture]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=True)
    (month, *_), *rest = [line.split() for line in done.stdout.splitlines()]
    assert month == "2026-11" and any(line[:2] == ["fails", "DMARC:"] for line in rest)
    if "no picture" in done.stdout:
        skip("matplotlib is not installed, so nothing was drawn")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_mailbox_is_read_as_it_was_sent(tmp_path: Path) -> None:
    key = mailproof.keygen("ed25519")
    message = MESSAGE + b"From here on\r\n"
    box = mailbox.mbox(tmp_path / "box")
    bad = ("Mon, 99 Nov 2026 12:00:00 +0000", "\xff", "1 Jan 2026 0:0:0 +99999999999")
    for date in ("Mon, 23 Nov 2026 12:00:00 +0000", *bad):
        dated = f"Date: {date}\r\n".encode("latin-1") + message
        box.add(mailproof.sign(dated, key=key.pem, domain="example.org", selector="s") + dated)
    box.flush()
    assert b"\n>From here on" in (tmp_path / "box").read_bytes()
    (tmp_path / "zone.yml").write_text(json.dumps({**ZONE, "s._domainkey.example.org": [{"TXT": key.record}]}))
    words = [EXAMPLES / "check_mailbox.py", tmp_path / "box", "--zone", tmp_path / "zone.yml"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=True)
    assert "2026-11" in done.stdout and "3 pass" in done.stdout and "fail" not in done.stdout


PROXY_ZONE = {
    "example.org": [{"TXT": "v=spf1 ip4:127.0.0.1 -all"}],
    "_dmarc.example.org": [{"TXT": "v=DMARC1; p=reject"}],
    "shop.example": [{"TXT": "v=spf1 -all"}],
    "_dmarc.shop.example": [{"TXT": "v=DMARC1; p=reject"}],
    "_dmarc.silent.example": ["TIMEOUT"],
}


class Next:
    """The server behind the proxy."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, list[str], list[str]]] = []
        self.answer = "250 taken"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address.startswith("no"):
            return "550-5.1.1 Nobody\r\n550 5.1.1 of that name"
        if address.startswith("later"):
            return "450 4.2.0 Come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.answer.startswith("2"):
            self.received.append((envelope.content, envelope.rcpt_tos, envelope.mail_options))
        return self.answer

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        return "421 4.3.2 Out of order"


@pytest.fixture
def proxy() -> Iterator[tuple[smtplib.SMTP, Next]]:
    """A client of the proxy, and the server behind it."""
    pytest.importorskip("aiosmtpd")
    from aiosmtpd.controller import Controller

    class AnyPort(Controller):
        """Binds to a port that is free, and knows which."""

        def _trigger_server(self) -> None:
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    engine = mailproof.Engine(zone=PROXY_ZONE, policy="7489", authserv_id="mx.example.net", defer_on_temperror=True)
    behind = AnyPort(Next(), hostname="127.0.0.1", port=0)
    behind.start()
    before = AnyPort(load("smtp_proxy").Proxy(engine, "127.0.0.1", behind.port), hostname="127.0.0.1", port=0)
    before.start()
    try:
        with smtplib.SMTP("127.0.0.1", before.port, timeout=10) as client:
            yield client, behind.handler
    finally:
        before.stop()
        behind.stop()


def test_the_proxy_refuses_forged_mail_and_passes_on_the_rest(proxy: tuple[smtplib.SMTP, Next]) -> None:
    client, behind = proxy
    forged = b"authentication-results : (x) mx.example.net; dmarc=pass\r\n"
    client.sendmail("ann@example.org", ["bob@example.net"], forged + MESSAGE)
    ((passed, _, options),) = behind.received
    assert passed.startswith(b"Authentication-Results: mx.example.net;\r\n\tspf=pass") and passed.endswith(MESSAGE)
    assert passed.lower().count(b"authentication-results") == 1 and not options
    for domain, code in [(b"shop.example", 550), (b"silent.example", 451)]:
        with pytest.raises(smtplib.SMTPDataError) as refusal:
            client.sendmail("ann@example.org", ["bob@example.net"], MESSAGE.replace(b"example.org", domain))
        assert refusal.value.smtp_code == code and domain in bytes(refusal.value.smtp_error)
    assert len(behind.received) == 1
    lines = (EXAMPLES / "smtp_proxy.py").read_text().splitlines()
    assert len(lines) < 60


def test_the_proxy_loses_no_recipient_silently(proxy: tuple[smtplib.SMTP, Next]) -> None:
    client, behind = proxy
    refused = client.sendmail("ann@example.org", ["bob@example.net", "nobody@example.net", "later@example.net"], MESSAGE)
    assert refused == {
        "nobody@example.net": (550, b"5.1.1 Nobody 5.1.1 of that name"),
        "later@example.net": (450, b"4.2.0 Come again"),
    }
    assert [recipients for _, recipients, _ in behind.received] == [["bob@example.net"]]
    with pytest.raises(smtplib.SMTPRecipientsRefused) as all_refused:
        client.sendmail("ann@example.org", ["nobody@example.net", "later@example.net"], MESSAGE)
    assert [code for code, _ in all_refused.value.recipients.values()] == [550, 450]
    behind.answer = "554 5.6.0 Too bad"
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        client.sendmail("ann@example.org", ["bob@example.net"], MESSAGE)
    assert (refusal.value.smtp_code, refusal.value.smtp_error) == (554, b"5.6.0 Too bad")
    assert len(behind.received) == 1


def test_the_proxy_passes_on_what_the_client_may_send(proxy: tuple[smtplib.SMTP, Next]) -> None:
    client, behind = proxy
    options = ["SMTPUTF8", "BODY=8BITMIME"]
    message = MESSAGE + "caf\u00e9\r\n".encode()
    client.sendmail("ann@example.org", ["zo\u00eb@example.net"], message, options)
    ((passed, recipients, passed_options),) = behind.received
    assert passed.endswith(message) and recipients == ["zo\u00eb@example.net"] and passed_options == options
    client.mail("ann@example.org")
    # Without the option, and octets that are no UTF-8.
    client.command_encoding = "latin-1"
    assert client.rcpt("zo\u00eb@example.net")[0] == 553
    client.rset()
    client.sendmail("<>", ["bob@example.net"], MESSAGE.replace(b"example.org", b"elsewhere.example"))
    assert len(behind.received) == 2


def test_the_proxy_is_a_program(tmp_path: Path) -> None:
    pytest.importorskip("aiosmtpd")
    (tmp_path / "zone.yml").write_text(json.dumps(PROXY_ZONE))
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
    words = [EXAMPLES / "smtp_proxy.py", f"[::1]:{port}", "[::1]:1", tmp_path / "zone.yml"]
    server = subprocess.Popen([sys.executable, *map(str, words)], stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                client = smtplib.SMTP("::1", port, timeout=10)
                break
            except ConnectionRefusedError:
                assert server.poll() is None and time.monotonic() < until
                threading.Event().wait(0.05)
        client.helo()
        client.mail("ann@example.org")
        assert client.rcpt("bob@example.net")[0] == 451, "nobody is behind it"
        client.quit()
    finally:
        server.terminate()
        _, told = server.communicate(timeout=10)
    assert not told
