"""Tests WebSocket (RFC 6455): it sends the same bytes to the same echo server directly, through the router over HTTP/1.1, and
over HTTP/2 (RFC 8441, PyPI h2). The verdict, which is what the client received frame by frame, must be the same.
"""

import argparse
import base64
import os

import socket
import struct
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import h2.config
import h2.connection
import h2.events
import h2.settings

import peers
from recorder import Recorder, reply
from wsbackend import EchoServer

HOST = "ws.lab.test"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATIENCE = 15


def ws(opcode, payload=b"", fin=True, rsv=0, mask=b"\x01\x02\x03\x04", length=None):
    """Returns one frame. `length` is the number of bits of the size (7, 16 or 64), if it is not the shortest form."""
    payload = payload.encode() if isinstance(payload, str) else payload
    size = len(payload)
    width = length or (7 if size < 126 else 16 if size < 65536 else 64)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    flag = 0x80 if mask else 0
    head += bytes([flag | size]) if width == 7 else bytes([flag | 126]) + struct.pack(">H", size) if width == 16 else bytes([flag | 127]) + struct.pack(">Q", size)
    if not mask:
        return head + payload
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def bye(code=1000, reason=""):
    return ws(CLOSE, struct.pack(">H", code) + reason.encode())


def deflated(data):
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


END = bye()


def message_sizes():
    return [
        (f"{kind} of {size} bytes", ws(opcode, b"*" * size) + END)
        for kind, opcode in (("text", TEXT), ("binary", BINARY))
        for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20)
    ]


def closes():
    good = [(f"close code {code}", bye(code, "why")) for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)]
    bad = [(f"forbidden close code {code}", bye(code)) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 5000, 65535)]
    return good + bad


CASES = [
    *message_sizes(),
    *closes(),
    ("a text of two fragments", ws(TEXT, "hel", False) + ws(0, "lo") + END),
    ("a text of many fragments", ws(TEXT, "a", False) + ws(0, "b", False) * 100 + ws(0, "c") + END),
    ("a text of empty fragments", ws(TEXT, "", False) + ws(0, "", False) + ws(0, "") + END),
    ("fragments with a ping between", ws(TEXT, "hel", False) + ws(PING, "now") + ws(0, "lo") + END),
    ("fragments with a pong between", ws(BINARY, "hel", False) + ws(PONG, "now") + ws(0, "lo") + END),
    ("a character split over fragments", ws(TEXT, "é".encode()[:1], False) + ws(0, "é".encode()[1:]) + END),
    ("a continuation of nothing", ws(0, "x") + END),
    ("a text inside a fragmented text", ws(TEXT, "a", False) + ws(TEXT, "b") + END),
    ("a fragmented ping", ws(PING, "a", False) + ws(0, "b") + END),
    ("ping", ws(PING) + END),
    ("ping with 125 bytes", ws(PING, "p" * 125) + END),
    ("ping with 126 bytes", ws(PING, "p" * 126) + END),
    ("binary in a ping", ws(PING, bytes(range(100))) + END),
    ("unsolicited pong", ws(PONG, "?") + ws(TEXT, "x") + END),
    ("a hundred pings", ws(PING, "p") * 100 + END),
    ("close without a code", ws(CLOSE)),
    ("close with one byte", ws(CLOSE, b"\x03")),
    ("close with a reason of 123 bytes", bye(1000, "r" * 123)),
    ("close with a payload of 126 bytes", ws(CLOSE, b"\x03\xe8" + b"r" * 124)),
    ("close with bad UTF-8", ws(CLOSE, b"\x03\xe8\xff\xfe")),
    ("a text after close", bye() + ws(TEXT, "late")),
    ("a close after close", bye() + bye(1001)),
    ("bad UTF-8", ws(TEXT, b"\xff\xfe") + END),
    ("UTF-8 cut off", ws(TEXT, "é".encode()[:1]) + END),
    ("a surrogate in UTF-8", ws(TEXT, b"\xed\xa0\x80") + END),
    ("overlong UTF-8", ws(TEXT, b"\xc0\xaf") + END),
    ("beyond Unicode", ws(TEXT, b"\xf4\x90\x80\x80") + END),
    ("all of Unicode's planes", ws(TEXT, "a\u00e9\u20ac\U0001f600") + END),
    ("bytes that are no text", ws(BINARY, bytes(range(256)) * 4) + END),
    ("reserved bit 1", ws(TEXT, "x", rsv=4) + END),
    ("reserved bit 2", ws(TEXT, "x", rsv=2) + END),
    ("reserved bit 3", ws(TEXT, "x", rsv=1) + END),
    *[(f"reserved opcode {opcode}", ws(opcode, "x") + END) for opcode in (3, 4, 5, 6, 7, 11, 12, 15)],
    ("an unmasked frame", ws(TEXT, "x", mask=b"") + END),
    ("a mask of zeros", ws(TEXT, "hello", mask=bytes(4)) + END),
    ("16 bits for a small size", ws(TEXT, "hello", length=16) + END),
    ("64 bits for a small size", ws(TEXT, "hello", length=64) + END),
    ("a size of 2^63", bytes([0x81, 0xFF]) + struct.pack(">Q", 1 << 63) + bytes(4)),
    ("a hundred texts", ws(TEXT, "x" * 100) * 100 + END),
    ("4 MB in fragments of 64 kB", ws(BINARY, bytes(65000), False) + ws(0, bytes(65000), False) * 62 + ws(0, bytes(65000)) + END),
    ("half a frame, then the end", ws(TEXT, "hello")[:4]),
    ("the end without a close", ws(TEXT, "hello")),
]
WITH_DEFLATE = [
    ("permessage-deflate: a compressed text", ws(TEXT, deflated(b"hello" * 1000), rsv=4) + END),
    ("permessage-deflate: compressed fragments", ws(TEXT, deflated(b"hello" * 1000)[:10], False, rsv=4) + ws(0, deflated(b"hello" * 1000)[10:]) + END),
    ("permessage-deflate: an uncompressed text", ws(TEXT, "plain") + END),
    ("permessage-deflate: what does not inflate", ws(TEXT, b"\xff" * 10, rsv=4) + END),
]


