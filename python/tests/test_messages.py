"""What counts as a message, and what its octets become."""

from __future__ import annotations

import array
import asyncio
import email
import email.message
import email.policy
import gc
import ipaddress
import mailbox
import mmap
import sys
from pathlib import Path
from typing import Any

import mailproof
import pytest

from .conftest import ENVELOPE, MESSAGE, ZONE


@pytest.fixture(scope="module")
def engine() -> mailproof.Engine:
    return mailproof.Engine(zone=ZONE)


@pytest.fixture(scope="module")
def signed() -> tuple[mailproof.Engine, bytes]:
    """A message whose signature breaks with its first octet, and who knows the key."""
    key = mailproof.keygen("ed25519")
    message = b"From: ann@example.org\r\nSubject: a\r\n folded  field\r\nX-Long: " + b"word " * 60 + b"\r\n\r\nText.\r\n"
    names = ["From", "Subject", "X-Long"]
    field = mailproof.sign(
        message, key=key.pem, domain="example.org", selector="s", canonicalization="simple/simple", headers=names
    )
    return mailproof.Engine(zone={**ZONE, "s._domainkey.example.org": [{"TXT": key.record}]}), field + message


def test_every_kind_of_message_has_the_same_verdict(
    signed: tuple[mailproof.Engine, bytes], tmp_path: Path
) -> None:
    engine, octets = signed
    lf = octets.replace(b"\r\n", b"\n")
    file = tmp_path / "stored"
    file.write_bytes(lf)
    kinds: list[Any] = [
        octets,
        bytearray(octets),
        memoryview(octets),
        array.array("B", octets),
        memoryview(bytearray(octets) * 2)[: len(octets)],
        lf,
        bytearray(lf),
        file,
        email.message_from_bytes(octets),
        email.message_from_bytes(lf),
        email.message_from_bytes(octets, policy=email.policy.default),
        email.message_from_bytes(lf, policy=email.policy.SMTP),
        mailbox.mboxMessage(octets),
    ]
    wanted = engine.verify(octets, **ENVELOPE)
    assert wanted.dkim[0].result == "pass"
    for kind in kinds:
        assert engine.verify(kind, **ENVELOPE) == wanted, kind
    assert list(engine.verify_many(mailproof.Request(kind, **ENVELOPE) for kind in kinds)) == [wanted] * len(kinds)


def test_a_mailbox_is_a_stream_with_names(signed: tuple[mailproof.Engine, bytes], tmp_path: Path) -> None:
    engine, octets = signed
    box = mailbox.mbox(tmp_path / "box")
    box.add(octets)
    box.add(MESSAGE + b"From the start\r\n")
    box.flush()
    assert b">From the start" in (tmp_path / "box").read_bytes()
    verdicts = list(engine.verify_many(box))
    assert [it.id for it in verdicts] == ["0", "1"]
    assert verdicts[0].dkim[0].result == "pass"
    maildir = mailbox.Maildir(tmp_path / "maildir")
    name = maildir.add(octets)
    assert [(it.id, it.dkim[0].result) for it in engine.verify_many(maildir)] == [(name, "pass")]


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        (b"A: b\nC: d\n\nx\r\ny\n", b"A: b\r\nC: d\r\n\r\nx\r\ny\r\n"),
        (b"A: b\nC: d\r\n\nx\n", None),
        (b"A: b\n\r\nx\n", None),
        (b"A: b", None),
        (b"\nx\n", b"\r\nx\r\n"),
        (b"", None),
    ],
)
def test_only_headers_without_any_crlf_are_converted(engine: mailproof.Engine, stored: bytes, sent: bytes) -> None:
    assert len(mailproof.Request(stored)) == len(sent if sent is not None else stored)
    if sent is not None:
        assert engine.verify(stored) == engine.verify(sent)
    else:
        assert engine.verify(stored).defects.bare_lf == stored.count(b"\n") - stored.count(b"\r\n")


