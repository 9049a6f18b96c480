"""What a service with many certificates and dependencies costs: its start and its keeper."""

import contextlib
import pathlib
import time

from measure.figures import interleaved, median, spread, table, verdict
from measure.keeper import Kept, fields, switches
from measure.servers import COMMON_NAME, SIGN, manifest
from measure.start import APPLICATION, Variants, steps_of_anteroom

CERTIFICATES, DATABASES, KV = 4, 4, 16


def paths():
    """The path of each secret in KV; `secrets` makes them."""
    return [f"kv/data/large-{number}" for number in range(KV)]


def text(java=False, **tables):
    """The manifest of such a service: its certificates by one role, accounts of a database, and secrets in KV."""
    whole = manifest(java=java, kv=False, database=None, **tables)
    for number in range(1, CERTIFICATES):
        whole += (f'[certificates.peer-{number}]\nrole = "timeline"\ncommon_name = "{COMMON_NAME}"\n'
                  'dns_names = ["localhost"]\nttl = "24h"\n\n')
    for number in range(DATABASES):
        whole += f'[dependencies.db-{number}]\npath = "database/creds/timeline"\n\n'
    for number, path in enumerate(paths()):
        whole += f'[dependencies.kv-{number}]\npath = "{path}"\nfields = ["api_key"]\n\n'
    return whole


def secrets(bao):
    for path in paths():
        bao.ok("POST", path, {"data": {"api_key": path}})


class Large(Variants):
    """The ways to start an application with so many secrets."""

    def __init__(self, bench, floor):
        super().__init__(bench, floor)
        self.manifest = bench.write("large.toml", text())

    def bare(self, bao, address=None):
        csr = self.bench.directory / "floor.csr"
        server = [address or bao.address, bao.ca or "-"]
        reads = ["database/creds/timeline"] * DATABASES + paths()
        return self.bench.run([self.floor, *server, csr, ",".join([SIGN] * CERTIFICATES), *reads, "--", *APPLICATION],
                              {"FLOOR_TOKEN": bao.mint(), "FLOOR_CONNECTIONS": "2"})


def started(bench, bao, floor, runs):
    variants = Large(bench, floor)
    results = interleaved(runs, {"floor: a bare client with two connections": lambda: variants.bare(bao),
                                 "**anteroom**": lambda: variants.start(bao)})
    bare, start = results.values()
    print(f"## A start with {CERTIFICATES} certificates and {DATABASES + KV} dependencies; {runs} runs each, "
          "median (min..max)\n")
    table(["what", "ms", "CPU ms", "largest process, MiB"],
          [[name, spread(each), spread(each, 1), spread(each, 2, 1024)] for name, each in results.items()])
    print("anteroom's own log, medians in ms:", steps_of_anteroom(start), "\n", flush=True)
    ratio = median(start) / median(bare)
    return [[f"start with {CERTIFICATES} certificates and {DATABASES + KV} dependencies, against the floor",
             "at most 1.5 times", f"{ratio:.2f} times", verdict(ratio, 1.5)]]


def kept(bench, bao, seconds):
    items = CERTIFICATES + DATABASES + KV
    with contextlib.ExitStack() as stack:
        one = Kept(stack, bench, bao, text(java=True, token={"revocation_check": "0s"}))
        # The keeper gives memory back after the start, and then sleeps.
        time.sleep(2)
        before = switches(one.keeper)
        time.sleep(seconds)
        awake = switches(one.keeper) - before
        rss = fields(f"/proc/{one.keeper}/smaps_rollup")["Rss"] / 1024
        shown = len(list(pathlib.Path(one.directory, "..data/").rglob("*")))
    print(f"The keeper of {items} items, with Java stores, keeps {shown} files and folders.\n", flush=True)
    return [[f"keeper with {items} items, RSS", "at most 4 MiB", f"{rss:.2f} MiB", verdict(rss, 4)],
            [f"wake-ups in {seconds} s, nothing due: keeper with {items} items", "none", awake,
             "yes" if awake == 0 else "**no**"]]


def figures(bench, bao, floor, runs):
    secrets(bao)
    return [*started(bench, bao, floor, runs), *kept(bench, bao, 20)]
