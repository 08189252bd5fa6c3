"""A WebSocket echo server that uses the standard library only; MODE determines how it misbehaves."""
import base64, hashlib, os, socketserver, time

BORN = time.time()


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        request = self.rfile.readline().decode()
        headers = {}
        while (line := self.rfile.readline().decode().strip()):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("upgrade", "").lower() == "websocket":
            key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            self.wfile.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
            while True:
                head = self.rfile.read(2)
                if len(head) < 2 or head[0] & 0x0F == 8:
                    return
                mask, length = self.rfile.read(4), head[1] & 0x7F
                text = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(length)))
                self.wfile.write(bytes([0x81, length]) + text)
        healthy = "/healthy" not in request or time.time() - BORN > 3
        body = b"born" if healthy else b"not yet"
        self.wfile.write(f"HTTP/1.1 {'200 OK' if healthy else '503 Not Yet'}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


time.sleep(float(os.environ.get("LATE", "0")))
Server(("0.0.0.0", int(os.environ["PORT"])), Echo).serve_forever()
