"""Verdicts are frozen data."""

from __future__ import annotations

import copy
import json
import pickle
import signal
from typing import Any

import mailproof
import pytest

from .conftest import ENVELOPE, MESSAGE, ZONE


@pytest.fixture(scope="module")
def verdict() -> mailproof.Verdict:
    return mailproof.Engine(zone=ZONE, authserv_id="mx.example.net").verify(MESSAGE, **ENVELOPE, id="one")


def test_nothing_can_be_changed(verdict: mailproof.Verdict) -> None:
    parts: list[Any] = [verdict, verdict.spf, verdict.dmarc, verdict.arc, verdict.defects]
    for part in parts:
        name = next(name for name in dir(part) if not name.startswith("_"))
        with pytest.raises(AttributeError):
            setattr(part, name, "other")
        with pytest.raises(AttributeError):
            part.new = 1
    assert isinstance(verdict.dkim, tuple) and isinstance(verdict.arc.sealers, tuple)


def test_what_says_the_same_is_equal(verdict: mailproof.Verdict) -> None:
    engine = mailproof.Engine(zone=ZONE, authserv_id="mx.example.net")
    again = engine.verify(bytearray(MESSAGE), **ENVELOPE, id="one")
    assert verdict == again and hash(verdict) == hash(again) and verdict is not again
    assert verdict.spf == again.spf and hash(verdict.spf) == hash(again.spf)
    assert verdict != engine.verify(MESSAGE, **ENVELOPE, id="two")
    assert verdict.spf != verdict.helo and verdict != "one"


def test_what_never_changes_is_its_own_copy(verdict: mailproof.Verdict) -> None:
    engine = mailproof.Engine(zone=ZONE)
    read = mailproof.parse_authentication_results(verdict.authentication_results)
    parts: list[Any] = [verdict, verdict.spf, verdict.dmarc, verdict.arc, verdict.defects, engine.cache_statistics()]
    parts += [engine.network_statistics(), engine.spf("192.0.2.7"), mailproof.Request(MESSAGE)]
    parts += [read, read.results[0], read.results[0].properties[0]]
    key = mailproof.keygen("ed25519")
    field = mailproof.sign(MESSAGE, key=key.pem, domain="example.org", selector="s")
    parts += engine.verify(field + MESSAGE).dkim
    for part in parts:
        assert copy.copy(part) is part and copy.deepcopy(part) is part
        assert copy.deepcopy([part])[0] is part
        with pytest.raises(TypeError):
            pickle.dumps(part)


def test_results_can_be_put_in_front_of_the_message(verdict: mailproof.Verdict) -> None:
    field = verdict.results_field()
    assert field.startswith(b"Authentication-Results: mx.example.net;\r\n\tspf=pass ") and field.endswith(b"\r\n")
    assert verdict.results_field(layout="folded-lf") == field.replace(b"\r\n", b"\n")
    assert verdict.results_field(layout="line") == f"Authentication-Results: {verdict.authentication_results}\r\n".encode()
    other = verdict.results_field("mx.example.com")
    assert other == field.replace(b"mx.example.net", b"mx.example.com")
    read = mailproof.parse_authentication_results(field.split(b":", 1)[1].rstrip())
    assert str(read) == verdict.authentication_results
    odd = mailproof.Engine(zone=ZONE, authserv_id='a "b"; c').verify(MESSAGE, **ENVELOPE)
    assert odd.results_field(layout="line") == f"Authentication-Results: {odd.authentication_results}\r\n".encode()
    with pytest.raises(ValueError, match="layout"):
        verdict.results_field(layout="wide")


def test_a_verdict_is_a_document(verdict: mailproof.Verdict) -> None:
    document = verdict.to_dict()
    assert document == json.loads(verdict.to_json())
    assert list(document) == ["v", "id", "spf", "dkim", "arc", "dmarc", "action", "authentication_results"]
    assert document["dmarc"]["aligned"] == {"spf": "strict", "dkim": None}
    assert verdict.authentication_results.startswith("mx.example.net; spf=pass")
    assert verdict.author_domains == ("example.org",) and verdict.author_problem is None
    assert verdict.dmarc.to_dict()["from_domain"] == "example.org"