class Direct:
    """A connection that is upgraded over HTTP/1.1, as bytes."""

    def __init__(self, address, target, headers=()):
        self.socket = socket.create_connection(address, 30)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {target} HTTP/1.1", f"Host: {HOST}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        self.socket.sendall("\r\n".join([*lines, *(f"{k}: {v}" for k, v in headers), "", ""]).encode())
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(65536)
            if not more:
                raise OSError(f"closed during the handshake: {data!r}")
            data += more
        head, self.rest = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}

    def send(self, data, then_end):
        """Sends bytes, and reads the answer meanwhile, because two full buffers could wait for each other."""
        threading.Thread(target=self._send, args=(data, then_end), daemon=True).start()

    def _send(self, data, then_end):
        try:
            self.socket.sendall(data)
            if then_end:
                self.end()
        except OSError:
            pass  # the server has seen enough

    def end(self):
        """Ends the sending direction; what the server sends is still read."""
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self):
        """Returns the next bytes; they are empty at the end."""
        data, self.rest = self.rest, b""
        return data or self.socket.recv(65536)

    def close(self):
        self.socket.close()


class OverH2:
    """A connection that is upgraded by extended CONNECT."""

    def __init__(self, port, context, target, headers=()):
        plain = socket.create_connection(("127.0.0.1", port), 30)
        self.socket = context.wrap_socket(plain, server_hostname=HOST)
        self.socket.settimeout(PATIENCE)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.rest, self.status, self.headers = b"", None, {}
        self.settled, self.ended = False, False
        self.flush()
        self._pump(lambda: self.settled)
        if not self.h2.remote_settings.enable_connect_protocol:
            raise OSError("the router does not offer SETTINGS_ENABLE_CONNECT_PROTOCOL")
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            self.stream,
            [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":path", target),
                (":authority", HOST),
                ("sec-websocket-version", "13"),
                *((k.lower(), v) for k, v in headers),
            ],
        )
        self.flush()
        self._pump(lambda: self.status)

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def _pump(self, is_so):
        while not is_so() and not self.ended:
            data = self.socket.recv(65536)
            if not data:
                self.ended = True
                return
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    self.settled = True
                elif isinstance(event, h2.events.ResponseReceived):
                    self.headers = dict(event.headers)
                    self.status = int(self.headers[":status"])
                elif isinstance(event, h2.events.DataReceived):
                    self.rest += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    self.ended = True
            self.flush()

    def send(self, data, then_end):
        at = 0
        while at < len(data) and not self.ended:
            room = min(self.h2.local_flow_control_window(self.stream), 16384, len(data) - at)
            if room > 0:
                self.h2.send_data(self.stream, data[at : at + room])
                self.flush()
                at += room
            else:
                self._pump(lambda: self.h2.local_flow_control_window(self.stream) > 0)
        if then_end:
            self.end()

    def end(self):
        if not self.ended:
            self.h2.end_stream(self.stream)
            self.flush()

    def receive(self):
        self._pump(lambda: self.rest)
        data, self.rest = self.rest, b""
        return data

    def close(self):
        self.socket.close()


