"""A WebSocket echo server on PyPI wsproto. A tunnel must not change what it sends."""

import socket
import threading

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, RejectConnection, Request, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import RemoteProtocolError


class EchoServer:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = self.listener.getsockname()
        self.heads = []  # (target, headers) of each upgrade that arrived
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            stream, _ = self.listener.accept()
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        websocket = WSConnection(ConnectionType.SERVER)
        try:
            while True:
                data = stream.recv(65536)
                try:
                    websocket.receive_data(data or None)
                    for event in websocket.events():
                        if not self._answer(stream, websocket, event):
                            return
                except RemoteProtocolError as error:
                    stream.sendall(websocket.send(error.event_hint))
                    return
                if not data:
                    return
        except OSError:
            pass
        finally:
            stream.close()

    def _answer(self, stream, websocket, event):
        if isinstance(event, Request):
            self.heads.append((event.target, list(event.extra_headers)))
            stream.sendall(websocket.send(self._handshake(event)))
            return not event.target.startswith("/reject")
        if isinstance(event, (TextMessage, BytesMessage)):
            stream.sendall(websocket.send(type(event)(event.data, True, event.message_finished)))
        elif isinstance(event, Ping):
            stream.sendall(websocket.send(event.response()))
        elif isinstance(event, CloseConnection):
            if websocket.state.name in ("REMOTE_CLOSING", "OPEN"):  # open: wsproto's own verdict on bad frames, reported to the peer
                stream.sendall(websocket.send(event.response()))
            return False
        return True

    def _handshake(self, event):
        if event.target.startswith("/reject"):
            return RejectConnection(status_code=403, headers=[(b"content-length", b"0"), (b"x-reason", b"because")], has_body=False)
        chosen = event.subprotocols[0] if event.subprotocols else None
        extensions = [PerMessageDeflate()] if event.target.startswith("/deflate") else []
        return AcceptConnection(subprotocol=chosen, extensions=extensions, extra_headers=[(b"x-served-by", b"wsproto")])
