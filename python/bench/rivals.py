"""The package beside dkimpy with pyspf, and Node's mailauth, on the same stream of messages with the same DNS.

Usage: python rivals.py DIR [--count N] [--node FOLDER]

DIR is from `mailproof-testkit stream`, FOLDER is one in which `npm install mailauth` was run. dkimpy and pyspf do DKIM and
SPF only; mailauth does all that Mailproof does. Prints microseconds of CPU a message on one thread, the factor, and how
many of the DKIM results are the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import mailproof
import yaml

from stream import NOW, load

NODE = r"""
const fs = require('fs'), path = require('path');
const { authenticate } = require(path.join(process.argv[2], 'node_modules/mailauth'));
const zone = JSON.parse(fs.readFileSync(process.argv[3])), stream = JSON.parse(fs.readFileSync(process.argv[4]));
const resolver = async (name, type) => {
  const found = (zone[name.toLowerCase().replace(/\.$/, '')] || []).filter(it => type in it).map(it => it[type]);
  if (!found.length) { const error = new Error('none'); error.code = 'ENOTFOUND'; throw error; }
  return type === 'TXT' ? found.map(it => [].concat(it)) : found;
};
(async () => {
  const messages = stream.map(it => ({ ...it, octets: fs.readFileSync(it.path) }));
  const one = it => authenticate(it.octets, { ip: it.ip, helo: it.helo, sender: it.mail_from, mta: 'mx.example.net',
    resolver, disableBimi: true });
  let passes = 0;
  for (const it of messages.slice(0, 200)) await one(it);
  const started = process.cpuUsage();
  for (const it of messages) passes += (await one(it)).dkim.results.some(signature => signature.status.result === 'pass');
  const used = process.cpuUsage(started);
  console.log(JSON.stringify({ us: (used.user + used.system) / messages.length, passes }));
})();
"""


def of_mailproof(stream: list[dict[str, Any]], zone: Path) -> tuple[float, int]:
    """Microseconds and DKIM passes."""
    engine = mailproof.Engine(zone=zone, now=NOW)
    passes = 0
    for _ in range(2):
        started, passes = time.process_time(), 0
        for line in stream:
            verdict = engine.verify(line["octets"], ip=line["ip"], helo=line["helo"], mail_from=line["mail_from"])
            passes += any(signature.result == "pass" for signature in verdict.dkim)
    return (time.process_time() - started) * 1e6 / len(stream), passes


def of_python(stream: list[dict[str, Any]], zone: dict[str, list[dict[str, Any]]]) -> tuple[float, int]:
    """The same by dkimpy and pyspf, their look-ups answered from the zone."""
    import dkim
    import spf

    def found(name: str, kind: str) -> list[Any]:
        return [record[kind] for record in zone.get(name.lower().rstrip("."), []) if kind in record]

    def text(value: Any) -> bytes:
        return ("".join(value) if isinstance(value, list) else value).encode()

    def key(name: bytes, timeout: int = 5) -> bytes | None:
        texts = found(name.decode(), "TXT")
        return text(texts[0]) if texts else None

    def look_up(name: str, kind: str, *_: Any, **__: Any) -> list[Any]:
        records = found(name, kind)
        return [((name, kind), (text(it),) if kind == "TXT" else it) for it in records]

    spf.DNSLookup = look_up
    started, passes = time.process_time(), 0
    for line in stream:
        spf.check2(line["ip"], line["mail_from"], line["helo"])
        verifier = dkim.DKIM(line["octets"])
        signatures = sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)
        passes += any([_holds(verifier, number, key) for number in range(signatures)])
    return (time.process_time() - started) * 1e6 / len(stream), passes


def _holds(verifier: Any, number: int, key: Any) -> bool:
    import dkim

    try:
        return bool(verifier.verify(idx=number, dnsfunc=key))
    except dkim.DKIMException:
        return False


def of_node(stream: list[dict[str, Any]], zone: dict[str, Any], folder: Path, scratch: Path) -> tuple[float, int]:
    """The same by mailauth."""
    (scratch / "zone.json").write_text(json.dumps(zone))
    names = ("ip", "helo", "mail_from")
    lines = [{name: it[name] for name in names} | {"path": str((scratch / it["path"]).resolve())} for it in stream]
    (scratch / "lines.json").write_text(json.dumps(lines))
    words = ["node", "-e", NODE, "x", str(folder.resolve()), str(scratch / "zone.json"), str(scratch / "lines.json")]
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return told["us"], told["passes"]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--node", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder
    stream = load(folder)[: arguments.count]
    zone = {name.lower(): records for name, records in yaml.load((folder / "zone.yml").read_text(), yaml.CSafeLoader).items()}
    ours, passes = of_mailproof(stream, folder / "zone.yml")
    print(f"mailproof        {ours:9.1f} us a message   {passes} of {len(stream)} with a good signature")
    theirs, theirs_passes = of_python(stream, zone)
    print(f"dkimpy and pyspf {theirs:9.1f} us   {theirs / ours:6.1f} times   {theirs_passes} good")
    if arguments.node:
        theirs, theirs_passes = of_node(stream, zone, arguments.node, folder)
        print(f"mailauth (Node)  {theirs:9.1f} us   {theirs / ours:6.1f} times   {theirs_passes} good")


if __name__ == "__main__":
    main()
