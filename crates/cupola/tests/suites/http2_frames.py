"""HTTP/2 conformance, RFC 9113 sections 3 to 7: preface, frames, streams, settings."""

import struct

from h2case import CALM, CLOSED, COMPRESSION, FLOW, HOST, PROTOCOL, REFUSED_STREAM, SIZE, Alive, Answered, Case, Connection, Either, OnStream, That, ask, fields, opened
from h2wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIO,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    WINDOW,
    frame,
    goaway,
    headers,
    literal,
    ping,
    rst,
    settings,
    window,
)


def trickle(client):
    for byte in PREFACE + settings() + ask():
        client.send(bytes([byte]))


def first_is_settings(client):
    client.until(lambda: client.frames)
    got = client.frames[0] if client.frames else None
    return None if got and got.kind == SETTINGS and not got.flags & ACK else f"the first frame is {got}"


def settings_acked(client):
    client.until(lambda: any(f.kind == SETTINGS and f.flags & ACK for f in client.frames))
    acks = [f for f in client.frames if f.kind == SETTINGS and f.flags & ACK]
    return None if len(acks) == 1 and not acks[0].payload else f"acknowledgements: {acks}"


def raw(number, kind, flags, size, stream=0):
    return frame(kind, flags, stream, bytes(size))


START = [
    Case("3.4", "the server's first frame is SETTINGS", b"", That(first_is_settings)),
    Case("3.4", "a preface byte by byte", trickle, Answered(), first=None),
    Case("3.4", "preface, SETTINGS and a request at once", ask(), Answered()),
    Case("3.4", "a request before the server's SETTINGS is read", PREFACE + settings() + ask(), Answered(), first=None),
    Case("3.4", "a wrong preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + settings(), Connection(PROTOCOL), first=None),
    Case("3.4", "HTTP/1.1 where h2 was negotiated", f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() + bytes(64), Connection(PROTOCOL), first=None),
    Case("3.4", "PING as the first frame", PREFACE + ping(), Connection(PROTOCOL), first=None),
    Case("3.4", "HEADERS as the first frame", PREFACE + ask(), Connection(PROTOCOL), first=None),
    Case("3.4", "SETTINGS are acknowledged once, empty", b"", That(settings_acked)),
]

FORMAT = [
    Case("4.1", "an unknown frame type on stream 0", frame(0xFE, 0xFF, 0, b"x" * 20) + ask(), Answered()),
    Case("4.1", "an unknown frame type on an idle stream", frame(0xFE, 0, 77, b"x") + ask(), Either(Answered(), Connection(PROTOCOL))),
    Case("4.1", "an unknown frame type inside a request", opened() + frame(0xFD, 0xFF, 1, b"x") + frame(DATA, END_STREAM, 1, b"hi"), Answered()),
    Case("4.1", "an unknown frame type of 16,384 bytes", frame(0xFC, 0, 0, bytes(16384)) + ask(), Answered()),
    Case("4.1", "an empty unknown frame", frame(0xFB, 0, 0) + ask(), Answered()),
    Case("4.1", "undefined flags on PING", frame(PING, 0xFE, 0, bytes(8)) + ask(), Answered()),
    Case("4.1", "undefined flags on HEADERS", headers(1, fields(), END_STREAM | END_HEADERS | 0xC2), Answered()),
    Case("4.1", "undefined flags on DATA", opened() + frame(DATA, END_STREAM | 0xF6, 1, b"hi"), Answered()),
    Case("4.1", "undefined flags on SETTINGS", frame(SETTINGS, 0xFE, 0) + ask(), Answered()),
    Case("4.1", "undefined flags on WINDOW_UPDATE", frame(WINDOW, 0xFF, 0, struct.pack(">I", 5)) + ask(), Answered()),
    Case("4.1", "the reserved bit of the stream number", headers(0x80000001, fields()), Answered()),
    Case("4.1", "the reserved bit of an increment", frame(WINDOW, 0, 0, struct.pack(">I", 0x80000005)) + ask(), Answered()),
    Case(
        "5.5", "frame types of extensions (ALTSVC, ORIGIN, PRIORITY_UPDATE)", frame(0xA, 0, 0, b"\0\0x") + frame(0xC, 0, 0) + frame(0x10, 0, 0, b"\0\0\0\1u=1") + ask(), Answered()
    ),
    Case("4.2", "DATA of 16,384 bytes", opened() + frame(DATA, END_STREAM, 1, bytes(16384)), Answered()),
    Case("4.2", "DATA of 16,385 bytes", opened() + frame(DATA, END_STREAM, 1, bytes(16385)), OnStream(SIZE, connection=True)),
    Case("4.2", "HEADERS of 16,385 bytes", frame(HEADERS, END_STREAM | END_HEADERS, 1, (fields() + literal("x-a", "b" * 16384))[:16385]), Connection(SIZE)),
    Case("4.2", "SETTINGS of 16,386 bytes", frame(SETTINGS, 0, 0, struct.pack(">HI", 0x99, 1) * 2731), Connection(SIZE)),
    Case("4.2", "an unknown frame of 16,385 bytes", frame(0xFC, 0, 0, bytes(16385)), Either(Connection(SIZE), Alive())),
    Case("6.5", "SETTINGS of 5 bytes", raw(0, SETTINGS, 0, 5), Connection(SIZE)),
    Case("6.5", "SETTINGS of 7 bytes", raw(0, SETTINGS, 0, 7), Connection(SIZE)),
    Case("6.5", "SETTINGS ACK with a payload", raw(0, SETTINGS, ACK, 6), Connection(SIZE)),
    Case("6.7", "PING of 7 bytes", raw(0, PING, 0, 7), Connection(SIZE)),
    Case("6.7", "PING of 9 bytes", raw(0, PING, 0, 9), Connection(SIZE)),
    Case("6.7", "an empty PING", raw(0, PING, 0, 0), Connection(SIZE)),
    Case("6.4", "RST_STREAM of 3 bytes", opened() + raw(0, RST, 0, 3, 1), Connection(SIZE)),
    Case("6.4", "RST_STREAM of 5 bytes", opened() + raw(0, RST, 0, 5, 1), Connection(SIZE)),
    Case("6.9", "WINDOW_UPDATE of 3 bytes", raw(0, WINDOW, 0, 3), Connection(SIZE)),
    Case("6.9", "WINDOW_UPDATE of 5 bytes", raw(0, WINDOW, 0, 5), Connection(SIZE)),
    Case("6.3", "PRIORITY of 4 bytes", opened() + raw(0, PRIORITY, 0, 4, 1), OnStream(SIZE, connection=True)),
    Case("6.3", "PRIORITY of 6 bytes", opened() + raw(0, PRIORITY, 0, 6, 1), OnStream(SIZE, connection=True)),
    Case("6.8", "GOAWAY of 7 bytes", raw(0, GOAWAY, 0, 7), Connection(SIZE)),
    Case("6.2", "HEADERS with a priority of 4 bytes", frame(HEADERS, END_STREAM | END_HEADERS | PRIO, 1, bytes(4)), Connection(SIZE, PROTOCOL)),
]

HALF = frame(HEADERS, END_STREAM, 1, fields()[:10])  # a header block that goes on


def interrupted(name, by):
    return Case("6.10", f"{name} inside a header block", HALF + by, Connection(PROTOCOL))


BLOCKS = [
    interrupted("PING", ping()),
    interrupted("SETTINGS", settings()),
    interrupted("DATA", frame(DATA, 0, 1, b"x")),
    interrupted("PRIORITY", frame(PRIORITY, 0, 3, bytes(5))),
    interrupted("RST_STREAM", rst(1)),
    interrupted("WINDOW_UPDATE", window(0, 1)),
    interrupted("HEADERS of another stream", ask(3)),
    interrupted("HEADERS of the same stream", ask(1)),
    interrupted("GOAWAY", goaway()),
    interrupted("an unknown frame type", frame(0xFE, 0, 1, b"x")),
    interrupted("CONTINUATION of another stream", frame(CONTINUATION, END_HEADERS, 3, fields()[10:])),
    interrupted("CONTINUATION of stream 0", frame(CONTINUATION, END_HEADERS, 0, fields()[10:])),
    Case("6.10", "CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, fields()), Connection(PROTOCOL)),
    Case("6.10", "CONTINUATION after END_HEADERS", opened() + frame(CONTINUATION, END_HEADERS, 1, b""), Connection(PROTOCOL)),
    Case("6.10", "CONTINUATION after DATA", opened() + frame(DATA, 0, 1, b"x") + frame(CONTINUATION, END_HEADERS, 1, b""), Connection(PROTOCOL)),
    Case("6.10", "a block in two frames", HALF + frame(CONTINUATION, END_HEADERS, 1, fields()[10:]), Answered()),
    Case(
        "6.10",
        "a block in single bytes",
        frame(HEADERS, END_STREAM, 1) + b"".join(frame(CONTINUATION, 0, 1, fields()[n : n + 1]) for n in range(20)) + frame(CONTINUATION, END_HEADERS, 1, fields()[20:]),
        Either(Answered(), Connection(CALM)),
    ),
    Case("6.10", "an empty last CONTINUATION", frame(HEADERS, END_STREAM, 1, fields()) + frame(CONTINUATION, END_HEADERS, 1), Answered()),
    Case("4.3", "a block that is no HPACK", frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff"), Connection(COMPRESSION)),
]

SLOW = ask(1, "/slow")  # answered after a while: until then the stream is half closed


def after_answer(*then):
    """Sends `then` after both ends have closed the stream."""

    def act(client):
        client.send(ask())
        client.until(lambda: client.over(1))
        client.send(b"".join(then))

    return act


def more_streams_than_allowed(client):
    client.until(lambda: client.frames)
    limit = client.settings.get(3)
    if limit is None or limit > 10_000:
        return f"MAX_CONCURRENT_STREAMS is {limit}"
    numbers = [1 + 2 * n for n in range(limit + 1)]
    # The first is answered long after the last has come, also if the router stands still in between.
    client.send(b"".join(ask(number, "/slow/4") for number in numbers))
    client.until(lambda: all(client.over(n) for n in numbers) or client.goaway, 60)
    refused = [client.stream(n).reset for n in numbers if client.stream(n).reset]
    if client.goaway:
        return f"{client.goaway}"
    return None if refused and set(refused) <= {REFUSED_STREAM, PROTOCOL} else f"of {limit + 1} streams refused: {refused[:3]}"


STATES = [
    Case("5.1", "idle: DATA", frame(DATA, END_STREAM, 1, b"x"), Connection(PROTOCOL, CLOSED)),
    Case("5.1", "idle: RST_STREAM", rst(1), Connection(PROTOCOL)),
    Case("5.1", "idle: WINDOW_UPDATE", window(1, 100), Connection(PROTOCOL)),
    Case("5.1", "idle: PRIORITY", frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 15)) + ask(), Answered()),
    Case("5.1", "half closed: DATA", SLOW + frame(DATA, 0, 1, b"x"), OnStream(CLOSED, connection=True)),
    Case("5.1", "half closed: HEADERS", SLOW + ask(1), OnStream(CLOSED, PROTOCOL, connection=True)),
    Case("5.1", "half closed: CONTINUATION", SLOW + frame(CONTINUATION, END_HEADERS, 1, b""), Connection(PROTOCOL, CLOSED)),
    Case("5.1", "half closed: WINDOW_UPDATE", SLOW + window(1, 100), Answered()),
    Case("5.1", "half closed: PRIORITY", SLOW + frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 15)), Answered()),
    Case("5.1", "half closed: RST_STREAM", SLOW + rst(1), Alive()),
    Case("5.1", "reset: DATA", opened(1, "/slow") + rst(1) + frame(DATA, 0, 1, b"x"), Either(OnStream(CLOSED, connection=True), Alive())),
    Case("5.1", "reset: HEADERS", opened(1, "/slow") + rst(1) + ask(1), Either(OnStream(CLOSED, PROTOCOL, connection=True), Alive())),
    Case("5.1", "reset: WINDOW_UPDATE", SLOW + rst(1) + window(1, 10), Alive()),
    Case("5.1", "reset: RST_STREAM again", SLOW + rst(1) + rst(1), Alive()),
    Case("5.1", "reset: PRIORITY", SLOW + rst(1) + frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 15)), Alive()),
    Case("5.1", "closed: DATA", after_answer(frame(DATA, 0, 1, b"x")), Either(Connection(CLOSED, PROTOCOL), OnStream(CLOSED))),
    Case("5.1", "closed: HEADERS", after_answer(ask(1)), Either(Connection(CLOSED, PROTOCOL), OnStream(CLOSED))),
    Case("5.1", "closed: CONTINUATION", after_answer(frame(CONTINUATION, END_HEADERS, 1, fields())), Connection(CLOSED, PROTOCOL)),
    Case("5.1", "closed: WINDOW_UPDATE", after_answer(window(1, 10)), Alive()),
    Case("5.1", "closed: RST_STREAM", after_answer(rst(1)), Alive()),
    Case("5.1", "closed: PRIORITY", after_answer(frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 15))), Alive()),
    Case("5.1.1", "an even stream number", headers(2, fields()), Connection(PROTOCOL)),
    Case("5.1.1", "a smaller stream number", ask(5) + ask(3), Connection(PROTOCOL, CLOSED)),
    Case("5.1.1", "numbers may be left out", ask(1) + ask(101), Answered(1, 101)),
    Case(
        "5.1.1",
        "the largest stream number",
        headers(0x7FFFFFFF, fields()),
        That(lambda c: None if c.until(lambda: c.over(0x7FFFFFFF), 20) and c.stream(0x7FFFFFFF).status == 200 else f"{c.frames[-3:]}"),
    ),
    Case("5.1.2", "more streams than MAX_CONCURRENT_STREAMS", more_streams_than_allowed, Alive()),
    Case("5.3", "HEADERS with a priority", headers(1, b"\x00\x00\x00\x00\x0f" + fields(), END_STREAM | END_HEADERS | PRIO), Answered()),
    Case(
        "5.3",
        "HEADERS that depend on themselves",
        headers(1, b"\x00\x00\x00\x01\x0f" + fields(), END_STREAM | END_HEADERS | PRIO),
        Either(Answered(), OnStream(PROTOCOL, connection=True)),
    ),
    Case(
        "5.3",
        "PRIORITY that depends on itself",
        opened(1, "/slow") + frame(PRIORITY, 0, 1, b"\x00\x00\x00\x01\x0f") + frame(DATA, END_STREAM, 1),
        Either(Answered(), OnStream(PROTOCOL, connection=True)),
    ),
    Case("5.3", "an exclusive dependency on a closed stream", after_answer(frame(PRIORITY, 0, 9, b"\x80\x00\x00\x01\xff")), Alive()),
]


