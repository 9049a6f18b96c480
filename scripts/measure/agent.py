"""The agent on a Docker engine: how late a token comes, how many containers at once, and its memory."""

import concurrent.futures
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from measure.figures import spread, table, verdict
from measure.servers import TOKEN_ROLE, Server, free_port, manifest, wait_until

# As the `docker` command finds it.
DOCKER = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
LABELS = {"bench.app": "timeline", "bench.environment": "bench"}
# What the agent may do: what `anteroom policy --minter` prints.
POLICY = f"""
path "auth/token/create/{TOKEN_ROLE}" {{
  capabilities = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "30s"
}}
path "auth/token/revoke-accessor" {{ capabilities = ["update"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "auth/token/renew-self" {{ capabilities = ["update"] }}
path "auth/token/revoke-self" {{ capabilities = ["update"] }}
"""
# Says that it runs, in a directory of the host's, and goes on.
APPLICATION = ["/busybox", "sh", "-c", ": >/out/$NAME; exec /busybox sleep 3600"]
# Ends as soon as its token is there.
TAKER = ["/busybox", "sh", "-c", "until [ -s /run/secrets/.anteroom-token ]; do /busybox usleep 20000; done"]
AT_ONCE = 20


class Engine(http.client.HTTPConnection):
    """Docker's API without its command line, which would cost more than what is measured."""

    def __init__(self):
        super().__init__("localhost", timeout=300)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(DOCKER)

    def ask(self, method, path, body=None):
        self.request(method, path, json.dumps(body) if body is not None else None,
                     {"Content-Type": "application/json"})
        answer = self.getresponse()
        text = answer.read()
        if answer.status >= 400 and answer.status != 404:
            sys.exit(f"bench: Docker, {method} {path}: {answer.status} {text.decode(errors='replace')}")
        try:
            return json.loads(text)
        except ValueError:
            # Nothing, or one object a line.
            return text


def ask(method, path, body=None):
    with contextlib.closing(Engine()) as engine:
        return engine.ask(method, path, body)


class Containers:
    """Containers of one image, removed at the end."""

    def __init__(self, stack, bench, bao):
        self.bench, self.bao = bench, bao
        self.tag = f"anteroom-bench-{os.getpid()}"
        self.known = []
        context = pathlib.Path(tempfile.mkdtemp(dir=bench.directory))
        for program, name in ((bench.anteroom, "anteroom"), ("/bin/busybox", "busybox")):
            subprocess.run(["cp", program, context / name], check=True)
        text = manifest(java=False, token={"from": "agent"})
        (context / "anteroom.toml").write_text(text)
        (context / "ca.pem").write_text(pathlib.Path(bao.ca).read_text())
        (context / "Dockerfile").write_text("FROM scratch\nCOPY anteroom busybox /\n"
                                            "COPY anteroom.toml ca.pem /etc/\n")
        subprocess.run(["docker", "build", "--quiet", "--tag", self.tag, context], check=True,
                       env=os.environ | {"DOCKER_BUILDKIT": "0"}, stdout=subprocess.DEVNULL)
        stack.callback(subprocess.run, ["docker", "rmi", "--force", self.tag], stdout=subprocess.DEVNULL)
        stack.callback(self.remove)

    def create(self, command, out=None, labels=LABELS):
        host = {"NetworkMode": "host", "Tmpfs": {"/run/secrets": ""}}
        if out:
            host["Binds"] = [f"{out}:/out"]
        environment = [f"VAULT_ADDR={self.bao.address}", "VAULT_CACERT=/etc/ca.pem", f"NAME=c{len(self.known)}"]
        made = ask("POST", "/containers/create", {
            "Image": self.tag, "Entrypoint": command, "Labels": labels, "Env": environment, "HostConfig": host})
        self.known.append(made["Id"])
        return made["Id"]

    def remove(self):
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda one: ask("DELETE", f"/containers/{one}?force=true&v=true"), self.known))
        self.known.clear()


def start(container):
    ask("POST", f"/containers/{container}/start")


class Agent:
    """The agent, with a token that may do no more than it must."""

    def __init__(self, stack, bench, bao, program, image):
        self.log = bench.directory / "agent.log"
        bao.ok("PUT", "sys/policies/acl/bench-agent", {"policy": POLICY})
        token = bao.ok("POST", "auth/token/create", {"policies": ["bench-agent"], "no_default_policy": True,
                                                     "period": "1h", "no_parent": True})
        token_file = bench.write("agent.token", token["auth"]["client_token"])
        token_file.chmod(0o400)
        self.port = free_port()
        config = bench.write("agent.toml", f"""
[vault]
address = "{bao.address}"
ca_cert = "{bao.ca}"
[token]
file = "{token_file}"
[docker]
socket = "{DOCKER}"
[labels]
app = "bench.app"
environment = "bench.environment"
[mint]
starts_per_minute = 100000
[agent]
register = "{bench.directory}/register.json"
control = "{bench.directory}/control.sock"
listen = "127.0.0.1:{self.port}"
[[allow]]
app = "timeline"
environments = ["bench"]
images = ["{image}"]
""")
        self.server = Server(stack, [program, "--config", config, "--log", "json"], self.log)
        wait_until("the agent", lambda: b" 200 " in self.health())

    def health(self):
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: agent\r\n\r\n")
            return connection.recv(4096)

    def resident(self):
        status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def events(self, name):
        events = map(json.loads, self.log.read_text().splitlines())
        return [event for event in events if event["event"] == name]


