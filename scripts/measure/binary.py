"""The binary: its build, and what it consists of."""

import json
import os
import pathlib
import re
import subprocess

from measure.figures import table, verdict
from measure.servers import ROOT


def build(kind, target, *options):
    build = subprocess.run(["cargo", "build", "--release", "--locked", "--message-format=json-render-diagnostics",
                            f"--{kind}", target, *options], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    messages = (json.loads(line) for line in build.stdout.splitlines())
    (found,) = [message["executable"] for message in messages
                if message["reason"] == "compiler-artifact" and message["target"]["name"] == target
                and kind in message["target"]["kind"] and message["executable"]]
    return found


def size(anteroom):
    size = os.path.getsize(anteroom) / 2**20
    return [["stripped static binary", "at most 5 MiB", f"{size:.2f} MiB", verdict(size, 5)]]


def owner_of(symbol):
    """Whose a symbol is: a crate, AWS-LC's C and assembly, or the C library's."""
    crate = re.search(r"([A-Za-z_]\w*)(?:\[[0-9a-f]+\])?::", symbol)
    if crate:
        standard = {"core", "alloc", "std", "hashbrown", "gimli", "addr2line", "object", "rustc_demangle", "miniz_oxide"}
        return "Rust's standard library" if crate[1] in standard else crate[1]
    if re.match(r"aws_lc_|edwards25519|curve25519|fiat_|p(256|384|521)_|chacha20|_?aes|k[A-Z]|.*_(avx|adx|nistz256|mont)",
                symbol):
        return "aws-lc (C and assembly)"
    return "the C library and others without a name"


def parts():
    """The same build with its symbols, in a place of its own so that the measured one stays."""
    metadata = subprocess.run(["cargo", "metadata", "--format-version=1", "--no-deps", "--locked"], cwd=ROOT,
                              check=True, stdout=subprocess.PIPE, text=True)
    directory = pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "parts"
    kept = [option for profile in ("release", "release.package.anteroom")
            for option in ("--config", f"profile.{profile}.strip=false")]
    binary = build("bin", "anteroom", "--target-dir", str(directory), *kept)
    sections = subprocess.run(["size", "-A", "-d", binary], check=True, stdout=subprocess.PIPE, text=True).stdout
    sections = [(int(line.split()[1]), line.split()[0]) for line in sections.splitlines() if line.startswith(".")]
    sections = [(size, name) for size, name in sections if not name.startswith((".debug", ".comment"))]
    print("## The parts of the binary\n")
    table(["section", "KiB"], [[name, f"{size / 1024:.0f}"] for size, name in sorted(sections, reverse=True)[:8]])
    symbols = subprocess.run(["nm", "--print-size", "--demangle", "--defined-only", binary], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    sizes = {}
    for line in symbols.splitlines():
        fields = line.split(None, 3)
        if len(fields) == 4 and len(fields[1]) == 16 and fields[2] in "tTrRdDwWvV":
            owner = owner_of(fields[3])
            sizes[owner] = sizes.get(owner, 0) + int(fields[1], 16)
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:16]
    table(["whose code and constants, by symbol", "KiB"], [[name, f"{size / 1024:.0f}"] for name, size in largest])
