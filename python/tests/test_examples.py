"""The examples, run as a reader would run them."""

from __future__ import annotations

import importlib.util
import smtplib
import subprocess
import sys
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


def test_the_proxy_refuses_forged_mail_and_passes_on_the_rest() -> None:
    pytest.importorskip("aiosmtpd")
    from aiosmtpd.controller import Controller

    class Next:
        received: list[bytes] = []

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            self.received.append(envelope.content)
            return "250 taken"

    class AnyPort(Controller):
        """Binds to a port that is free, and knows which."""

        def _trigger_server(self) -> None:
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    engine = mailproof.Engine(
        zone={"example.org": [{"TXT": "v=spf1 ip4:127.0.0.1 -all"}], **{k: v for k, v in ZONE.items() if k[0] == "_"},
              "shop.example": [{"TXT": "v=spf1 -all"}], "_dmarc.shop.example": [{"TXT": "v=DMARC1; p=reject"}]},
        policy="7489",
        authserv_id="mx.example.net",
    )  # fmt: skip
    behind = AnyPort(Next(), hostname="127.0.0.1", port=0)
    behind.start()
    before = AnyPort(load("smtp_proxy").Proxy(engine, "127.0.0.1", behind.port), hostname="127.0.0.1", port=0)
    before.start()
    try:
        with smtplib.SMTP("127.0.0.1", before.port, timeout=10) as client:
            client.sendmail("ann@example.org", ["bob@example.net"], MESSAGE)
            with pytest.raises(smtplib.SMTPDataError) as refusal:
                client.sendmail("ann@example.org", ["bob@example.net"], MESSAGE.replace(b"example.org", b"shop.example"))
            assert refusal.value.smtp_code == 550 and b"shop.example" in refusal.value.smtp_error
        (passed,) = Next.received
        assert passed.startswith(b"Authentication-Results: mx.example.net; spf=pass") and passed.endswith(MESSAGE)
    finally:
        before.stop()
        behind.stop()
    lines = (EXAMPLES / "smtp_proxy.py").read_text().splitlines()
    assert len(lines) < 60
