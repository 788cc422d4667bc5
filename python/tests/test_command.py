"""The command `python -m mailproof`."""

from __future__ import annotations

import json
import mailbox
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
        (64, [*JUDGE, "--threads", "-1", "-"]),
        (64, [*JUDGE, "--threads=0", "-"]),
        (64, [*JUDGE, "--threads=1025", "-"]),
        (64, [*JUDGE, "--now", "-1", "-"]),
        (64, [*JUDGE, "--now=18446744073709551616", "-"]),
        (64, [*JUDGE, "--now=soon", "-"]),
        (64, [*JUDGE, "--resolver=127.0.0.1", "-"]),
        (64, ["--resolver=nobody", "-"]),
        (65, ["--zone", str(tmp_path / "bad.yml"), "-"]),
        (66, [*JUDGE, str(tmp_path / "nothing")]),
        (66, ["--zone", str(tmp_path / "nothing.yml"), "-"]),
        (0, ["--help"]),
    ]:
        done = run(*words)
        assert done.returncode == code, (words, done.stderr)
        assert b"Traceback" not in done.stderr


def both(*words: str | Path, shell: str = '"$@"', **keywords: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs this command and the Rust one, which must write the same and end the same, and gives the outcome of this one."""
    outcomes = []
    for command in ([sys.executable, "-m", "mailproof"], [str(program("mailproof")), "verify"]):
        line = ["bash", "-c", shell, "bash", *command, "--json", "--ip=192.0.2.7", *JUDGE, *map(str, words)]
        outcomes.append(subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, **keywords))
    ours, rust = outcomes
    assert (ours.returncode, ours.stdout) == (rust.returncode, rust.stdout), (ours.stderr, rust.stderr)
    assert b"Traceback" not in ours.stderr and b"ignored" not in ours.stderr
    told = [[line for line in it.stderr.splitlines() if line.startswith(b"mailproof: ")] for it in (ours, rust)]
    assert told[0] == told[1]
    return ours


def ids(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


def test_what_comes_through_a_pipe_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(MESSAGE)
    box = ROOT / "demo/mailbox.mbox"
    assert ids(both("-", input=box.read_bytes()))[:2] == ["-:#1", "-:#2"]
    assert ids(both("-", "-", input=MESSAGE)) == ["-", "-"]
    both("-", shell='"$@" <&-')
    for file in (tmp_path / "one", box):
        done = both(shell='"$@" <(cat "$FILE")', env={**os.environ, "FILE": str(file)})
        assert done.returncode == 0 and b'"id":"63' in done.stdout
    # The first octets come one at a time.
    for text in ("From a\\n\\n", "Fro", ""):
        letters = "; ".join(f"printf '{it}'" for it in (text[:1], text[1:2], text[2:]))
        assert both("-", shell=f'({letters}) | "$@"').returncode == 0



MBOXES = [
    b"From a\nA: b\n\nFrom b\nC: d",
    b"From a",
    b"From a\n\nFrom b\n\n",
    b"From ",
    b"From a Thu Jan  1 00:00:00 1970\r\nA: b\r\n\r\nFrom here on\r\nFrom a Thu Jan  1 00:00:00 1970\r\n>From there\r\n"
    b">>From x\r\n\r\nFrom - Fri Feb 29 1:02 2008 +0100\r\nC: d\r\n\r\n",
    b"From a Thu Jan  1 00:00:00\nFrom: a@b.example\n\n\n\nFrom b thu jan 111 00:00\n\nFrom c THU JAN 1 0:0\n"
    b"From: c@d.example\n\n",
    b"From a Thu Jan  1 000000\nFrom: a@b.example\n\nFrom b\nFrom: c@d.example\n\n",
    b"From a\nX: " + b"y" * 70_000 + b"\n\n>From " + b"z" * 200_000 + b"\n\nFrom b\n\n",
    b"From a\n" + b"x" * (65_536 - 1) + b"\nFrom: a@b.example\n\n>" + b"x" * 65_535 + b"From b\n",
    b"From a\n\xff\0\n\n\r\nFrom b\r\n\r\n\r\n",
]


@pytest.mark.parametrize("number", range(len(MBOXES)))
def test_mbox_files_are_split_as_by_rust(number: int, tmp_path: Path) -> None:
    signed = b"DKIM-Signature: v=1; a=rsa-sha256; d=b.example; s=s; c=simple/simple; h=From; bh=AA==; b=AA==\n"
    (tmp_path / "box").write_bytes(MBOXES[number].replace(b"From: ", signed + b"From: "))
    both(tmp_path / "box")


def test_what_can_not_be_read_is_told_in_its_place(tmp_path: Path) -> None:
    for name in ("a.eml", "b.EML", ".c.eml", ".eml", "d.txt"):
        (tmp_path / name).write_bytes(b"From x\n\n" + MESSAGE)
    (tmp_path / "empty").mkdir()
    (tmp_path / "e.eml").mkdir()
    with (tmp_path / "long").open("wb") as file:
        file.truncate(256 * 1024 * 1024 + 1)
    maildir = tmp_path / "maildir"
    for folder in ("cur/folder", "new", "tmp"):
        (maildir / folder).mkdir(parents=True)
    for name in ("cur/b", "cur/.hidden", "new/c"):
        (maildir / name).write_bytes(MESSAGE)
    (maildir / "cur/a").symlink_to("nowhere")
    odd = os.fsencode(tmp_path) + b"/caf\xe9.eml"
    Path(os.fsdecode(odd)).write_bytes(MESSAGE)
    one = tmp_path / "a.eml"
    assert both(one, tmp_path / "b.EML").returncode == 0
    assert ids(both(tmp_path)) == [".c.eml", "a.eml", "b.EML", "caf\ufffd.eml"]
    done = both(one, tmp_path / "nothing", one)
    assert done.returncode == 66 and ids(done) == ["a.eml", "nothing", "a.eml"]
    assert b"nothing: no such file or folder; check the path" in done.stderr
    assert both(tmp_path / "empty").returncode == 66
    assert both(f"{tmp_path}/empty/", f"{one}/x").returncode == 66
    done = both(maildir)
    assert done.returncode == 66 and ids(done) == ["c", "a", "b"]
    # Reading breaks off, which is worse than what is not there.
    done = both("/proc/self/mem", tmp_path / "nothing", one)
    assert done.returncode == 74 and ids(done) == ["mem", "nothing", "a.eml"]
    done = both(tmp_path / "long", one)
    assert done.returncode == 0 and ids(done) == ["long", "a.eml"] and b"more than 268435456 octets" in done.stdout


def test_the_table_names_what_was_not_judged(tmp_path: Path) -> None:
    with (tmp_path / "long").open("wb") as file:
        file.truncate(256 * 1024 * 1024 + 1)
    done = run(*JUDGE, "--ip=192.0.2.7", tmp_path / "long", tmp_path / "nothing")
    assert done.returncode == 66
    heading, line = done.stdout.decode().splitlines()
    assert line.split(maxsplit=3)[:3] == ["long", "not", "judged"] and "more than" in line


def test_nobody_reads_the_output(tmp_path: Path) -> None:
    one = ROOT / "demo/message.eml"
    for words in ([], ["--json"]):
        command = [sys.executable, "-m", "mailproof", *JUDGE, "--ip=192.0.2.7", *words, str(one)]
        reads, writes = os.pipe()
        os.close(reads)
        done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, timeout=60, check=False)
        os.close(writes)
        assert (done.returncode, done.stderr) == (0, b"")
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (74, b"mailproof: standard output: no space left on device\n")
    both(one, shell='"$@" >/dev/full')
    both(one, shell='"$@" | true; exit "${PIPESTATUS[0]}"')
    both(one, shell='LC_ALL=C PYTHONIOENCODING=ascii "$@"')
