"""Speaks with the test kit over standard input and output, one JSON value a line.

The test kit sends a case; while it is judged, every DNS question goes out as {"ask": [name, type]} and is answered from
the zone of the case; the outcome goes out as {"result": word, "why": text}. So there is one reading of zone files, and
no question ever reaches a network.
"""

import json
import sys


class Failed(Exception):
    """The DNS did not answer: a time-out, SERVFAIL and the like."""


def send(value):
    """Writes one line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def receive():
    """The next line, or None at the end."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def ask(name, kind):
    """The records of a name, as texts; empty where there are none. Raises Failed where the DNS does."""
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    send({"ask": [name, kind]})
    answer = receive()
    if answer.get("failed"):
        raise Failed(answer["failed"])
    return answer["records"]


def serve(banner, judge):
    """Judges case after case until the input ends."""
    send({"ready": banner})
    while (case := receive()) is not None:
        try:
            result, why = judge(case)
        except Exception as error:  # a case over which the package falls is an outcome too
            result, why = "crash", f"{type(error).__name__}: {error}"
        send({"result": result, "why": why})
