"""Figures: programs that are run for them, medians, tables and bars."""

import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

PATH = "/usr/local/bin:/usr/bin:/bin"

# Starts a program and tells its cost: the time until it ends, and what it and all that it leaves behind take, the
# keeper among them. A small program of its own, since a child begins with its parent's peak memory: under Python every
# figure would be Python's.
LAUNCHER = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double ms(struct timeval time) { return time.tv_sec * 1e3 + time.tv_usec / 1e3; }

int main(int argc, char **argv) {
    struct timespec began, ended;
    struct rusage cost;
    int status, result = 0;
    double cpu = 0;
    long memory = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    clock_gettime(CLOCK_MONOTONIC, &began);
    pid_t child = vfork(), one;
    if (child == 0) { execv(argv[2], argv + 2); _exit(127); }
    while ((one = wait4(-1, &status, __WALL, &cost)) > 0) {
        if (one == child) {
            clock_gettime(CLOCK_MONOTONIC, &ended);
            result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        cpu += ms(cost.ru_utime) + ms(cost.ru_stime);
        if (cost.ru_maxrss > memory) memory = cost.ru_maxrss;
    }
    FILE *out = fopen(argv[1], "w");
    fprintf(out, "%d %.3f %.3f %ld\n", result,
        (ended.tv_sec - began.tv_sec) * 1e3 + (ended.tv_nsec - began.tv_nsec) / 1e6, cpu, memory);
    return fclose(out) != 0;
}
"""


class Bench:
    """What is measured, and where."""

    def __init__(self, stack, anteroom):
        self.anteroom = anteroom
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="anteroom-bench-"))
        stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.directory.chmod(0o711)
        # The secrets go where anteroom wants them: into memory.
        self.secrets = pathlib.Path(tempfile.mkdtemp(prefix="anteroom-bench-", dir="/dev/shm"))
        stack.callback(shutil.rmtree, self.secrets, ignore_errors=True)
        self.launch = self.compile("launch", LAUNCHER)

    def write(self, name, content):
        path = self.directory / name
        path.write_text(content)
        return path

    def compile(self, name, source):
        program = self.directory / name
        subprocess.run(["gcc", "-O2", "-static", "-o", program, self.write(f"{name}.c", source)], check=True)
        return program

    def fresh(self):
        return tempfile.mkdtemp(dir=self.secrets)

    def run(self, command, environment):
        """Wall and CPU time in ms, largest process in KiB, and what it wrote to standard error."""
        result = self.directory / "result"
        run = subprocess.run([self.launch, result, *command], env={"PATH": PATH} | environment,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        status, wall, cpu, memory = result.read_text().split()
        if status != "0":
            sys.exit(f"bench: {command[0]} ended with {status}:\n{run.stderr}")
        return float(wall), float(cpu), int(memory), run.stderr

    def with_vault(self, bao, directory, token):
        """The environment that anteroom needs for a start."""
        environment = {"ANTEROOM_TOKEN": token, "VAULT_ADDR": bao.address,
                       "ANTEROOM_SECRETS_DIR": str(directory), "PATH": PATH}
        return environment | ({"VAULT_CACERT": bao.ca} if bao.ca else {})


def interleaved(runs, variants):
    """Runs every variant once a round, each round in a new order; one round more, which warms up, is not counted."""
    results = {name: [] for name in variants}
    for round_ in range(runs + 1):
        for name in random.sample(list(variants), len(variants)):
            result = variants[name]()
            if round_:
                results[name].append(result)
    return results


def median(results, column=0):
    return statistics.median(result[column] for result in results)


def spread(results, column=0, scale=1.0, digits=1):
    values = sorted(result[column] / scale for result in results)
    return f"{statistics.median(values):.{digits}f} ({values[0]:.{digits}f}..{values[-1]:.{digits}f})"


def table(head, rows):
    rows = [[str(cell) for cell in row] for row in rows]
    print("| " + " | ".join(head) + " |")
    print("|" + "|".join(["---"] * len(head)) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def verdict(value, bar, more_is_better=False):
    reached = value >= bar if more_is_better else value <= bar
    return "yes" if reached else f"**no, {abs(value - bar) / bar:.0%} off**"
