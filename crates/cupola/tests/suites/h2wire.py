"""HTTP/2 as raw frames: a client that can send everything that must not be sent, and reads what comes back."""

import socket
import struct
import time

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
NAMES = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"]
END_STREAM, ACK, END_HEADERS, PADDED, PRIO = 1, 1, 4, 8, 0x20
ERRORS = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
]


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def window(stream, increment):
    return frame(WINDOW, 0, stream, struct.pack(">I", increment))


def rst(stream, code=8):
    return frame(RST, 0, stream, struct.pack(">I", code))


def goaway(last=0, code=0, debug=b""):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)


def ping(data=b"pingpong", flags=0):
    return frame(PING, flags, 0, data)


def integer(value, prefix, first=0):
    """Encodes an integer as RFC 7541 section 5.1 defines it."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes([first | value])
    out = bytearray([first | limit])
    value -= limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    out.append(value)
    return bytes(out)


def text(value):
    value = value.encode("latin-1") if isinstance(value, str) else value
    return integer(len(value), 7) + value


def literal(name, value):
    """Encodes a field that is never indexed and never Huffman-coded, so the state of the peer's table does not change."""
    return b"\x00" + text(name) + text(value)


def block(pairs):
    return b"".join(literal(name, value) for name, value in pairs)


def request(host, path="/case", method="GET", scheme="https", more=()):
    return [(":method", method), (":scheme", scheme), (":authority", host), (":path", path), *more]


def headers(stream, pairs, flags=END_STREAM | END_HEADERS):
    return frame(HEADERS, flags, stream, pairs if isinstance(pairs, bytes) else block(pairs))


class Frame:
    def __init__(self, kind, flags, stream, payload):
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload

    def code(self):
        """Returns the error code of RST_STREAM or GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        number = struct.unpack(">I", self.payload[at : at + 4])[0]
        return ERRORS[number] if number < len(ERRORS) else str(number)

    def __repr__(self):
        name = NAMES[self.kind] if self.kind < len(NAMES) else f"type {self.kind}"
        detail = f" {self.code()}" if self.kind in (RST, GOAWAY) else ""
        return f"{name}(stream {self.stream}, flags {self.flags:#x}, {len(self.payload)} B{detail})"


class Stream:
    """The frames that were received for one stream."""

    def __init__(self):
        self.informational, self.headers, self.trailers = [], None, None
        self.body, self.reset, self.ended = b"", None, False

    @property
    def status(self):
        return int(dict(self.headers)[":status"]) if self.headers else None


class Client:
    """A connection. `first` is the client's SETTINGS; with None it sends no preface at all."""

    def __init__(self, port, context, host, first=b"", preface=PREFACE):
        plain = socket.create_connection(("127.0.0.1", port), 30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname=host)
        assert self.socket.selected_alpn_protocol() == "h2", "no h2 over ALPN"
        self.host = host
        self.buffer, self.frames, self.streams = b"", [], {}
        self.goaway, self.closed = None, False
        self.auto = True  # gives back every window that a response takes
        self.settings, self.decoder, self.fragment = {}, hpack.Decoder(), None
        if first is not None:
            self.send(preface + frame(SETTINGS, 0, 0, first))

    def send(self, data):
        """Sends bytes. A peer that has closed is not an error here, because what it sent before is still read."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def close(self):
        self.socket.close()

    def stream(self, number):
        return self.streams.setdefault(number, Stream())

    def read(self, seconds):
        """Reads whatever arrives next within this number of seconds. Returns False if nothing arrived."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        self.buffer += data
        while len(self.buffer) >= 9:
            size = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + size:
                break
            kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
            got = Frame(kind, flags, stream & 0x7FFFFFFF, self.buffer[9 : 9 + size])
            self.buffer = self.buffer[9 + size :]
            self._take(got)
        return True

    def until(self, is_so, seconds=10.0):
        """Reads until the condition holds, the peer closes, or the time is over."""
        end = time.monotonic() + seconds
        while not is_so() and not self.closed:
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.read(left)
        return bool(is_so())

    def over(self, number):
        stream = self.stream(number)
        return stream.ended or stream.reset is not None

    def alive(self, seconds=10.0):
        """Returns whether a PING is answered."""
        mark = struct.pack(">Q", time.monotonic_ns())
        self.send(ping(mark))
        return self.until(lambda: any(f.kind == PING and f.flags & ACK and f.payload == mark for f in self.frames), seconds)

    def _take(self, got):
        self.frames.append(got)
        if got.kind == SETTINGS and not got.flags & ACK:
            for at in range(0, len(got.payload), 6):
                key, value = struct.unpack(">HI", got.payload[at : at + 6])
                self.settings[key] = value
            self.send(frame(SETTINGS, ACK))
        elif got.kind == PING and not got.flags & ACK:
            self.send(frame(PING, ACK, 0, got.payload))
        elif got.kind == GOAWAY:
            self.goaway = got
        elif got.kind == RST:
            self.stream(got.stream).reset = got.code()
        elif got.kind == DATA:
            stream = self.stream(got.stream)
            data = got.payload
            if got.flags & PADDED:
                data = data[1 : len(data) - data[0]]
            stream.body += data
            stream.ended |= bool(got.flags & END_STREAM)
            if self.auto and got.payload:
                self.send(window(0, len(got.payload)) + (b"" if stream.ended else window(got.stream, len(got.payload))))
        elif got.kind in (HEADERS, CONTINUATION):
            self._head(got)

    def _head(self, got):
        if got.kind == HEADERS:
            data = got.payload
            if got.flags & PADDED:
                data = data[1 : len(data) - data[0]]
            self.fragment = [data[5:] if got.flags & PRIO else data, bool(got.flags & END_STREAM)]
        else:
            self.fragment[0] += got.payload
        if not got.flags & END_HEADERS:
            return
        stream, (data, ended) = self.stream(got.stream), self.fragment
        pairs = [(str(k), str(v)) for k, v in self.decoder.decode(data)]
        status = dict(pairs).get(":status")
        if status and status.startswith("1"):
            stream.informational.append(pairs)
        elif stream.headers is None:
            stream.headers = pairs
        else:
            stream.trailers = pairs
        stream.ended |= ended
