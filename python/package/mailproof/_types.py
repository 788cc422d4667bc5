"""Types of arguments, and the words of results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import email.message
    import os
    from ipaddress import IPv4Address, IPv6Address

    from _typeshed import ReadableBuffer

#: Address of an SMTP client.
Address: TypeAlias = "str | IPv4Address | IPv6Address"

#: Whatever a message is kept in.
Message: TypeAlias = "ReadableBuffer | os.PathLike[str] | email.message.Message"

SpfResult = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
DkimResult = Literal["none", "pass", "fail", "policy", "neutral", "temperror", "permerror"]
ArcResult = Literal["none", "pass", "fail"]
DmarcResult = Literal["none", "pass", "fail", "temperror", "permerror"]
Action = Literal["accept", "quarantine", "reject", "defer"]
Disposition = Literal["none", "quarantine", "reject"]
Alignment = Literal["relaxed", "strict"]
