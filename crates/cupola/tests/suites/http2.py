"""HTTP/2 conformance of the router's edge: cases derived from RFC 9113, 7541 and 8441, in raw frames."""

import argparse
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import h2wire
import http2_frames
import http2_messages
import peers
from h2case import HOST
from recorder import Recorder, echo, reply


def respond(message, connection):
    path = message.target.split("/")[1:] or [""]
    if path[0] == "slow":
        time.sleep(float(path[1]) if len(path) > 1 else 0.4)
    elif path[0] == "big":
        return reply(b"x" * int(path[1]))
    elif path[0] == "status":
        return f"HTTP/1.1 {path[1]} Whatever\r\n\r\n".encode()
    elif path[0] == "hop":
        headers = ["Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Upgrade: h2c", "Transfer-Encoding: chunked"]
        return "\r\n".join(["HTTP/1.1 200 OK", *headers, "", "2", "ok", "0", "", ""]).encode()
    elif path[0] == "trailers":
        return b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
    elif path[0] == "hints":
        return b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" + reply("ok")
    elif path[0] == "switch":
        return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    elif path[0] == "cut":
        connection.last = True
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\n0123456789"
    return echo(message, connection)


def early(head):
    return b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n" if b" /early " in head else None


def deaf():
    """Opens a listener whose connections the kernel accepts, and from which nobody reads."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    return listener


def run(case, port, context):
    try:
        client = h2wire.Client(port, context, HOST, **case.how)
    except OSError as error:
        return f"no connection: {error}"
    try:
        return case.run(client)
    except Exception as error:  # noqa: BLE001 - a case that breaks the client has failed, the others go on
        return f"{type(error).__name__}: {error}"
    finally:
        client.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cupola", required=True)
    parser.add_argument("--only", help="cases whose name contains this")
    options = parser.parse_args()
    cases = [c for c in http2_frames.CASES + http2_messages.CASES if not options.only or options.only in f"{c.section} {c.name}"]
    certificates = peers.Certificates()
    context = certificates.client("h2")
    router = peers.Router(options.cupola, certificates)
    backend, silent = Recorder(respond, early=early), deaf()
    router.register(HOST, backend.address)
    router.register(HOST + "/deaf", silent.getsockname())
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        problems = list(pool.map(lambda case: run(case, router.https, context), cases))
    failures = [(f"{case.section} {case.name}", problem) for case, problem in zip(cases, problems) if problem]
    for name, problem in failures:
        print(f"FAILED {name}: {problem}")
    if router.child.poll() is not None:
        failures.append(("the router", "ended"))
    print(f"http2: {len(cases)} cases, {len(cases) - len(failures)} passed, {len(failures)} failed, {time.monotonic() - started:.0f} s")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
