"""A backend that keeps the exact bytes it got, connection by connection, and answers each request with what it saw."""

import socket
import threading

import strict


class Connection:
    def __init__(self, number):
        self.number = number
        self.data = b""
        self.closed = False
        self.seen = 0  # what an earlier look has taken
        self.last = False  # the answer that is given now ends the connection


class Recorder:
    """Listens on a free loopback port. `respond(message, connection)` may be replaced; it returns bytes, or None to close.

    `early(head)` may answer a request whose body is not there yet: after that answer the connection only listens.
    """

    def __init__(self, respond=None, tls=None, early=None):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = self.listener.getsockname()
        self.respond = respond or echo
        self.early = early or (lambda head: None)
        self.tls = tls
        self.lock = threading.Lock()
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def take(self):
        """Returns what was received since the last call: [(connection number, requests, state, closed, bytes)]."""
        taken = []
        with self.lock:
            for connection in self.connections:
                new = connection.data[connection.seen :]
                if not new:
                    continue
                found, state, rest = strict.requests(new)
                taken.append((connection.number, found, state, connection.closed, new))
                connection.seen += rest if state == "incomplete" and not connection.closed else len(new)
        return taken

    def _accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                connection = Connection(len(self.connections) + 1)
                self.connections.append(connection)
            threading.Thread(target=self._serve, args=(stream, connection), daemon=True).start()

    def _serve(self, stream, connection):
        try:
            if self.tls:
                stream = self.tls.wrap_socket(stream, server_side=True)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._answer(stream, connection)
        except OSError:
            pass
        finally:
            stream.close()
            with self.lock:
                connection.closed = True

    def _answer(self, stream, connection):
        at, continued = 0, -1
        while data := stream.recv(1 << 20):  # a large head is parsed a few times, not once for each 64 KiB
            with self.lock:
                connection.data += data
            while at < len(connection.data):
                try:
                    message, end = strict.request(connection.data, at)
                except strict.Incomplete:
                    head, ends, _ = connection.data[at:].partition(b"\r\n\r\n")
                    if ends and (answer := self.early(head)):
                        stream.sendall(answer)
                        while stream.recv(65536):
                            pass
                        return
                    if ends and b"expect: 100-continue" in head.lower() and continued != at:
                        continued = at
                        stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    break
                except strict.Malformed:
                    stream.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\nConnection: close\r\n\r\nambiguous")
                    return
                at = end
                answer = self.respond(message, connection)
                if answer is None:
                    return
                stream.sendall(answer)
                if connection.last:
                    return


def reply(body, status="200 OK", headers=()):
    body = body if isinstance(body, bytes) else body.encode()
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def echo(message, connection):
    answer = reply(f"target={message.target} conn={connection.number} body={len(message.body)}; mine={message.get('x-mine')}")
    if message.start[0] == "HEAD":
        answer = answer[: answer.index(b"\r\n\r\n") + 4]
    return answer
