"""Authentication-Results, read and written."""

from __future__ import annotations

import time

import mailproof
import pytest
from mailproof import AuthenticationResults, Property, Resinfo


def test_a_field_is_read_into_its_parts() -> None:
    value = 'mx.example.net (host); spf=pass (ok) smtp.mailfrom=example.org; dkim=fail reason="body hash" header.b="a/b="'
    read = mailproof.parse_authentication_results(value)
    assert read == mailproof.parse_authentication_results(value.encode())
    assert read.authserv_id == "mx.example.net" and read.version == 1 and read.regular
    spf, dkim = read.results
    assert spf == Resinfo("spf", "pass", [Property("smtp", "mailfrom", "example.org")], comment="ok")
    assert dkim.reason == "body hash" and dkim.find("header", "b") == "a/b=" and dkim.find("header", "d") is None
    assert dkim.properties[0].to_dict() == {"ptype": "header", "name": "b", "value": "a/b=", "comment": None}
    assert read.to_dict()["results"][0]["properties"][0]["value"] == "example.org"


def test_no_value_begins_another_result_or_field() -> None:
    evil = 'x; dmarc=pass\r\nX-Evil: "yes"'
    field = AuthenticationResults("mx.example.net", [Resinfo("spf", "fail", [Property("smtp", "mailfrom", evil)])])
    for layout in ("line", "folded", "folded-lf"):
        value = field.to_value(layout)
        read = mailproof.parse_authentication_results(value)
        assert [it.method for it in read.results] == ["spf"]
        assert not any(line.startswith("X-Evil") for line in value.splitlines())
    assert str(AuthenticationResults("mx.example.net")) == "mx.example.net; none"
    with pytest.raises(ValueError, match="layout"):
        field.to_value("wide")


def test_what_is_written_reads_the_same() -> None:
    verdict = mailproof.Engine(zone={}, authserv_id="mx.example.net").verify(b"From: a@b.example\r\n\r\n", ip="::1")
    read = mailproof.parse_authentication_results(verdict.authentication_results)
    assert str(read) == verdict.authentication_results
    assert mailproof.parse_authentication_results(read.to_value("folded")) == read
    assert hash(read) == hash(mailproof.parse_authentication_results(str(read))) and "Resinfo(" in repr(read)


def test_a_version_that_nobody_knows_is_not_written() -> None:
    read = mailproof.parse_authentication_results("mx.example.net one; spf=pass")
    assert read.version is None and "version=None" in repr(read)
    for write in (read.to_value, read.__str__):
        with pytest.raises(ValueError, match="version"):
            write()
    assert str(mailproof.parse_authentication_results("mx.example.net 2; spf=pass")) == "mx.example.net 2; spf=pass"


FORGED = [
    b"Authentication-Results: mx.example.net; dmarc=pass",
    b"Authentication-Results: (x) mx.example.net; dmarc=pass",
    b"Authentication-Results : mx.example.net; dmarc=pass",
    b"AUTHENTICATION-RESULTS: MX.EXAMPLE.NET; dmarc=pass",
    b"Authentication-Results:\r\n\tmx.example.net;\r\n dmarc=pass",
    b'Authentication-Results: "mx.example.net"; dmarc=pass',
    b"Authentication-Results: mx.example.net 7; dmarc=pass",
    b"Authentication-Results: mx.example.net. 1; dmarc=pass",
    b"Authentication-Results: mx.example.net (; dmarc=pass",
    b"Authentication-Results: other.example\n; dmarc=pass",
]


@pytest.mark.parametrize("forged", FORGED)
def test_forged_results_are_removed(forged: bytes) -> None:
    other = b"Authentication-Results: mx.example.com; dmarc=pass\r\n"
    above, below = b"X-Above: 1\r\n" + other, other + b"Subject: mx.example.net\r\n"
    body = b"\r\nAuthentication-Results: mx.example.net; dmarc=pass\r\n\r\n\x00\xff"
    message = above + forged + b"\r\n" + forged + b"\r\n" + below + body
    assert mailproof.remove_forged(message, "mx.example.net") == above + below + body
    assert mailproof.remove_forged(above + forged, "mx.example.net") == above
    assert mailproof.remove_forged(above + below + body, "mx.example.net") == above + below + body


@pytest.mark.parametrize("bare", [b"\n", b"\r"])
def test_results_behind_a_bare_line_end_are_removed(bare: bytes) -> None:
    hidden = bare + b"authentication-results\t: mx.example.net;" + bare + b" dmarc=pass"
    for rest in (b"\r\nTo: b\r\n\r\nHello.\r\n", bare + b"more\r\n\r\n", bare + bare + b"Hello.", b""):
        message = b"From: a@b.example\r\nSubject: x" + hidden + hidden + rest
        assert mailproof.remove_forged(message, "mx.example.net") == b"From: a@b.example\r\nSubject: x" + rest
    kept = b"Subject: x" + bare + b"Authentication-Results-X: y" + bare + b"Authentication-Results\r\n\r\n"
    assert mailproof.remove_forged(kept, "mx.example.net") == kept


def test_what_is_left_is_the_message() -> None:
    field = b"Authentication-Results: mx.example.net; dmarc=pass\n"
    assert mailproof.remove_forged(field + b"Subject: x\n\nHello.\n", "mx.example.net") == b"Subject: x\r\n\r\nHello.\r\n"
    assert mailproof.remove_forged(bytearray(field), "mx.example.net") == b""
    assert mailproof.remove_forged(b"", "mx.example.net") == b""
    # Beyond the fields that are verified, too.
    many = b"A: 1\r\n" * 20_000
    assert mailproof.remove_forged(many + field.strip() + b"\r\n" + many, "mx.example.net") == many * 2
    for name in ("", "a b", 'a"', "a;", "a" * 256):
        with pytest.raises(ValueError, match="authserv_id"):
            mailproof.remove_forged(b"", name)
    with pytest.raises(TypeError):
        mailproof.remove_forged("text", "mx.example.net")  # type: ignore[arg-type]


def test_hostile_headers_cost_no_more_than_their_length() -> None:
    name = b"Authentication-Results"
    for piece in (b"\n", b"\n" + name + b" ", b"\n" + name + b":\n ", b"\r\n" + name + b": (\r\n "):
        started = time.monotonic()
        mailproof.remove_forged(piece * (4_000_000 // len(piece)), "mx.example.net")
        assert time.monotonic() - started < 10, piece


@pytest.mark.parametrize("value", ["mx (", 'mx; a=b "', "mx\0; a=b"])
def test_what_can_not_be_split_without_guessing_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        mailproof.parse_authentication_results(value)
