/* Becomes the user and the group 1000 by a part, says so, and waits: `fs` by the file system ids alone, `kept` whole but with the
   capabilities to go back, `whole` whole, `apart` whole and in a user namespace of its own, without any right in it. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int count, char **words)
{
    const char *how = count > 1 ? words[1] : "";
    if (!strcmp(how, "again")) {
        /* It is all of it already. */
    } else if (!strcmp(how, "fs")) {
        setfsgid(1000);
        setfsuid(1000);
    } else {
        if (!strcmp(how, "kept") && prctl(PR_SET_KEEPCAPS, 1))
            return 1;
        if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))
            return 1;
        if (!strcmp(how, "apart")) {
            /* Nothing is mapped, so that the next program has no right. */
            if (unshare(CLONE_NEWUSER))
                return 1;
            execl(words[0], words[0], "again", NULL);
            return 1;
        }
    }
    puts("it is done");
    fflush(stdout);
    for (;;)
        pause();
}
