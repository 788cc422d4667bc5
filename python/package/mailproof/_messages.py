"""Messages from the objects that Python keeps them in."""

from __future__ import annotations

import email.message
import mailbox
import os
import re
from collections.abc import Iterator
from email.policy import EmailPolicy

from ._mailproof import Request

#: Octets of a file that are read: one more than a message may have.
FILE_BYTES_MAX = 256 * 1024 * 1024 + 1

#: Lines of an mbox file that were quoted because they begin with ``From ``.
_QUOTED = re.compile(rb"^>(?=>*From )", re.MULTILINE)


def octets(message: object) -> bytes:
    """The octets of a message that is no buffer; the extension sees to their line ends."""
    if isinstance(message, email.message.Message):
        return _of_message(message)
    if isinstance(message, os.PathLike):
        with open(message, "rb") as file:
            return file.read(FILE_BYTES_MAX)
    kind = type(message).__name__
    if isinstance(message, str):
        raise TypeError("a message is bytes, or pathlib.Path for a file; a str could be either")
    raise TypeError(f"a message is bytes, a buffer, a path object or an email.message.Message, not {kind}")


def of_mailbox(box: mailbox.Mailbox[mailbox.Message]) -> Iterator[Request]:
    """The messages of a mailbox, one at a time, with their octets as stored and their keys as names."""
    is_quoted = isinstance(box, (mailbox.mbox, mailbox.MMDF))
    for key in box.iterkeys():
        try:
            stored = box.get_bytes(key)
        except KeyError:
            continue  # Somebody has removed it meanwhile.
        yield Request(unquoted(stored) if is_quoted else stored, id=str(key))


def unquoted(stored: bytes) -> bytes:
    """A message of an mbox file as it was before lines that begin with ``From `` were quoted."""
    return _QUOTED.sub(b"", stored)


def _of_message(message: email.message.Message) -> bytes:
    # Folded header fields stay as they are: signatures may cover their white space.
    policy = message.policy
    if isinstance(policy, EmailPolicy):
        policy = policy.clone(refold_source="none")
    return message.as_bytes(policy=policy.clone(linesep="\r\n", max_line_length=None))
