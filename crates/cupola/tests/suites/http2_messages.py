"""HTTP/2 conformance: RFC 9113 sections 5.2 and 8, RFC 7541, RFC 8441."""

import hpack

from h2case import CLOSED, COMPRESSION, FLOW, HOST, PROTOCOL, Alive, Answered, Case, Connection, Either, OnStream, ask, fields, opened
from h2wire import DATA, END_HEADERS, END_STREAM, HEADERS, block, frame, headers, integer, literal, request, rst, settings, text, window

QUIET = 0.25  # seconds without a byte that may come


def gets(client, number, exactly):
    """Checks that the stream receives exactly this number of bytes of body and no more."""
    client.until(lambda: len(client.stream(number).body) >= exactly, 20)
    client.until(lambda: len(client.stream(number).body) > exactly, QUIET)
    got = len(client.stream(number).body)
    return None if got == exactly else f"{got} bytes of body where the window allows {exactly}"


def small_window(client):
    client.auto = False
    client.send(settings((4, 10)) + ask(1, "/big/1000"))
    problem = gets(client, 1, 10)
    for step, total in ((1, 11), (100, 111), (889, 1000)):
        client.send(window(1, step))
        problem = problem or gets(client, 1, total)
    return problem or (None if client.until(lambda: client.stream(1).ended) else "no end")


def zero_window(client):
    client.auto = False
    client.send(settings((4, 0)) + ask(1, "/big/1000"))
    if not client.until(lambda: client.stream(1).headers):
        return "no HEADERS while the window is 0"
    problem = gets(client, 1, 0)
    client.send(window(1, 1))
    problem = problem or gets(client, 1, 1)
    client.send(window(1, 999))
    return problem or gets(client, 1, 1000)


def window_by_settings(client):
    client.auto = False
    client.send(settings((4, 100)) + ask(1, "/big/1000"))
    problem = gets(client, 1, 100)
    client.send(settings((4, 250)))
    return problem or gets(client, 1, 250)


def negative_window(client):
    client.auto = False
    client.send(settings((4, 100)) + ask(1, "/big/1000"))
    problem = gets(client, 1, 100)
    client.send(settings((4, 50)) + window(1, 50))
    problem = problem or gets(client, 1, 100)
    client.send(window(1, 1))
    problem = problem or gets(client, 1, 101)
    client.send(window(1, 899))
    return problem or gets(client, 1, 1000)


def last_setting_wins(client):
    client.auto = False
    client.send(settings((4, 0), (4, 100)) + ask(1, "/big/1000"))
    return gets(client, 1, 100)


def connection_window(client):
    client.auto = False
    client.send(settings((4, 1 << 20)) + ask(1, "/big/200000"))
    problem = gets(client, 1, 65535)
    client.send(window(0, 1000))
    problem = problem or gets(client, 1, 66535)
    client.send(ask(3, "/big/10"))
    problem = problem or (None if not client.until(lambda: client.stream(3).body, QUIET) else "another stream ignored the connection's window")
    client.send(window(0, 1 << 20))
    problem = problem or gets(client, 1, 200000)
    return problem or (None if client.until(lambda: client.stream(3).ended) else "the other stream starved")


def frame_sizes(client):
    client.send(ask(1, "/big/200000"))
    client.until(lambda: client.over(1), 20)
    largest = max((len(f.payload) for f in client.frames), default=0)
    return None if 0 < largest <= 16384 and len(client.stream(1).body) == 200000 else f"largest frame {largest}, body {len(client.stream(1).body)}"


def upload(client, number, total, path="/echo", pad=0):
    """Sends `total` bytes within the server's windows."""
    client.until(lambda: client.settings or client.frames)
    client.send(opened(number, path))
    sent = 0
    while sent < total:
        ours = {key: client.settings.get(4, 65535) if key else 65535 for key in (0, number)}
        for got in client.frames:
            if got.kind == 8 and got.stream in ours:
                ours[got.stream] += int.from_bytes(got.payload, "big")
        room = min(ours.values()) - sent - pad
        size = min(16000, total - sent, room)
        if size > 0:
            sent += size
            client.send(frame(DATA, END_STREAM if sent == total else 0, number, bytes(size)))
        elif not client.read(20):
            return f"the window stayed shut after {sent} of {total} bytes: {client.frames[-3:]}"
        if client.goaway or client.over(number):
            break
    return None


