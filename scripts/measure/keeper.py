"""What the keeper costs while the application lives."""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from measure.figures import median, spread, table, verdict
from measure.servers import SIGN, manifest, wait_until

APPLICATION = ["/bin/sleep", "100000"]
HOUR, DAY = 3600, 86_400
# The middle of what src/schedule.rs and src/keeper/renewal.rs leave to chance.
RENEWED_AFTER, CHECKED_AFTER = 0.66, 0.95
BRIEF = "timeline-brief"


class Kept:
    """An application that sleeps, and the keeper that keeps its secrets fresh."""

    def __init__(self, stack, bench, bao, text, lifecycle="exec", **mint):
        self.directory = pathlib.Path(bench.fresh())
        name = self.directory.name
        self.log = bench.directory / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [bench.anteroom, "--manifest", bench.write(f"{name}.toml", text), "--lifecycle", lifecycle, "--",
                 *APPLICATION], env=bench.with_vault(bao, self.directory, bao.mint(**mint)), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log)
        stack.callback(self.end)
        self.pid, self.keeper = self.process.pid, None
        # As much of the name as the kernel keeps.
        self.program = pathlib.Path(bench.anteroom).name[:15]
        wait_until("the application", self.runs)

    def runs(self):
        """The application does, and the keeper is known."""
        if self.process.poll() is not None:
            sys.exit(f"bench: the start failed:\n{self.log.read_text()}")
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        names = {int(pid): comm(pid) for pid in (self.pid, *children)}
        self.keeper = next((pid for pid, name in names.items() if pid != self.pid and name == self.program), None)
        return self.keeper and pathlib.Path(APPLICATION[0]).name in names.values()

    def end(self):
        self.process.terminate()
        self.process.wait()
        wait_until("the end of the keeper", lambda: not os.path.exists(f"/proc/{self.keeper}"))

    def cpu(self):
        """Milliseconds that the keeper has computed, and those that it has waited for a core."""
        computed, waited, _ = pathlib.Path(f"/proc/{self.keeper}/schedstat").read_text().split()
        return int(computed) / 1e6, int(waited) / 1e6

    def generation(self):
        return os.readlink(self.directory / "..data")


