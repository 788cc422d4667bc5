"""Messages of mbox files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

#: Octets of one message that are read; a longer one is refused.
MESSAGE_BYTES_MAX = 256 * 1024 * 1024
#: What a message begins with.
SEPARATOR = b"From "

#: Octets of a line that are looked at together; longer lines are read piece by piece.
_LINE_PIECE_BYTES = 64 * 1024
#: The line that does not belong to the message.
_EMPTY_LINE_BYTES_MAX = 2
#: ``Thu Jan  1 00:00:00`` among the words of a separator.
_DATE = re.compile(
    rb"(?:^|\s)(?:mon|tue|wed|thu|fri|sat|sun)\s+(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\s+\d\d?\s+"
    rb"(?=[0-9:]*:)[0-9:]+(?:\s|$)",
    re.IGNORECASE,
)
#: Lines that were quoted because they begin with ``From ``.
_QUOTED = re.compile(rb"^>(?=>*From )", re.MULTILINE)


def unquoted(stored: bytes) -> bytes:
    """A message of an mbox file as it was before lines that begin with ``From `` were quoted, for its signatures.

    ``verify_many`` does so itself when it is given the mailbox; this is for messages that are made into ``Request`` objects.

    >>> unquoted(b"Subject: x\\n\\n>From here on\\n>>From there\\n")
    b'Subject: x\\n\\nFrom here on\\n>From there\\n'
    """
    return _QUOTED.sub(b"", stored)


def split(file: BinaryIO, start: bytes) -> Iterator[bytes | None]:
    """The messages of an mbox file as they were sent, one in memory at a time; None for one that is too long.

    ``start`` is what was read of the file already, the separator. Reads as `mailproof verify` does: a message begins behind
    a separator that is the first line or follows an empty one. Where the first of them ends in a date, as ``ctime`` writes
    it, the others must have one too, so that a sentence that begins with ``From `` splits nothing. The empty line in front
    of a separator belongs to the file. Raises OSError where reading breaks off.
    """
    is_dated = _DATE.search(start + file.readline(_LINE_PIECE_BYTES - len(start))) is not None
    is_finished = False
    while not is_finished:
        pieces: list[bytes] = []
        size = empty_line_bytes = 0
        at_line_start = True
        while True:
            line = file.readline(_LINE_PIECE_BYTES)
            if not line:
                is_finished = True
                break
            if at_line_start and empty_line_bytes and line.startswith(SEPARATOR):
                if not is_dated or _DATE.search(line):
                    break
            piece = _QUOTED.sub(b"", line, count=1) if at_line_start else line
            size += len(piece)
            if size > MESSAGE_BYTES_MAX + _EMPTY_LINE_BYTES_MAX:
                pieces.clear()
            else:
                pieces.append(piece)
            empty_line_bytes = len(piece) if at_line_start and piece in (b"\n", b"\r\n") else 0
            at_line_start = line.endswith(b"\n")
        size -= empty_line_bytes
        yield b"".join(pieces)[:size] if size <= MESSAGE_BYTES_MAX else None
