"""Did this mail really come from the domain in its From line? SPF, DKIM, DMARC and ARC, in one call.

>>> import mailproof
>>> engine = mailproof.Engine(zone={
...     "example.org": [{"TXT": "v=spf1 ip4:192.0.2.7 -all"}],
...     "_dmarc.example.org": [{"TXT": "v=DMARC1; p=reject"}],
... })
>>> message = b"From: ann@example.org\\r\\n\\r\\nHello.\\r\\n"
>>> verdict = engine.verify(message, ip="192.0.2.7", helo="mail.example.org", mail_from="ann@example.org")
>>> verdict.dmarc.result, verdict.action
('pass', 'accept')

Without ``zone`` the resolvers of the system are asked, and ``mailproof.verify`` does that with an engine of its own.
Streams of messages go through ``Engine.verify_many``, programs on asyncio await ``Engine.averify``, mail that arrives
piece by piece goes into ``Engine.session``.

Verdicts are data: exceptions are for what the caller got wrong (TypeError, ValueError) and for what the system refused
(OSError). A message is bytes, any buffer, a path object, an ``email.message.Message``, or one of a mailbox. It needs the
line ends CRLF that it had when it was sent; one that was stored with LF is given them. A ``Message`` object is written
anew by Python, which may differ from what was signed: where the octets are at hand, they are the better choice.
"""

import os as _os

from ._engine import Engine, explain, spf, verify
from ._mailproof import (
    ArcOutcome,
    AuthenticationResults,
    CacheStatistics,
    Defects,
    DmarcOutcome,
    GeneratedKey,
    NetworkStatistics,
    Property,
    Request,
    Resinfo,
    Session,
    SignatureOutcome,
    SigningKey,
    SpfCheck,
    SpfOutcome,
    Verdict,
    Verdicts,
    _forked,
    keygen,
    parse_authentication_results,
    remove_forged,
    sign,
    zone_line,
)
from ._mbox import unquoted
from ._tables import rows, to_arrow, to_pandas

# Threads and sockets stay with the parent: a child builds engines of its own.
_os.register_at_fork(after_in_child=_forked)

__all__ = [
    "ArcOutcome",
    "AuthenticationResults",
    "CacheStatistics",
    "Defects",
    "DmarcOutcome",
    "Engine",
    "GeneratedKey",
    "NetworkStatistics",
    "Property",
    "Request",
    "Resinfo",
    "Session",
    "SignatureOutcome",
    "SigningKey",
    "SpfCheck",
    "SpfOutcome",
    "Verdict",
    "Verdicts",
    "explain",
    "keygen",
    "parse_authentication_results",
    "remove_forged",
    "rows",
    "sign",
    "spf",
    "to_arrow",
    "to_pandas",
    "unquoted",
    "verify",
    "zone_line",
]