def frames(data):
    """Returns the server's frames, [(fin, rsv, opcode, payload)], and the bytes that were left."""
    found = []
    while len(data) >= 2:
        size, at = data[1] & 0x7F, 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
        if data[1] & 0x80 or len(data) < at + size:
            break
        found.append((data[0] >> 7, data[0] >> 4 & 7, data[0] & 15, data[at : at + size]))
        data = data[at + size :]
    return found, data


def verdict(connection, data, half_close=False):
    """Sends the data and returns what came back. Messages are put together, because their frames may depend on the bytes' arrival."""
    got = b""
    try:
        connection.send(data, half_close)
        while more := connection.receive():
            got += more
        end = "ended"
    except TimeoutError:
        end = "open"
    except OSError:
        end = "ended"
    messages, rest = [], frames(got)[1]
    for fin, rsv, opcode, payload in frames(got)[0]:
        begun = [m for m in messages if m[0] < 8]
        if opcode == 0 and begun:
            begun[-1][2] += payload
            begun[-1][3] = fin
        else:
            messages.append([opcode, rsv, payload, fin])
    return messages, rest, end


def shown(result):
    messages, rest, end = result
    return f"{[(o, r, bytes(p[:20]), len(p), f) for o, r, p, f in messages[:4]]}{'…' if len(messages) > 4 else ''} {rest[:10]!r} {end}"


class Suite:
    def __init__(self, cupola):
        self.certificates = peers.Certificates()
        self.router = peers.Router(cupola, self.certificates)
        self.echo = EchoServer()
        self.context = self.certificates.client("h2")
        self.router.register(HOST, self.echo.address)
        plain = Recorder(lambda message, connection: reply("no upgrade here", "426 Upgrade Required", ["Upgrade: websocket"]))
        self.router.register(HOST + "/plain", plain.address)
        (dead,) = peers.free_ports(1)
        self.router.register(HOST + "/dead", ("127.0.0.1", dead))
        self.failed, self.count = [], 0

    def check(self, name, problem):
        self.count += 1
        if problem:
            self.failed.append(name)
            print(f"FAILED {name}: {problem}")

    def way(self, kind, target, headers):
        if kind == "HTTP/1.1":
            return Direct(("127.0.0.1", self.router.http), target, headers)
        if kind == "HTTP/2":
            return OverH2(self.router.https, self.context, target, headers)
        return Direct(self.echo.address, target, headers)

    def tunnel(self, case, target="/echo", headers=()):
        name, data = case
        half_close = "the end" in name
        results = {}
        for kind in ("direct", "HTTP/1.1", "HTTP/2"):
            try:
                connection = self.way(kind, target, headers)
            except OSError as error:
                results[kind] = f"{error}"
                continue
            if connection.status not in (101, 200):
                results[kind] = f"status {connection.status}"
            else:
                results[kind] = verdict(connection, data, half_close)
            connection.close()
        return name, results

    def judge(self, name, results):
        direct = results["direct"]
        for kind in ("HTTP/1.1", "HTTP/2"):
            got = results[kind]
            same = got == direct
            routed = got if isinstance(got, str) else shown(got)
            self.check(f"{kind}: {name}", None if same else f"{routed}; direct: {shown(direct)}")


