"""Verdicts as a table, for those who count them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped, unused-ignore]
    import pyarrow  # type: ignore[import-untyped, unused-ignore]

    from ._mailproof import Verdict

#: The columns, in order.
COLUMNS = (
    "id",
    "ip",
    "from_domain",
    "spf",
    "spf_domain",
    "helo",
    "dkim",
    "dkim_domain",
    "dkim_signatures",
    "arc",
    "dmarc",
    "policy",
    "spf_aligned",
    "dkim_aligned",
    "disposition",
    "action",
    "problem",
)

#: Results of DKIM from the best to the worst: one good signature is enough (RFC 6376 section 6.1).
_BEST = ("pass", "temperror", "policy", "fail", "permerror", "neutral", "none")


def rows(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """A flat dictionary for each verdict, with the same keys in the same order.

    ``dkim`` and ``dkim_domain`` are of the best signature, ``problem`` is the first of DMARC, SPF and DKIM.

    >>> import mailproof
    >>> rows([mailproof.Engine(zone={}).verify(b"From: a@b.example\\r\\n\\r\\n", id="x")])[0]["from_domain"]
    'b.example'
    """
    return [_row(verdict) for verdict in verdicts]


def to_pandas(verdicts: Iterable[Verdict]) -> pandas.DataFrame:
    """A pandas table with a row for each verdict. Raises ImportError when pandas is not installed."""
    import pandas

    return pandas.DataFrame(rows(verdicts), columns=list(COLUMNS))


def to_arrow(verdicts: Iterable[Verdict]) -> pyarrow.Table:
    """A pyarrow table with a row for each verdict. Raises ImportError when pyarrow is not installed."""
    import pyarrow

    text = [(name, pyarrow.uint32() if name == "dkim_signatures" else pyarrow.string()) for name in COLUMNS]
    return pyarrow.Table.from_pylist(rows(verdicts), schema=pyarrow.schema(text))


def _row(verdict: Verdict) -> dict[str, Any]:
    spf, dmarc, signatures = verdict.spf, verdict.dmarc, verdict.dkim
    best = min(signatures, key=lambda signature: _BEST.index(signature.result), default=None)
    values = (
        verdict.id,
        verdict.ip,
        dmarc.from_domain,
        spf.result,
        spf.domain,
        verdict.helo.result,
        best.result if best else "none",
        best.domain if best else None,
        len(signatures),
        verdict.arc.result,
        dmarc.result,
        dmarc.policy,
        dmarc.spf_aligned,
        dmarc.dkim_aligned,
        dmarc.disposition,
        verdict.action,
        dmarc.problem or spf.problem or (best.problem if best else None),
    )
    return dict(zip(COLUMNS, values, strict=True))
