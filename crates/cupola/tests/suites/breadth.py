"""Tests what clients and backends of all kinds may do: curl, HTTP/1.0 to 2, interim and early responses, trailers, gRPC's habits,
header spelling; and backends that answer badly.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import threading
import time

import bad_backends
import grpc_like
import peers
import strict
from http2 import early, respond
from recorder import Recorder, reply
from smuggling import Client

HOST = "breadth.lab.test"


class Checks:
    def __init__(self):
        self.count, self.failed = 0, []

    def __call__(self, name, problem):
        self.count += 1
        if problem:
            self.failed.append(name)
            print(f"FAILED {name}: {problem}")


def curl(router, *arguments, tls=False, data=None):
    """Runs curl and returns (exit code, standard output, standard error)."""
    port = router.https if tls else router.http
    url = f"{'https' if tls else 'http'}://{HOST}:{port}{arguments[-1]}"
    command = ["curl", "-sS", "--max-time", "60", "--cacert", f"{router.certificates.at}/ca.pem", "--resolve", f"{HOST}:{port}:127.0.0.1", *arguments[:-1], url]
    done = subprocess.run(command, input=data, capture_output=True, env={**os.environ, "no_proxy": "*"})
    return done.returncode, done.stdout, done.stderr.decode("latin-1")


def with_curl(router, check):
    written = "%{http_code} %{http_version}"

    def expect(name, out, *arguments, **how):
        code, got, errors = curl(router, *arguments, **how)
        check(f"curl: {name}", None if code == 0 and re.search(out, got.decode("latin-1"), re.S) else f"exit {code}, {got[-300:]!r} {errors[-300:]}")

    big = os.urandom(3 << 20)
    expect("HTTP/1.0", "target=/a .*200 1", "--http1.0", "-w", written, "/a")
    expect("HTTP/1.1", "target=/a .*200 1.1", "--http1.1", "-w", written, "/a")
    expect("HTTPS, HTTP/1.1", "target=/a .*200 1.1", "--http1.1", "-w", written, "/a", tls=True)
    expect("HTTP/2", "target=/a .*200 2", "--http2", "-w", written, "/a", tls=True)
    expect("HTTP/2 asked for on a plain connection", "target=/a .*200 1.1", "--http2", "-w", written, "/a")
    expect("HEAD", "^HTTP/1.1 200.*\r\n\r\n$", "-I", "/a")
    expect("HEAD over HTTP/2", "^HTTP/2 200.*\r\n\r\n$", "-I", "--http2", "/a", tls=True)
    expect("two requests on one connection", "^1 0 $", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", f"http://{HOST}:{router.http}/a", "/b")
    for name, options, tls in (("HTTP/1.1", ["--http1.1"], False), ("HTTPS", ["--http1.1"], True), ("HTTP/2", ["--http2"], True)):
        expect(f"an upload of 3 MB with Expect, {name}", f"body={len(big)};", *options, "-H", "Expect: 100-continue", "--data-binary", "@-", "/up", tls=tls, data=big)
        expect(f"an upload of 3 MB without Expect, {name}", f"body={len(big)};", *options, "-H", "Expect:", "--data-binary", "@-", "/up", tls=tls, data=big)
        expect(
            f"an upload of unknown length, {name}",
            f"body={len(big)};",
            *options,
            "-T",
            "-",
            "-H",
            "Transfer-Encoding: chunked" if "2" not in options[0] else "X: y",
            "/up",
            tls=tls,
            data=big,
        )
        expect(f"PUT of a file of known length, {name}", "body=5;", *options, "-X", "PUT", "--data-binary", "hello", "/up", tls=tls)
        expect(f"a download of 5 MB, {name}", "^5000000$", *options, "-o", "/dev/null", "-w", "%{size_download}", "/big/5000000", tls=tls)
        expect(f"204, {name}", "^204$", *options, "-w", "%{http_code}", "/status/204", tls=tls)
        expect(f"304, {name}", "^304$", *options, "-w", "%{http_code}", "/status/304", tls=tls)
        expect(f"a trailer in the answer, {name}", "(?i)x-sum: 1", *options, "-i", "-H", "TE: trailers", "/trailers", tls=tls)
        expect(f"103 Early Hints, {name}", "(?i)^HTTP/[12.]+ 103.*link: .*HTTP/[12.]+ 200", *options, "-i", "/hints", tls=tls)


def raw(router, data, count=1, method="GET", seconds=20):
    client = Client(router.http, method)
    client.send(data if isinstance(data, bytes) else data.encode("latin-1"))
    client.read(count, seconds)
    return client


def http1(router, check, backend):
    line = f"Host: {HOST}\r\n"

    def one(name, data, problem, count=1, method="GET"):
        client = raw(router, data, count, method)
        found, sane = client.finals()
        try:
            check(f"HTTP/1: {name}", problem(client, found) if found and sane else f"{client.data[:200]!r}")
        finally:
            client.socket.close()

    def closed(client):
        client._more(20)
        return client.closed

    one(
        "1.0 is answered without chunks and closed",
        f"GET /trailers HTTP/1.0\r\n{line}\r\n",
        lambda c, f: None if f and not f[0].all("transfer-encoding") and b"ok" in c.data and closed(c) else f"{c.data!r}",
    )
    one(
        "1.0 with keep-alive lives on",
        f"GET /a HTTP/1.0\r\n{line}Connection: keep-alive\r\n\r\n",
        lambda c, f: None if (f[0].get("connection") or "").lower() == "keep-alive" and again(c) else f"{c.data[:300]!r}",
    )
    one(
        "1.1 with close is closed, and announces it",
        f"GET /a HTTP/1.1\r\n{line}Connection: close\r\n\r\n",
        lambda c, f: None if (f[0].get("connection") or "").lower() == "close" and closed(c) else f"{c.data[:300]!r}",
    )
    one("1.1 lives on", f"GET /a HTTP/1.1\r\n{line}\r\n", lambda c, f: None if again(c) else "no second answer")
    one(
        "HEAD keeps the length and has no body",
        f"HEAD /big/1000 HTTP/1.1\r\n{line}\r\n",
        lambda c, f: None if f[0].get("content-length") == "1000" and again(c) else f"{c.data[:300]!r}",
        method="HEAD",
    )
    one(
        "204 has neither body nor length",
        f"GET /status/204 HTTP/1.1\r\n{line}\r\n",
        lambda c, f: None if f[0].status == 204 and not f[0].all("content-length") and not f[0].all("transfer-encoding") and again(c) else f"{c.data[:300]!r}",
    )
    one("304 has no body", f"GET /status/304 HTTP/1.1\r\n{line}\r\n", lambda c, f: None if f[0].status == 304 and again(c) else f"{c.data[:300]!r}")
    one("an answer that ends with its connection", f"GET /until-close HTTP/1.1\r\n{line}\r\n", lambda c, f: None if f[0].body == b"until the end" else f"{c.data[:300]!r}")
    one(
        "chunks and trailers pass",
        f"GET /trailers HTTP/1.1\r\n{line}TE: trailers\r\n\r\n",
        lambda c, f: None if f[0].body == b"ok" and (b"x-sum", b"1") in [(k.lower(), v) for k, v in f[0].trailers] else f"{c.data[:300]!r}",
    )
    one(
        "hop-by-hop headers of an answer end here",
        f"GET /hop HTTP/1.1\r\n{line}\r\n",
        lambda c, f: None if not {"x-hop", "keep-alive", "proxy-connection", "upgrade"} & {n.lower() for n in f[0].names()} else f"{f[0].names()}",
    )
    one(
        "103 passes before the answer",
        f"GET /hints HTTP/1.1\r\n{line}\r\n",
        lambda c, f: None if c.data.startswith(b"HTTP/1.1 103 ") and b"</style.css>" in c.data and f[0].status == 200 else f"{c.data[:300]!r}",
    )
    one("no 1xx for HTTP/1.0", f"GET /hints HTTP/1.0\r\n{line}\r\n", lambda c, f: None if c.data.split(b" ")[1] == b"200" else f"{c.data[:300]!r}")
    one("several 1xx pass", f"GET /many-hints HTTP/1.1\r\n{line}\r\n", lambda c, f: None if c.data.count(b" 103 ") == 3 and f[0].status == 200 else f"{c.data[:300]!r}")
    check("HTTP/1: 100-continue", continued(router, line))
    check("HTTP/1: an early answer to a large upload", early_answer(router, line))
    check("HTTP/1: the answer streams while the upload goes on", duplex(router))
    pipeline = "".join(
        f"{m} /p{n} HTTP/1.1\r\n{line}{'Content-Length: 3' if m == 'POST' else 'X: y'}\r\n\r\n{'abc' if m == 'POST' else ''}" for n, m in enumerate(["GET", "POST"] * 10)
    )
    one(
        "twenty pipelined requests are answered in order",
        pipeline,
        lambda c, f: None if [re.search(rb"target=(\S+)", m.body)[1].decode() for m in f] == [f"/p{n}" for n in range(20)] else f"{len(f)} answers",
        count=20,
    )
    spelled(router, check, backend, same=False)


def again(client):
    """Sends a second request on the same connection."""
    before = len(client.finals()[0])
    client.send(f"GET /again HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    client.read(before + 1, 20)
    found = client.finals()[0]
    return len(found) == before + 1 and b"target=/again" in found[-1].body


def continued(router, line):
    client = Client(router.http)
    client.send(f"POST /up HTTP/1.1\r\n{line}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n".encode())
    deadline = time.monotonic() + 20
    while b"100" not in client.data and time.monotonic() < deadline and not client.closed:
        client._more(0.5)
    interim = client.data
    client.send(b"hello")
    client.read(1, 20)
    found = client.finals()[0]
    client.socket.close()
    ones = client.data.count(b"HTTP/1.1 100")
    return (
        None
        if interim.startswith(b"HTTP/1.1 100") and ones == 1 and found and b"body=5;" in found[0].body
        else f"before the body: {interim[:60]!r}; in all {ones} x 100; {found[:1]}"
    )


def early_answer(router, line):
    """Announces 20 MB to a backend that refuses after the head: the client must see the refusal (routing-release issue 98)."""
    client = Client(router.http)
    client.send(f"POST /early HTTP/1.1\r\n{line}Content-Length: 20000000\r\n\r\n".encode() + bytes(100_000))
    client.read(1, 20)
    before = [m.status for m in client.finals()[0]]
    client.socket.close()
    return None if before == [413] else f"answers before the upload's end: {before}"


def duplex(router):
    """Sends a chunk over HTTP/1.1 and receives its echo before it sends the next one."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        stream, _ = listener.accept()
        data = b""
        while b"\r\n\r\n" not in data:
            data += stream.recv(65536)
        stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        at = data.index(b"\r\n\r\n") + 4
        while True:
            try:
                body, _, _ = strict.chunked(data, at)
                break
            except strict.Incomplete:
                if data[at:].endswith(b"\r\n"):
                    stream.sendall(b"4\r\necho\r\n")
                more = stream.recv(65536)
                if not more:
                    return
                data += more
        stream.sendall(b"0\r\n\r\n")
        stream.close()

    threading.Thread(target=serve, daemon=True).start()
    router.register("duplex.lab.test", listener.getsockname())
    client = Client(router.http)
    client.send(b"POST / HTTP/1.1\r\nHost: duplex.lab.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for n in range(1, 4):
        client.send(b"4\r\nping\r\n")
        deadline = time.monotonic() + 20
        while client.data.count(b"echo") < n and time.monotonic() < deadline and not client.closed:
            client._more(0.5)
        if client.data.count(b"echo") < n:
            client.socket.close()
            return f"no echo of chunk {n}: {client.data[-200:]!r}"
    client.send(b"0\r\n\r\n")
    client.read(1, 20)
    found = client.finals()[0]
    client.socket.close()
    return None if found and found[0].body.startswith(b"echoecho") else f"{client.data[-200:]!r}"


SENT = ["x-lower: 1", "X-UPPER: 2", "X-mIxEd: 3", "X-Twice: first", "Accept: */*", "X-Twice: second", "x-last: 4"]
GOT = ["x-lower", "X-UPPER", "X-mIxEd", "Set-Cookie", "Set-Cookie", "x-last"]


def spelled(router, check, backend, same):
    """Checks that headers keep their order, and with `same` (compat: none) their spelling; gorouter spells them anew."""
    how = "compat: none, " if same else ""
    spell = (lambda text: text) if same else str.lower
    backend.take()
    client = raw(router, f"GET /spelled HTTP/1.1\r\nHost: {HOST}\r\n" + "".join(f"{line}\r\n" for line in SENT) + "\r\n")
    client.socket.close()
    got = next((r for _, requests, _, _, _ in backend.take() for r in requests if r.target == "/spelled"), None)
    ours = {line.split(":")[0].lower() for line in SENT}
    found = [spell(f"{k.decode()}: {v.decode()}") for k, v in got.headers if k.decode().lower() in ours] if got else None
    check(f"HTTP/1: {how}a request's headers stay as they are", None if found == [spell(line) for line in SENT] else f"{found}")
    ours = {name.lower() for name in GOT}
    found = [spell(name) for name in client.finals()[0][0].names() if name.lower() in ours]
    check(f"HTTP/1: {how}a response's headers stay as they are", None if found == [spell(name) for name in GOT] else f"{found}")


def answer(message, connection):
    if message.target == "/spelled":
        return reply("ok", headers=["x-lower: 1", "X-UPPER: 2", "X-mIxEd: 3", "Set-Cookie: a=1", "Set-Cookie: b=2", "x-last: 4"])
    if message.target == "/until-close":
        connection.last = True
        return b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
    if message.target == "/many-hints":
        return b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + reply("ok")
    if message.start[0] == "HEAD":
        head = respond(message, connection)
        return head[: head.index(b"\r\n\r\n") + 4]
    return respond(message, connection)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cupola", required=True)
    options = parser.parse_args()
    started = time.monotonic()
    certificates = peers.Certificates()
    router = peers.Router(options.cupola, certificates)
    backend = Recorder(answer, early=early)
    router.register(HOST, backend.address)
    check = Checks()
    with_curl(router, check)
    http1(router, check, backend)
    faithful = peers.Router(options.cupola, certificates, compat="none")
    faithful.register(HOST, backend.address)
    spelled(faithful, check, backend, same=True)
    grpc_like.run(router, check)
    bad_backends.run(router, check)
    if router.child.poll() is not None:
        check("the router lives", "it ended")
    print(f"breadth: {check.count} cases, {check.count - len(check.failed)} passed, {len(check.failed)} failed, {time.monotonic() - started:.0f} s")
    sys.exit(bool(check.failed))


if __name__ == "__main__":
    main()