def handshakes(suite):
    """Tests everything around the tunnel: negotiation, refusals, dead backends, other tokens."""
    for kind in ("HTTP/1.1", "HTTP/2"):

        def upgrade(target, headers=(), kind=kind):
            connection = suite.way(kind, target, headers)
            connection.close()
            return connection

        def attempt(name, check, target, headers=(), kind=kind):
            try:
                suite.check(f"{kind}: {name}", check(upgrade(target, headers, kind)))
            except OSError as error:
                suite.check(f"{kind}: {name}", f"{error}")

        good = 101 if kind == "HTTP/1.1" else 200
        attempt("the handshake's status", lambda c: None if c.status == good else f"{c.status}", "/echo")
        attempt(
            "a subprotocol is negotiated",
            lambda c: None if c.headers.get("sec-websocket-protocol") == "chat" else f"{c.headers}",
            "/echo",
            [("Sec-WebSocket-Protocol", "chat, superchat")],
        )
        attempt(
            "an extension passes untouched",
            lambda c: None if "permessage-deflate" in c.headers.get("sec-websocket-extensions", "") else f"{c.headers}",
            "/deflate",
            [("Sec-WebSocket-Extensions", "permessage-deflate")],
        )
        attempt(
            "no extension is invented",
            lambda c: None if "sec-websocket-extensions" not in c.headers else f"{c.headers}",
            "/echo",
            [("Sec-WebSocket-Extensions", "permessage-deflate")],
        )
        attempt("the backend's headers pass", lambda c: None if c.headers.get("x-served-by") == "wsproto" else f"{c.headers}", "/echo")
        attempt("a refusal passes", lambda c: None if (c.status, c.headers.get("x-reason")) == (403, "because") else f"{c.status} {c.headers}", "/reject")
        attempt("an answer that is no upgrade passes", lambda c: None if c.status == 426 else f"{c.status}", "/plain")
        attempt("a dead backend is a 502", lambda c: None if c.status == 502 else f"{c.status}", "/dead")
        if kind == "HTTP/2":
            attempt(
                "hop-by-hop headers and the accept key stay behind",
                lambda c: None if not {"connection", "upgrade", "sec-websocket-accept"} & set(c.headers) else f"{c.headers}",
                "/echo",
            )
    suite.check("HTTP/1.1: a dead backend leaves the client's connection alive", living(suite))
    suite.check("HTTP/2: a dead backend leaves the client's connection alive", living_h2(suite))
    suite.check("HTTP/1.1: what the backend saw", seen(suite))


def living(suite):
    connection = Direct(("127.0.0.1", suite.router.http), "/dead")
    length = int(connection.headers.get("content-length", "0"))
    while len(connection.rest) < length:
        connection.rest += connection.socket.recv(65536)
    connection.socket.sendall(f"GET /plain HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    answer = connection.socket.recv(65536)
    connection.close()
    return None if connection.status == 502 and b" 426 " in answer[:20] else f"{connection.status}, then {answer[:80]!r}"


def living_h2(suite):
    try:
        connection = OverH2(suite.router.https, suite.context, "/dead")
    except OSError as error:
        return f"{error}"
    connection.status, before, connection.ended = None, connection.status, False
    connection.stream = connection.h2.get_next_available_stream_id()
    connection.h2.send_headers(connection.stream, [(":method", "GET"), (":scheme", "https"), (":path", "/plain"), (":authority", HOST)], end_stream=True)
    connection.flush()
    try:
        connection._pump(lambda: connection.status)
    except OSError as error:
        return f"{error}"
    connection.close()
    return None if (before, connection.status) == (502, 426) else f"{before}, then {connection.status}"


def seen(suite):
    """Checks that the backend of an h2 client saw an HTTP/1.1 handshake (wsproto accepts no other) with the client's headers."""
    connection = Direct(("127.0.0.1", suite.router.http), "/seen", [("X-Mine", "1"), ("Origin", "https://elsewhere.test")])
    connection.close()
    found = [dict(headers) for target, headers in suite.echo.heads if target == "/seen"]
    return None if found and found[0].get(b"x-mine") == b"1" and b"x-forwarded-for" in found[0] and found[0].get(b"origin") else f"{found}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cupola", required=True)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    started = time.monotonic()
    suite = Suite(options.cupola)
    deflate = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(suite.tunnel, [c for c in CASES if options.only in c[0]]))
        results += list(pool.map(lambda c: suite.tunnel(c, "/deflate", deflate), [c for c in WITH_DEFLATE if options.only in c[0]]))
    for name, result in results:
        suite.judge(name, result)
    if not options.only:
        handshakes(suite)
    if suite.router.child.poll() is not None:
        suite.check("the router lives", "it ended")
    print(
        f"websocket: {len(results)} tunnels over two protocols and the handshakes: {suite.count} cases, {suite.count - len(suite.failed)} passed, {len(suite.failed)} failed, {time.monotonic() - started:.0f} s"
    )
    sys.exit(bool(suite.failed))


if __name__ == "__main__":
    main()
