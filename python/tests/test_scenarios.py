"""Every scenario of the project gives the verdict of the Rust engine, to the octet, by every way into it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import mailproof
import pytest
import yaml

from .conftest import ROOT, program

SCENARIOS = sorted((ROOT / "engine/scenarios").glob("*.yml"))
NOW_SECONDS = 1_795_392_000


class TextLoader(yaml.SafeLoader):
    """Reads `yes`, `3` and dates in zones as the text that they are."""


def message_of(scenario: dict[str, Any]) -> bytes:
    if "message_octets" in scenario:
        return scenario["message_octets"].encode()
    return scenario.get("message", "").encode().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def of_rust(scenario: dict[str, Any], envelope: dict[str, str], message: bytes, folder: Path) -> str:
    (folder / "zone.yml").write_text(yaml.safe_dump(scenario.get("zone") or {}))
    file = folder / "message.eml"
    file.write_bytes(message)
    words = ["verify", "--json", "--zone", folder / "zone.yml", "--now", scenario.get("now", NOW_SECONDS)]
    words += ["--authserv-id", "mx.example.net"]
    for name, value in envelope.items():
        words += [f"--{name.replace('_', '-')}={value}"]
    for name, value in (scenario.get("options") or {}).items():
        words += [f"--policy={value}"] if name == "policy" else [f"--{name}"] * bool(value)
    command = [str(word) for word in [program("mailproof"), *words, file]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_json_is_that_of_rust(path: Path, tmp_path: Path) -> None:
    scenario = yaml.load(path.read_text(), TextLoader)
    given = scenario.get("envelope") or {}
    envelope = {name: str(given.get(name) or "") for name in ("helo", "mail_from")}
    if given.get("ip"):
        envelope["ip"] = str(given["ip"])
    options = {name.replace("-", "_"): value for name, value in (scenario.get("options") or {}).items()}
    message = message_of(scenario)
    engine = mailproof.Engine(
        zone=scenario.get("zone") or {},
        authserv_id="mx.example.net",
        now=scenario.get("now", NOW_SECONDS),
        **options,
    )
    wanted = of_rust(scenario, envelope, message, tmp_path)
    whole: Any = {**envelope, "id": "message.eml"}

    assert engine.verify(message, **whole).to_json() == wanted
    assert [it.to_json() for it in engine.verify_many([mailproof.Request(message, **whole)] * 3)] == [wanted] * 3
    assert asyncio.run(engine.averify(message, **whole)).to_json() == wanted
    if b"\n" not in message.replace(b"\r\n", b""):
        session = engine.session(**whole)
        for octet in message:
            session.push(bytes([octet]))
        assert session.finish().to_json() == wanted


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 30
