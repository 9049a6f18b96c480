/* What stands under an init in the tests that compare inits.
 *
 *   application exit CODE               ends with CODE
 *   application die SIGNAL              ends by SIGNAL
 *   application signals [CODE]          prints the number of each signal that comes; SIGUSR2 ends it with CODE, if given
 *   application group                   the same, with a child that does so too
 *   application stop CODE               ends with CODE at SIGTERM
 *   application outlived CODE [WORD…]   ends with CODE and leaves a child that takes a moment to end well after SIGTERM,
 *                                       and at SIGSYS says that it runs; session: it has called setsid; deaf: it
 *                                       ignores SIGTERM
 *   application orphans COUNT           has so many grandchildren that end as orphans; prints what becomes of them
 *   application wait                    prints that it waits, and when it is continued; keeps the default of each signal
 *   application neglect -- COMMAND…     an init that does nothing it should: starts COMMAND in the background with
 *                                       other settings, waits for it, ends with 0
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whatever an init leaves behind goes away by itself. */
enum { LIFE = 300 };

static void end_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(LIFE);
}

/* One write for one line: two processes may share the output. */
static void say(const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    if (write(1, line, length) != length)
        _exit(99);
}

static int die(int number)
{
    struct rlimit none = {0, 0};
    sigset_t mask;
    setrlimit(RLIMIT_CORE, &none);
    signal(number, SIG_DFL);
    sigemptyset(&mask);
    sigaddset(&mask, number);
    sigprocmask(SIG_UNBLOCK, &mask, NULL);
    raise(number);
    return 99;
}

static int signals(const char *name, const char *code)
{
    struct signalfd_siginfo info;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    int queue = signalfd(-1, &all, SFD_CLOEXEC);
    end_with_parent();
    say("%s ready, foreground %d", name, tcgetpgrp(0) == getpgrp());
    while (read(queue, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGALRM && info.ssi_code == SI_KERNEL)
            return 99;
        say("%s got %d", name, info.ssi_signo);
        if (code && info.ssi_signo == SIGUSR2)
            return atoi(code);
    }
    return 99;
}

static int group(void)
{
    int ready[2];
    char byte;
    if (pipe(ready))
        return 99;
    if (fork() == 0) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        close(ready[0]);
        close(ready[1]);
        return signals("child", NULL);
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 0)
        return 99;
    return signals("application", NULL);
}

static int is_running(pid_t pid)
{
    char path[64], state = 'X';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *stat = fopen(path, "r");
    if (stat) {
        if (fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
            state = 'X';
        fclose(stat);
    }
    return state != 'X' && state != 'Z';
}

static int left_behind(pid_t init)
{
    sigset_t awaited;
    struct timespec life = {LIFE, 0};
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGSYS);
    switch (sigtimedwait(&awaited, NULL, &life)) {
    case SIGTERM:
        usleep(500 * 1000);
        say("left ended well, %s the init", is_running(init) ? "under" : "after");
        break;
    case SIGSYS:
        say("left is running");
    }
    return 0;
}

static int outlived(char **words)
{
    int session = 0, deaf = 0, code = atoi(*words++), ready[2];
    pid_t init = getppid();
    char byte;
    for (; *words; words++) {
        session |= !strcmp(*words, "session");
        deaf |= !strcmp(*words, "deaf");
    }
    if (pipe(ready))
        return 99;
    if (fork() != 0) {
        close(ready[1]);
        return read(ready[0], &byte, 1) == 0 ? code : 99;
    }
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGSYS);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    if (session)
        setsid();
    if (deaf)
        signal(SIGTERM, SIG_IGN);
    say("left %d.", getpid());
    close(ready[0]);
    close(ready[1]);
    if (deaf)
        sleep(LIFE);
    return left_behind(init);
}

/* How many processes of this name are children of `parent`, this one not counted. */
static int children_of(int parent, const char *name)
{
    int count = 0;
    struct dirent *entry;
    DIR *list = opendir("/proc");
    while (list && (entry = readdir(list))) {
        char path[300], text[64];
        int itsparent;
        if (!isdigit(entry->d_name[0]) || atoi(entry->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *stat = fopen(path, "r");
        if (!stat)
            continue;
        if (fscanf(stat, "%*d (%63[^)]) %*c %d", text, &itsparent) == 2)
            count += itsparent == parent && !strcmp(text, name);
        fclose(stat);
    }
    if (list)
        closedir(list);
    return count;
}

static int orphans(int count, const char *name)
{
    int made = 0, adopter = 0, left, adopters[2];
    if (pipe(adopters))
        return 99;
    for (int i = 0; i < count; i++) {
        pid_t middle = fork();
        if (middle == 0) {
            pid_t self = getpid();
            if (fork() == 0) {
                while (getppid() == self)
                    usleep(100);
                pid_t parent = getppid();
                if (write(adopters[1], &parent, sizeof parent) != sizeof parent)
                    _exit(99);
            }
            _exit(0);
        }
        waitpid(middle, NULL, 0);
        if (read(adopters[0], &adopter, sizeof adopter) == sizeof adopter)
            made++;
    }
    if (adopter != getppid()) {
        say("%d orphans adopted by another", made);
        return 0;
    }
    for (int tries = 0; (left = children_of(adopter, name)) && tries < 200; tries++)
        usleep(50 * 1000);
    say("%d orphans adopted by the init, %d left", made, left);
    return 0;
}

static void continued(int number)
{
    (void)number;
    say("continued");
}

int main(int argc, char **argv)
{
    const char *task = argc > 1 ? argv[1] : "", *argument = argc > 2 ? argv[2] : "";
    if (!strcmp(task, "exit"))
        return atoi(argument);
    if (!strcmp(task, "die"))
        return die(atoi(argument));
    if (!strcmp(task, "signals"))
        return signals("application", argc > 2 ? argument : NULL);
    if (!strcmp(task, "group"))
        return group();
    if (!strcmp(task, "stop")) {
        sigset_t term;
        int got;
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        sigprocmask(SIG_BLOCK, &term, NULL);
        end_with_parent();
        say("application ready");
        return sigwait(&term, &got) ? 99 : atoi(argument);
    }
    if (!strcmp(task, "outlived") && argc > 2)
        return outlived(argv + 2);
    if (!strcmp(task, "orphans"))
        return orphans(atoi(argument), program_invocation_short_name);
    if (!strcmp(task, "wait")) {
        signal(SIGCONT, continued);
        end_with_parent();
        say("waiting");
        for (;;)
            pause();
    }
    if (!strcmp(task, "neglect") && argc > 3) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGPIPE, SIG_IGN);
            umask(0);
            open("/dev/null", O_RDWR);
            setpgid(0, 0);
            execvp(argv[3], argv + 3);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        return 0;
    }
    return 2;
}
