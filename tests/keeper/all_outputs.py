"""The application of a service that uses each kind of output, each time from the files as they are at that moment.

    all_outputs.py DIRECTORY STRANGER SECONDS   once a second, for so many seconds
    all_outputs.py DIRECTORY                    reads each file once, without any server

Prints a JSON object when all went well, else a line with FAILED for each thing that did not; after SECONDS "done".
STRANGER is the PEM file, key and certificate, of a server below the CA that `[trust]` adds.
"""

import json
import os
import ssl
import subprocess
import sys
import time

DIRECTORY = sys.argv[1]
# A static role's password is exchanged on the server, and a moment later in the file.
EXCHANGE = 6


def path(name):
    return os.path.join(DIRECTORY, name)


def read(name):
    with open(path(name), encoding="utf-8") as file:
        return file.read()


def query(service, sql):
    """The answer of PostgreSQL to this, by the files of the preset alone."""
    environment = {"PATH": os.environ["PATH"], "PGSERVICEFILE": path(f"{service}/pg_service.conf"),
                   "PGSERVICE": service, "PGCONNECT_TIMEOUT": "10"}
    answer = subprocess.run(["psql", "-XwAtq", "-v", "ON_ERROR_STOP=1", "-c", sql], env=environment,
                            stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(answer.stderr.strip())
    return answer.stdout.strip()


def query_exchanged(service, sql):
    until = time.monotonic() + EXCHANGE
    while True:
        try:
            return query(service, sql)
        except RuntimeError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def shake_hands(server, client, name):
    """One handshake in memory; gives the serial numbers of the two certificates."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname=name),
            server.wrap_bio(to_server, to_client, server_side=True)]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            # With TLS 1.3 the server judges the client's certificate after the client is done.
            ends[0].write(b"x")
            assert ends[1].read(1) == b"x"
            return [(end.getpeercert() or {}).get("serialNumber") for end in ends]
    raise RuntimeError("the handshake does not end")


def client_context(bundle, pem=None):
    context = ssl.create_default_context(cafile=bundle)
    if pem:
        context.load_cert_chain(pem)
    return context


def server_context(pem, clients=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if clients:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def contexts():
    server = server_context(path("tls.pem"), path("kafka/ca.crt"))
    return server, client_context(path("ca-bundle.crt"), path("kafka/tls.pem"))


def generation():
    return os.readlink(path("..data"))


def read_at_once():
    """A file that is made of several items, and the files of these items, out of one generation."""
    while True:
        shown = generation()
        app = json.loads(read("app.json"))
        parts = {"user": read("orders-db/username"), "limit": read("settings/limit"),
                 "serial": serial_of("tls.crt")}
        if generation() == shown:
            return app, parts


def serial_of(name):
    """The serial number of the first certificate in a file, as Vault writes it."""
    answer = subprocess.run(["openssl", "x509", "-in", path(name), "-noout", "-serial"],
                            capture_output=True, text=True, check=True)
    number = answer.stdout.strip().removeprefix("serial=").lower()
    return ":".join(number[at:at + 2] for at in range(0, len(number), 2))


def use(stranger):
    server, client = contexts()
    own, kafka = shake_hands(server, client, "localhost")
    shake_hands(server_context(stranger), client, "stranger.example.io")
    app, parts = read_at_once()
    made = {"user": app["user"], "limit": str(app["limit"]), "serial": app["serial"]}
    assert made == parts, (made, parts)
    user = query("orders-db", "SELECT current_user")
    query_exchanged("reports-db", "SELECT current_user")
    assert app["hosts"] == ["a", "b"], app
    health = subprocess.run([os.environ["ANTEROOM"], "health"], capture_output=True, text=True,
                            env={"ANTEROOM_SECRETS_DIR": DIRECTORY})
    assert health.returncode == 0, health.stdout + health.stderr
    return {"server": own, "kafka": kafka, "user": user, "password": hash(read("reports-db/password")),
            "limit": parts["limit"], "made_limit": made["limit"]}


def parse():
    """Reads all files as `use` does, as far as that needs no server."""
    shake_hands(*contexts(), "localhost")
    assert json.loads(read("app.json"))["hosts"], "a list"
    for service in ("orders-db", "reports-db"):
        try:
            query(service, "SELECT 1")
        except RuntimeError as error:
            # Names, address and password were read: only the account is invented.
            assert "password authentication failed" in str(error), error
    print("parsed")


def main():
    if len(sys.argv) == 2:
        return parse()
    stranger, seconds = sys.argv[2], float(sys.argv[3])
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        try:
            print(json.dumps(use(stranger)), flush=True)
        except Exception as error:  # Whatever it is, the test shows it.
            print(f"FAILED {type(error).__name__}: {error}", flush=True)
        time.sleep(max(0.0, began + 1 - time.monotonic()))
    print("done", flush=True)


main()
