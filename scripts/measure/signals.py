"""How long a signal to PID 1 takes until the application has it."""

import statistics
import subprocess

from measure.figures import table, verdict
from measure.servers import manifest

# Each init is PID 1 of a namespace of its own; its application says on standard output when the signal came.
LATENCY = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void tell(int signal) {
    int64_t time = now();
    if (write(1, &time, sizeof time) != sizeof time) _exit(1);
}

struct init { pid_t pid; int output; };

static int64_t heard(struct init *init) {
    int64_t time;
    if (read(init->output, &time, sizeof time) != sizeof time) exit(3);
    return time;
}

/* latency ROUNDS [, COMMAND [ARGS...]]... */
int main(int argc, char **argv) {
    if (strcmp(argv[1], "application") == 0) {
        signal(SIGUSR1, tell);
        tell(0);
        for (;;) pause();
    }
    struct init inits[16];
    int count = 0, order[16];
    for (int at = 2; at < argc; at++) {
        char **command = argv + at + 1;
        for (argv[at] = NULL; at + 1 < argc && strcmp(argv[at + 1], ",") != 0; at++) {}
        if (at + 1 < argc) argv[at + 1] = NULL;
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) return 1;
        pid_t pid = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid == 0) { dup2(ends[1], 1); execv(command[0], command); _exit(127); }
        if (pid < 0) { perror("a new PID namespace"); return 1; }
        close(ends[1]);
        order[count] = count;
        inits[count++] = (struct init){pid, ends[0]};
    }
    for (int i = 0; i < count; i++) heard(&inits[i]);
    sleep(2);
    srandom(now());
    for (int round = atoi(argv[1]); round > 0; round--) {
        for (int i = count - 1; i > 0; i--) {
            int other = random() % (i + 1), swapped = order[i];
            order[i] = order[other];
            order[other] = swapped;
        }
        for (int i = 0; i < count; i++) {
            struct init *init = &inits[order[i]];
            usleep(500 + random() % 1000);
            int64_t sent = now();
            kill(init->pid, SIGUSR1);
            printf("%d %lld\n", order[i], (long long)(heard(init) - sent));
        }
    }
    for (int i = 0; i < count; i++) kill(inits[i].pid, SIGKILL);
    return 0;
}
"""


def figures(bench, bao, rounds):
    latency = bench.compile("latency", LATENCY)
    text = bench.write("signals.toml", manifest())
    application = [latency, "application"]
    inits = {
        "none: the application is PID 1": application,
        "tini": ["/usr/bin/tini", "--", *application],
        "a second tini": ["/usr/bin/tini", "--", *application],
        "dumb-init": ["/usr/bin/dumb-init", "--single-child", "--", *application],
        "**anteroom**": [bench.anteroom, "--manifest", text, "--lifecycle", "supervise", "--log-level", "warn", "--",
                         *application],
    }
    command = [word for init in inits.values() for word in (",", *init)]
    environment = bench.with_vault(bao, bench.fresh(), bao.mint())
    run = subprocess.run([latency, str(rounds), *command], env=environment, check=True, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    seen = [[] for _ in inits]
    for line in run.stdout.splitlines():
        init, taken = line.split()
        seen[int(init)].append(int(taken) / 1000)
    rows = {name: (statistics.median(each), statistics.quantiles(each, n=100)[-1], max(each))
            for name, each in zip(inits, seen)}
    print(f"## From kill(2) to the application's handler; {rounds} signals each, interleaved\n")
    table(["init", "median, µs", "p99, µs", "longest, µs"],
          [[name, *(f"{value:.1f}" for value in row)] for name, row in rows.items()])
    ours, theirs = (rows[name] for name in ("**anteroom**", "tini"))
    other = rows["a second tini"]
    return [[f"signal through supervise against tini, {what}", "not slower",
             f"{ours[column] / theirs[column]:.2f} times (tini against itself {other[column] / theirs[column]:.2f})",
             verdict(ours[column], max(theirs[column], other[column]))] for column, what in ((0, "median"), (1, "p99"))]
