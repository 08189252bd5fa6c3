"""Tests slow-loris attacks: the router disconnects clients that send or read slowly in bounded time, and they hold little memory
until then.

The gorouter.yml of this run has read_header_timeout 4 s, frontend_idle_timeout 5 s and endpoint_timeout 6 s. Every case may last
as long as its setting plus what a busy machine needs; an idle HTTP/2 client first receives GOAWAY and has 5 s to close.
"""

import argparse
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import h2wire
import peers
from h2case import HOST, ask, fields, opened
from h2wire import DATA, END_STREAM, HEADERS, PREFACE, frame
from http2 import respond
from recorder import Recorder

HEAD, IDLE, ENDPOINT, GRACE = 4.0, 5.0, 6.0, 12.0
FAREWELL = 5.0
HOST_LINE = f"Host: {HOST}\r\n"


class Raw:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)


class Plain(Raw):
    def __init__(self, router):
        super().__init__(router.http)


class Tls(Raw):
    def __init__(self, router):
        super().__init__(router.https)
        self.socket = router.certificates.client("h2").wrap_socket(self.socket, server_hostname=HOST)


def until_closed(stream, most, drip=None, every=0.1):
    """Returns the seconds until the peer closes, or None if it did not within `most`. Meanwhile it sends `drip` byte by byte."""
    started, at = time.monotonic(), 0
    while time.monotonic() - started < most:
        stream.settimeout(every)
        try:
            if not stream.recv(65536):
                return time.monotonic() - started
        except TimeoutError:
            pass
        except OSError:
            return time.monotonic() - started
        if drip:
            try:
                stream.sendall(drip[at % len(drip) : at % len(drip) + 1])
                at += 1
            except OSError:
                return time.monotonic() - started
    return None


def closes(connect, first, limit, drip=None, least=0.0):
    """Makes a case: after `first`, the router closes within `limit` (+ GRACE), and not before `least`."""

    def case(router):
        began = time.monotonic()  # before the router's time begins, however late this program runs again
        client = connect(router)
        if first:
            client.send(first)
        closed = until_closed(client.socket, limit + GRACE, drip) is not None
        took = time.monotonic() - began
        client.socket.close()
        if not closed:
            return f"still open after {limit + GRACE:.1f} s"
        return f"closed after {took:.1f} s already" if took < least else None

    return case


def idle_after_answer(router):
    client = Plain(router)
    began = time.monotonic()  # before the router's time begins, however late this program runs again
    client.send(f"GET /x HTTP/1.1\r\n{HOST_LINE}\r\n")
    client.socket.settimeout(30)
    if b"200 OK" not in client.socket.recv(65536):
        return "no answer"
    closed = until_closed(client.socket, IDLE + GRACE) is not None
    took = time.monotonic() - began
    return "still open" if not closed else f"closed after {took:.1f} s already" if took < IDLE - 0.8 else None


def second_head(router):
    client = Plain(router)
    client.send(f"GET /x HTTP/1.1\r\n{HOST_LINE}\r\n")
    client.socket.settimeout(30)
    client.socket.recv(65536)
    client.send("GET /y HTTP/1.1\r\nX: ")
    took = until_closed(client.socket, IDLE + GRACE, b"a")
    return "still open" if took is None else None


def never_reads(router):
    client = Plain(router)
    before = router.memory()
    client.send(f"GET /big/50000000 HTTP/1.1\r\n{HOST_LINE}\r\n")
    time.sleep(ENDPOINT + GRACE)
    grown = router.memory() - before
    took = until_drained(client.socket)
    client.socket.close()
    if took > 20_000_000:
        return f"the whole response was still to be had: {took} bytes"
    return f"memory grew by {grown >> 20} MB" if grown > 64 << 20 else None


def until_drained(stream):
    total, end = 0, time.monotonic() + 5
    stream.settimeout(3)
    try:
        while time.monotonic() < end and (data := stream.recv(1 << 20)):
            total += len(data)
    except OSError:
        pass
    return total


def honest(router):
    """Checks that a slow but steady client is served."""
    client = Plain(router)
    for part in ("POST /x HT", "TP/1.1\r\nHo", f"st: {HOST}\r\nContent-Len", "gth: 10\r\n\r\n"):
        client.send(part)
        time.sleep(0.15)
    for _ in range(10):
        client.send("b")
        time.sleep(0.12)
    client.socket.settimeout(30)
    answer = client.socket.recv(65536)
    return None if b" 200 OK" in answer.split(b"\r\n")[0] else f"{answer[:100]}"


def crowd(count, first):
    """Sends many slow heads at once: memory stays bounded, and the next client is served at once."""

    def case(router):
        before = router.memory()
        held = []
        for _ in range(count):
            client = Plain(router)
            client.send(first)
            held.append(client.socket)
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", router.http)) as other:
            other.sendall(f"GET /x HTTP/1.1\r\n{HOST_LINE}\r\n".encode())
            other.settimeout(30)
            answer = other.recv(65536)
        took = time.monotonic() - started
        grown = router.memory() - before
        left = sum(until_closed(stream, 0.01 if time.monotonic() - started > HEAD + GRACE + 2 else HEAD + GRACE + 2) is None for stream in held)
        for stream in held:
            stream.close()
        if b" 200 OK" not in answer or took > 10:
            return f"another client waited {took:.1f} s and got {answer[:60]}"
        allowed = (32 << 20) + count * (len(first) * 2 + 4096)
        if grown > allowed:
            return f"memory grew by {grown >> 20} MB, allowed {allowed >> 20}"
        return f"{left} of {count} still open" if left else None

    return case


