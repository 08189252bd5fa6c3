"""Tests floods over HTTP/2 and a few over HTTP/1: the router's memory stays bounded, and its other clients are served meanwhile.

Each flood runs in a process of its own against a real router, while a well-behaved client sends requests. The suite prints for
each flood how it ended, the growth of the router's resident memory, its CPU time, and the other client's p50 and p99.
"""

import argparse
import multiprocessing
import socket
import struct
import sys
import threading
import time

import h2wire
import peers
from h2case import HOST, ask, fields, opened
from h2wire import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PRIORITY, frame, headers, integer, ping, request, rst, settings, text, window
from http2 import deaf, respond
from recorder import Recorder

SECONDS = 1.5  # how long a flood lasts that nobody ends
MEMORY = 96 << 20  # the most that resident memory may ever be above that of the router at rest, before the first flood
SLOWEST = 10.0  # seconds: p99 of the other client on a machine that may be busy with other work; a client that is stopped waits far longer


class Flood:
    """A connection that sends much and reads only what it must."""

    def __init__(self, port, context, first=b"", must_end=False):
        self.client = h2wire.Client(port, context, HOST, first)
        self.client.auto = False
        self.port, self.context = port, context
        self.must_end = must_end
        self.end = time.monotonic() + (20 if must_end else SECONDS)
        self.count = 0

    def going(self):
        return time.monotonic() < self.end and not self.client.closed and self.client.goaway is None

    def send(self, data, read=True):
        """Sends the bytes. Returns False if the router has ended the connection or the time is over."""
        self.client.socket.settimeout(max(self.end - time.monotonic(), 0.01))
        try:
            self.client.socket.sendall(data)
        except TimeoutError:
            return False
        except OSError:
            self.client.closed = True
        if read or self.client.closed:
            while self.client.read(0.0005):
                pass
        return self.going()

    def verdict(self):
        """Returns in a word or two how the router answered."""
        if self.client.goaway is None:
            self.client.until(lambda: self.client.goaway, 10 if self.must_end else 0.5)
        if self.client.goaway:
            return f"GOAWAY {self.client.goaway.code()}"
        return "closed" if self.client.closed else "tolerated"


def streams(flood, make, batch=200):
    """Sends `make(number)` for one stream after another."""
    number = 1
    while flood.going() and number < 200_000:
        data = b""
        for _ in range(batch):
            data += make(number)
            number += 2
        flood.count += batch
        flood.send(data)


def repeated(flood, piece, read=True, batch=2000):
    data = piece * batch
    while flood.send(data, read):
        flood.count += batch


def rapid_reset(flood):
    streams(flood, lambda n: ask(n) + rst(n))


def rapid_reset_of_uploads(flood):
    streams(flood, lambda n: opened(n) + frame(DATA, 0, n, b"x") + rst(n))


def made_you_reset_by_increment(flood):
    streams(flood, lambda n: opened(n, "/slow") + window(n, 0))


def made_you_reset_by_overflow(flood):
    streams(flood, lambda n: opened(n, "/slow") + window(n, 0x7FFFFFFF))


def made_you_reset_by_length(flood):
    streams(flood, lambda n: opened(n, "/slow", [("content-length", "1")]) + frame(DATA, END_STREAM, n, b"xx"))


def made_you_reset_by_data(flood):
    streams(flood, lambda n: ask(n, "/slow") + frame(DATA, 0, n, b"xx"))


def made_you_reset_by_malformed_requests(flood):
    streams(flood, lambda n: headers(n, request(HOST, "")))


def continuations(flood):
    flood.send(frame(HEADERS, END_STREAM, 1, fields()))
    repeated(flood, frame(CONTINUATION, 0, 1, b"\x00\x03x-a\x7f\x81\x7f" + b"v" * 16000), batch=20)


