"""Messages from the objects that Python keeps them in."""

from __future__ import annotations

import email.message
import io
import mailbox
import os
import re
from collections.abc import Iterator
from email.generator import BytesGenerator
from email.policy import EmailPolicy

from ._mailproof import Request
from ._mbox import MESSAGE_BYTES_MAX, unquoted

_BARE_LF = re.compile(rb"(?<!\r)\n")


def octets(message: object) -> bytes:
    """The octets of a message that is no buffer; the extension sees to their line ends."""
    if isinstance(message, email.message.Message):
        return _of_message(message)
    if isinstance(message, os.PathLike):
        with open(message, "rb") as file:
            # One octet more than it may have shows that it has too many.
            return file.read(MESSAGE_BYTES_MAX + 1)
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


class _Writer(BytesGenerator):
    """Writes text that came as text, which need not be ASCII, as UTF-8; what came as octets stays so."""

    def write(self, s: str) -> None:
        self._fp.write(s.encode("utf-8", "surrogateescape"))  # type: ignore[attr-defined]


def _of_message(message: email.message.Message) -> bytes:
    policy = message.policy.clone(linesep="\r\n", cte_type="8bit")
    if isinstance(policy, EmailPolicy):
        # Fields that were read stay as they are, since signatures may cover their white space and octets; with utf8 also
        # those that are no ASCII. A field that the program has made is an object with a name, and is written as Python
        # would send it.
        is_read = not any(hasattr(value, "name") for part in message.walk() for _, value in part.raw_items())
        policy = policy.clone(refold_source="none", utf8=is_read or policy.utf8)
    else:
        policy = policy.clone(max_line_length=None)
    written = io.BytesIO()
    _Writer(written, mangle_from_=False, policy=policy).flatten(message)
    # Python keeps the folding of fields with odd octets as it was stored.
    return _BARE_LF.sub(b"\r\n", written.getvalue())
