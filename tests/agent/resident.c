/* What lives in a container that a token is delivered to; static.
 *
 *   resident fuse DIRECTORY     mounts a file system there that never answers
 *   resident root DIRECTORY     mounts layers of its own in it and makes them its root
 *   resident remap DIRECTORY    mounts a tmpfs there, in a user namespace of its own
 *   resident swap DIRECTORY OUTSIDE
 *                               swings the name `place` in it between a directory and a link to OUTSIDE, and the name `token` in
 *                               that directory between a link to OUTSIDE/token, a FIFO and nothing
 *   resident socket PATH        leaves a socket there
 *   resident call PATH          connects to a socket and stays
 *   resident leave PATH         connects to a socket and ends
 *
 * Says "ready" and sleeps, but for swap, which goes on, and leave.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void ready(void)
{
    puts("ready");
    fflush(stdout);
}

static void silent(const char *directory)
{
    char options[100];
    int device = open("/dev/fuse", O_RDWR);
    if (device < 0)
        err(1, "/dev/fuse");
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
    if (mount("silent", directory, "fuse.overlay", 0, options))
        err(1, "fuse on %s", directory);
}

static void layered(const char *directory)
{
    if (chdir(directory) || mkdir("lower", 0755) || mkdir("upper", 0755) || mkdir("work", 0755) || mkdir("all", 0755)
        || mount("own", "all", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work") || chroot("all"))
        err(1, "layers in %s", directory);
}

static void write_file(const char *path, const char *text)
{
    int file = open(path, O_WRONLY);
    if (file < 0 || write(file, text, strlen(text)) < 0)
        err(1, "%s", path);
    close(file);
}

static void remap(const char *directory)
{
    char map[50];
    snprintf(map, sizeof map, "0 %d 1", getuid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
        err(1, "unshare");
    write_file("/proc/self/uid_map", map);
    if (mount("tmpfs", directory, "tmpfs", 0, NULL))
        err(1, "tmpfs on %s", directory);
}

static void swap(const char *directory, const char *outside)
{
    char link[4096];
    snprintf(link, sizeof link, "%s/token", outside);
    if (chdir(directory) || mkdir("place", 0777) || symlink(outside, "other"))
        err(1, "%s", directory);
    ready();
    for (unsigned round = 0;; round++) {
        renameat2(AT_FDCWD, "place", AT_FDCWD, "other", RENAME_EXCHANGE);
        /* Whichever of the two is the directory. */
        for (int name = 0; name < 2; name++) {
            int place = open(name ? "place" : "other", O_PATH | O_DIRECTORY | O_NOFOLLOW);
            if (place < 0)
                continue;
            switch (round % 4) {
            case 0: symlinkat(link, place, "token"); break;
            case 2: mkfifoat(place, "token", 0666); break;
            default: unlinkat(place, "token", 0);
            }
            close(place);
        }
    }
}

static int at(const char *path, int (*use)(int, const struct sockaddr *, socklen_t))
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (descriptor < 0 || use(descriptor, (struct sockaddr *)&address, sizeof address))
        err(1, "%s", path);
    return descriptor;
}

int main(int count, char **arguments)
{
    const char *what = count > 2 ? arguments[1] : "";
    if (!strcmp(what, "fuse")) {
        silent(arguments[2]);
    } else if (!strcmp(what, "root")) {
        layered(arguments[2]);
    } else if (!strcmp(what, "remap")) {
        remap(arguments[2]);
    } else if (!strcmp(what, "swap") && count > 3) {
        swap(arguments[2], arguments[3]);
    } else if (!strcmp(what, "socket")) {
        at(arguments[2], bind);
        return 0;
    } else if (!strcmp(what, "call")) {
        at(arguments[2], connect);
    } else if (!strcmp(what, "leave")) {
        at(arguments[2], connect);
        return 0;
    } else {
        errx(2, "what?");
    }
    ready();
    for (;;)
        pause();
}
