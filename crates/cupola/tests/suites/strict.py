"""A strict reader of HTTP/1 messages, written only for these suites: what it cannot read, two servers could read in two ways."""

import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])")
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
HOST = re.compile(rb"[0-9A-Za-z._~%!$&'()*+;=\-]+(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?")
# Headers that an application may treat as the same: CGI and WSGI map `-` and `_` to one character.
FRAMING_TWINS = {b"content-length", b"transfer-encoding"}


class Malformed(Exception):
    """The error of bytes about which two readers could disagree."""


class Incomplete(Exception):
    """The error of bytes that are well-formed so far, but not complete."""


@dataclass
class Message:
    start: tuple
    headers: list
    body: bytes = b""
    trailers: list = field(default_factory=list)

    @property
    def target(self):
        return self.start[1].decode("latin-1")

    @property
    def status(self):
        return self.start[0]

    def all(self, name):
        name = name.lower().encode()
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name):
        values = self.all(name)
        return values[0].decode("latin-1") if values else None

    def names(self):
        return [key.decode("latin-1") for key, _ in self.headers]


def line(data, at):
    end = data.find(b"\n", at)
    if end < 0:
        if b"\r" in data[at:-1]:
            raise Malformed("a bare CR")
        raise Incomplete
    text = data[at:end]
    if not text.endswith(b"\r"):
        raise Malformed(f"a bare LF after {text[-40:]!r}")
    if b"\r" in text[:-1]:
        raise Malformed(f"a bare CR in {text[:60]!r}")
    return text[:-1], end + 1


def fields(data, at):
    found = []
    while True:
        text, at = line(data, at)
        if not text:
            return found, at
        match = FIELD.fullmatch(text)
        if not match:
            raise Malformed(f"header line {text[:80]!r}")
        found.append((match[1], match[2]))


def values(headers, name):
    return [value for key, value in headers if key.lower() == name]


def length_of(headers):
    """Returns Content-Length as a number, `chunked`, or None. Refuses what two readers might understand differently."""
    for key, value in headers:
        twin = key.lower().replace(b"_", b"-")
        if twin in FRAMING_TWINS and twin != key.lower():
            raise Malformed(f"{key!r} looks like a framing header")
    lengths, codings = values(headers, b"content-length"), values(headers, b"transfer-encoding")
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        raise Malformed(f"framed more than once: {lengths} {codings}")
    if codings:
        if codings[0].lower() != b"chunked":
            raise Malformed(f"Transfer-Encoding {codings[0]!r}")
        return "chunked"
    if lengths:
        if not re.fullmatch(rb"0|[1-9][0-9]{0,17}", lengths[0]):
            raise Malformed(f"Content-Length {lengths[0]!r}")
        return int(lengths[0])
    return None


def chunked(data, at):
    body = b""
    while True:
        text, at = line(data, at)
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", text):
            raise Malformed(f"chunk size {text[:60]!r}")
        size = int(text, 16)
        if size == 0:
            trailers, at = fields(data, at)
            return body, trailers, at
        if len(data) < at + size:
            raise Incomplete
        body += data[at : at + size]
        at += size
        if data[at : at + 2] != b"\r\n":
            if b"\r\n".startswith(data[at : at + 2]):
                raise Incomplete
            raise Malformed("no CRLF after a chunk")
        at += 2


def request(data, at=0):
    """Parses one request from `at` on. Returns (message, where the next begins)."""
    text, at = line(data, at)
    match = REQUEST_LINE.fullmatch(text)
    if not match:
        raise Malformed(f"request line {text[:80]!r}")
    headers, at = fields(data, at)
    message = Message((match[1].decode(), match[2], match[3].decode()), headers)
    hosts = values(headers, b"host")
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        raise Malformed(f"Host {hosts}")
    length = length_of(headers)
    if length == "chunked":
        if match[3] != b"HTTP/1.1":
            raise Malformed("chunked in HTTP/1.0")
        message.body, message.trailers, at = chunked(data, at)
    elif length:
        if len(data) < at + length:
            raise Incomplete
        message.body = data[at : at + length]
        at += length
    return message, at


def requests(data):
    """Parses all requests of a connection: (complete ones, "clean" | "incomplete" | why it is ambiguous, start of the rest)."""
    found, at = [], 0
    while at < len(data):
        try:
            message, at = request(data, at)
        except Incomplete:
            return found, "incomplete", at
        except Malformed as why:
            return found, str(why), at
        found.append(message)
    return found, "clean", at


def response(data, at=0, method="GET", eof=False):
    """Parses one response from `at` on. A body without length ends at `eof`."""
    text, at = line(data, at)
    match = STATUS_LINE.fullmatch(text)
    if not match:
        raise Malformed(f"status line {text[:80]!r}")
    headers, at = fields(data, at)
    status = int(match[1])
    message = Message((status,), headers)
    if status < 200 or status in (204, 304) or method == "HEAD":
        return message, at
    length = length_of(headers)
    if length == "chunked":
        message.body, message.trailers, at = chunked(data, at)
    elif length is not None:
        if len(data) < at + length:
            raise Incomplete
        message.body = data[at : at + length]
        at += length
    else:
        message.body, at = data[at:], len(data)
        if not eof:
            raise Incomplete
    return message, at