def overrun(client):
    """Sends to a backend that reads nothing: when no more credit arrives, it sends one byte more than the windows allow."""
    client.until(lambda: client.settings or client.frames)
    client.send(opened(1, "/deaf/"))
    sent = 0
    while sent < 64 << 20:
        rooms = []
        for key in (0, 1):
            credit = client.settings.get(4, 65535) if key else 65535
            credit += sum(int.from_bytes(f.payload, "big") for f in client.frames if f.kind == 8 and f.stream == key)
            rooms.append(credit - sent)
        size = min(16384, *rooms)
        if size > 0:
            client.send(frame(DATA, 0, 1, bytes(size)))
            sent += size
        elif not client.read(5):  # a router that stands still gives no credit either, so this is long
            client.send(frame(DATA, 0, 1, b"x"))
            return None
    return "64 MB were taken for a backend that reads nothing"


FLOWS = [
    Case("5.2", "a window of 10 bytes", small_window, Alive()),
    Case("5.2", "a window of 0 bytes", zero_window, Alive()),
    Case("6.9.2", "SETTINGS widen a window", window_by_settings, Alive()),
    Case("6.9.2", "SETTINGS make a window negative", negative_window, Alive()),
    Case("6.5.3", "the last of equal settings wins", last_setting_wins, Alive()),
    Case("6.9.1", "the connection's window", connection_window, Alive()),
    Case("4.2", "frames are no larger than allowed", frame_sizes, Alive()),
    Case(
        "5.2",
        "an upload of 1 MB within the windows",
        lambda c: upload(c, 1, 1 << 20),
        Answered(then=lambda c: None if b"body=1048576;" in c.stream(1).body else f"{c.stream(1).body}"),
    ),
    Case("5.2", "a response of 4 MB", ask(1, "/big/4194304"), Answered(then=lambda c: None if len(c.stream(1).body) == 4194304 else "short")),
    Case("5.2", "more than the window allows", overrun, OnStream(FLOW, connection=True)),
    Case("6.9", "increment 0 for the connection", window(0, 0), Connection(PROTOCOL)),
    Case("6.9", "increment 0 for a stream", opened(1, "/slow") + window(1, 0), OnStream(PROTOCOL, connection=True)),
    Case("6.9.1", "overflow of the connection's window", window(0, (1 << 31) - 1) + window(0, (1 << 31) - 1), Connection(FLOW)),
    Case("6.9.1", "overflow of a stream's window", opened(1, "/slow") + window(1, (1 << 31) - 1) + window(1, 1), OnStream(FLOW, connection=True)),
    Case("6.9.2", "overflow by SETTINGS", opened(1, "/slow") + window(1, (1 << 31) - 1 - 65535) + settings((4, 65536)), Connection(FLOW)),
    Case("6.9", "empty DATA needs no window", opened() + frame(DATA, 0, 1) + frame(DATA, END_STREAM, 1), Answered()),
]


def pairs(*more, drop=None):
    return [pair for pair in request(HOST) if pair[0] != drop] + list(more)


def malformed(name, fields_, section="8.2"):
    return Case(section, name, headers(1, fields_), OnStream(PROTOCOL, answer=True))


def post(name, expect, *frames, more=()):
    return Case("8.1.1", name, opened(1, "/echo", more) + b"".join(frames), expect)


def data(payload, end=True):
    return frame(DATA, END_STREAM if end else 0, 1, payload)


