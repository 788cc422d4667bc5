"""The command ``python -m mailproof FILE...``: one line for each message, or its verdict as JSON."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from . import Engine, Request, Verdict
from ._mbox import MESSAGE_BYTES_MAX, SEPARATOR, split
from ._tables import rows

# sysexits.h
EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_IOERR, EX_INTERRUPTED = 64, 65, 66, 69, 74, 130

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


class Unread(NamedTuple):
    """A message that could not be read, which is told in its place; the run goes on."""

    id: str
    place: str
    words: str
    #: What the exit code has to say of it; 0 for a message that is there and too long.
    code: int


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the code of sysexits."""

    def error(self, message: str) -> NoReturn:
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def main(words: list[str] | None = None) -> int:
    """Runs the command with these words and gives its exit code."""
    arguments = parser().parse_args(words)
    # File names and messages are from everywhere, whatever the language of the terminal.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        return run(arguments)
    except Failure as failure:
        print(f"mailproof: {failure}", file=sys.stderr)
        return failure.code
    except OSError as error:
        # Files that can not be read were told in their place: this is the output. What is left of it goes nowhere.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            # Where nobody reads on there is nothing left to say.
            return 0
        print(f"mailproof: standard output: {words_of(error)}", file=sys.stderr)
        return EX_IOERR
    except KeyboardInterrupt:
        return EX_INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The command line."""
    it = Parser(prog="python -m mailproof", description="Did this mail really come from the domain in its From line?")
    it.add_argument("files", nargs="+", metavar="FILE", help="message, mbox, Maildir, folder of .eml files, or -")
    it.add_argument("--json", action="store_true", help="one verdict a line, as JSON")
    dns = it.add_mutually_exclusive_group()
    dns.add_argument("--zone", action="append", metavar="FILE", help="answer DNS questions from here; repeatable")
    dns.add_argument("--resolver", action="append", metavar="IP[:PORT]", help="ask this DNS server; repeatable")
    it.add_argument("--ip", type=address, help="address of the SMTP client; without it there is no SPF")
    it.add_argument("--helo", default="", help="what it said in HELO")
    it.add_argument("--mail-from", default="", help="what it said in MAIL FROM")
    it.add_argument("--policy", choices=["9989", "7489"], default="9989", help="how DMARC is read: by which RFC")
    it.add_argument("--authserv-id", metavar="NAME", help="the name written into Authentication-Results")
    it.add_argument(
        "--now", type=number(0, 2**64 - 1), metavar="SECONDS", help="judge as of this moment, in seconds since 1970"
    )
    it.add_argument("--threads", type=number(1, 1024), help="threads that verify; one a processor if not given")
    return it


def address(text: str) -> str:
    """An IP address."""
    Request(b"", ip=text)
    return text


def number(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number of a range."""

    def number(text: str) -> int:
        found = int(text)
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{least} to {most}, not {text}")
        return found

    return number


def run(arguments: argparse.Namespace) -> int:
    """Verifies what the arguments name, writes, and gives the exit code: the worst that was met."""
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
    code = judged = 0
    write = write_json if arguments.json else Table().write
    for outcome in outcomes(engine, arguments):
        write(outcome)
        if isinstance(outcome, Unread):
            code = max(code, outcome.code)
            if outcome.code:
                print(f"mailproof: {visible(outcome.place)}: {outcome.words}; check the path", file=sys.stderr)
        else:
            judged += 1
    if sys.stdout is not None:
        sys.stdout.flush()
    if judged and arguments.ip is None:
        print("mailproof: SPF was left out: give --ip, --helo and --mail-from", file=sys.stderr)
    return code


def outcomes(engine: Engine, arguments: argparse.Namespace) -> Iterator[Verdict | Unread]:
    """A verdict for each message, and what could not be read, in the order of the files."""
    #: With how many messages in front.
    unread: deque[tuple[int, Unread]] = deque()

    def requests() -> Iterator[Request]:
        count = 0
        for item in (item for file in arguments.files for item in read(file)):
            if isinstance(item, Unread):
                unread.append((count, item))
                continue
            count += 1
            name, message = item
            yield Request(message, ip=arguments.ip, helo=arguments.helo, mail_from=arguments.mail_from, id=name)

    for count, verdict in enumerate(engine.verify_many(requests(), threads=arguments.threads)):
        while unread and unread[0][0] <= count:
            yield unread.popleft()[1]
        yield verdict
    yield from (it for _, it in unread)