def comm(pid):
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def fields(path):
    """Name and number of each line that has them."""
    lines = (line.split() for line in pathlib.Path(path).read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


STATES = {"3 s after the start": ({}, 3), "after it has looked at the token": ({"revocation_check": "2s"}, 3)}


def resident(bench, bao, state):
    """What one keeper has in memory, in KiB: all, what is private, its share, and what is no part of a file."""
    token, seconds = STATES[state]
    with contextlib.ExitStack() as stack:
        kept = Kept(stack, bench, bao, manifest(token=token))
        time.sleep(seconds)
        kib = fields(f"/proc/{kept.keeper}/smaps_rollup")
    return kib["Rss"], kib["Private_Clean"] + kib["Private_Dirty"], kib["Pss"], kib["Anonymous"]


def memory(bench, bao, runs):
    """One after the other: beside a second keeper, the pages of the program would not be private."""
    seen = {state: [] for state in STATES}
    for _ in range(runs):
        for state, each in seen.items():
            each.append(resident(bench, bao, state))
    print(f"## The keeper's memory; {runs} starts each, median (min..max)\n")
    table(["when", "RSS, MiB", "private, MiB", "PSS, MiB", "of that, no part of the program's file, MiB"],
          [[state, *(spread(each, column, 1024, 2) for column in range(4))] for state, each in seen.items()])
    rows = []
    for state, each in seen.items():
        rss, private = median(each, 0) / 1024, median(each, 1) / 1024
        rows += [[f"keeper {state}, RSS", "at most 4 MiB", f"{rss:.2f} MiB", verdict(rss, 4)],
                 [f"keeper {state}, private memory", "at most 2 MiB", f"{private:.2f} MiB", verdict(private, 2)]]
    return rows


def requests(bao, begin):
    """How many requests of each path the server has answered since its log was so long."""
    counts = {}
    with open(bao.log, "rb") as log:
        log.seek(begin)
        for line in log:
            if b'"completed_request"' in line:
                path = json.loads(line)["request_path"].removeprefix("/v1/")
                counts[path] = counts.get(path, 0) + 1
    return counts


def hour(bench, bao, seconds, each=3):
    """What each kind of request costs, how often it comes in an hour, and the milliseconds of all together."""
    never = {"revocation_check": "0s", "min_ttl": "1s"}
    bao.database_role(BRIEF, "3s")
    looks = "a look whether the token was revoked"
    kinds = [
        (looks, "auth/token/lookup-self", HOUR / (CHECKED_AFTER * 60), manifest(token={"revocation_check": "1s"}), {}),
        ("a renewal of the token of 1 h", "auth/token/renew-self", 1 / RENEWED_AFTER, manifest(token=never),
         {"period": "3s"}),
        ("a renewal of the lease of 1 h", "sys/leases/renew", 1 / RENEWED_AFTER,
         manifest(token=never, database=BRIEF), {}),
        ("a new certificate of 24 h, with Java stores", SIGN, HOUR / (RENEWED_AFTER * DAY),
         manifest(token=never, certificate="3s"), {}),
    ]
    with contextlib.ExitStack() as stack:
        keepers = {path: [Kept(stack, bench, bao, text, **mint) for _ in range(each)]
                   for _, path, _, text, mint in kinds}
        unhurried = {kept: [] for kept in (Kept(stack, bench, bao, manifest()) for _ in range(2 * each))}
        time.sleep(2)
        at, until = os.path.getsize(bao.log), time.monotonic() + seconds
        before = {kept: kept.cpu()[0] for kept in (*unhurried, *sum(keepers.values(), []))}
        last = dict(before)
        while time.monotonic() < until:
            time.sleep(1)
            for kept, costs in unhurried.items():
                if (now := kept.cpu()[0]) > last[kept]:
                    costs.append(now - last[kept])
                    last[kept] = now
        spent = {kept: kept.cpu()[0] - before[kept] for kept in before}
        counts = requests(bao, at)
    # The looks of those that are in no hurry are of the same path, and are not what the others spent their time with.
    unhurried = [cost for costs in unhurried.values() for cost in costs]
    counts[kinds[0][1]] -= len(unhurried)
    rows, total = [], 0
    for what, path, often, *_ in kinds:
        count, cost = counts[path], sum(spent[kept] for kept in keepers[path]) / counts[path]
        if what == looks and unhurried:
            rows.append([f"{what}, one each second", count, f"{cost:.2f}", "", ""])
            what, count, cost = f"{what}, at its real pace", len(unhurried), statistics.mean(unhurried)
        rows.append([what, count, f"{cost:.2f}", f"{often:.2f}", f"{cost * often:.1f}"])
        total += cost * often
    return rows, total


def cpu(bench, bao, seconds):
    rows, total = hour(bench, bao, seconds)
    print(f"## The keeper's CPU, an hour compressed into {seconds} s\n")
    table(["what", "measured so often", "each, ms", "times an hour", "ms an hour"], rows)
    return [["keeper's CPU in an hour: token and lease of 1 h, certificate of 24 h", "under 100 ms", f"{total:.1f} ms",
             verdict(total, 100)]]


def switches(pid):
    """How often a process went to sleep, which is how often it was awake."""
    status = fields(f"/proc/{pid}/status")
    return status["voluntary_ctxt_switches"] + status["nonvoluntary_ctxt_switches"]


def wakeups(bench, bao, seconds):
    never = manifest(token={"revocation_check": "0s"})
    with contextlib.ExitStack() as stack:
        alone, supervised = (Kept(stack, bench, bao, never, lifecycle) for lifecycle in ("exec", "supervise"))
        processes = {"keeper, `exec`": alone.keeper, "keeper, `supervise`": supervised.keeper,
                     "init, `supervise`": supervised.pid}

        time.sleep(2)
        before = {name: switches(pid) for name, pid in processes.items()}
        time.sleep(seconds)
        after = {name: switches(pid) - before[name] for name, pid in processes.items()}
    return [[f"wake-ups in {seconds} s, nothing due: {name}", "none", count, "yes" if count == 0 else "**no**"]
            for name, count in after.items()]


def figures(bench, bao, seconds):
    return [*memory(bench, bao, 10), *cpu(bench, bao, seconds), *wakeups(bench, bao, 20)]
