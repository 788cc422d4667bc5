"""dkimpy and pyspf, asked over standard input: lines `COUNT ADDRESS FILE`, answered by `SPF DKIM DMARC NANOSECONDS`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

try:
    import dkim
    import spf
except ImportError as error:
    print(f"{error}: scripts/test.sh makes .venv")
    sys.exit()

WORLD = json.loads(Path(sys.argv[1]).read_text())


def look_up(name: str, kind: str, *_: Any, **__: Any) -> list[Any]:
    """What pyspf asks for."""
    text = WORLD["zone"].get(name.lower().rstrip(".")) if kind == "TXT" else None
    return [((name, kind), (text.encode(),))] if text else []


def key(name: bytes, timeout: int = 5) -> bytes | None:
    """What dkimpy asks for."""
    text = WORLD["zone"].get(name.decode().lower().rstrip("."))
    return text.encode() if text else None


def judge(address: str, octets: bytes) -> tuple[str, str]:
    """The results of one message."""
    result = spf.check2(address, WORLD["mail_from"], WORLD["helo"])[0]
    try:
        holds = dkim.DKIM(octets).verify(dnsfunc=key)
    except dkim.DKIMException:
        holds = False
    return result, "pass" if holds else "fail"


spf.DNSLookup = look_up
print("ready", flush=True)
for line in sys.stdin:
    count, client, path = line.strip().split(" ", 2)
    message = Path(path).read_bytes()
    started = time.perf_counter_ns()
    for _ in range(int(count)):
        words = judge(client, message)
    took = time.perf_counter_ns() - started
    print(*words, "-", took, flush=True)
