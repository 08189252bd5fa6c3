"""Lists smuggling cases over HTTP/2, where the request becomes HTTP/1 on its way to the backend."""

from case import FORWARDED, REFUSED, SAFE, Case, absent
from h2wire import CONTINUATION, DATA, END_HEADERS, END_STREAM, block, frame, headers, request

EVIL = "x\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: $H\r\n\r\n"


def whole(pairs, *data, trailers=None):
    """Returns one request on stream 1: `pairs` with `$H` for the host, then DATA frames, perhaps trailers."""

    def build(host):
        def real(text):
            return text.replace("$H", host).encode("latin-1")

        fields = [(real(name), real(value)) for name, value in pairs]
        out = headers(1, fields, END_HEADERS | (0 if data or trailers else END_STREAM))
        for n, part in enumerate(data):
            last = n == len(data) - 1 and trailers is None
            out += frame(DATA, END_STREAM if last else 0, 1, real(part))
        if trailers is not None:
            out += headers(1, [(real(name), real(value)) for name, value in trailers])
        return out

    return build


def asks(*more, **parts):
    return request("$H", more=more, **parts)


def posts(*more):
    return asks(*more, method="POST")


M, S, A, P = (":method", "GET"), (":scheme", "https"), (":authority", "$H"), (":path", "/case")


def row(name, pairs, must, *data, trailers=None, **more):
    return Case(name, whole(pairs, *data, trailers=trailers), must, **more)


def split_block(host):
    """Returns a header block that is split into CONTINUATION frames inside a value."""
    data = block(request(host, more=[("x-a", "b" * 50)]))
    return frame(1, END_STREAM, 1, data[:20]) + frame(CONTINUATION, 0, 1, data[20:40]) + frame(CONTINUATION, END_HEADERS, 1, data[40:])


VALUES = [
    row("a plain GET", asks(), FORWARDED),
    row("CRLF and a header in a value", asks(("x-a", "b\r\nX-Evil: c")), REFUSED),
    row("CRLF and a request in a value", asks(("x-a", EVIL)), REFUSED),
    row("LF in a value", asks(("x-a", "b\nX-Evil: c")), REFUSED),
    row("CR in a value", asks(("x-a", "b\rX-Evil: c")), REFUSED),
    row("NUL in a value", asks(("x-a", "b\x00c")), REFUSED),
    row("a value that begins with a space", asks(("x-a", " b")), SAFE),
    row("a value that ends with a tab", asks(("x-a", "b\t")), SAFE),
    row("a control character in a value", asks(("x-a", "b\x01c")), REFUSED),
    row("CRLF in a name", asks(("x-a\r\nx-evil", "b")), REFUSED),
    row("a colon in a name", asks(("x-a: b\r\nx", "c")), REFUSED),
    row("a colon alone in a name", asks(("x:a", "b")), REFUSED),
    row("NUL in a name", asks(("x\x00a", "b")), REFUSED),
    row("a space in a name", asks(("x a", "b")), REFUSED),
    row("a space at a name's end", asks(("transfer-encoding ", "chunked")), REFUSED),
    row("an empty name", asks(("", "b")), REFUSED),
    row("upper case in a name", asks(("X-A", "b")), REFUSED),
    row("non-ASCII in a name", asks(("x-\xe9", "b")), REFUSED),
    row(
        "a cookie in three pieces",
        asks(("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")),
        FORWARDED,
        check=lambda m: None if m.all("cookie") == [b"a=1; b=2; c=3"] else f"cookies {m.all('cookie')}",
    ),
    row("CRLF in a cookie", asks(("cookie", "a=1\r\nX-Evil: c")), REFUSED),
    Case("a head over CONTINUATION frames", split_block, FORWARDED),
]

