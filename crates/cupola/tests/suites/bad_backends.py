"""Tests backends that answer badly: the client must get a clean error, and no client may get the answer of another."""

import time

from recorder import Recorder, reply
from smuggling import Client

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STALE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Stale: 1\r\n\r\nstale"

# Each case: the name, the bytes that the backend sends, and the statuses that a client may get. None means that the response may
# break off but must not look complete.
ANSWERS = [
    ("no HTTP at all", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", {502}),
    ("an empty answer", b"", {502}),
    ("half a status line", b"HTTP/1.1 20", {502}),
    ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", {502}),
    ("HTTP/2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", {502}),
    ("status 99", b"HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok", {502}),
    ("status 1000", b"HTTP/1.1 1000 High\r\nContent-Length: 2\r\n\r\nok", {502}),
    ("status abc", b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok", {502}),
    ("NUL in a header", b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", {502}),
    ("a bare CR in a header", b"HTTP/1.1 200 OK\r\nX: a\rX-Evil: b\r\nContent-Length: 2\r\n\r\nok", {502}),
    ("a space before a colon", b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", {200}),
    ("a header without a colon", b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\nok", {502}),
    ("two different lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nokxxx", {502}),
    ("a length that is no number", b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", {502}),
    ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", {502}),
    ("length and chunks", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", {502, 200}),
    ("an unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: cow\r\n\r\nok", {502}),
    ("chunked twice", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", {502}),
    ("101 that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", {502}),
    ("a head of 2 MB", b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * (2 << 20) + b"\r\nContent-Length: 2\r\n\r\nok", {502}),
    ("a bad chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n0\r\n\r\n", None),
    ("no CRLF after a chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n", None),
    ("chunks that break off", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", None),
    ("a body that breaks off", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", None),
]
# The router may use these responses, but must discard the bytes that remain on the connection.
LEFTOVERS = [
    ("a second answer at once", OK + STALE),
    ("bytes after the body", OK + b"GARBAGE"),
    ("an answer to HEAD with a body", b"HTTP/1.1 200 OK\r\nContent-Length: 59\r\n\r\n" + STALE),
    ("a 204 with a body", b"HTTP/1.1 204 No Content\r\n\r\n" + STALE),
    ("a 304 with a body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 59\r\n\r\n" + STALE),
    ("a second answer after chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + STALE),
]


def ask(router, host, target="/x", method="GET", body=b""):
    client = Client(router.http, method)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    client.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n".encode() + body)
    client.read(1, 20)
    return client


def answers(router, check):
    for n, (name, sent, allowed) in enumerate(ANSWERS):
        host = f"bad{n}.lab.test"

        def respond(message, connection, sent=sent):
            if message.target == "/next":
                return reply("target=/next ")
            connection.last = True
            return sent

        router.register(host, Recorder(respond).address)
        client = ask(router, host)
        found, sane = client.finals()
        status = found[0].status if found else None
        if allowed is None:
            if not found:
                client.read(1, 20)
            problem = f"a broken answer looks whole: {client.data[-200:]!r}" if found and status == 200 else None if status == 502 or client.closed else "the connection stays open"
        else:
            problem = None if status in allowed and sane else f"status {status}: {client.data[:200]!r}"
            if b"X-Evil" in client.data and status == 200:
                problem = "an injected header passed"
        client.socket.close()
        check(f"bad backend: {name}", problem)


def leftovers(router, check):
    for n, (name, sent) in enumerate(LEFTOVERS):
        host = f"left{n}.lab.test"
        router.register(host, Recorder(lambda message, connection, sent=sent: reply("target=/next ") if message.target == "/next" else sent).address)
        ask(router, host, method="HEAD" if "HEAD" in name else "GET").socket.close()
        problem = None
        for _ in range(3):
            client = ask(router, host, "/next")
            found, _sane = client.finals()
            client.socket.close()
            if not found or found[0].status != 200 or b"target=/next " not in found[0].body:
                problem = f"the next client got {client.data[:200]!r}"
        check(f"leftover: {name}", problem)


def unsolicited(router, check):
    """Tests a backend that sends an answer on an idle connection: it must not become the next request's answer."""
    held = []

    def respond(message, connection):
        if message.target == "/next":
            return reply("target=/next ")
        return reply("first")

    class Talker(Recorder):
        def _answer(self, stream, connection):
            held.append(stream)
            super()._answer(stream, connection)

    backend = Talker(respond)
    router.register("talker.lab.test", backend.address)
    ask(router, "talker.lab.test").socket.close()
    for stream in held:
        try:
            stream.sendall(STALE)
        except OSError:
            pass
    time.sleep(0.1)
    client = ask(router, "talker.lab.test", "/next")
    found, _ = client.finals()
    client.socket.close()
    check("leftover: an answer on an idle connection", None if found and b"target=/next " in found[0].body else f"the next client got {client.data[:200]!r}")


def closing(router, check):
    """Tests a backend that closes each connection after its answer, silently and a little later."""

    class Closer(Recorder):
        def _serve(self, stream, connection):
            try:
                while b"\r\n\r\n" not in connection.data:
                    more = stream.recv(65536)
                    if not more:
                        return
                    connection.data += more
                stream.sendall(OK)
                time.sleep(0.02)
            except OSError:
                pass
            finally:
                stream.close()
                connection.closed = True

    backend = Closer()
    router.register("closer.lab.test", backend.address)
    for method, body in (("GET", b""), ("POST", b"hello")):
        statuses = []
        for _ in range(30):
            client = ask(router, "closer.lab.test", method=method, body=body)
            statuses += [m.status for m in client.finals()[0]] or [None]
            client.socket.close()
            # A POST that meets the close on its way may fail, so the close is awaited.
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and not all(c.closed for c in backend.connections):
                time.sleep(0.005)
            time.sleep(0.02)
        check(f"keep-alive: thirty {method} to a backend that closes silently", None if set(statuses) == {200} else f"{statuses}")


def run(router, check):
    for part in (answers, leftovers, unsolicited, closing):
        part(router, check)