def read(file: str) -> Iterator[tuple[str, bytes] | Unread]:
    """The messages of a path, with the names that `mailproof verify` gives them. Each file is opened once."""
    name = lossy(Path(file).name or file)
    try:
        if file == "-":
            yield from messages(name, name, sys.stdin.buffer if sys.stdin else io.BytesIO())
        elif os.path.isdir(file):
            for entry in folder(file):
                yield from single(lossy(os.path.basename(entry)), entry)
        elif is_eml(file):
            yield from single(name, file)
        else:
            with open(file, "rb") as opened:
                yield from messages(name, lossy(file), opened)
    except OSError as error:
        yield unreadable(name, lossy(file), error)


def messages(name: str, place: str, file: BinaryIO) -> Iterator[tuple[str, bytes] | Unread]:
    """Those of an mbox file when it begins with ``From ``, otherwise the one that it is."""
    start = file.read(len(SEPARATOR))
    if start != SEPARATOR:
        yield whole(name, place, start, file)
        return
    number = 0
    try:
        for number, message in enumerate(split(file, start), 1):
            of_box = f":#{number}"
            yield too_long(name + of_box, place + of_box) if message is None else (name + of_box, message)
    except OSError as error:
        yield unreadable(f"{name}:#{number + 1}", f"{place}:#{number + 1}", error)


def single(name: str, path: str) -> Iterator[tuple[str, bytes] | Unread]:
    """The message of a file that holds one."""
    try:
        with open(path, "rb") as file:
            yield whole(name, lossy(path), b"", file)
    except OSError as error:
        yield unreadable(name, lossy(path), error)


def whole(name: str, place: str, start: bytes, file: BinaryIO) -> tuple[str, bytes] | Unread:
    """The rest of a file as one message."""
    octets = start + file.read(MESSAGE_BYTES_MAX + 1 - len(start))
    return too_long(name, place) if len(octets) > MESSAGE_BYTES_MAX else (name, octets)


def folder(path: str) -> list[str]:
    """The files of a folder that are messages, by name; those of a Maildir ``new`` first. Raises OSError."""
    parts = [part for part in (os.path.join(path, name) for name in ("new", "cur")) if os.path.isdir(part)]
    if parts:
        return [file for part in parts for file in files(part) if not os.path.basename(file).startswith(".")]
    found = [file for file in files(path) if is_eml(file)]
    if not found:
        raise NoMessages
    return found


class NoMessages(OSError):
    """A folder without ``cur``, ``new`` and ``.eml`` files."""


def files(path: str) -> list[str]:
    """What is no folder, by name."""
    found = (os.path.join(path, name) for name in os.listdir(path))
    return sorted((file for file in found if not os.path.isdir(file)), key=os.fsencode)


def is_eml(path: str) -> bool:
    return Path(path).suffix.lower() == ".eml"


def lossy(path: str) -> str:
    """A file name as text, whatever its octets are."""
    return os.fsencode(path).decode("utf-8", "replace")


def too_long(name: str, place: str) -> Unread:
    return Unread(name, place, f"a message of more than {MESSAGE_BYTES_MAX} octets", 0)


def unreadable(name: str, place: str, error: OSError) -> Unread:
    """What is not there or not for us has another code than what breaks off."""
    missing = isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError | NoMessages)
    return Unread(name, place, words_of(error), EX_NOINPUT if missing else EX_IOERR)


def words_of(error: OSError) -> str:
    """An error of the system without its number."""
    if isinstance(error, NoMessages):
        return "neither a Maildir nor a directory with .eml files"
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, PermissionError):
        return "not permitted to read it"
    return (error.strerror or str(error)).lower()


def write_json(outcome: Verdict | Unread) -> None:
    """One line for each."""
    if isinstance(outcome, Unread):
        line = {"id": outcome.id, "error": outcome.words}
        print(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
    else:
        print(outcome.to_json())


class Table:
    """Rows as they come."""

    def __init__(self) -> None:
        self.widths = {key: max(len(heading), 10) for key, heading in COLUMNS.items()} | {"id": 24, "from_domain": 24}
        self.has_heading = False

    def write(self, outcome: Verdict | Unread) -> None:
        if isinstance(outcome, Unread):
            if outcome.code:
                return  # What is no message has no place in a table of messages.
            cells = dict.fromkeys(COLUMNS) | {"id": outcome.id, "from_domain": "not judged", "problem": outcome.words}
        else:
            cells = rows([outcome])[0]
        if not self.has_heading:
            self.write_row(COLUMNS)
        self.has_heading = True
        self.write_row(cells)

    def write_row(self, cells: Mapping[str, object]) -> None:
        print("  ".join(visible(cells[key]).ljust(self.widths[key]) for key in COLUMNS).rstrip())


def visible(value: object) -> str:
    """A value without what would steer a terminal."""
    text = "" if value is None else str(value)
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


if __name__ == "__main__":
    sys.exit(main())
