/* What a process can see of itself and of others; built by the tests that need it.
 *
 *   probe state FILE      writes what a process is handed by the one that started it
 *   probe spy PID         tries to read the process's secrets; one line a way, with the errno's name
 *   probe block COMMAND…  becomes COMMAND with every signal blocked
 *   probe die             ends by SIGSEGV
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void descriptors(FILE *out)
{
    DIR *list = opendir("/proc/self/fd");
    struct dirent *entry;
    while (list && (entry = readdir(list))) {
        char path[300], target[PATH_MAX] = "";
        int number = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || number == dirfd(list) || number == fileno(out))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", number);
        if (readlink(path, target, sizeof target - 1) < 0)
            strcpy(target, "?");
        /* A pipe's number differs from run to run. */
        char *bracket = strchr(target, '[');
        if (bracket)
            *bracket = 0;
        fprintf(out, "fd %d %s flags %o %o\n", number, target, fcntl(number, F_GETFD), fcntl(number, F_GETFL));
    }
}

static void file(FILE *out, const char *path)
{
    char line[8192];
    FILE *in = fopen(path, "r");
    if (!in) {
        fprintf(out, "%s: %s\n", path, strerrorname_np(errno));
        return;
    }
    while (fgets(line, sizeof line, in)) {
        static const char *const counters[] = {"Vm", "Rss", "SigQ", "voluntary", "nonvoluntary", "Hugetlb", "Pid:", "Tgid:",
                                               "NStgid", "NSpid", "NSpgid", "PPid", "Cpus", "Mems", NULL};
        int differs = 0;
        for (int i = 0; strstr(path, "status") && counters[i]; i++)
            differs |= !strncmp(line, counters[i], strlen(counters[i]));
        if (!differs)
            fprintf(out, "%s %s%s", path, line, strchr(line, '\n') ? "" : "\n");
    }
    fclose(in);
}

static int state(int argc, char **argv)
{
    /* Opened far up, so that the numbers below are as they were handed in. */
    int high = -1, low = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (low < 0 || (high = fcntl(low, F_DUPFD_CLOEXEC, 500)) < 0)
        return 1;
    close(low);
    FILE *out = fdopen(high, "w");
    struct itimerval timer;
    sigset_t pending;
    mode_t mask = umask(0);
    umask(mask);
    fprintf(out, "pid %d\n", getpid());
    int child = waitpid(-1, NULL, WNOHANG);
    fprintf(out, "children %s\n", child < 0 ? strerrorname_np(errno) : "some");
    sigpending(&pending);
    for (int i = 1; i < 65; i++)
        if (sigismember(&pending, i) == 1)
            fprintf(out, "pending %d\n", i);
    fprintf(out, "group is own %d, session %d, foreground %d\n", getpgrp() == getpid(), getsid(0), tcgetpgrp(2));
    fprintf(out, "umask %o, nice %d, scheduler %d\n", mask, getpriority(PRIO_PROCESS, 0), sched_getscheduler(0));
    fprintf(out, "dumpable %d, keepcaps %d, no_new_privs %d, securebits %x, slack %d, thp %d\n",
            prctl(PR_GET_DUMPABLE), prctl(PR_GET_KEEPCAPS), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
            prctl(PR_GET_SECUREBITS), prctl(PR_GET_TIMERSLACK), prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    int death = 0, subreaper = 0;
    prctl(PR_GET_PDEATHSIG, &death);
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    getitimer(ITIMER_REAL, &timer);
    fprintf(out, "death signal %d, subreaper %d, timer %ld\n", death, subreaper, (long)timer.it_value.tv_sec);
    char directory[PATH_MAX] = "";
    if (readlink("/proc/self/cwd", directory, sizeof directory - 1) < 0)
        strcpy(directory, "?");
    fprintf(out, "directory %s\n", directory);
    for (int i = 0; i < argc; i++)
        fprintf(out, "argument %d %s\n", i, argv[i]);
    for (char **variable = environ; *variable; variable++)
        fprintf(out, "variable %s\n", *variable);
    descriptors(out);
    static const char *const files[] = {"status", "limits", "cgroup", "mountinfo", "oom_score_adj", "coredump_filter",
                                        "personality", "timerslack_ns", "uid_map", "comm", NULL};
    for (int i = 0; files[i]; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/%s", files[i]);
        file(out, path);
    }
    return fclose(out) ? 1 : 0;
}

static void tried(const char *way, long result)
{
    printf("%s %s\n", way, result < 0 ? strerrorname_np(errno) : "OK");
}

static int spy(pid_t pid)
{
    static const char *const files[] = {"environ", "mem", "maps", "smaps", "auxv", "stack", "map_files", "fd/3", "cwd", NULL};
    char path[64], byte;
    for (int i = 0; files[i]; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        int opened = open(path, O_RDONLY);
        if (opened >= 0 && !strcmp(files[i], "mem"))
            tried(files[i], 0);
        else
            tried(files[i], opened < 0 ? -1 : read(opened, &byte, 1) < 0 && errno != EISDIR ? -1 : 0);
        if (opened >= 0)
            close(opened);
    }
    int process = syscall(SYS_pidfd_open, pid, 0);
    tried("pidfd_getfd", syscall(SYS_pidfd_getfd, process, 0, 0));
    char stolen[8];
    struct { void *base; size_t length; } here = {stolen, 8}, there = {environ, 8};
    tried("process_vm_readv", syscall(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0) < 0 && errno != EFAULT ? -1 : 0);
    long attached = ptrace(PTRACE_ATTACH, pid, 0, 0);
    tried("ptrace", attached);
    return 0;
}

int main(int argc, char **argv)
{
    const char *task = argc > 1 ? argv[1] : "";
    if (!strcmp(task, "state") && argc > 2)
        return state(argc, argv);
    if (!strcmp(task, "spy") && argc > 2)
        return spy(atoi(argv[2]));
    if (!strcmp(task, "die"))
        for (;;)
            raise(SIGSEGV);
    if (!strcmp(task, "block") && argc > 2) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        execvp(argv[2], argv + 2);
    }
    return 2;
}
