"""Tests gRPC's habits: HTTP/2 on both sides, trailers, streams in both directions, cancellation; and HTTP/1.1 clients of such a
backend.
"""

import subprocess
import time

import h2wire
from h2backend import H2Backend
from h2wire import DATA, END_HEADERS, END_STREAM, frame, headers, request, rst

HOST = "grpc.lab.test"
CALL = [("content-type", "application/grpc"), ("te", "trailers")]


def call(client, number, path, flags=END_HEADERS):
    client.send(headers(number, request(HOST, path, "POST", more=CALL), flags))


def finished(client, number, seconds=20):
    return client.until(lambda: client.over(number), seconds)


def unary(client):
    call(client, 1, "/unary")
    client.send(frame(DATA, END_STREAM, 1, b"\0\0\0\0\5hello"))
    finished(client, 1)
    got = client.stream(1)
    good = got.status == 200 and got.body == b"\0\0\0\0\5hello" and ("grpc-status", "0") in (got.trailers or []) and ("grpc-message", "fine") in got.trailers
    return None if good else f"{got.status} {got.body!r} {got.trailers} {got.reset}"


def trailers_only(client):
    call(client, 1, "/refused", END_HEADERS | END_STREAM)
    finished(client, 1)
    got = client.stream(1)
    return None if got.status == 200 and dict(got.headers).get("grpc-status") == "12" and got.ended and not got.body else f"{got.headers} {got.reset}"


def both_ways(client):
    call(client, 1, "/chat")
    for n in range(1, 6):
        client.send(frame(DATA, 0, 1, b"ping"))
        if not client.until(lambda: client.stream(1).body == b"ping" * n, 20):
            return f"no echo of message {n}: {client.stream(1).body!r} {client.stream(1).reset}"
    client.send(frame(DATA, END_STREAM, 1))
    finished(client, 1)
    return None if ("grpc-status", "0") in (client.stream(1).trailers or []) else f"{client.stream(1).trailers}"


def headers_first(client):
    """Checks that the client sees the server's head before it sends its first message."""
    call(client, 1, "/chat")
    return None if client.until(lambda: client.stream(1).headers, 20) else "no head before the first message"


def large(client):
    call(client, 1, "/large")
    sent, body = 0, bytes(range(256)) * 8192
    while sent < len(body):
        credits = [65535 + sum(int.from_bytes(f.payload, "big") for f in client.frames if f.kind == 8 and f.stream == n) for n in (0, 1)]
        credits[1] += client.settings.get(4, 65535) - 65535
        room = min(*credits, sent + 16000, len(body)) - sent
        if room > 0:
            client.send(frame(DATA, 0, 1, body[sent : sent + room]))
            sent += room
        elif not client.read(20):
            return f"stuck after {sent} bytes"
    client.send(frame(DATA, END_STREAM, 1))
    finished(client, 1)
    return None if client.stream(1).body == body else f"{len(client.stream(1).body)} bytes, reset {client.stream(1).reset}"


def many(client):
    for n in range(1, 101, 2):
        call(client, n, f"/many/{n}")
        client.send(frame(DATA, END_STREAM, n, f"message {n}".encode()))
    for n in range(1, 101, 2):
        finished(client, n)
        if client.stream(n).body != f"message {n}".encode():
            return f"stream {n}: {client.stream(n).body!r} {client.stream(n).reset}"
    return None


def backend_resets(client):
    call(client, 1, "/reset", END_HEADERS | END_STREAM)
    finished(client, 1)
    got = client.stream(1)
    return None if got.status == 502 or got.reset else f"{got.status} {got.reset}"


def run(router, check):
    backend = H2Backend(router.certificates.server("h2"))
    router.register(HOST, backend.address, port=0, tls_port=backend.address[1], server_cert_domain_san="backend.internal", protocol="http2")
    context = router.certificates.client("h2")
    for case in (unary, trailers_only, both_ways, headers_first, large, many, backend_resets):
        client = h2wire.Client(router.https, context, HOST)
        check(f"gRPC: {case.__name__.replace('_', ' ')}", case(client))
        client.close()
    check("gRPC: a cancelled call is cancelled at the backend", cancelled(router, backend, context))
    seen = backend.requests[0] if backend.requests else {}
    good = seen.get("te") == "trailers" and seen.get("content-type") == "application/grpc" and seen.get("x-forwarded-for")
    check("gRPC: te: trailers reaches the backend", None if good else f"{seen}")
    for name, options, port in (("HTTP/1.1", ["--http1.1"], router.http),):
        url = f"http://{HOST}:{port}/plain"
        done = subprocess.run(
            ["curl", "-sS", "--max-time", "60", "--resolve", f"{HOST}:{port}:127.0.0.1", *options, "--data-binary", "hello", "-w", " %{http_code}", url], capture_output=True
        )
        check(f"{name} client, h2 backend", None if done.stdout == b"hello 200" else f"{done.stdout!r} {done.stderr!r}")


def cancelled(router, backend, context):
    client = h2wire.Client(router.https, context, HOST)
    call(client, 1, "/cancelled")
    client.send(frame(DATA, 0, 1, b"x"))
    if not client.until(lambda: client.stream(1).body == b"x", 20):
        return f"no echo: {client.frames[-3:]}"
    client.send(rst(1))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not any(path == "/cancelled" for path, _ in backend.resets):
        time.sleep(0.02)
    client.close()
    return None if any(path == "/cancelled" for path, _ in backend.resets) else f"the backend saw resets {backend.resets}"