def padded(kind, flags, stream, pad, data, real=None):
    real = pad if real is None else real
    return frame(kind, flags | PADDED, stream, bytes([pad]) + data + bytes(real))


TYPES = [
    Case("6.1", "DATA on stream 0", frame(DATA, 0, 0, b"x"), Connection(PROTOCOL)),
    Case("6.1", "padded DATA", opened() + padded(DATA, END_STREAM, 1, 200, b"hello"), Answered(then=lambda c: None if b"body=5;" in c.stream(1).body else f"{c.stream(1).body}")),
    Case(
        "6.1",
        "DATA that is only padding",
        opened() + padded(DATA, END_STREAM, 1, 255, b""),
        Answered(then=lambda c: None if b"body=0;" in c.stream(1).body else f"{c.stream(1).body}"),
    ),
    Case("6.1", "padding of length 0", opened() + padded(DATA, END_STREAM, 1, 0, b"hello"), Answered()),
    Case("6.1", "padding as long as the payload", opened() + padded(DATA, END_STREAM, 1, 6, b"hello", 0), Connection(PROTOCOL)),
    Case("6.1", "padding longer than the payload", opened() + padded(DATA, END_STREAM, 1, 200, b"hello", 0), Connection(PROTOCOL)),
    Case("6.1", "padded DATA without a length byte", opened() + frame(DATA, END_STREAM | PADDED, 1), Connection(SIZE, PROTOCOL)),
    Case("6.2", "HEADERS on stream 0", headers(0, fields()), Connection(PROTOCOL)),
    Case("6.2", "padded HEADERS", padded(HEADERS, END_STREAM | END_HEADERS, 1, 100, fields()), Answered()),
    Case("6.2", "padded HEADERS with a priority", padded(HEADERS, END_STREAM | END_HEADERS | PRIO, 1, 100, b"\x00\x00\x00\x00\x0f" + fields()), Answered()),
    Case("6.2", "padding longer than HEADERS", frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\xff" + fields()[:100]), Connection(PROTOCOL)),
    Case("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, bytes(5)), Connection(PROTOCOL)),
    Case("6.4", "RST_STREAM on stream 0", rst(0), Connection(PROTOCOL)),
    Case("6.4", "RST_STREAM on stream 0 without an error, as HAProxy sends it", rst(0, 0), Alive()),
    Case("6.4", "RST_STREAM with an unknown code", SLOW + rst(1, 0xFFFF), Alive()),
    Case("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1, b""), Connection(PROTOCOL)),
    Case("6.5", "an unknown setting", settings((0xABCD, 7), (0, 1)) + ask(), Answered()),
    Case("6.5", "the same setting again and again", settings(*[(1, n) for n in range(4000, 4100)]) + ask(), Answered()),
    Case("6.5", "an unsolicited ACK", frame(SETTINGS, ACK) + frame(SETTINGS, ACK), Either(Alive(), Connection(PROTOCOL))),
    Case("6.5.2", "ENABLE_PUSH 1", settings((2, 1)) + ask(), Answered()),
    Case("6.5.2", "ENABLE_PUSH 2", settings((2, 2)), Connection(PROTOCOL)),
    Case("6.5.2", "INITIAL_WINDOW_SIZE 2^31", settings((4, 1 << 31)), Connection(FLOW)),
    Case("6.5.2", "INITIAL_WINDOW_SIZE 2^31-1", settings((4, (1 << 31) - 1)) + ask(), Answered()),
    Case("6.5.2", "MAX_FRAME_SIZE 16,383", settings((5, 16383)), Connection(PROTOCOL)),
    Case("6.5.2", "MAX_FRAME_SIZE 2^24", settings((5, 1 << 24)), Connection(PROTOCOL)),
    Case("6.5.2", "MAX_FRAME_SIZE 2^24-1", settings((5, (1 << 24) - 1)) + ask(1, "/big/100000"), Answered()),
    Case("6.5.2", "MAX_CONCURRENT_STREAMS 0", settings((3, 0)) + ask(), Answered()),
    Case("6.5.2", "MAX_HEADER_LIST_SIZE 1", settings((6, 1)) + ask(), Either(Answered(), OnStream(PROTOCOL, "INTERNAL_ERROR"))),
    Case("8441", "ENABLE_CONNECT_PROTOCOL 2", settings((8, 2)), Connection(PROTOCOL)),
    Case("8441", "the server offers ENABLE_CONNECT_PROTOCOL", b"", That(lambda c: None if c.until(lambda: c.settings) and c.settings.get(8) == 1 else f"settings {c.settings}")),
    Case("6.6", "PUSH_PROMISE from a client", opened() + frame(PUSH, END_HEADERS, 1, b"\x00\x00\x00\x02" + fields()), Connection(PROTOCOL)),
    Case("6.7", "PING on a stream", frame(PING, 0, 1, bytes(8)), Connection(PROTOCOL)),
    Case("6.7", "an unsolicited PING ACK", ping(flags=ACK) + ask(), Answered()),
    Case(
        "6.7",
        "PING answers keep their order",
        b"".join(ping(struct.pack(">Q", n)) for n in range(10)),
        That(lambda c: None if c.until(lambda: [f.payload for f in c.frames if f.kind == PING] == [struct.pack(">Q", n) for n in range(10)]) else f"{c.frames}"),
    ),
    Case("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), Connection(PROTOCOL)),
    Case(
        "6.8", "GOAWAY lets a request end", SLOW + goaway(0, 0, b"bye"), That(lambda c: None if c.until(lambda: c.over(1), 20) and c.stream(1).status == 200 else f"{c.frames[-3:]}")
    ),
    Case("6.8", "GOAWAY with an unknown code", SLOW + goaway(0, 0xABCD), That(lambda c: None if c.until(lambda: c.over(1) or c.closed or c.goaway, 20) else f"{c.frames[-3:]}")),
    Case("7", "a new stream with an unknown code's reset before", opened(1) + rst(1, 0x12345678) + ask(3), Answered(3)),
]

CASES = START + FORMAT + BLOCKS + STATES + TYPES
