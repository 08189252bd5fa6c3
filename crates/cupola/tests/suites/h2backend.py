"""An HTTP/2 backend over TLS on PyPI h2: echoes each DATA frame at once and ends with trailers, as a gRPC service does; some paths
do something else."""

import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions

SILENT = ("/never", "/deaf")  # paths that are not answered; what is sent to the latter is not read


class H2Backend:
    def __init__(self, context):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self.listener.getsockname()
        self.context = context
        self.requests, self.resets = [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        try:
            stream = self.context.wrap_socket(stream, server_side=True)
            if stream.selected_alpn_protocol() != "h2":
                return
            h2_ = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
            h2_.initiate_connection()
            stream.sendall(h2_.data_to_send())
            paths, waiting = {}, {}
            while data := stream.recv(65536):
                for event in h2_.receive_data(data):
                    try:
                        self._answer(h2_, event, paths, waiting)
                    except h2.exceptions.StreamClosedError:
                        pass  # it was cancelled in the flight that it came with
                self._flush(h2_, waiting)
                stream.sendall(h2_.data_to_send())
        except OSError:
            pass
        finally:
            stream.close()

    def _answer(self, h2_, event, paths, waiting):
        if isinstance(event, h2.events.RequestReceived):
            headers = dict(event.headers)
            paths[event.stream_id] = headers[":path"]
            self.requests.append(headers)
            if headers[":path"] == "/refused":
                h2_.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")], end_stream=True)
            elif headers[":path"] == "/reset":
                h2_.reset_stream(event.stream_id, 7)
            elif headers[":path"] in SILENT:
                pass
            elif headers[":path"].startswith("/big/"):
                h2_.send_headers(event.stream_id, [(":status", "200")])
                waiting[event.stream_id] = [bytes(int(headers[":path"][5:])), True]
            else:
                h2_.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc"), ("x-version", "2")])
        elif isinstance(event, h2.events.DataReceived):
            if paths[event.stream_id] != "/deaf":
                h2_.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if paths[event.stream_id] not in ("/refused", "/reset", *SILENT):
                waiting.setdefault(event.stream_id, [b"", False])[0] += event.data
        elif isinstance(event, h2.events.StreamEnded):
            if paths[event.stream_id] not in ("/refused", "/reset", *SILENT):
                waiting.setdefault(event.stream_id, [b"", False])[1] = True
        elif isinstance(event, h2.events.StreamReset):
            self.resets.append((paths.get(event.stream_id), event.error_code))
            waiting.pop(event.stream_id, None)

    def _flush(self, h2_, waiting):
        for number, entry in list(waiting.items()):
            try:
                while entry[0]:
                    room = min(h2_.local_flow_control_window(number), h2_.max_outbound_frame_size, len(entry[0]))
                    if room <= 0:
                        break
                    h2_.send_data(number, entry[0][:room])
                    entry[0] = entry[0][room:]
                if entry[1] and not entry[0]:
                    h2_.send_headers(number, [("grpc-status", "0"), ("grpc-message", "fine")], end_stream=True)
                    del waiting[number]
            except h2.exceptions.H2Error:
                waiting.pop(number, None)
