"""The servers that figures are taken against, real ones on loopback, and the service that they know."""

import contextlib
import http.client
import json
import os
import pathlib
import pwd
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

COMMON_NAME = "timeline.bench.example.io"
TOKEN_ROLE = "timeline-bench"
SIGN = "pki/sign/timeline"
KV = {"payment-api": "kv/data/payment", "partner-api": "kv/data/partner"}
POLICY = f"""
path "{SIGN}" {{ capabilities = ["update"] }}
path "database/creds/*" {{ capabilities = ["read"] }}
path "kv/data/*" {{ capabilities = ["read"] }}
path "sys/leases/revoke" {{ capabilities = ["update"] }}
"""


def manifest(database="timeline", certificate="24h", java=True, kv=True, **tables):
    """The service's manifest: what it wants, and what each table says besides."""
    text = ""

    def add(name, **keys):
        nonlocal text
        text += f"[{name}]\n"
        for key, value in (keys | tables.get(name, {})).items():
            text += f"{key} = {json.dumps(value)}\n"
        text += "\n"

    add("service", app="timeline", environment="bench")
    add("token", creation_path=f"auth/token/create/{TOKEN_ROLE}")
    if certificate:
        add("certificate", mount="pki", role="timeline", common_name=COMMON_NAME, dns_names=["localhost"],
            ttl=certificate)
        if java:
            add("java")
    if database:
        add("dependencies.orders-db", path=f"database/creds/{database}")
    for name, path in KV.items() if kv else ():
        add(f"dependencies.{name}", path=path, fields=["api_key"])
    for name in {"secrets", "process"} & set(tables):
        add(name)
    return text


def free_port():
    # Below the kernel's range for outgoing connections.
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(what, ready, limit=30.0):
    until = time.monotonic() + limit
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ready():
                return
        time.sleep(0.05)
    sys.exit(f"bench: {what} did not start")


