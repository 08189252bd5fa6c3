"""A route service: it sends each request on to the URL that the router names, with the router's proof, and copies the answer back.

It adds the header X-Visited, so that an app sees who was here. WebSockets pass too. The standard library is enough.
"""

import http.server
import os
import select
import socket
import ssl
import urllib.parse

PATIENCE = 20
NAME = os.environ.get("NAME", "gate")
# These describe one connection, or are written anew.
DROPPED = {"host", "connection", "keep-alive", "x-visited"}


def authorities():
    """Returns the file with the authorities that the router's certificate must have."""
    folder = os.environ.get("CF_SYSTEM_CERT_PATH")
    return os.environ.get("CA") or (folder and os.path.join(folder, "trusted-ca.crt"))


def relay(one, other, patience):
    """Copies bytes both ways until one side ends, or until none came for so many seconds."""
    while True:
        waiting = [s for s in (one, other) if isinstance(s, ssl.SSLSocket) and s.pending()]
        for side in waiting or select.select([one, other], [], [], patience)[0]:
            data = side.recv(65536)
            if not data:
                return
            (other if side is one else one).sendall(data)
            waiting = True
        if not waiting:
            return


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def forward(self):
        self.close_connection = True
        forwarded = self.headers.get("X-CF-Forwarded-Url")
        if forwarded is None:
            # Nobody sent this request on its way, so there is no way back.
            self.answer(400, "this is a route service: bind a route to it\n")
            return
        print(f"{self.command} {forwarded}", flush=True)
        url = urllib.parse.urlsplit(forwarded)
        upgrade = self.headers.get("Upgrade")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        fields = [(n, v) for n, v in self.headers.items() if n.lower() not in DROPPED]
        fields += [("Host", url.netloc), ("Connection", "Upgrade" if upgrade else "close"), ("X-Visited", NAME)]
        head = f"{self.command} {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields) + "\r\n"
        try:
            plain = socket.create_connection((url.hostname, url.port or 443), PATIENCE)
            router = TRUST.wrap_socket(plain, server_hostname=url.hostname)
        except OSError as error:
            self.answer(502, f"the router cannot be reached: {error}\n")
            return
        with router:
            router.sendall(head.encode("latin-1") + body)
            relay(self.connection, router, None if upgrade else PATIENCE)

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = forward


class Server(http.server.ThreadingHTTPServer):
    """A server that shakes hands in the thread of each connection, so that a slow client holds nobody up."""

    tls = None

    def process_request_thread(self, request, client_address):
        if self.tls is not None:
            try:
                request.settimeout(PATIENCE)
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                self.shutdown_request(request)
                return
        super().process_request_thread(request, client_address)


if __name__ == "__main__":
    TRUST = ssl.create_default_context(cafile=authorities())
    port = int(os.environ.get("PORT", "8080"))
    server = Server(("0.0.0.0", port), Service)
    if os.environ.get("CERT"):
        Server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        Server.tls.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
    print(f"listening on port {port}", flush=True)
    server.serve_forever()
