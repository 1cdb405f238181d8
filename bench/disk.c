/* What the disk alone does: deliveries into a Maildir, without any mail server.
 *
 *     disk -s THREADS -m MESSAGES -l SIZE MAILDIR
 *
 * So many threads deliver one message after the other until all are delivered: a file is made in
 * tmp/, written, synced, renamed into new/, and new/ is synced, each thread for itself. The files
 * have names that no earlier run gave. Whatever fails ends it, with status 1.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "threads.h"

static int tmp, new;
static char *text;
static size_t text_size;
static long run;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int open_directory(const char *maildir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", maildir, name);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        die(path);
    return directory;
}

static void deliver(long number)
{
    char name[64];
    snprintf(name, sizeof name, "%ld.%ld", run, number);
    int file = openat(tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0)
        die("openat");
    if (write(file, text, text_size) != (ssize_t)text_size)
        die("write");
    if (fsync(file) != 0)
        die("fsync");
    close(file);
    if (renameat(tmp, name, new, name) != 0)
        die("renameat");
    if (fsync(new) != 0)
        die("fsync of the directory");
}

static void *client(void *none)
{
    long number;
    while ((number = take_one()) > 0)
        deliver(number);
    return none;
}

int main(int count, char **arguments)
{
    int option, threads = 1;
    while ((option = getopt(count, arguments, "s:m:l:")) != -1) {
        switch (option) {
        case 's': threads = atoi(optarg); break;
        case 'm': unsent = atol(optarg); break;
        case 'l': text_size = (size_t)atol(optarg); break;
        default: return 2;
        }
    }
    if (arguments[optind] == NULL || threads > MOST_THREADS) {
        fprintf(stderr, "see the head of disk.c\n");
        return 2;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    run = now.tv_sec * 1000 + now.tv_nsec / 1000000;
    tmp = open_directory(arguments[optind], "tmp");
    new = open_directory(arguments[optind], "new");
    text = malloc(text_size + 1);
    memset(text, 'X', text_size);
    run_threads(threads, client);
    return 0;
}
