/* To be preloaded: what is to make writes durable says that it has, and does nothing.
 *
 * UNSYNCED names what is left out: "files", "directories" (of fsync), "records" (of what the queue
 * writes in one piece: what became of a message), or "all" of it.
 *
 * A sync of a file of the queue makes all in it durable, records as well, whoever asks for it. So
 * without "records" none is made, and what is not a record is made durable as it is written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

static int left_out(const char *what)
{
    const char *wanted = getenv("UNSYNCED");
    return wanted && (strcmp(wanted, "all") == 0 || strcmp(wanted, what) == 0);
}

int fsync(int fd)
{
    static int (*real)(int);
    struct stat found;
    if (fstat(fd, &found) == 0 && left_out(S_ISDIR(found.st_mode) ? "directories" : "files"))
        return 0;
    if (!real)
        real = (int (*)(int)) dlsym(RTLD_NEXT, "fsync");
    return real(fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (left_out("files") || left_out("records"))
        return 0;
    if (!real)
        real = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    return real(fd);
}

int syncfs(int fd)
{
    static int (*real)(int);
    /* It would sync what fsync has not. */
    if (left_out("files") || left_out("directories"))
        return 0;
    if (!real)
        real = (int (*)(int)) dlsym(RTLD_NEXT, "syncfs");
    return real(fd);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    int durable = count > 1 && left_out("records") && !left_out("files");
    return pwritev2(fd, parts, count, offset, durable ? RWF_DSYNC : 0);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return pwritev(fd, parts, count, offset);
}
