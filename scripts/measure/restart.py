"""A thousand keepers, and a server that goes away and comes back: how many requests it gets in each second."""

import collections
import contextlib
import ctypes
import datetime
import fcntl
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from measure.figures import PATH, table, verdict
from measure.keeper import APPLICATION
from measure.servers import ROOT, OpenBao, Postgres, manifest

# With the usual hour no keeper would renew anything while this lasts. What follows a life follows it here too: when it
# is renewed, and how often a server that is away is asked.
LIFE, CHECK = 120, 20
LIVES = {"token": {"min_ttl": "10s", "revocation_check": f"{CHECK}s"}}
DATABASE = "timeline-restart"
# Seconds that the server is away before it is started again, and that are looked at when it is back.
AWAY, AFTER = 25, 90
AT_ONCE = 100
PICTURE = ROOT / "docs/restart.svg"


class Fleet:
    """Applications that sleep, and their keepers."""

    def __init__(self, stack, bench, bao):
        self.bench, self.bao = bench, bao
        self.manifest = bench.write("restart.toml", manifest(database=DATABASE, java=False, kv=False, **LIVES))
        self.members = {}
        stack.callback(self.kill)

    def start(self, count):
        """As fast as the server can, each with a token of its own."""
        starting = []
        with contextlib.closing(self.bao.connect()) as connection:
            while len(self.members) < count or starting:
                starting = [process for process in starting if not runs(process)]
                if len(starting) >= AT_ONCE or len(self.members) == count:
                    time.sleep(0.01)
                    continue
                token = self.bao.mint(f"{LIFE}s", connection)
                starting.append(self.add(token))

    def add(self, token):
        directory = pathlib.Path(self.bench.fresh())
        with open(self.log(directory), "wb") as log:
            process = subprocess.Popen(
                [self.bench.anteroom, "--manifest", self.manifest, "--deadline", "60s", "--", *APPLICATION],
                env=self.bench.with_vault(self.bao, directory, token), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log)
        self.members[process] = directory
        return process

    def log(self, directory):
        return self.bench.directory / f"{directory.name}.log"

    def events(self, directory, name):
        events = map(json.loads, self.log(directory).read_text().splitlines())
        return [event for event in events if event["event"] == name]

    def is_healthy(self, directory):
        health = [self.bench.anteroom, "health", "--manifest", self.manifest, "--secrets-dir", directory]
        return subprocess.run(health, env={"PATH": PATH}).returncode == 0

    def kill(self):
        """Without a revocation of each: the server goes too."""
        for process in self.members:
            for pid in (keeper(process), process.pid):
                if pid:
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def keeper(process):
    """The number of an application's keeper, if there is one."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return next(map(int, children.read_text().split()), None)


def runs(process):
    """The application does; sys.exit when it cannot."""
    if process.poll() is not None:
        sys.exit("bench: a start failed")
    return pathlib.Path(f"/proc/{process.pid}/comm").read_text().strip() == pathlib.Path(APPLICATION[0]).name


def own_network():
    """A network of our own, in which the kernel counts the work of this script alone."""
    new_network, up = 0x4000_0000, 0x1
    if ctypes.CDLL(None, use_errno=True).unshare(new_network) != 0:
        sys.exit(f"bench: no network of its own: {os.strerror(ctypes.get_errno())}")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", up))


def refused():
    """Connections that came to nothing so far (RFC 1213, tcpAttemptFails)."""
    names, values = [line.split() for line in pathlib.Path("/proc/self/net/snmp").read_text().splitlines()
                     if line.startswith("Tcp:")]
    return int(values[names.index("AttemptFails")])


class Watch:
    """Counts refused connections second by second."""

    def __init__(self):
        self.began, self.seconds = time.time(), []
        threading.Thread(target=self.count, daemon=True).start()

    def now(self):
        return time.time() - self.began

    def count(self):
        last = refused()
        while True:
            time.sleep(max(0, len(self.seconds) + 1 - self.now()))
            count = refused()
            self.seconds.append(count - last)
            last = count


def asked(bao, watch, length):
    """Requests of the keepers that the server has answered, in the second in which they came."""
    seconds = [0] * length
    with open(bao.log) as log:
        for line in log:
            if '"completed_request"' not in line:
                continue
            request = json.loads(line)
            ended = datetime.datetime.fromisoformat(request["@timestamp"].replace("Z", "+00:00")).timestamp()
            at = ended - duration(request["duration"]) - watch.began
            if 0 <= at < length and not re.search("sys/(health|unseal)|/create/", request["request_path"]):
                seconds[int(at)] += 1
    return seconds


def duration(text):
    """Seconds of what Go calls a duration, such as 1m2.5s or 33ms."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([a-zµ]+)", text))


