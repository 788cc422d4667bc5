"""DKIM as dkimpy sees it, one signature at a time."""

import base64

import dkim

import asking


def text(name, timeout=None):
    """Stands in for the DNS of dkimpy: as its own drivers, the first TXT record, its strings joined."""
    try:
        records = asking.ask(name, "TXT")
    except asking.Failed as error:
        raise dkim.DnsTimeoutError(str(error)) from error
    return records[0].encode("latin-1") if records else None


class Notes:
    """Takes the place of a logger: keeps the last complaint, which is all that says why a signature failed."""

    def __init__(self):
        self.last = ""

    def debug(self, *_):
        """Nothing worth keeping."""

    def error(self, message, *_):
        """Keeps it."""
        self.last = str(message)


def judge(case):
    """The word for each signature from the top down, and the reason for each."""
    message = base64.b64decode(case["message"])
    results, reasons = [], []
    for index in range(case["signatures"]):
        notes = Notes()
        try:
            passed = dkim.DKIM(message, logger=notes, minkey=1024).verify(index, dnsfunc=text)
            word = "pass" if passed else "temperror" if "DnsTimeoutError" in notes.last else "fail"
            results.append(word)
            reasons.append(notes.last)
        except dkim.DKIMException as error:
            results.append("fail")
            reasons.append(f"{type(error).__name__}: {error}")
        except Exception as error:  # it falls over many malformed keys and signatures
            results.append("crash")
            reasons.append(f"{type(error).__name__}: {error}")
    return " ".join(results), "\n".join(reason.replace("\n", " ") for reason in reasons)


asking.serve("dkimpy", judge)