def test_a_repr_shows_what_it_is(verdict: mailproof.Verdict) -> None:
    assert repr(verdict).startswith("Verdict(id='one', action='accept', dmarc=DmarcOutcome(result='pass'")
    assert "mechanism='ip4:192.0.2.7'" in repr(verdict.spf)
    request = mailproof.Request(MESSAGE, **ENVELOPE, id="one")
    assert repr(request) == (
        f"Request(<{len(MESSAGE)} octets>, ip='192.0.2.7', helo=\"mx.example.org\", "
        'mail_from="ann@example.org", id="one")'
    )


def test_tables_have_a_row_for_each(verdict: mailproof.Verdict) -> None:
    unsigned = mailproof.Engine(zone={}).verify(b"")
    rows = mailproof.rows([verdict, unsigned])
    assert rows[0]["from_domain"] == "example.org" and rows[1]["problem"] == "from-missing"
    frame = mailproof.to_pandas([verdict, unsigned])
    assert list(frame["dmarc"]) == ["pass", "permerror"] and list(frame.columns) == list(rows[0])
    assert list(mailproof.to_pandas([]).columns) == list(rows[0])
    table = mailproof.to_arrow([verdict, unsigned])
    assert table.to_pylist() == rows and mailproof.to_arrow([]).schema == table.schema


def test_a_session_gives_what_is_known_early() -> None:
    engine = mailproof.Engine(zone=ZONE)
    session = engine.session(**ENVELOPE, id="one")
    assert session.spf is not None and session.spf.result == "pass"
    session.push(MESSAGE[:10])
    assert session.wants_body
    session.push(bytearray(MESSAGE[10:40]))
    session.push(MESSAGE[40:])
    assert not session.wants_body, "nothing is signed"
    assert session.finish() == engine.verify(MESSAGE, **ENVELOPE, id="one")
    for call in (session.finish, lambda: session.push(b""), lambda: session.spf):
        with pytest.raises(ValueError, match="ended"):
            call()


def test_a_session_that_is_interrupted_can_be_finished(fault_dns: Any) -> None:
    class Interruption(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interruption

    engine = mailproof.Engine([fault_dns(ZONE, {"fault": {"delay": {"milliseconds": 1000}}})])
    session = engine.session(**ENVELOPE, id="one")
    session.push(MESSAGE)
    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interruption):
            session.finish()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert session.finish() == mailproof.Engine(zone=ZONE).verify(MESSAGE, **ENVELOPE, id="one")
    with pytest.raises(ValueError, match="ended"):
        session.finish()


def test_spf_alone(verdict: mailproof.Verdict) -> None:
    engine = mailproof.Engine(zone=ZONE, authserv_id="mx.example.net")
    check = engine.spf("192.0.2.7", helo="mx.example.org", mail_from="<ann@example.org>")
    assert check.spf == verdict.spf and check.helo.problem == "no-such-domain"
    assert check.received_spf.startswith("pass (mx.example.net: domain of ann@example.org designates 192.0.2.7")
    assert engine.spf("192.0.2.8", mail_from="a@example.org").to_dict()["spf"]["result"] == "fail"


def test_an_explanation_tells_every_decision() -> None:
    engine = mailproof.Engine(zone=ZONE)
    page = engine.explain(MESSAGE, **ENVELOPE)
    assert "DMARC pass, action accept" in page and "decided by   ip4:192.0.2.7" in page and "\x1b" not in page
    assert "\x1b[" in engine.explain(MESSAGE, **ENVELOPE, color=True)
    assert "\x1b" not in engine.explain(b"From: \x1b[31m@example.org\r\n\r\n")


def test_the_cache_is_counted(fault_dns: Any) -> None:
    engine = mailproof.Engine([fault_dns(ZONE)], cache_size=1 << 20, threads=1)
    for _ in range(2):
        assert engine.verify(MESSAGE, **ENVELOPE).action == "accept"
    cache, network = engine.cache_statistics(), engine.network_statistics()
    assert cache.hits >= cache.inserts == cache.entries == 2 and cache.bytes > 0
    assert network.lookups > 2 and network.failures == 0
    assert engine.backend in ("uring", "epoll")