def figures(bench, count):
    own_network()
    with contextlib.ExitStack() as stack:
        postgres = Postgres(stack, bench.directory / "restart-postgres")
        bao = OpenBao(stack, bench.directory / "restart", postgres, tls=True, tells_requests=True)
        bao.database_role(DATABASE, f"{LIFE}s")
        fleet = Fleet(stack, bench, bao)
        watch = Watch()
        fleet.start(count)
        marks = {"started": watch.now()}
        # Everything is renewed once, at the latest after 0.72 of its life.
        marks["away"] = int(watch.now() + 0.75 * LIFE)
        time.sleep(marks["away"] - watch.now())
        bao.server.end(signal.SIGKILL)
        time.sleep(AWAY)
        bao.start(stack)
        # Before it listens, a look whether it does would count as a keeper's.
        time.sleep(3)
        bao.unseal()
        marks["back"] = watch.now()
        time.sleep(AFTER)
        length = int(watch.now())
        requests, attempts = asked(bao, watch, length), watch.seconds[:length]
        alive = sum(1 for process in fleet.members if runs(process) and keeper(process))
        told = collections.Counter(tuple(len(fleet.events(directory, name)) for name in ("vault_away", "vault_back"))
                                   for directory in fleet.members.values())
        again = collections.Counter(event["message"].split("(")[-1].split(")")[0]
                                    for directory in fleet.members.values()
                                    for event in fleet.events(directory, "vault_away")[1:])
        sample = random.sample(list(fleet.members.values()), min(50, count))
        healthy = sum(map(fleet.is_healthy, sample))
    PICTURE.write_text(picture(requests, attempts, marks, count))
    phases = {"start": (0, marks["started"]), "quiet, with a renewal of everything": (marks["started"], marks["away"]),
              "away": (marks["away"], marks["back"]), "back": (marks["back"], length)}
    rows, most = [], {}
    for name, (begin, end) in phases.items():
        span = slice(int(begin), int(end))
        most[name] = max(requests[span])
        rows.append([name, f"{end - begin:.0f}", f"{sum(requests[span]) / (end - begin):.0f}", most[name],
                     f"{sum(attempts[span]) / (end - begin):.0f}", max(attempts[span])])
    print(f"## {count} keepers and a restarted server; token and lease of {LIFE} s, a look every {CHECK} s\n")
    table(["phase", "s", "requests/s", "most in a second", "refused connections/s", "most in a second"], rows)
    print("vault_away and vault_back in the logs:",
          ", ".join(f"{many} keepers {each[0]} and {each[1]}" for each, many in sorted(told.items())), "\n", flush=True)
    for reason, many in again.items():
        print(f"away once more, {many} times: {reason}\n", flush=True)
    return [
        ["requests in the busiest second, the server back against the start", "at most as many",
         f"{most['back']} against {most['start']}", verdict(most["back"], most["start"])],
        ["keepers alive at the end", f"all {count}", alive, verdict(alive, count, True)],
        ["keepers that said once that it went and once that it came", f"all {count}", told[1, 1],
         verdict(told[1, 1], count, True)],
        ["healthy, of a sample", f"all {len(sample)}", healthy, verdict(healthy, len(sample), True)],
    ]


