"""Authentication-Results, read and written."""

from __future__ import annotations

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


@pytest.mark.parametrize("value", ["mx (", 'mx; a=b "', "mx\0; a=b"])
def test_what_can_not_be_split_without_guessing_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        mailproof.parse_authentication_results(value)
