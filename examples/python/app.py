"""A plain Python program: the standard library is enough to be an app."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        application = json.loads(os.environ.get("VCAP_APPLICATION", "{}"))
        answer = {
            "app": application.get("application_name", "python"),
            "instance": os.environ.get("CF_INSTANCE_INDEX", "0"),
            "path": self.path,
        }
        body = (json.dumps(answer) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8080"))
    print(f"listening on port {port}", flush=True)
    ThreadingHTTPServer(("0.0.0.0", port), App).serve_forever()