def nanoseconds(text):
    """RFC 3339 with nine digits, which datetime does not read."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc).timestamp()
    return int(seconds) * 10**9 + int(rest.ljust(9, "0")[:9])


def latency(containers, agent, runs):
    """From Docker's start event to the token in the container, without what Vault took for the mint."""
    began = int(time.time())
    before = len(agent.events("handed_out"))
    for run in range(runs):
        start(containers.create(["/busybox", "sleep", "3600"]))
        wait_until("a delivery", lambda: len(agent.events("handed_out")) > before + run)
        time.sleep(0.2)
    filters = json.dumps({"type": ["container"], "event": ["start"]})
    events = ask("GET", f"/events?since={began}&until={int(time.time()) + 1}&filters={filters}".replace(" ", ""))
    started = {event["id"]: event["timeNano"] for event in map(json.loads, events.splitlines())}
    seen = []
    for event in agent.events("handed_out")[before:]:
        total = nanoseconds(event["time"]) - started[event["container"]]
        seen.append((total / 1e6, event["mint_us"] / 1e3, total / 1e6 - event["mint_us"] / 1e3))
    containers.remove()
    return seen


def many(containers, count, command, labels):
    """Starts so many together; seconds until the last one's application runs."""
    with tempfile.TemporaryDirectory() as out:
        ready = [containers.create(command, out, labels) for _ in range(count)]
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(start, ready))
        all_started = time.monotonic() - began
        while len(os.listdir(out)) < count:
            if time.monotonic() - began > 300:
                silent = next(one for number, one in enumerate(ready) if f"c{number}" not in os.listdir(out))
                logs = subprocess.run(["docker", "logs", silent], capture_output=True, text=True)
                sys.exit(f"bench: of {count} containers {len(os.listdir(out))} run; one of the others: {logs.stderr}")
            time.sleep(0.01)
        seconds = time.monotonic() - began
    containers.remove()
    return seconds, all_started


def server_alone(bench, bao, count, floor):
    """The same requests without a container: mint, unwrap, sign, credentials; seconds for all."""
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", "/CN=timeline.bench.example.io", "-keyout", "floor.key", "-out", "agent.csr"],
                   check=True, cwd=bench.directory, stderr=subprocess.DEVNULL)
    reads = ["database/creds/timeline", "kv/data/payment", "kv/data/partner"]
    command = [floor, bao.address, bao.ca, bench.directory / "agent.csr", "pki/sign/timeline", *reads, "--",
               "/bin/busybox", "true"]

    def one(_):
        subprocess.run(command, env={"FLOOR_TOKEN": bao.mint()}, check=True, stderr=subprocess.DEVNULL)

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(count)))
    return time.monotonic() - began


def memory(containers, agent, starts):
    """KiB before and after so many starts, each with a token and its revocation."""
    takers = [containers.create(TAKER) for _ in range(10)]
    before = agent.resident()
    revoked = len(agent.events("revoked"))
    seen = [before]
    lock = threading.Lock()
    left = iter(range(starts))

    def work(taker):
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            start(taker)
            ask("POST", f"/containers/{taker}/wait")
            if number % (starts // 10 or 1) == 0:
                seen.append(agent.resident())

    with concurrent.futures.ThreadPoolExecutor(len(takers)) as pool:
        list(pool.map(work, takers))
    wait_until("the revocations", lambda: len(agent.events("revoked")) >= revoked + starts, 120)
    seen.append(agent.resident())
    containers.remove()
    return seen


def figures(stack, bench, bao, program, floor, runs, count, starts):
    containers = Containers(stack, bench, bao)
    agent = Agent(stack, bench, bao, program, containers.tag)
    print("## The agent, on a Docker engine of this machine\n")
    idle = agent.resident()
    seen = latency(containers, agent, runs)
    table([f"{runs} starts, one by one", "ms, median (range)"], [
        ["from Docker's start event to the token in the container", spread(seen)],
        ["of that, Vault and the way to it, for the mint", spread(seen, 1)],
        ["the rest", spread(seen, 2)]])
    entrypoint = ["/anteroom", "--deadline", "120s", "--token-wait", "110s", "--"]
    without, with_it = [], []
    for _ in range(3):
        without.append(many(containers, count, APPLICATION, {}))
        with_it.append(many(containers, count, entrypoint + APPLICATION, LABELS))
    server = server_alone(bench, bao, count, floor)
    least, most = statistics.median(one[0] for one in without), statistics.median(one[0] for one in with_it)
    table([f"{count} containers together, {AT_ONCE} at a time", "s until all applications run (3 runs)"], [
        ["without anteroom", spread(without)],
        ["with anteroom and the agent", spread(with_it)],
        ["the server alone: the same requests without containers", f"{server:.1f}"]])
    resident = memory(containers, agent, starts)
    table(["the agent's memory", "RSS, MiB"], [
        ["idle, before the first start", f"{idle / 1024:.1f}"],
        [f"before, in ten steps during, and after {starts} starts", " ".join(f"{one / 1024:.1f}" for one in resident)]])
    bar = 1.2 * least + server
    half = resident[len(resident) // 2]
    return [
        ["start event to token, beyond the mint", "15 ms", f"{statistics.median(one[2] for one in seen):.1f} ms",
         verdict(statistics.median(one[2] for one in seen), 15)],
        [f"{count} containers together", f"1.2 x {least:.1f} s + {server:.1f} s", f"{most:.1f} s", verdict(most, bar)],
        ["the agent's RSS, idle", "20 MiB", f"{idle / 1024:.1f} MiB", verdict(idle / 1024, 20)],
        [f"the same after {starts} starts", f"no growth since half of them ({half / 1024:.1f} MiB)",
         f"{resident[-1] / 1024:.1f} MiB", verdict(resident[-1], half * 1.02)],
    ]