PSEUDO = [
    row(":path with a space", asks(path="/case HTTP/1.1"), REFUSED),
    row(":path with CRLF", asks(path="/case HTTP/1.1\r\nX-Evil: b\r\nX: "), REFUSED),
    row(":path with a request", asks(path="/case HTTP/1.1\r\nHost: $H\r\n\r\nGET /smuggled"), REFUSED),
    row(":path with a tab", asks(path="/ca\tse"), REFUSED),
    row(":path with NUL", asks(path="/ca\x00se"), REFUSED),
    row(":path empty", asks(path=""), REFUSED),
    row(":path without a slash", asks(path="case"), REFUSED),
    row(":path is a URL", asks(path="http://other.test/case"), REFUSED),
    row(":path *", asks(path="*"), REFUSED),
    row(":path with a fragment", asks(path="/case#x"), SAFE),
    row(":method with a space", asks(method="GET /smuggled HTTP/1.1\r\nX: y\r\n\r\nGET"), REFUSED),
    row(":method with CRLF", asks(method="GET\r\n"), REFUSED),
    row(":method empty", asks(method=""), REFUSED),
    row(":method CONNECT with a path", asks(method="CONNECT"), REFUSED),
    row(":scheme with CRLF", asks(scheme="https\r\nX-Evil: b"), REFUSED),
    row(":scheme that is a URL", asks(scheme="https://other.test/?"), REFUSED),
    row(":authority with CRLF", [M, S, (":authority", "$H\r\nX-Evil: b"), P], REFUSED),
    row(":authority with a space", [M, S, (":authority", "$H x"), P], REFUSED),
    row(":authority with userinfo", [M, S, (":authority", "user@$H"), P], REFUSED),
    row(":authority with a slash", [M, S, (":authority", "$H/smuggled"), P], REFUSED),
    row(":authority empty", [M, S, (":authority", ""), P], REFUSED),
    row("no :authority, but host", [M, S, P, ("host", "$H")], SAFE),
    row("neither :authority nor host", [M, S, P], REFUSED),
    row("host equals :authority", asks(("host", "$H")), SAFE),
    row("host differs from :authority", asks(("host", "other.test")), SAFE, check=lambda m: "Host: other.test" if m.get("host") == "other.test" else None),
    row("host with CRLF", asks(("host", "$H\r\nX-Evil: b")), REFUSED),
    row("two hosts", [M, S, P, ("host", "$H"), ("host", "other.test")], REFUSED),
    row("two :path", [M, S, A, P, (":path", "/smuggled")], REFUSED),
    row("two :method", [M, M, S, A, P], REFUSED),
    row("two :scheme", [M, S, S, A, P], REFUSED),
    row("two :authority", [M, S, A, (":authority", "other.test"), P], REFUSED),
    row("no :path", [M, S, A], REFUSED),
    row("no :method", [S, A, P], REFUSED),
    row("no :scheme", [M, A, P], REFUSED),
    row("an unknown pseudo header", [M, S, A, P, (":evil", "x")], REFUSED),
    row(":status in a request", [M, S, A, P, (":status", "200")], REFUSED),
    row("a pseudo header after a regular one", [M, S, A, ("x-a", "b"), P], REFUSED),
]