def small_continuations(flood):
    flood.send(frame(HEADERS, END_STREAM, 1, fields()))
    repeated(flood, frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b"))


def empty_continuations(flood):
    flood.send(frame(HEADERS, END_STREAM, 1, fields()))
    repeated(flood, frame(CONTINUATION, 0, 1))


def settings_unread(flood):
    repeated(flood, settings((4, 70000)), read=False)


def settings_read(flood):
    repeated(flood, settings((4, 70000)))


def pings_unread(flood):
    repeated(flood, ping(), read=False)


def pings_read(flood):
    repeated(flood, ping())


def priorities(flood):
    repeated(flood, b"".join(frame(PRIORITY, 0, n, struct.pack(">IB", 0, 15)) for n in range(1, 401, 2)), batch=10)


def empty_data(flood):
    flood.send(opened(1))
    repeated(flood, frame(DATA, 0, 1))


def padding_only(flood):
    flood.send(opened(1))
    repeated(flood, frame(DATA, 8, 1, b"\x00"))


def window_updates(flood):
    flood.send(opened(1))
    repeated(flood, window(1, 1))


def unknown_frames(flood):
    repeated(flood, frame(0xEE, 0, 0))


def resets_of_one_stream(flood):
    flood.send(opened(1) + rst(1))
    repeated(flood, rst(1))


def tiny_windows(flood):
    flood.send(settings((4, 1)) + b"".join(ask(n, "/big/1000000") for n in range(1, 201, 2)))
    updates = b"".join(window(n, 1) for n in range(1, 201, 2))
    while flood.send(updates):
        flood.count += 100


def zero_windows(flood):
    others = [Flood(flood.port, flood.context) for _ in range(3)]
    for each in (flood, *others):
        each.send(settings((4, 0)) + b"".join(ask(n, "/big/1000000") for n in range(1, 201, 2)))
        flood.count += 100
    flood.client.until(lambda: False, SECONDS)


def responses_unread(flood):
    for each in (flood, *(Flood(flood.port, flood.context) for _ in range(3))):
        each.send(settings((4, 1 << 30)) + window(0, 1 << 30) + b"".join(ask(n, "/big/1000000") for n in range(1, 201, 2)), read=False)
        flood.count += 100
        held.append(each)
    time.sleep(2 * SECONDS)


held = []  # connections that stay open until the flood's process ends


def requests_unread(flood):
    number = 1
    while flood.going() and number < 100_000:
        if not flood.send(b"".join(ask(n) for n in range(number, number + 400, 2)), read=False):
            break
        number += 400
        flood.count += 200


def uploads_to_the_deaf(flood):
    for n in range(1, 201, 2):
        flood.send(opened(n, "/deaf/") + frame(DATA, 0, n, bytes(16000)) * (4 if n == 1 else 0), read=n % 20 == 1)
        flood.count += 1
    flood.client.until(lambda: False, SECONDS)


def hpack_bomb(flood):
    """Names a table entry of 4,000 bytes 12,000 times in one head: 16 kB become 48 MB."""
    flood.send(headers(1, fields() + b"\x40" + text("x-bomb") + text("v" * 4000)))
    streams(flood, lambda n: frame(HEADERS, END_STREAM, n + 2, fields()) + frame(CONTINUATION, END_HEADERS, n + 2, b"\xbe" * 12000), batch=4)


def many_cookies(flood):
    crumbs = b"\x0f\x11\x03a=b" * 2000
    streams(flood, lambda n: frame(HEADERS, END_STREAM, n, fields()) + frame(CONTINUATION, END_HEADERS, n, crumbs), batch=4)


def table_sizes(flood):
    flood.send(ask(1))
    streams(flood, lambda n: headers(n + 2, b"\x20" + integer(4096, 5, 0x20) + fields() + b"\x40\x03x-a\x03abc"), batch=50)


def idle_connections(flood):
    while flood.going() and len(held) < 300:
        held.append(h2wire.Client(flood.port, flood.context, HOST))
        flood.count += 1


FLOODS = [
    rapid_reset,
    rapid_reset_of_uploads,
    made_you_reset_by_increment,
    made_you_reset_by_overflow,
    made_you_reset_by_length,
    made_you_reset_by_data,
    made_you_reset_by_malformed_requests,
    continuations,
    small_continuations,
    empty_continuations,
    settings_unread,
    settings_read,
    pings_unread,
    pings_read,
    priorities,
    empty_data,
    padding_only,
    window_updates,
    unknown_frames,
    resets_of_one_stream,
    tiny_windows,
    zero_windows,
    responses_unread,
    requests_unread,
    uploads_to_the_deaf,
    hpack_bomb,
    many_cookies,
    table_sizes,
    idle_connections,
]
# The floods that the router must end. If it did not, only the attacker's patience would limit them.
MUST_END = {
    "rapid_reset",
    "rapid_reset_of_uploads",
    "made_you_reset_by_increment",
    "made_you_reset_by_overflow",
    "made_you_reset_by_length",
    "made_you_reset_by_data",
    "continuations",
    "small_continuations",
    "empty_continuations",
}


def pipelined_unread(port):
    """Sends requests over HTTP/1 without end, and reads no response."""
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.settimeout(SECONDS)
        ask_ = f"GET /big/100000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() * 100
        try:
            while True:
                stream.sendall(ask_)
        except TimeoutError:
            return "back-pressure", 0
        except OSError:
            return "closed", 0


def in_own_process(function, port, context_file, queue):
    context = h2wire_context(context_file)
    try:
        if function is pipelined_unread:
            queue.put(function(port))
            return
        # A flood that the router must end goes on until it does, also if the machine stands still for a while.
        flood = Flood(port, context, must_end=function.__name__ in MUST_END)
        function(flood)
        queue.put((flood.verdict(), flood.count))
    except Exception as error:  # noqa: BLE001 - reported to the parent, which fails the flood
        queue.put((f"{type(error).__name__}: {error}", -1))


def h2wire_context(ca):
    import ssl

    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    return context


class Other(threading.Thread):
    """The well-behaved client: one request after another on one connection, and the router's memory in between."""

    def __init__(self, router):
        super().__init__(daemon=True)
        self.router, self.times, self.failures, self.going = router, [], [], True
        self.peak = router.memory()

    def run(self):
        stream = socket.create_connection(("127.0.0.1", self.router.http), 30)
        stream.settimeout(30)
        ask_ = b"GET /alive HTTP/1.1\r\nHost: other.lab.test\r\n\r\n"
        while self.going:
            started = time.monotonic()
            try:
                stream.sendall(ask_)
                data = b""
                while not data.endswith(b"mine=None"):
                    more = stream.recv(65536)
                    if not more:
                        raise OSError("closed")
                    data += more
            except OSError as error:
                self.failures.append(str(error))
                return
            self.times.append(time.monotonic() - started)
            self.peak = max(self.peak, self.router.memory())
            time.sleep(0.005)


def peaceful(router):
    other = Other(router)
    other.start()
    time.sleep(1)
    while not other.times and other.is_alive():
        time.sleep(0.01)
    other.going = False
    other.join(40)
    return sorted(other.times)[int(len(other.times) * 0.99)]


def run(function, router, ca, port, slowest, rest):
    other = Other(router)
    cpu, started = router.cpu(), time.monotonic()
    other.start()
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=in_own_process, args=(function, port, ca, queue))
    child.start()
    try:
        verdict, count = queue.get(timeout=90)
    except Exception:  # noqa: BLE001 - queue.Empty
        verdict, count = "the flood never ended", -1
    child.terminate()
    child.join()
    other.going = False
    other.join(40)
    seconds = time.monotonic() - started
    times = sorted(other.times) or [99.0]
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    grown = other.peak - rest
    problems = other.failures and [f"the other client: {other.failures}"] or []
    if count < 0:
        problems.append(verdict)
    if grown > MEMORY:
        problems.append(f"{grown >> 20} MB above the router at rest, allowed {MEMORY >> 20}")
    if p99 > slowest or other.is_alive():
        problems.append(f"the other client's p99 is {p99 * 1000:.0f} ms, allowed {slowest * 1000:.0f}")
    if function.__name__ in MUST_END and verdict == "tolerated":
        problems.append("the router put up with it: expected GOAWAY or a close")
    print(
        f"{function.__name__:40} {verdict:24} {count:8} {grown / 1048576:7.1f} MB {router.cpu() - cpu:6.2f} s of {seconds:4.1f} {p50 * 1000:7.1f} {p99 * 1000:7.1f} ms {'FAILED' if problems else ''}"
    )
    for problem in problems:
        print(f"    {problem}")
    return bool(problems)


