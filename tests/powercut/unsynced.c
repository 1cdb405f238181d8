/* To be preloaded: what is to make writes durable says that it has, and does nothing.
 *
 * UNSYNCED names what is left out: "files", "directories" (of fsync), "records" (of what the queue
 * writes in one piece: what became of a message), or "all" of it.
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
    if (left_out("files"))
        return 0;
    if (!real)
        real = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    return real(fd);
}

int syncfs(int fd)
{
    static int (*real)(int);
    if (left_out("all"))
        return 0;
    if (!real)
        real = (int (*)(int)) dlsym(RTLD_NEXT, "syncfs");
    return real(fd);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    static ssize_t (*real)(int, const struct iovec *, int, off_t, int);
    if (left_out("files") || (count == 1 && left_out("records")))
        flags &= ~RWF_DSYNC;
    if (!real)
        real = (ssize_t (*)(int, const struct iovec *, int, off_t, int)) dlsym(RTLD_NEXT, "pwritev2");
    return real(fd, parts, count, offset, flags);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    return pwritev2(fd, parts, count, offset, flags);
}