FRAMING = [
    row("a POST with its length", posts(("content-length", "5")), FORWARDED, "hello", body=b"hello"),
    row("a POST without a length", posts(), FORWARDED, "hello", body=b"hello"),
    row("a length in two DATA frames", posts(("content-length", "5")), FORWARDED, "he", "llo", body=b"hello"),
    row("a length that is too small", posts(("content-length", "1")), REFUSED, "x" + EVIL),
    row("a length of 0 with data", posts(("content-length", "0")), SAFE, EVIL, body=b""),
    row("a length that is too large", posts(("content-length", "50")), REFUSED, "hello"),
    row("a length without DATA", posts(("content-length", "5")), REFUSED),
    row("a length and an empty DATA", posts(("content-length", "5")), REFUSED, ""),
    row("two lengths, different", posts(("content-length", "5"), ("content-length", "6")), REFUSED, "hello"),
    row("two lengths, equal", posts(("content-length", "5"), ("content-length", "5")), SAFE, "hello", body=b"hello"),
    row("a list of lengths", posts(("content-length", "5, 6")), REFUSED, "hello"),
    row("a signed length", posts(("content-length", "+5")), REFUSED, "hello"),
    row("a hexadecimal length", posts(("content-length", "0x5")), REFUSED, "hello"),
    row("a length with CRLF", posts(("content-length", "5\r\nX-Evil: b")), REFUSED, "hello"),
    row("a length of 2^64+5", posts(("content-length", "18446744073709551621")), REFUSED, "hello"),
    row("an empty length", posts(("content-length", "")), REFUSED, "hello"),
    row("content_length", posts(("content_length", "50")), SAFE, "hello", body=b"hello"),
    row("transfer-encoding: chunked", posts(("transfer-encoding", "chunked")), REFUSED, "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: $H\r\n\r\n"),
    row("transfer-encoding: identity", posts(("transfer-encoding", "identity")), REFUSED, "hello"),
    row("transfer-encoding on a GET", asks(("transfer-encoding", "chunked")), REFUSED),
    row("transfer-encoding by CRLF in a value", posts(("x-a", "b\r\nTransfer-Encoding: chunked")), REFUSED, "0\r\n\r\n"),
    row("transfer-encoding by CRLF in a name", posts(("x-a: b\r\ntransfer-encoding", "chunked")), REFUSED, "0\r\n\r\n"),
    row("transfer_encoding", posts(("transfer_encoding", "chunked")), SAFE, "hello", body=b"hello"),
    row("connection: close", asks(("connection", "close")), REFUSED),
    row("connection: x-forwarded-for", asks(("connection", "x-forwarded-for")), REFUSED),
    row("keep-alive", asks(("keep-alive", "timeout=5")), REFUSED),
    row("proxy-connection", asks(("proxy-connection", "close")), REFUSED),
    row("upgrade", asks(("upgrade", "h2c")), REFUSED),
    row("upgrade and http2-settings", asks(("upgrade", "h2c"), ("http2-settings", "AAMAAABk")), REFUSED),
    row("te: trailers", asks(("te", "trailers")), FORWARDED),
    row("te: gzip", asks(("te", "gzip")), REFUSED),
    row("te: trailers, gzip", asks(("te", "trailers, gzip")), REFUSED),
    row("expect: 100-continue with a body", posts(("expect", "100-continue"), ("content-length", "5")), SAFE, "hello", body=b"hello"),
    row(
        "a body that looks like chunks",
        posts(),
        FORWARDED,
        "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: $H\r\n\r\n",
        check=lambda m: None if m.body.startswith(b"0\r\n\r\nGET") else "the body was changed",
    ),
    row("a body on a GET", asks(), SAFE, "hello", body=b"hello"),
    row("a body on a HEAD", asks(method="HEAD"), SAFE, "hello", body=b"hello"),
    row("trailers", posts(), SAFE, "hello", trailers=[("x-sum", "1")], body=b"hello"),
    row("trailers with CRLF", posts(), REFUSED, "hello", trailers=[("x-sum", "1\r\n\r\nGET /smuggled HTTP/1.1")]),
    row(
        "trailers with a pseudo header",
        posts(),
        SAFE,
        "hello",
        trailers=[(":path", "/smuggled")],
        body=b"hello",
        check=lambda m: f"the backend got trailers {m.trailers}" if m.trailers else None,
    ),
    row(
        "trailers with content-length",
        posts(),
        SAFE,
        "hello",
        trailers=[("content-length", "50")],
        body=b"hello",
        check=lambda m: "framing in the trailers" if any(k.lower() == b"content-length" for k, _ in m.trailers) else None,
    ),
    row("trailers with transfer-encoding", posts(), REFUSED, "hello", trailers=[("transfer-encoding", "chunked")]),
    row("trailers in upper case", posts(), REFUSED, "hello", trailers=[("X-Sum", "1")]),
    row("x_forwarded_for", asks(("x_forwarded_for", "6.6.6.6")), SAFE, check=absent("x_forwarded_for")),
]

CASES = [("h2 values", VALUES), ("h2 pseudo headers", PSEUDO), ("h2 framing", FRAMING)]