BAD = OnStream(PROTOCOL, answer=True)
MALFORMED = [
    malformed("an upper-case name", pairs(("X-A", "b")), "8.2.1"),
    malformed("a space in a name", pairs(("x a", "b")), "8.2.1"),
    malformed("a colon in a name", pairs(("x:a", "b")), "8.2.1"),
    malformed("a control character in a name", pairs(("x\x01a", "b")), "8.2.1"),
    malformed("0x80 in a name", pairs((b"x\x80a", "b")), "8.2.1"),
    malformed("an empty name", pairs(("", "b")), "8.2.1"),
    malformed("NUL in a value", pairs(("x-a", "b\0")), "8.2.1"),
    malformed("LF in a value", pairs(("x-a", "b\n")), "8.2.1"),
    malformed("CR in a value", pairs(("x-a", "\rb")), "8.2.1"),
    malformed("connection", pairs(("connection", "close")), "8.2.2"),
    malformed("keep-alive", pairs(("keep-alive", "1")), "8.2.2"),
    malformed("proxy-connection", pairs(("proxy-connection", "close")), "8.2.2"),
    malformed("transfer-encoding", pairs(("transfer-encoding", "chunked")), "8.2.2"),
    malformed("upgrade", pairs(("upgrade", "websocket")), "8.2.2"),
    malformed("te: gzip", pairs(("te", "gzip")), "8.2.2"),
    Case("8.2.2", "te: trailers", headers(1, pairs(("te", "trailers"))), Answered()),
    malformed("an unknown pseudo header", pairs((":x", "y")), "8.3"),
    malformed(":status", pairs((":status", "200")), "8.3"),
    malformed("a pseudo header after a regular one", [("x-a", "b"), *pairs()], "8.3"),
    malformed("no :method", pairs(drop=":method"), "8.3.1"),
    malformed("no :scheme", pairs(drop=":scheme"), "8.3.1"),
    malformed("no :path", pairs(drop=":path"), "8.3.1"),
    malformed("two :method", pairs((":method", "GET")), "8.3.1"),
    malformed("two :scheme", pairs((":scheme", "https")), "8.3.1"),
    malformed("two :path", pairs((":path", "/")), "8.3.1"),
    malformed("two :authority", pairs((":authority", HOST)), "8.3.1"),
    malformed("an empty :path", request(HOST, ""), "8.3.1"),
    malformed("CONNECT with :path", request(HOST, "/x", "CONNECT"), "8.5"),
    Case(
        "8.5", "CONNECT is not for a reverse proxy", headers(1, [(":method", "CONNECT"), (":authority", HOST)]), OnStream(PROTOCOL, "REFUSED_STREAM", "CONNECT_ERROR", answer=True)
    ),
    malformed(":protocol without CONNECT", pairs((":protocol", "websocket")), "8441"),
    malformed("extended CONNECT without :scheme", [(":method", "CONNECT"), (":authority", HOST), (":path", "/"), (":protocol", "websocket")], "8441"),
    malformed("extended CONNECT without :path", [(":method", "CONNECT"), (":authority", HOST), (":scheme", "https"), (":protocol", "websocket")], "8441"),
    malformed("an empty :protocol", [(":method", "CONNECT"), (":authority", HOST), (":scheme", "https"), (":path", "/"), (":protocol", "")], "8441"),
    malformed("a :protocol with CRLF", [(":method", "CONNECT"), (":authority", HOST), (":scheme", "https"), (":path", "/"), (":protocol", "x\r\ny: z")], "8441"),
    post("content-length larger than the body", BAD, data(b"hello"), more=[("content-length", "6")]),
    post("content-length smaller than the body", BAD, data(b"hello"), more=[("content-length", "4")]),
    post("content-length over several DATA frames too small", BAD, data(b"he", False), data(b"llo"), more=[("content-length", "4")]),
    post("content-length 0 with a body", BAD, data(b"hello"), more=[("content-length", "0")]),
    post("content-length that is no number", BAD, data(b"hello"), more=[("content-length", "five")]),
    post("two different content-lengths", BAD, data(b"hello"), more=[("content-length", "5"), ("content-length", "6")]),
    Case("8.1.1", "content-length without a body", headers(1, request(HOST, "/echo", "POST", more=[("content-length", "5")])), BAD),
    Case("8.1", "trailers", opened() + data(b"hello", False) + headers(1, [("x-sum", "1")]), Answered()),
    Case("8.1", "trailers without END_STREAM", opened() + data(b"hello", False) + headers(1, [("x-sum", "1")], END_HEADERS), OnStream(PROTOCOL, answer=True, connection=True)),
    Case("8.1", "trailers with a pseudo header", opened() + data(b"hello", False) + headers(1, [(":path", "/")]), OnStream(PROTOCOL, answer=True, connection=True)),
    Case("8.1", "trailers in upper case", opened() + data(b"hello", False) + headers(1, [("X-Sum", "1")]), OnStream(PROTOCOL, answer=True)),
    Case("8.1", "DATA after trailers", opened(1, "/slow") + headers(1, [("x-sum", "1")]) + data(b"x"), OnStream(CLOSED, connection=True)),
    Case("8.1", "two blocks of trailers", opened(1, "/slow") + headers(1, [("x-sum", "1")]) + headers(1, [("x-sum", "1")]), OnStream(CLOSED, PROTOCOL, connection=True)),
]