START = f"GET /x HTTP/1.1\r\n{HOST_LINE}"
BODY = f"POST /x HTTP/1.1\r\n{HOST_LINE}Content-Length: 100000\r\n\r\n0123456789"
CHUNKED = f"POST /x HTTP/1.1\r\n{HOST_LINE}Transfer-Encoding: chunked\r\n\r\n"
H2 = PREFACE + frame(4, 0, 0)
CASES = [
    ("nothing at all", closes(Plain, "", IDLE)),
    ("half a request line, then silence", closes(Plain, "GET /x HT", HEAD)),
    ("a head without an end, then silence", closes(Plain, START, HEAD)),
    ("a head byte by byte", closes(Plain, "GET /x HTTP/1.1\r\nX: ", HEAD, b"a")),
    ("headers without end, line by line", closes(Plain, START, HEAD, b"X: y\r\n")),
    ("empty lines without end", closes(Plain, "\r\n", IDLE, b"\r\n")),
    ("idle after an answer", idle_after_answer),
    ("a second head without an end", second_head),
    ("a body that stops", closes(Plain, BODY, ENDPOINT)),
    ("a body byte by byte", closes(Plain, BODY, 2 * ENDPOINT, b"b")),
    ("a chunked body that stops", closes(Plain, CHUNKED + "5\r\nhel", ENDPOINT)),
    ("chunks byte by byte", closes(Plain, CHUNKED, 2 * ENDPOINT, b"1\r\nx\r\n")),
    ("a chunk's size byte by byte", closes(Plain, CHUNKED + "5;", 2 * ENDPOINT, b"e")),
    ("trailers byte by byte", closes(Plain, CHUNKED + "5\r\nhello\r\n0\r\nX: ", 2 * ENDPOINT, b"t")),
    ("a response that nobody reads", never_reads),
    ("a slow but steady client is served", honest),
    ("TLS: no ClientHello", closes(lambda r: Raw(r.https), b"", 10)),
    ("TLS: half a ClientHello", closes(lambda r: Raw(r.https), b"\x16\x03\x01\x02\x00\x01\x00", 10)),
    ("TLS: a ClientHello byte by byte", closes(lambda r: Raw(r.https), b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", 10, b"\x00")),
    ("h2: no preface", closes(Tls, b"", IDLE)),
    ("h2: half a preface", closes(Tls, PREFACE[:10], IDLE)),
    ("h2: a preface and nothing more", closes(Tls, H2, IDLE + FAREWELL, least=0.5)),
    ("h2: a header block without an end", closes(Tls, H2 + frame(HEADERS, END_STREAM, 1, fields()), IDLE + FAREWELL)),
    ("h2: half a frame", closes(Tls, H2 + ask()[:20], IDLE + FAREWELL)),
    ("h2: idle after an answer", closes(Tls, H2 + ask(), IDLE + FAREWELL, least=0.5)),
    ("h2: a body that stops", lambda router: h2_body(router)),
    ("h2: a body byte by byte", lambda router: h2_body(router, drip=True)),
    ("500 heads of 100 bytes without an end", crowd(500, START + "X: " + "a" * 60)),
    ("200 heads of 30 kB without an end", crowd(200, START + "X: " + "a" * 30000)),
]


def h2_body(router, drip=False):
    client = h2wire.Client(router.https, router.certificates.client("h2"), HOST)
    client.send(opened(1) + frame(DATA, 0, 1, b"x"))
    end = time.monotonic() + 2 * ENDPOINT + GRACE
    while time.monotonic() < end and not client.over(1) and not client.closed:
        client.read(0.2)
        if drip:
            client.send(frame(DATA, 0, 1, b"x"))
    over = client.over(1) or client.closed
    client.close()
    return None if over else "the stream is still open"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cupola", required=True)
    parser.add_argument("--only")
    options = parser.parse_args()
    certificates = peers.Certificates()
    router = peers.Router(options.cupola, certificates, read_header_timeout=f"{HEAD:.0f}s", frontend_idle_timeout=f"{IDLE:.0f}s", endpoint_timeout=f"{ENDPOINT:.0f}s")
    backend = Recorder(respond)
    router.register(HOST, backend.address)
    started = time.monotonic()
    cases = [(name, case) for name, case in CASES if not options.only or options.only in name]
    # Cases that measure the router's memory run alone, after the others.
    alone = [item for item in cases if "heads of" in item[0] or "nobody reads" in item[0]]
    together = [item for item in cases if item not in alone]

    def run(item):
        began = time.monotonic()
        try:
            return item[1](router), time.monotonic() - began
        except OSError as error:
            return f"{type(error).__name__}: {error}", time.monotonic() - began

    with ThreadPoolExecutor(max(1, len(together))) as pool:
        problems = list(pool.map(run, together))
    problems += [run(item) for item in alone]
    failed = 0
    for (name, _), (problem, took) in zip(together + alone, problems):
        print(f"{'FAILED ' if problem else 'ok     '}{name}{': ' + problem if problem else ''} ({took:.1f} s)")
        failed += bool(problem)
    if router.child.poll() is not None:
        print("FAILED: the router ended")
        failed += 1
    print(f"slow: {len(cases)} cases, {len(cases) - failed} passed, {failed} failed, {time.monotonic() - started:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
