"""Keys and signatures."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import mailproof
import pytest

from .conftest import MESSAGE, NOW, program, skip


@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "ed25519"])
@pytest.mark.parametrize("forms", ["relaxed/relaxed", "simple/simple", "relaxed/simple", "simple"])
def test_what_is_signed_verifies_and_what_is_changed_does_not(kind: str, forms: str) -> None:
    key = mailproof.keygen(kind)
    signer = mailproof.SigningKey(key.pem)
    assert signer.record() == key.record and signer.algorithm in repr(signer)
    field = mailproof.sign(
        MESSAGE, key=signer, domain="example.org", selector="s1", canonicalization=forms, now=NOW, expire=3600
    )
    engine = mailproof.Engine(zone={"s1._domainkey.example.org": [{"TXT": key.record}]}, now=NOW)
    (signature,) = engine.verify(field + MESSAGE).dkim
    assert (signature.result, signature.signed_at, signature.expires_at) == ("pass", NOW, NOW + 3600)
    assert engine.verify(field + MESSAGE + b"more\r\n").dkim[0].problem == "body-hash-mismatch"
    assert engine.verify(field + b"Subject: other\r\n" + MESSAGE).dkim[0].result != "pass"


def test_a_message_with_lf_is_signed_as_it_will_be_sent() -> None:
    key = mailproof.keygen("ed25519")
    keywords: dict[str, Any] = {"key": key.pem, "domain": "example.org", "selector": "s1", "now": NOW}
    stored = MESSAGE.replace(b"\r\n", b"\n")
    field = mailproof.sign(stored, **keywords)
    assert field == mailproof.sign(MESSAGE, **keywords).replace(b"\r\n", b"\n")
    # Both together have one kind of line ends, so that they are read as stored.
    engine = mailproof.Engine(zone={"s1._domainkey.example.org": [{"TXT": key.record}]}, now=NOW)
    for whole in (field + stored, bytearray(field + stored)):
        assert engine.verify(whole).dkim[0].result == "pass"


def test_the_field_is_that_of_the_command(tmp_path: Path) -> None:
    key = mailproof.keygen("rsa2048")
    (tmp_path / "key.pem").write_text(key.pem)
    (tmp_path / "message.eml").write_bytes(MESSAGE)
    words = ["sign", "--field", "--key", tmp_path / "key.pem", "--domain", "example.org", "--selector", "s1"]
    words += ["--now", NOW, "--identity", "@example.org", tmp_path / "message.eml"]
    command = [program("mailproof"), *map(str, words)]
    wanted = subprocess.run(command, capture_output=True, check=True).stdout
    found = mailproof.sign(MESSAGE, key=key.pem, domain="example.org", selector="s1", identity="@example.org", now=NOW)
    assert found == wanted


def test_dkimpy_agrees() -> None:
    try:
        import dkim
    except ImportError:
        skip("dkimpy is not installed")
    key = mailproof.keygen("rsa2048")
    field = mailproof.sign(MESSAGE, key=key.pem, domain="example.org", selector="s1")
    assert dkim.verify(field + MESSAGE, dnsfunc=lambda *_, **__: key.record.encode())
    theirs = dkim.sign(MESSAGE, b"s1", b"example.org", key.pem.encode())
    engine = mailproof.Engine(zone={"s1._domainkey.example.org": [{"TXT": key.record}]})
    assert engine.verify(theirs + MESSAGE).dkim[0].result == "pass"


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"key": "no key"}, "not a usable private key"),
        ({"domain": "example"}, "domain"),
        ({"domain": ""}, "domain"),
        ({"selector": "a b;"}, "invalid"),
        ({"headers": ["Subject"]}, "From"),
        ({"canonicalization": "loose"}, "canonicalization"),
        ({"identity": "@elsewhere.example"}, "invalid"),
        ({"expire": -1}, "expire"),
        ({"now": 1 << 64}, "now"),
    ],
)
def test_what_allows_no_valid_signature_is_refused(keywords: dict[str, Any], words: str) -> None:
    key = mailproof.keygen("ed25519").pem
    with pytest.raises(ValueError, match=words):
        mailproof.sign(MESSAGE, **({"key": key, "domain": "example.org", "selector": "s1"} | keywords))
    with pytest.raises(ValueError, match="From"):
        mailproof.sign(b"Subject: x\r\n\r\n", key=key, domain="example.org", selector="s1")


def test_private_keys_do_not_show() -> None:
    key = mailproof.keygen("ed25519")
    assert "PRIVATE" not in repr(key) and "PRIVATE" not in str(key)
    assert mailproof.zone_line(key.record, "example.org", "s1") == (
        f's1._domainkey.example.org. IN TXT ( "{key.record}" )'
    )
    with pytest.raises(ValueError, match="kind"):
        mailproof.keygen("rsa512")
