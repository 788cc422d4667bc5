"""The command ``python -m mailproof FILE...``: one line for each message, or its verdict as JSON."""

from __future__ import annotations

import argparse
import contextlib
import mailbox
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from . import Engine, Request, Verdict
from ._messages import octets, unquoted
from ._tables import rows

# sysexits.h
EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_INTERRUPTED = 64, 65, 66, 69, 130

#: The columns for people.
COLUMNS = {
    "id": "Message",
    "from_domain": "From",
    "spf": "SPF",
    "dkim": "DKIM",
    "arc": "ARC",
    "dmarc": "DMARC",
    "action": "Action",
    "problem": "Why",
}


class Failure(Exception):
    """What ends the run, and its exit code."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the code of sysexits."""

    def error(self, message: str) -> NoReturn:
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def main(words: list[str] | None = None) -> int:
    """Runs the command with these words and gives its exit code."""
    arguments = parser().parse_args(words)
    try:
        run(arguments)
    except Failure as failure:
        print(f"mailproof: {failure}", file=sys.stderr)
        return failure.code
    except BrokenPipeError:
        # Where nobody reads on there is nothing left to say.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    it = Parser(prog="python -m mailproof", description="Did this mail really come from the domain in its From line?")
    it.add_argument("files", nargs="+", metavar="FILE", help="message, mbox, Maildir, folder of .eml files, or -")
    it.add_argument("--json", action="store_true", help="one verdict a line, as JSON")
    it.add_argument("--zone", action="append", metavar="FILE", help="answer DNS questions from here; repeatable")
    it.add_argument("--resolver", action="append", metavar="IP[:PORT]", help="ask this DNS server; repeatable")
    it.add_argument("--ip", help="address of the SMTP client; without it there is no SPF")
    it.add_argument("--helo", default="", help="what it said in HELO")
    it.add_argument("--mail-from", default="", help="what it said in MAIL FROM")
    it.add_argument("--policy", choices=["9989", "7489"], default="9989", help="how DMARC is read: by which RFC")
    it.add_argument("--authserv-id", metavar="NAME", help="the name written into Authentication-Results")
    it.add_argument("--now", type=int, metavar="SECONDS", help="judge as of this moment, in seconds since 1970")
    it.add_argument("--threads", type=int, help="threads that verify; one a processor if not given")
    return it


def run(arguments: argparse.Namespace) -> None:
    """Verifies what the arguments name, and writes."""
    try:
        engine = Engine(
            arguments.resolver,
            arguments.zone,
            authserv_id=arguments.authserv_id,
            policy=arguments.policy,
            now=arguments.now,
        )
    except OSError as error:
        raise Failure(EX_NOINPUT if arguments.zone else EX_UNAVAILABLE, str(error)) from error
    except ValueError as error:
        raise Failure(EX_DATAERR if arguments.zone else EX_USAGE, str(error)) from error

    def requests() -> Iterator[Request]:
        for file in arguments.files:
            for name, message in read(file):
                yield Request(message, ip=arguments.ip, helo=arguments.helo, mail_from=arguments.mail_from, id=name)

    try:
        tell(engine.verify_many(requests(), threads=arguments.threads), arguments.json)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(EX_NOINPUT, str(error)) from error
    except ValueError as error:
        raise Failure(EX_USAGE, str(error)) from error
    if arguments.ip is None:
        print("mailproof: SPF was left out: give --ip, --helo and --mail-from", file=sys.stderr)


def read(file: str) -> Iterator[tuple[str, bytes]]:
    """The messages of a path, with the names that `mailproof verify` gives them."""
    if file == "-":
        yield "-", sys.stdin.buffer.read()
        return
    path = Path(file)
    if path.is_dir():
        folders = [path / folder for folder in ("new", "cur")]
        maildir = [folder for folder in folders if folder.is_dir()]
        found = [sorted(folder.iterdir()) for folder in maildir] if maildir else [sorted(path.glob("*.eml"))]
        for entry in (entry for entries in found for entry in entries):
            if not entry.name.startswith(".") and entry.is_file():
                yield entry.name, octets(entry)
        return
    with path.open("rb") as opened:
        is_mbox = path.suffix.lower() != ".eml" and opened.read(5) == b"From "
    if not is_mbox:
        yield path.name, octets(path)
        return
    box = mailbox.mbox(path, create=False)
    for number, key in enumerate(box.iterkeys(), 1):
        yield f"{path.name}:#{number}", unquoted(box.get_bytes(key))


def tell(verdicts: Iterable[Verdict], as_json: bool) -> None:
    """Writes verdicts as they come: a table for people is made wide enough for its first rows."""
    if as_json:
        for verdict in verdicts:
            print(verdict.to_json())
        return
    widths = {key: max(len(heading), 10) for key, heading in COLUMNS.items()} | {"id": 24, "from_domain": 24}
    print("  ".join(heading.ljust(widths[key]) for key, heading in COLUMNS.items()).rstrip())
    for verdict in verdicts:
        cells = rows([verdict])[0]
        print("  ".join(visible(cells[key]).ljust(widths[key]) for key in COLUMNS).rstrip())


def visible(value: object) -> str:
    """A value without what would steer a terminal."""
    text = "" if value is None else str(value)
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


if __name__ == "__main__":
    sys.exit(main())