def names(client):
    return {name for name, _ in client.stream(1).headers}


def no_hop_by_hop(client):
    bad = names(client) & {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"}
    return f"the response has {bad}" if bad else None


def early_response(client):
    client.send(opened(1, "/early") + frame(DATA, 0, 1, bytes(1000)))
    if not client.until(lambda: client.stream(1).ended, 20):
        return f"the response did not come before the upload's end: {client.frames[-3:]}"
    return None if client.stream(1).status == 413 else f"status {client.stream(1).status}"


def many_at_once(client):
    numbers = range(1, 101, 2)
    client.send(b"".join(ask(n, f"/{n}") for n in numbers))
    for n in numbers:
        client.until(lambda: client.over(n) or client.goaway, 20)
        if f"target=/{n} ".encode() not in client.stream(n).body:
            return f"stream {n} got {client.stream(n).body!r} {client.stream(n).reset}"
    return None


def no_blocking(client):
    client.send(ask(1, "/slow/5") + ask(3))
    client.until(lambda: client.over(3), 20)
    return "a slow stream blocks another" if client.over(1) or not client.over(3) else None


RESPONSES = [
    Case("8.1", "HEAD has no body", ask(1, "/echo", "HEAD"), Answered(then=lambda c: None if not c.stream(1).body else "a body")),
    Case("8.1", "204 ends with its head", ask(1, "/status/204"), Answered(status=204, then=lambda c: None if not c.stream(1).body else "a body")),
    Case("8.1", "304 ends with its head", ask(1, "/status/304"), Answered(status=304)),
    Case("8.2.2", "hop-by-hop headers of a response end here", ask(1, "/hop"), Answered(then=no_hop_by_hop)),
    Case("8.2.1", "names of a response are in lower case", ask(1, "/hop"), Answered(then=lambda c: None if all(n == n.lower() for n in names(c)) else f"{names(c)}")),
    Case(
        "8.1",
        "trailers of a response",
        ask(1, "/trailers", more=[("te", "trailers")]),
        Answered(then=lambda c: None if ("x-sum", "1") in (c.stream(1).trailers or []) else f"trailers {c.stream(1).trailers}"),
    ),
    Case(
        "8.1",
        "103 passes",
        ask(1, "/hints"),
        Answered(then=lambda c: None if [dict(h)[":status"] for h in c.stream(1).informational] == ["103"] else f"{c.stream(1).informational}"),
    ),
    Case("8.6", "101 does not", ask(1, "/switch"), Answered(status=502)),
    Case("8.1", "a response before the upload's end", early_response, Alive()),
    Case("8.1", "a backend that breaks off resets the stream", ask(1, "/cut"), OnStream("INTERNAL_ERROR", PROTOCOL, "CANCEL")),
    Case("5.1", "fifty streams at once", many_at_once, Alive()),
    Case("5", "a slow stream does not block another", no_blocking, Alive()),
    Case("8.7", "a reset request leaves the connection alone", ask(1, "/slow") + rst(1), Alive()),
    Case("8.3", "an absent route is answered 404", headers(1, request("absent.lab.test")), Answered(status=404)),
    Case(
        "10.5.1",
        "a head of 2 MB",
        lambda c: big_head(c, 2 << 20),
        Either(Answered(status=431), OnStream(PROTOCOL, "REFUSED_STREAM", "ENHANCE_YOUR_CALM", answer=True), Connection("ENHANCE_YOUR_CALM", PROTOCOL, COMPRESSION)),
    ),
    Case("10.5.1", "a head of 12 kB", lambda c: big_head(c, 12 << 10), Answered()),
]


def big_head(client, size):
    whole = fields(more=[(f"x-{n}", "v" * 1000) for n in range(size // 1000)])
    parts = [whole[at : at + 16384] for at in range(0, len(whole), 16384)]
    out = b""
    for n, part in enumerate(parts):
        flags = END_HEADERS if n == len(parts) - 1 else 0
        out += frame(HEADERS, flags | END_STREAM, 1, part) if n == 0 else frame(9, flags, 1, part)
    client.send(out)


def coded(name, payload, expect, section="7541"):
    return Case(section, name, headers(1, payload), expect)


def huffman(data_):
    """Returns a literal with a Huffman string of exactly these bytes as its value."""
    return b"\x00" + text("x-a") + bytes([0x80 | len(data_)]) + data_


def twice(first, second, expect):
    def act(client):
        client.send(headers(1, first))
        client.until(lambda: client.over(1) or client.goaway)
        client.send(headers(3, second))

    return act, expect


INDEXED = b"\x40" + text("x-mine") + text("v" * 50)  # a literal that goes into the table
ILLEGAL = b"\x40" + text("X-A") + text("v" * 50)
ILLEGAL_VALUE = b"\x40" + text("x-mine") + text("v\n")
ILLEGAL_LARGE = b"\x40" + text("X-B") + text("v" * (4096 - 32 - 3 - len("x-mine") - 50 - 32))  # just beside INDEXED
DYNAMIC = b"\xbe"  # index 62, the newest entry
BOMB = Connection(COMPRESSION)
SEEN = Answered(3, then=lambda c: None if b"mine=" + b"v" * 50 in c.stream(3).body else f"{c.stream(3).body}")
ENCODED = hpack.Encoder().encode([(n, v) for n, v in request(HOST)], huffman=True)
HPACK = [
    coded("a whole request in Huffman code", ENCODED, Answered()),
    coded("index 0", b"\x80" + fields(), BOMB),
    coded("an index beyond the tables", fields() + b"\xff\x00", BOMB),
    coded("index 62 of an empty table", fields() + DYNAMIC, BOMB),
    coded("a name's index beyond the tables", fields() + b"\x7f\x20" + text("v"), BOMB),
    coded("a huge index", fields() + integer(1 << 31, 7, 0x80), BOMB),
    coded("an integer without an end", fields() + b"\xff" + b"\xff" * 20, BOMB),
    coded("an integer cut off", fields() + b"\xff", BOMB),
    coded("a literal cut off", fields() + b"\x00" + text("x-a"), BOMB),
    coded("a string longer than the block", fields() + b"\x00" + text("x-a") + b"\x7f\x00" + b"short", BOMB),
    coded("a literal never indexed", fields() + b"\x10" + text("x-a") + text("b"), Answered()),
    coded("a name from the static table", fields() + b"\x0f\x2b" + text("agent"), Answered()),
    coded("Huffman: padding of 11 bits", fields() + huffman(b"\x1f\xff"), BOMB),
    coded("Huffman: padding of zeros", fields() + huffman(b"\x18"), BOMB),
    coded("Huffman: EOS", fields() + huffman(b"\xff\xff\xff\xff"), BOMB),
    coded("Huffman: padding of 3 bits", fields() + huffman(b"\x1f"), Answered()),
    coded("a table size of 0 at the beginning", b"\x20" + fields(), Answered()),
    coded("a table size of 0, then of 4096", b"\x20" + integer(4096, 5, 0x20) + fields(), Answered()),
    coded("a table size above the limit", integer(1 << 20, 5, 0x20) + fields(), BOMB),
    coded("a table size at the end", fields() + b"\x20", BOMB),
    coded("a table size in the middle", fields()[: len(literal(":method", "GET"))] + b"\x20" + fields()[len(literal(":method", "GET")) :], BOMB),
    Case("7541", "an entry of the table is found again", *twice(fields() + INDEXED, fields() + DYNAMIC, SEEN)),
    Case("7541", "size 0 empties the table", *twice(fields() + INDEXED, b"\x20" + fields() + DYNAMIC, BOMB)),
    Case("7541", "an entry larger than the table empties it", *twice(fields() + INDEXED, fields() + b"\x40" + text("x-b") + text("v" * 4096) + DYNAMIC, BOMB)),
    Case("7541", "older entries are evicted", *twice(fields() + INDEXED, fields() + (b"\x40" + text("x-b") + text("v" * 1000)) * 4 + b"\xc2", BOMB)),
    Case("7541", "the table of a malformed request counts", *twice(block([("X-A", "b")]) + INDEXED, fields() + DYNAMIC, SEEN)),
    Case("7541", "an illegal entry of the table is illegal again", *twice(fields() + ILLEGAL, fields() + DYNAMIC, OnStream(PROTOCOL, stream=3, answer=True))),
    Case("7541", "the name of an illegal value may be used again", *twice(fields() + ILLEGAL_VALUE, fields() + b"\x7e" + text("v" * 50), SEEN)),
    Case("7541", "an illegal entry occupies the size that it declares", *twice(fields() + INDEXED + ILLEGAL_LARGE, fields() + b"\xbf", SEEN)),
    Case("7541", "an illegal entry evicts an older one", *twice(fields() + INDEXED + ILLEGAL_LARGE + ILLEGAL, fields() + b"\xc0", BOMB)),
    Case("7541", "an illegal value in Huffman code", headers(1, fields() + huffman(b"\xff\xff\xff\xf3")), OnStream(PROTOCOL, answer=True)),
    Case("7541", "a path that is no UTF-8", headers(1, block([(":method", "GET"), (":scheme", "https"), (":authority", HOST)]) + literal(":path", b"/\xff")), OnStream(PROTOCOL, answer=True)),
    Case("7541", "a method with a space", headers(1, request(HOST, method="G T")), OnStream(PROTOCOL, answer=True)),
    Case("7541", "HEADER_TABLE_SIZE 0 is respected", lambda c: no_table(c), Alive()),
]


def beside(name, *offence):
    """Checks that a malformed request on stream 3 ends only that stream: stream 1, which waits for its answer, gets it."""

    def act(client):
        client.send(ask(1, "/slow") + b"".join(offence))
        problem = OnStream(PROTOCOL, stream=3, answer=True).check(client)
        client.until(lambda: client.over(1))
        return problem

    return Case("8.1.1", f"beside another stream: {name}", act, Answered(1))


def in_pieces(stream, payload, size):
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    more = [frame(9, END_HEADERS if n == len(parts) - 2 else 0, stream, part) for n, part in enumerate(parts[1:])]
    return frame(HEADERS, END_STREAM, stream, parts[0]) + b"".join(more)


BESIDE = [
    beside("an upper-case name", headers(3, pairs(("X-A", "b")))),
    beside("LF in a value", headers(3, pairs(("x-a", "b\n")))),
    beside("an unknown pseudo header", headers(3, pairs((":x", "y")))),
    beside("LF in a value, in CONTINUATION", in_pieces(3, block(pairs(("x-a", "b\n"))), 20)),
    beside("LF in a value, with padding", frame(HEADERS, END_STREAM | END_HEADERS | 8, 3, b"\x05" + block(pairs(("x-a", "b\n"))) + bytes(5))),
    beside("a value of 20 kB with NUL", in_pieces(3, block(pairs(("x-a", "b" * 20000 + "\0"))), 16384)),
    beside("trailers with LF", opened(3) + frame(DATA, 0, 3, b"hello"), headers(3, [("x-sum", "1\n")])),
    beside("trailers with a pseudo header", opened(3) + frame(DATA, 0, 3, b"hello"), headers(3, [(":path", "/")])),
]


def no_table(client):
    client.decoder.max_allowed_table_size = 0
    client.decoder.header_table_size = 0
    for number in (1, 3, 5):
        client.send((settings((1, 0)) if number == 1 else b"") + ask(number))
        try:
            client.until(lambda: client.over(number) or client.goaway)
        except hpack.HPACKDecodingError as error:
            return f"the response cannot be decoded without a table: {error}"
    return None if all(client.stream(n).status == 200 for n in (1, 3, 5)) else f"{client.frames[-3:]}"


CASES = FLOWS + MALFORMED + RESPONSES + HPACK + BESIDE