def test_bytes_are_borrowed_and_what_can_change_is_copied(engine: mailproof.Engine) -> None:
    octets = MESSAGE + b"x" * 1000
    before = sys.getrefcount(octets)
    requests = [mailproof.Request(octets) for _ in range(10)]
    assert sys.getrefcount(octets) == before + 10
    del requests
    gc.collect()
    assert sys.getrefcount(octets) == before
    changing = bytearray(MESSAGE)
    request = mailproof.Request(changing)
    changing[:] = b""
    assert len(request) == len(MESSAGE)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("From: a@example.org", TypeError),
        (7, TypeError),
        (None, TypeError),
        (Path("/nonexistent/message"), FileNotFoundError),
        (Path("/"), IsADirectoryError),
        (memoryview(b"abcd").cast("I"), TypeError),
    ],
)
def test_what_is_no_message_is_named(engine: mailproof.Engine, message: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        engine.verify(message)
    with pytest.raises(error):
        mailproof.Request(message)


def test_addresses_are_text_or_objects(engine: mailproof.Engine) -> None:
    wanted = engine.verify(MESSAGE, **ENVELOPE)
    assert wanted.spf.result == "pass"
    for ip in (ipaddress.ip_address("192.0.2.7"), "192.0.2.7"):
        assert engine.verify(MESSAGE, ip=ip, helo="mx.example.org", mail_from="<ann@example.org>") == wanted
    for ip in ("fe80::1%eth0", ipaddress.ip_address("fe80::1%eth0")):
        # The zone names an interface of this host (RFC 4007).
        assert engine.verify(MESSAGE, ip=ip).ip == "fe80::1"
    for bad in ("192.0.2.7%eth0", "fe80::1%", "%eth0", "fe80::1\udcff"):
        with pytest.raises(ValueError, match="ip"):
            engine.verify(MESSAGE, ip=bad)
    for bad, error in [("192.0.2.999", ValueError), ("", ValueError), (b"192.0.2.7", TypeError), (7, TypeError)]:
        with pytest.raises(error, match="ip"):
            engine.verify(MESSAGE, ip=bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        engine.verify(MESSAGE, helo=None)  # type: ignore[arg-type]


def test_a_message_over_the_limit_is_refused(engine: mailproof.Engine) -> None:
    limit = 256 * 1024 * 1024
    octets = bytes(limit + 1)
    with pytest.raises(ValueError, match="more than 268435456"):
        engine.verify(octets)
    assert len(mailproof.Request(memoryview(octets)[:limit].toreadonly())) == limit


def test_a_view_of_more_than_the_memory_is_refused(engine: mailproof.Engine, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("w+b") as file:
        file.truncate(1 << 40)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view, pytest.raises(ValueError, match="more than"):
            engine.verify(view)


def test_what_peers_say_need_not_be_text(engine: mailproof.Engine) -> None:
    odd = b"mx\xff.example".decode("ascii", "surrogateescape")
    late = "caf\u00e9".encode().decode("ascii", "surrogateescape")
    for text, wanted in [(odd, "mx\ufffd.example"), (late, "caf\u00e9"), ("\ud800x", None), ("\u00e9", "\u00e9")]:
        envelope: Any = {"helo": text, "mail_from": f"<a@{text}>"}
        request = mailproof.Request(MESSAGE, ip="192.0.2.7", **envelope, id=text)
        if wanted is not None:
            assert (request.helo, request.mail_from, request.id) == (wanted, f"a@{wanted}", wanted)
        (verdict,) = engine.verify_many([request])
        assert verdict.id == request.id and verdict.id.isprintable()
        assert engine.verify(MESSAGE, ip="192.0.2.7", **envelope, id=text) == verdict
        assert asyncio.run(engine.averify(MESSAGE, ip="192.0.2.7", **envelope, id=text)) == verdict
        session = engine.session(ip="192.0.2.7", **envelope, id=text)
        session.push(MESSAGE)
        assert session.finish() == verdict
        assert engine.spf("192.0.2.7", **envelope).spf == verdict.spf
        assert "DMARC" in engine.explain(MESSAGE, ip="192.0.2.7", **envelope)


#: Octets beyond ASCII, folded, in the header, with and without a name for what they are in the body.
BEYOND_ASCII = (
    b"From: Zo\xc3\xab <ann@example.org>\r\nSubject: caf\xe9\r\n  au  lait " + b"\xc3\xa9 " * 60 + b"\r\n"
    b"X-Tab: a\r\n\tb\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-Part: \xc3\xa9\r\n\r\n\xc3\xa9\r\n"
    b"--b\r\n\r\ncaf\xe9\r\n--b--\r\n"
)


@pytest.mark.parametrize("policy", [email.policy.compat32, email.policy.default, email.policy.SMTP, email.policy.SMTPUTF8])
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_message_object_keeps_octets_beyond_ascii(policy: Any, line_end: bytes) -> None:
    engine, field = signed_beyond_ascii(BEYOND_ASCII)
    octets = (field + BEYOND_ASCII).replace(b"\r\n", line_end)
    assert engine.verify(octets).dkim[0].result == "pass"
    message = email.message_from_bytes(octets, policy=policy)
    assert engine.verify(message).dkim[0].result == "pass"
    short = message.policy.clone(cte_type="7bit")
    assert engine.verify(email.message_from_bytes(octets, policy=short)).dkim[0].result == "pass"


@pytest.mark.parametrize("policy", [email.policy.compat32, email.policy.default])
def test_a_message_of_text_is_that_text_in_utf8(policy: Any) -> None:
    text = "From: ann@example.org\r\nSubject: hello\r\n\r\ncaf\u00e9 \u20ac\r\n"
    engine, field = signed_beyond_ascii(text.encode())
    message = email.message_from_string(field.decode() + text, policy=policy)
    assert engine.verify(message).dkim[0].result == "pass"
    mixed = email.message_from_string("From: ann@example.org\n\ncaf\u00e9 \udcff\n", policy=policy)
    assert len(mailproof.Request(mixed)) == len(b"From: ann@example.org\r\n\r\ncaf\xc3\xa9 \xff\r\n")


def test_a_message_that_a_program_makes_is_what_it_would_send() -> None:
    message = email.message.EmailMessage()
    message["From"] = "ann@example.org"
    message["Subject"] = "caf\u00e9 " * 40
    message.set_content("caf\u00e9\n" * 3)
    key = mailproof.keygen("ed25519")
    field = mailproof.sign(message, key=key.pem, domain="example.org", selector="s", canonicalization="simple/simple")
    engine = mailproof.Engine(zone={"s._domainkey.example.org": [{"TXT": key.record}]})
    assert engine.verify(field + message.as_bytes(policy=email.policy.SMTP)).dkim[0].result == "pass"


def signed_beyond_ascii(message: bytes) -> tuple[mailproof.Engine, bytes]:
    """A signature that breaks with the first octet of the message, and who knows the key."""
    key = mailproof.keygen("ed25519")
    names = ["From", "Subject", "X-Tab", "Content-Type"]
    keywords: Any = {"key": key.pem, "domain": "example.org", "selector": "s", "canonicalization": "simple/simple"}
    engine = mailproof.Engine(zone={"s._domainkey.example.org": [{"TXT": key.record}]})
    return engine, mailproof.sign(message, headers=names, **keywords)


def test_quotes_of_an_mbox_file_are_taken_off() -> None:
    engine, field = signed_beyond_ascii(MESSAGE + b"From here on\r\n>From there\r\n> From\r\n")
    stored = field + MESSAGE + b">From here on\r\n>>From there\r\n> From\r\n"
    assert engine.verify(stored).dkim[0].problem == "body-hash-mismatch"
    assert engine.verify(mailproof.unquoted(stored)).dkim[0].result == "pass"


@pytest.mark.parametrize("name", ["now", "cache_size", "threads"])
@pytest.mark.parametrize("number", [-1, 1 << 64, -(1 << 70)])
def test_numbers_that_can_not_be_are_refused(name: str, number: int) -> None:
    with pytest.raises(ValueError, match=name):
        mailproof.Engine(zone={}, **{name: number})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        mailproof.Engine(zone={}, **{name: "1"})  # type: ignore[arg-type]
    mailproof.Engine(zone={}, **{name: 1})  # type: ignore[arg-type]


def test_threads_of_an_engine_have_a_range() -> None:
    for number in (0, 1025):
        with pytest.raises(ValueError, match="threads: 1 to 1024"):
            mailproof.Engine(zone={}, threads=number)
    for number in (1, 1024):
        mailproof.Engine(zone={}, threads=number)


@pytest.mark.parametrize(
    "keywords",
    [
        {"policy": "1234"},
        {"resolvers": []},
        {"resolvers": ["nobody"]},
        {"resolvers": ["127.0.0.1"], "zone": {}},
        {"resolvers": ["127.0.0.1"], "backend": "select"},
        {"zone": {"example.org": 7}},
        {"zone": {"example.org": [{"TXT": {}}]}},
    ],
)
def test_settings_that_can_not_be_used_are_refused(keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        mailproof.Engine(**keywords)


def test_a_zone_is_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("example.org: [{TXT: v=spf1 ip4:192.0.2.7 -all}]\n")
    (tmp_path / "b.zone").write_text('_dmarc.example.org. 300 IN TXT "v=DMARC1; p=reject"\n')
    engine = mailproof.Engine(zone=[tmp_path / "a.yml", str(tmp_path / "b.zone")])
    assert engine.verify(MESSAGE, **ENVELOPE).dmarc.policy == "reject"
    assert engine.backend == "zone"
    with pytest.raises(OSError, match="nowhere"):
        mailproof.Engine(zone=tmp_path / "nowhere.yml")
    with pytest.raises(TypeError, match="zone"):
        mailproof.Engine(zone=7)  # type: ignore[arg-type]
