"""What the tests share: the project's own programs, a DNS server that misbehaves on demand, and simple mail."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Noon, 23 November 2026.
NOW = 1_795_435_200

ZONE: dict[str, list[Any]] = {
    "example.org": [{"TXT": "v=spf1 ip4:192.0.2.7 -all"}],
    "_dmarc.example.org": [{"TXT": "v=DMARC1; p=reject"}],
}
MESSAGE = b"From: ann@example.org\r\nSubject: hello\r\n\r\nHello.\r\n"
ENVELOPE = {"ip": "192.0.2.7", "helo": "mx.example.org", "mail_from": "ann@example.org"}


def program(name: str) -> Path:
    """A program of the project, where cargo or the caller's environment has it."""
    given = os.environ.get(f"{name.upper().replace('-', '_')}_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = [Path(given)] if given else [target / profile / name for profile in ("debug", "release")]
    for path in found:
        if path.exists():
            return path
    skip(f"the program {name} is not built")


def skip(reason: str) -> Any:
    """Leaves a test out, with the line that the project's test script counts."""
    print(f"SKIPPED: {reason}", file=sys.__stdout__, flush=True)
    pytest.skip(reason)


@pytest.fixture
def fault_dns(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a DNS server with a zone and a plan of faults, and gives its address."""
    running: list[subprocess.Popen[str]] = []

    def start(zone: dict[str, list[Any]], *rules: dict[str, Any]) -> str:
        # JSON is YAML.
        (tmp_path / "zone.yml").write_text(json.dumps(zone))
        (tmp_path / "plan.yml").write_text(json.dumps({"seed": 1, "probability": 1, "rules": list(rules)}))
        words = [program("mailproof-fault-dns"), "--zone", tmp_path / "zone.yml", "--plan", tmp_path / "plan.yml"]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        running.append(server)
        assert server.stdout is not None
        return server.stdout.readline().split()[-1]

    yield start
    for server in running:
        server.terminate()
        server.wait(10)


def run_python(code: str, *words: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program in an interpreter of its own; one that hangs is killed and fails the test."""
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False, **keywords
    )


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A DNS server that lets every query pass."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        yield "127.0.0.1:{}".format(server.getsockname()[1])
