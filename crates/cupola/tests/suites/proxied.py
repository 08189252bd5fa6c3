"""Tests the router behind HAProxy, which sends the requests of all clients over a few shared connections of HTTP/2.

While some clients cancel their requests, or send to an app that does not read, the suite counts the requests of all others: none
of them may fail.
"""

import argparse
import shutil
import socket
import sys
import threading
import time

import h2wire
import peers
from h2backend import H2Backend
from h2wire import DATA, END_HEADERS, frame, headers, request, rst

HOST = "proxied.lab.test"
OTHERS = 6  # clients that behave
ENOUGH = 200  # requests of each of them, at least
STALLED = 20  # uploads that nobody takes; HAProxy has room for 100 streams on a connection


class Haproxy:
    """Clients' HTTP/1 and HTTP/2 in front, shared connections of HTTP/2 to the router behind."""

    def __init__(self, certificates, router):
        at = peers.folder()
        self.http, self.https = ports = peers.free_ports(2)
        text = "global\n  nbthread 1\n"
        # HAProxy gives each stream one buffer. With larger windows, a stream that stalls would block the others in HAProxy
        # itself.
        text += "  tune.h2.initial-window-size 16384\n"
        text += "defaults\n  mode http\n  http-reuse always\n  timeout client 60s\n  timeout server 60s\n  timeout connect 20s\n"
        text += f"frontend f\n  bind 127.0.0.1:{self.http}\n  bind 127.0.0.1:{self.https} ssl crt {certificates.at}/both.pem alpn h2,http/1.1\n"
        text += f"  default_backend b\nbackend b\n  server r 127.0.0.1:{router.https} ssl verify none alpn h2 sni str({HOST})\n"
        with open(f"{at}/haproxy.cfg", "w") as file:
            file.write(text)
        program = shutil.which("haproxy") or "/usr/sbin/haproxy"
        child = peers.spawn([program, "-db", "-f", f"{at}/haproxy.cfg"], f"{at}/log")
        for port in ports:
            peers.wait_for("haproxy", lambda: peers.listens(port), child, f"{at}/log")


class Other(threading.Thread):
    """A well-behaved client: it sends one request after the other, every second one with a body."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.going, self.count, self.failures = port, True, 0, []

    def run(self):
        stream = None
        while self.going:
            try:
                stream = stream or socket.create_connection(("127.0.0.1", self.port), 30)
                stream.settimeout(30)
                body = b"b" * 3000 if self.count % 2 else b""
                method = b"POST" if body else b"GET"
                stream.sendall(b"%s /ok HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s" % (method, HOST.encode(), len(body), body))
                answer = b""
                while b"\r\n0\r\n" not in answer or not answer.endswith(b"\r\n\r\n"):
                    more = stream.recv(65536)
                    if not more:
                        raise OSError(f"closed after {answer[:200]!r}")
                    answer += more
                    if not answer.startswith(b"HTTP/1.1 200 "[: len(answer)]):
                        raise OSError(f"{answer[:300]!r}")
            except OSError as error:
                self.failures.append(str(error) or type(error).__name__)
                stream = stream and stream.close()
            self.count += 1


def cancelling(port, context, count):
    """Sends flights of requests that are cancelled as soon as they are sent, and others while they are answered."""
    for _ in range(20):
        client = h2wire.Client(port, context, HOST)
        for n in range(1, 161, 2):
            client.send(headers(n, request(HOST, "/never")))
            if n % 8 == 7:
                time.sleep(0.002)
        client.send(b"".join(rst(n) for n in range(1, 161, 2)))
        flight = b"".join(headers(n, request(HOST, "/big/1000000")) + rst(n) for n in range(161, 321, 2))
        client.send(flight)
        client.until(lambda: client.goaway, 0.05)
        client.close()
        count(160)


def sending_to_the_deaf(port, context, count):
    """Sends uploads that the app does not read."""
    kept = []
    for _ in range(STALLED):
        client = h2wire.Client(port, context, HOST)
        client.send(headers(1, request(HOST, "/deaf", "POST"), END_HEADERS))
        for _ in range(4):
            client.send(frame(DATA, 0, 1, bytes(4000)))
        client.until(lambda: client.goaway, 0.02)
        kept.append(client)
        count(1)
    return kept


# Responses that the client does not read are not tested: HAProxy 2.6 then blocks its whole shared connection, with any server
# behind it.
CASES = [cancelling, sending_to_the_deaf]


def run(case, port, https, context):
    others = [Other(port) for _ in range(OTHERS)]
    done = []
    for other in others:
        other.start()
    kept, problem = None, None
    try:
        kept = case(https, context, done.append)
    except (OSError, AssertionError) as error:
        problem = f"the case itself: {type(error).__name__}: {error}"
    seen = [other.count for other in others]
    end = time.monotonic() + 120
    while any(other.count < begun + ENOUGH for other, begun in zip(others, seen)) and time.monotonic() < end:
        time.sleep(0.01)
    for other in others:
        other.going = False
    for other in others:
        other.join(40)
    failures = [failure for other in others for failure in other.failures]
    count = sum(other.count for other in others)
    if count < OTHERS * ENOUGH or any(other.is_alive() for other in others):
        problem = problem or f"the others came to {count} requests only"
    for client in kept or []:
        client.close()
    print(f"{case.__name__.replace('_', ' '):34} {sum(done):6} of its own  {count:7} of others  {len(failures):4} of them failed {'FAILED' if failures or problem else ''}")
    for text in [problem] * bool(problem) + failures[:5]:
        print(f"    {text}")
    return bool(failures or problem)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cupola", required=True)
    parser.add_argument("--only")
    options = parser.parse_args()
    certificates = peers.Certificates()
    router = peers.Router(options.cupola, certificates)
    backend = H2Backend(certificates.server("h2"))
    router.register(HOST, backend.address, port=0, tls_port=backend.address[1], server_cert_domain_san="backend.internal", protocol="http2")
    haproxy = Haproxy(certificates, router)
    context = certificates.client("h2")
    cases = [case for case in CASES if not options.only or options.only in case.__name__]
    failed = sum(run(case, haproxy.http, haproxy.https, context) for case in cases)
    print(f"proxied: {len(cases)} cases, {len(cases) - failed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