def picture(requests, attempts, marks, count):
    """Both series over time; colours that a light and a dark page can bear."""
    left, top, width, height = 56, 44, 800, 240
    bottom, seconds, most = top + height, len(requests), max(requests[:int(marks["started"])])
    step = next(step for step in (10, 20, 50, 100, 200, 500, 1000, 2000) if max(requests + attempts) <= 6 * step)
    highest = step * -(-max(requests + attempts) // step)

    def x(second):
        return left + width * second / seconds

    def y(value):
        return bottom - height * value / highest

    def steps(values):
        """A line that goes up and down and never askew: a second is a second."""
        line, last = f"M{left} {bottom}", 0
        for second, value in enumerate([*values, 0]):
            if value != last:
                line += f"H{x(second):.0f}V{y(value):.0f}"
                last = value
        return f"{line}H{left + width}"

    def text(at, height, words, anchor="middle", kind="say"):
        return f'<text class="{kind}" x="{at:.0f}" y="{height:.0f}" text-anchor="{anchor}">{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 16} {bottom + 76}" role="img">',
        f"<title>Requests per second of {count} keepers, before, while and after their server is away</title>",
        "<style>text{font:12px sans-serif}.say{fill:#57606a}.axis{stroke:#8c959f;fill:none}.bar{stroke-dasharray:4 4}"
        ".away{fill:#cf222e;fill-opacity:.13}.requests{fill:#0969da;fill-opacity:.4;stroke:#0969da}"
        ".refused{fill:none;stroke:#cf222e;stroke-width:1.5}@media(prefers-color-scheme:dark){.say{fill:#9198a1}"
        ".requests{fill:#4493f8;stroke:#4493f8}.refused{stroke:#f85149}.away{fill:#f85149}}</style>",
        text(left, 16, f"{count} keepers and a server that is killed and comes back: requests per second", "start"),
        f'<rect class="away" x="{x(marks["away"]):.1f}" y="{top}" width="{x(marks["back"]) - x(marks["away"]):.1f}" '
        f'height="{height}"/>',
        f'<path class="requests" d="{steps(requests)}"/>',
        f'<path class="refused" d="{steps(attempts)}"/>',
        f'<path class="axis" d="M{left} {top}V{bottom}H{left + width}"/>',
        f'<path class="axis bar" d="M{left} {y(most):.0f}h{width}"/>',
        text(left + width, y(most) - 5, f"busiest second of the start: {most}", "end"),
    ]
    for value in range(0, highest + 1, step):
        parts += [f'<path class="axis" d="M{left - 4} {y(value):.0f}h4"/>', text(left - 8, y(value) + 4, value, "end")]
    for second in range(0, seconds + 1, 30):
        parts += [f'<path class="axis" d="M{x(second):.0f} {bottom}v4"/>', text(x(second), bottom + 18, second)]
    edges = {"all start": (0, marks["started"]), "renewals and looks": (marks["started"], marks["away"]),
             "away": (marks["away"], marks["back"]), "back": (marks["back"], seconds)}
    parts += [text((x(begin) + x(end)) / 2, top - 8, name) for name, (begin, end) in edges.items()]
    parts += [
        text(left + width, bottom + 36, "seconds", "end"),
        f'<path class="requests" d="M{left} {bottom + 46}h14v10h-14z"/>',
        text(left + 20, bottom + 56, "requests that were answered", "start"),
        f'<path class="refused" d="M{left + 215} {bottom + 51}h14"/>',
        text(left + 235, bottom + 56, "refused connections", "start"),
        text(left + width, bottom + 56, f"tokens and leases of {LIFE} s, not 1 h; a look every {CHECK} s, not 60 s",
             "end"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
