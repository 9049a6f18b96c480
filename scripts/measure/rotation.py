"""What a new generation costs, and whether a reader ever sees a part of one."""

import contextlib
import os
import re
import statistics
import subprocess
import time

from measure.figures import spread, table, verdict
from measure.keeper import Kept
from measure.servers import ROOT, manifest


def costs(bench, bao, seconds, each=3):
    """What lies between the decision and the swung link and is not waiting for an answer is computing, or waiting for a
    core: the keeper has one thread, and its files are in memory."""
    never = {"revocation_check": "0s", "min_ttl": "1s"}
    variants = {
        "a certificate, with Java stores": manifest(token=never, certificate="3s"),
        "a certificate, PEM files alone": manifest(token=never, certificate="3s", java=False),
    }
    with contextlib.ExitStack() as stack:
        keepers = [(name, Kept(stack, bench, bao, text)) for name, text in variants.items() for _ in range(each)]
        seen = {name: [] for name in variants}
        time.sleep(1)
        last = {kept: (kept.generation(), kept.cpu()) for _, kept in keepers}
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.2)
            for name, kept in keepers:
                generation, before = last[kept]
                if kept.generation() != generation:
                    # Long enough for it to have gone to sleep again.
                    time.sleep(0.1)
                    last[kept] = kept.generation(), kept.cpu()
                    seen[name].append([now - then for now, then in zip(last[kept][1], before)])
    print(f"## A rotation, Vault's answer time taken off; {seconds} s, median (min..max)\n")
    table(["what is new", "rotations", "computing, ms", "waiting for a core, ms"],
          [[name, len(each), spread(each, 0, digits=2), spread(each, 1, digits=2)] for name, each in seen.items()])
    print("From the moment that it is due until the keeper sleeps again: key, request, TLS, checks, stores, files,\n"
          "the swing of the link, the generation before the last one, `status.json` and the log.\n", flush=True)
    worst = max(statistics.median(one[0] for one in each) for each in seen.values())
    return [["rotation, Vault's answer time taken off", "at most 10 ms", f"{worst:.1f} ms", verdict(worst, 10)]]


def readers(rotations):
    """What a test sees, at the length that the bar asks for."""
    name = "keeper::rotation::readers_see_whole_generations_while_keepers_are_killed"
    run = subprocess.run(["cargo", "test", "--locked", "--test", "anteroom", name, "--", "--nocapture"],
                         cwd=ROOT, env=os.environ | {"ANTEROOM_TEST_ROTATIONS": str(rotations)},
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = re.search(r"^(\d+) rotations of .* (\d+) pairs read.*; (\d+) mixed or missing$", run.stdout, re.M)
    if not said or run.returncode:
        print(run.stdout)
    print("## Readers beside keepers that rotate and are killed\n")
    print(said[0] if said else "the test failed", "\n", flush=True)
    done, pairs, wrong = map(int, said.groups()) if said else (0, 0, "an unknown number")
    reached = run.returncode == 0 and wrong == 0 and done >= rotations
    return [[f"mixed pairs that readers saw in {rotations} rotations", "0", f"{wrong} in {done}, {pairs} pairs read",
             "yes" if reached else "**no**"]]


def figures(bench, bao, seconds, rotations):
    return [*costs(bench, bao, seconds), *readers(rotations)]
