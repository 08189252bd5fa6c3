"""Starts the programs of a run on free loopback ports, and ends them in every case: nats-server, our router, nginx, HAProxy."""

import atexit
import base64
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request

PATIENCE = 60
_children = []
_folders = []


def end_all():
    for child in reversed(_children):
        child.terminate()
    for child in reversed(_children):
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    _children.clear()
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)


atexit.register(end_all)
signal.signal(signal.SIGTERM, lambda *_: exit(1))


def folder():
    path = tempfile.mkdtemp(prefix="cupola-suites-")
    os.chmod(path, 0o755)
    _folders.append(path)
    return path


def free_ports(count):
    """Returns ports that differ, below those that the kernel gives to clients and to listeners on port 0: no other program binds
    one by chance before the start below does."""
    sockets = []
    while len(sockets) < count:
        try:
            sockets.append(socket.create_server(("127.0.0.1", random.randrange(20_000, 32_000))))
        except OSError:
            pass  # this one is taken
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def spawn(arguments, log):
    with open(log, "wb") as sink:
        child = subprocess.Popen(arguments, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    _children.append(child)
    return child


def wait_for(what, is_so, child=None, log=None):
    started = time.monotonic()
    while True:
        try:
            if is_so():
                return
        except OSError:
            pass
        ended = child is not None and child.poll() is not None
        if ended or time.monotonic() - started > PATIENCE:
            printed = open(log, errors="replace").read()[-2000:] if log else ""
            raise SystemExit(f"{what} did not become ready{' (it ended)' if ended else ''}\n{printed}")
        time.sleep(0.01)


def listens(port):
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True


class Certificates:
    """An authority, and one certificate for *.lab.test and for the TLS backends."""

    def __init__(self):
        at = self.at = folder()

        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=at)

        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=suites ca")
        openssl("req", *curve, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=suites")
        with open(f"{at}/ext", "w") as ext:
            ext.write("subjectAltName=DNS:*.lab.test,DNS:backend.internal")
        openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "leaf.pem", "-days", "2", "-extfile", "ext")
        with open(f"{at}/both.pem", "w") as both:
            both.write(self.read("leaf.pem") + self.read("leaf.key"))

    def read(self, name):
        with open(f"{self.at}/{name}") as file:
            return file.read()

    def server(self, *protocols):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{self.at}/leaf.pem", f"{self.at}/leaf.key")
        context.set_alpn_protocols(list(protocols))
        return context

    def client(self, *protocols):
        context = ssl.create_default_context(cafile=f"{self.at}/ca.pem")
        context.set_alpn_protocols(list(protocols))
        return context


