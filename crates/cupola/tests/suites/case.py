"""Defines what a smuggling case is, and the words in which the tables of cases are written."""

from dataclasses import dataclass
from typing import Callable, Optional

# The required outcome of a case. REFUSED: no request of the case reaches the backend as a whole. SAFE: it is refused, or
# forwarded as FORWARDED requires. FORWARDED: exactly the requests `targets` reach the backend, each framed canonically, and
# `body` is the body of the first one.
REFUSED, SAFE, FORWARDED = "refused", "safe", "forwarded"


@dataclass
class Case:
    name: str
    raw: object  # bytes for HTTP/1 (`$H` is the lane's host); for HTTP/2 a list of steps
    must: str
    body: Optional[bytes] = None
    targets: tuple = ("/case",)
    check: Optional[Callable] = None  # a forwarded message -> what is wrong with it
    waits: bool = False  # incomplete on purpose: no answer is due


# The request that must never reach a backend as a separate request. It has 54 bytes with a lane's host, which is why the tables
# contain 54.
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: $H\r\nX: y\r\n\r\n"
CHUNKS = "5\r\nhello\r\n0\r\n\r\n"


def get(lines="", target="/case", tail="", version="HTTP/1.1"):
    return f"GET {target} {version}\r\nHost: $H\r\n{lines}\r\n{tail}"


def post(lines, body=""):
    return f"POST /case HTTP/1.1\r\nHost: $H\r\n{lines}\r\n{body}"


def table(*rows):
    """Makes cases from rows (name, raw, must[, body or keyword arguments])."""
    cases = []
    for name, raw, must, *rest in rows:
        more = {}
        for item in rest:
            more.update(item if isinstance(item, dict) else {"body": item})
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw
        cases.append(Case(name, raw, must, **more))
    return cases


def absent(*names):
    """Returns a check that none of these header names reaches the backend."""

    def check(message):
        there = [name for name in message.names() if name.lower() in names]
        return f"the backend got {there}" if there else None

    return check


def present(*names):
    def check(message):
        missing = [name for name in names if message.get(name) is None]
        return f"the backend missed {missing}" if missing else None

    return check