def start(cupola, certificates, routes):
    router = peers.Router(cupola, certificates)
    for uri, address in routes:
        router.register(uri, address)
    return router, peaceful(router), router.memory()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cupola", required=True)
    parser.add_argument("--only")
    options = parser.parse_args()
    certificates = peers.Certificates()
    backend, silent, other = Recorder(respond), deaf(), Recorder()
    routes = [(HOST, backend.address), ("other.lab.test", other.address), (HOST + "/deaf", silent.getsockname())]
    router, peace, rest = start(options.cupola, certificates, routes)
    started, failed = time.monotonic(), 0
    print(f"{'flood':40} {'ended by':24} {'count':>8} {'memory':>10} {'CPU':>13} {'other p50':>12} {'p99':>7}")
    print(f"{'(none)':40} {'':24} {'':8} {'':10} {'':13} {'':9} {peace * 1000:9.1f} ms")
    floods = [f for f in [*FLOODS, pipelined_unread] if not options.only or options.only in f.__name__]
    for function in floods:
        if router.memory() > rest + MEMORY // 2:  # what one flood has left behind is not the next one's
            router, peace, rest = start(options.cupola, certificates, routes)
        port = router.http if function is pipelined_unread else router.https
        failed += run(function, router, f"{certificates.at}/ca.pem", port, max(SLOWEST, 20 * peace), rest)
        if router.child.poll() is not None:
            print("FAILED: the router ended")
            failed += 1
            break
    seconds = time.monotonic() - started
    print(f"floods: {len(floods)} floods, {len(floods) - failed} withstood, {failed} failed, {router.memory() >> 20} MB resident at the end, {seconds:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
