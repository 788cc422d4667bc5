"""The command `python -m mailproof`."""

from __future__ import annotations

import json
import mailbox
import subprocess
import sys
from pathlib import Path

from .conftest import MESSAGE, NOW, ROOT, program

JUDGE = ["--zone", str(ROOT / "demo/zone.yml"), "--now", str(NOW), "--authserv-id", "mx.lantern-lane.example"]


def run(*words: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mailproof", *map(str, words)]
    return subprocess.run(command, capture_output=True, input=stdin, timeout=60, check=False)


def test_a_mailbox_gives_the_lines_of_the_rust_command() -> None:
    found = run("--json", *JUDGE, ROOT / "demo/mailbox.mbox", ROOT / "demo/message.eml")
    assert found.returncode == 0 and b"SPF was left out" in found.stderr
    files = [str(ROOT / "demo/mailbox.mbox"), str(ROOT / "demo/message.eml")]
    command = [program("mailproof"), "verify", "--json", *JUDGE, *files]
    wanted = subprocess.run(command, capture_output=True, check=True).stdout
    assert found.stdout == wanted and found.stdout.count(b"\n") == 37


def test_every_place_that_mail_is_kept_in(tmp_path: Path) -> None:
    mailbox.Maildir(tmp_path / "maildir").add(MESSAGE)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/b.eml").write_bytes(MESSAGE)
    (tmp_path / "folder/a.eml").write_bytes(b"From x\r\n" + MESSAGE)
    done = run("--json", *JUDGE, tmp_path / "maildir", tmp_path / "folder", "-", stdin=MESSAGE)
    names = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    assert names[1:] == ["a.eml", "b.eml", "-"] and len(names) == 4


def test_a_table_for_people() -> None:
    done = run(*JUDGE, "--ip=192.0.2.7", ROOT / "demo/message.eml")
    heading, line = done.stdout.decode().splitlines()
    assert heading.split() == ["Message", "From", "SPF", "DKIM", "ARC", "DMARC", "Action", "Why"]
    assert line.startswith("message.eml") and b"SPF was left out" not in done.stderr


def test_codes_are_those_of_sysexits(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("- 7\n")
    for code, words in [
        (64, ["--policy=1", "x"]),
        (64, []),
        (64, [*JUDGE, "--ip=x", "-"]),
        (64, ["--resolver=nobody", "-"]),
        (65, ["--zone", str(tmp_path / "bad.yml"), "-"]),
        (66, [*JUDGE, str(tmp_path / "nothing")]),
        (66, ["--zone", str(tmp_path / "nothing.yml"), "-"]),
        (0, ["--help"]),
    ]:
        done = run(*words)
        assert done.returncode == code, (words, done.stderr)
        assert b"Traceback" not in done.stderr