class Server:
    """A process that is ended on exit."""

    def __init__(self, stack, command, log, stop=signal.SIGTERM, **options):
        self.log = open(log, "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **options)
        stack.callback(self.end, stop)

    def end(self, stop):
        """Ends it, unless it has ended."""
        self.process.send_signal(stop)
        self.process.wait()
        self.log.close()


class Postgres:
    USER, PASSWORD = "bench", "bench-password"

    def __init__(self, stack, directory):
        binaries = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))[-1]
        directory.mkdir()
        (directory / "password").write_text(self.PASSWORD)
        options = {"cwd": directory}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (directory, directory / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        subprocess.run(
            [binaries / "initdb", "--auth=scram-sha-256", f"--username={self.USER}", "--pwfile=password", "--no-sync",
             "--encoding=UTF8", "--no-locale", "--pgdata=data"],
            check=True, stdout=subprocess.DEVNULL, **options)
        self.port = free_port()
        Server(stack, [binaries / "postgres", "-D", "data", "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                       "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=200"],
               directory / "log", signal.SIGQUIT, **options)
        wait_until("PostgreSQL", lambda: subprocess.run(
            [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode == 0)


class OpenBao:
    """A server with everything that the service of the manifest needs.

    With `tells_requests` its log tells each request that it answered, also while it is sealed.
    """

    def __init__(self, stack, directory, postgres, tls, tells_requests=False):
        directory.mkdir()
        self.directory, self.port, self.tls = directory, free_port(), tls
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.ca = self.certificate() if tls else None
        self.context = ssl.create_default_context(cafile=self.ca) if tls else None
        storage = f'storage "raft" {{\n  path = "{directory}/raft"\n  node_id = "only"\n}}' if tls \
            else 'storage "inmem" {}'
        listener = f'tls_cert_file = "{directory}/server.pem"\n  tls_key_file = "{directory}/server.key"' if tls \
            else "tls_disable = true"
        log = 'log_level = "info"\nlog_requests_level = "info"\nlog_format = "json"' if tells_requests \
            else 'log_level = "warn"'
        (directory / "raft").mkdir()
        cluster = free_port()
        (directory / "config.hcl").write_text(f"""
{log}
api_addr = "{self.address}"
cluster_addr = "https://127.0.0.1:{cluster}"
{storage}
listener "tcp" {{
  address = "127.0.0.1:{self.port}"
  cluster_address = "127.0.0.1:{cluster}"
  {listener}
}}
""")
        self.log = directory / "log"
        self.start(stack)
        self.token = None
        wait_until("OpenBao", lambda: self.health() in (200, 429, 501, 503))
        init = self.ok("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.token, self.key = init["root_token"], init["keys"][0]
        self.unseal()
        self.set_up(postgres)

    def start(self, stack):
        self.server = Server(stack, [ROOT / ".cache/bao", "server", f"-config={self.directory}/config.hcl"], self.log,
                             signal.SIGKILL)

    def health(self):
        return self.request("GET", "sys/health")[0]

    def unseal(self):
        wait_until("OpenBao", lambda: self.health() == 503)
        self.ok("PUT", "sys/unseal", {"key": self.key})
        wait_until("OpenBao", lambda: self.health() == 200)

    def certificate(self):
        """A CA and the server's certificate; gives the CA's file."""
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], check=True, cwd=self.directory, stderr=subprocess.DEVNULL)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        openssl("req", "-x509", *key, "-subj", "/CN=Bench Vault CA", "-keyout", "ca.key", "-out", "ca.pem")
        openssl("req", "-x509", *key, "-subj", "/CN=Bench Vault", "-addext", "subjectAltName=IP:127.0.0.1", "-addext",
                "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key",
                "-out", "server.pem")
        return str(self.directory / "ca.pem")

    def connect(self):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context) if self.tls \
            else http.client.HTTPConnection("127.0.0.1", self.port)

    def request(self, method, path, body=None, headers=(), connection=None):
        with contextlib.nullcontext(connection) if connection else contextlib.closing(self.connect()) as connection:
            headers = dict(headers) | ({"X-Vault-Token": self.token} if self.token else {})
            connection.request(method, f"/v1/{path}", json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else {}

    def ok(self, *request, **options):
        status, answer = self.request(*request, **options)
        if status >= 300:
            sys.exit(f"bench: {request}: {status} {answer}")
        return answer

    def set_up(self, postgres):
        for mount, kind, options in (("pki-root", "pki", {}), ("pki", "pki", {}), ("database", "database", {}),
                                     ("kv", "kv", {"version": "2"})):
            self.ok("POST", f"sys/mounts/{mount}",
                    {"type": kind, "options": options, "config": {"max_lease_ttl": "87600h"}})
        subject = {"key_type": "ec", "ttl": "87600h"}
        root = self.ok("POST", "pki-root/root/generate/internal", subject | {"common_name": "Bench Root CA"})
        csr = self.ok("POST", "pki/intermediate/generate/internal", subject | {"common_name": "Bench Intermediate CA"})
        signed = self.ok("POST", "pki-root/root/sign-intermediate",
                         {"csr": csr["data"]["csr"], "common_name": "Bench Intermediate CA", "ttl": "43800h"})
        self.ok("POST", "pki/intermediate/set-signed",
                {"certificate": signed["data"]["certificate"] + "\n" + root["data"]["certificate"] + "\n"})
        self.ok("POST", "pki/roles/timeline", {"allowed_domains": [COMMON_NAME, "localhost"],
                                               "allow_bare_domains": True, "key_type": "any", "max_ttl": "72h"})
        self.ok("POST", "database/config/postgres", {
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*",
            "connection_url": "postgresql://{{username}}:{{password}}"
                              f"@127.0.0.1:{postgres.port}/postgres?sslmode=disable",
            "username": postgres.USER, "password": postgres.PASSWORD})
        self.database_role("timeline", "1h")
        # A new store of version 2 answers 400 while it sets itself up.
        wait_until("the KV store", lambda: self.request("POST", "kv/data/payment",
                                                        {"data": {"api_key": "bench-4711"}})[0] == 200)
        self.ok("POST", "kv/data/partner", {"data": {"api_key": "bench-0815"}})
        self.ok("PUT", "sys/policies/acl/timeline-bench", {"policy": POLICY})
        self.ok("POST", f"auth/token/roles/{TOKEN_ROLE}",
                {"orphan": True, "renewable": True, "allowed_policies": ["timeline-bench"]})

    def database_role(self, name, ttl):
        """Credentials that live so long whenever they are renewed."""
        self.ok("POST", f"database/roles/{name}", {
            "db_name": "postgres", "default_ttl": ttl, "max_ttl": "24h",
            "creation_statements":
                ["CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"]})

    def mint(self, period=None, connection=None):
        """A wrapping token of a client token that lives 1 h, or this long whenever it is renewed."""
        life = {"period": period} if period else {"ttl": "1h"}
        answer = self.ok("POST", f"auth/token/create/{TOKEN_ROLE}", life, {"X-Vault-Wrap-TTL": "30s"},
                         connection=connection)
        return answer["wrap_info"]["token"]


class Delay:
    """A proxy that adds a round trip time, as far as a proxy can: half of it each way, and one for the handshake."""

    def __init__(self, stack, port, seconds):
        self.target, self.seconds = port, seconds
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        stack.callback(self.listener.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.carry(client, server, self.seconds)
                self.carry(server, client, 0)

    def carry(self, source, sink, handshake):
        """Passes on what comes, each piece half a round trip later, the first one also as late as a handshake is."""
        queue, ready = [], threading.Condition()

        def read():
            extra = handshake
            while True:
                try:
                    piece = source.recv(65536)
                except OSError:
                    piece = b""
                with ready:
                    queue.append((time.perf_counter() + self.seconds / 2 + extra, piece))
                    ready.notify()
                extra = 0
                if not piece:
                    return

        def write():
            while True:
                with ready:
                    while not queue:
                        ready.wait()
                    due, piece = queue.pop(0)
                time.sleep(max(0.0, due - time.perf_counter()))
                with contextlib.suppress(OSError):
                    if not piece:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(piece)

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()