class Router:
    """`cupola router -c gorouter.yml` with a nats-server of its own. `keys` go into the gorouter.yml as they are."""

    def __init__(self, cupola, certificates, **keys):
        at = folder()
        nats, self.http, self.https, self.routes, health = free_ports(5)
        self.certificates = certificates
        child = spawn(["nats-server", "-a", "127.0.0.1", "-p", str(nats)], f"{at}/nats.log")
        wait_for("nats-server", lambda: listens(nats), child, f"{at}/nats.log")
        self.access_log = f"{at}/access.log"
        config = {
            "status": {"host": "127.0.0.1", "port": health, "user": "u", "pass": "p", "routes": {"port": self.routes}},
            "nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats}]},
            "logging": {"level": "info"},
            "access_log": {"file": self.access_log},
            "port": self.http,
            "ssl_port": self.https,
            "enable_ssl": True,
            "tls_pem": [{"cert_chain": certificates.read("leaf.pem"), "private_key": certificates.read("leaf.key")}],
            "ca_certs": certificates.read("ca.pem"),
            "min_tls_version": "TLSv1.2",
            "max_tls_version": "TLSv1.3",
            "client_cert_validation": "none",
            "start_response_delay_interval": "0s",
            "disable_keep_alives": False,
            "max_idle_conns_per_host": 100,
            "backends": {"max_attempts": 3},
            "go_max_procs": 2,
            **keys,
        }
        with open(f"{at}/gorouter.yml", "w") as file:
            json.dump(config, file)  # JSON is YAML
        self.log = f"{at}/router.log"
        child = spawn([cupola, "router", "-c", f"{at}/gorouter.yml"], self.log)
        self.pid = child.pid
        self.child = child
        for port in (self.http, self.https):
            wait_for("the router", lambda: listens(port), child, self.log)
        self.bus = socket.create_connection(("127.0.0.1", nats))
        self.bus.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')

    def register(self, uri, address, **more):
        """Registers a backend, as plain HTTP/1.1 unless `more` changes that. Returns when the router has it."""
        message = {"uris": [uri], "host": address[0], "port": address[1], "app": "app-" + uri, "private_instance_id": "i-" + uri, **more}
        payload = json.dumps(message).encode()

        def there():  # sent again until it is, as emitters do: the router may not have subscribed yet
            self.bus.sendall(b"PUB router.register %d\r\n%s\r\n" % (len(payload), payload))
            return uri in self.table()

        wait_for(f"the route {uri}", there, self.child, self.log)

    def table(self):
        ask = urllib.request.Request(f"http://127.0.0.1:{self.routes}/routes")
        ask.add_header("Authorization", "Basic " + base64.b64encode(b"u:p").decode())
        with urllib.request.urlopen(ask, timeout=20) as answer:
            return json.load(answer)

    def memory(self):
        """Returns the number of resident bytes."""
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def cpu(self):
        """Returns the seconds of CPU time so far."""
        with open(f"/proc/{self.pid}/stat") as stat:
            parts = stat.read().rsplit(")", 1)[1].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


class Nginx:
    """One plain and one TLS (h2) port per backend, with keep-alive to it."""

    name = "nginx"

    def __init__(self, certificates, backends):
        at = folder()
        ports = free_ports(2 * len(backends))
        self.http, self.https = ports[: len(backends)], ports[len(backends) :]
        servers = ""
        for n, (http, https, backend) in enumerate(zip(self.http, self.https, backends)):
            servers += f"""
  upstream b{n} {{ server {backend[0]}:{backend[1]}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl http2;
    ssl_certificate {certificates.at}/leaf.pem; ssl_certificate_key {certificates.at}/leaf.key;
    location / {{ proxy_pass http://b{n}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_request_buffering off; }}
  }}"""
        paths = " ".join(f"{kind}_temp_path {at}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(f"{at}/nginx.conf", "w") as file:
            file.write(f"daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\nevents {{ worker_connections 1024; }}\n")
            file.write(f"http {{ access_log off; {paths} {servers}\n}}\n")
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        child = spawn([program, "-c", f"{at}/nginx.conf", "-e", f"{at}/error.log"], f"{at}/out")
        for port in ports:
            wait_for("nginx", lambda: listens(port), child, f"{at}/error.log")


class Haproxy:
    """One plain and one TLS (h2) port per backend, with keep-alive to it, as for Nginx."""

    name = "haproxy"

    def __init__(self, certificates, backends):
        at = folder()
        ports = free_ports(2 * len(backends))
        self.http, self.https = ports[: len(backends)], ports[len(backends) :]
        text = "global\n  nbthread 1\ndefaults\n  mode http\n  option forwardfor\n  http-reuse always\n"
        text += "  timeout client 10s\n  timeout server 10s\n  timeout connect 5s\n  timeout http-request 5s\n"
        for n, (http, https, backend) in enumerate(zip(self.http, self.https, backends)):
            text += f"frontend f{n}\n  bind 127.0.0.1:{http}\n  bind 127.0.0.1:{https} ssl crt {certificates.at}/both.pem alpn h2,http/1.1\n"
            text += f"  default_backend b{n}\nbackend b{n}\n  server s {backend[0]}:{backend[1]}\n"
        with open(f"{at}/haproxy.cfg", "w") as file:
            file.write(text)
        program = shutil.which("haproxy") or "/usr/sbin/haproxy"
        child = spawn([program, "-db", "-f", f"{at}/haproxy.cfg"], f"{at}/log")
        for port in ports:
            wait_for("haproxy", lambda: listens(port), child, f"{at}/log")
