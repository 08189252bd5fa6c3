"""An app that uses a PostgreSQL database with nothing but Python's own library: it speaks the server's protocol.

GET /sql?q=STATEMENT runs a statement on a connection that stays open, and returns the first column of the first row.
GET /new?q=STATEMENT does the same on a new connection. The address and the account are those of VCAP_SERVICES.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import secrets
import socket
import ssl
import struct
import urllib.parse


def credentials():
    services = json.loads(os.environ["VCAP_SERVICES"])
    return services["postgres"][0]["credentials"]


class Connection:
    def __init__(self, account):
        plain = socket.create_connection((account["host"], account["port"]), 10)
        plain.sendall(struct.pack("!ii", 8, 80877103))
        assert plain.recv(1) == b"S", "the server has no TLS"
        # The authority comes with the credentials, and the certificate must be valid for the address.
        context = ssl.create_default_context(cadata=account["ca_certificate"])
        self.socket = context.wrap_socket(plain, server_hostname=account["host"])
        self.rest = b""
        words = ["user", account["user"], "database", account["database"], ""]
        body = struct.pack("!i", 196608) + b"".join(w.encode() + b"\0" for w in words)
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self.login(account["password"])

    def send(self, kind, body):
        self.socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def take(self, count):
        while len(self.rest) < count:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError("the server has closed the connection")
            self.rest += more
        part, self.rest = self.rest[:count], self.rest[count:]
        return part

    def message(self):
        kind = self.take(1)
        body = self.take(struct.unpack("!i", self.take(4))[0] - 4)
        if kind == b"E":
            raise RuntimeError(body.replace(b"\0", b" ").decode())
        return kind, body

    def login(self, password):
        nonce = secrets.token_hex(16)
        first = f"n=,r={nonce}"
        kind, body = self.message()
        assert kind == b"R" and body[:4] == struct.pack("!i", 10), (kind, body)
        hello = b"n,," + first.encode()
        self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(hello)) + hello)
        answer = self.message()[1][4:].decode()
        parts = dict(part.split("=", 1) for part in answer.split(","))
        salt, rounds = base64.b64decode(parts["s"]), int(parts["i"])
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
        key = hmac.digest(salted, b"Client Key", "sha256")
        last = f"c=biws,r={parts['r']}"
        text = f"{first},{answer},{last}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), text, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        self.send(b"p", f"{last},p={proof}".encode())
        while self.message()[0] != b"Z":
            pass

    def query(self, statement):
        self.send(b"Q", statement.encode() + b"\0")
        found = "none"
        while True:
            kind, body = self.message()
            if kind == b"D" and found == "none":
                length = struct.unpack("!i", body[2:6])[0]
                found = body[6 : 6 + length].decode() if length >= 0 else "null"
            if kind == b"Z":
                return found


OPEN = []


def answer(path):
    url = urllib.parse.urlsplit(path)
    if url.path not in ("/sql", "/new"):
        return "ready"
    statement = urllib.parse.parse_qs(url.query)["q"][0]
    if url.path == "/new":
        return Connection(credentials()).query(statement)
    if not OPEN:
        OPEN.append(Connection(credentials()))
    try:
        return OPEN[0].query(statement)
    except (OSError, RuntimeError):
        OPEN.clear()
        raise


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            status, text = 200, answer(self.path)
        except Exception as error:  # The story reads why.
            status, text = 500, f"{type(error).__name__}: {error}"
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    http.server.HTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
