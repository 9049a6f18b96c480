/* ask PATH: connects to a socket, says nothing, prints whatever is answered; static. */
#include <err.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer[4096];
    ssize_t length;
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    if (count != 2)
        errx(64, "ask PATH");
    strncpy(address.sun_path, arguments[1], sizeof address.sun_path - 1);
    if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "connect");
    while ((length = read(connection, answer, sizeof answer)) > 0)
        if (write(1, answer, (size_t)length) != length)
            err(1, "write");
    return length < 0;
}
