"""SPF as pyspf sees it."""

import spf

import asking


def lookup(name, qtype, strict=True, timeout=None):
    """Stands in for the DNS of pyspf: the answer is the one its own drivers give."""
    try:
        records = asking.ask(str(name), qtype)
    except asking.Failed as error:
        raise spf.TempError("DNS " + str(error)) from error
    if qtype == "TXT":
        return [((name, qtype), (text.encode("latin-1"),)) for text in records]
    if qtype == "MX":
        return [((name, qtype), (preference, host)) for preference, host in records]
    return [((name, qtype), record) for record in records]


def judge(case):
    """Result and reason of one evaluation."""
    query = spf.query(i=case["ip"], s=case["mail_from"], h=case["helo"], receiver=case["receiver"])
    result, _, explanation = query.check()
    return result, explanation


spf.DNSLookup = lookup
asking.serve("pyspf", judge)
