/* What the system calls of an inbound server cost, without the server.
 *
 *     bare -p PORT -w PROCESSES MAILDIR
 *
 * It talks to smtp-source and stores what that sends, with the system calls and the threads that
 * pfsmtp has for the same: processes that keep to a core each, a thread for each connection, poll
 * and recv for each command, a file written in tmp/, then one thread that for all who wait syncs the
 * files, renames them into new/ and syncs that (docs/decisions/0003, 0009, 0011, 0013), and a line of
 * a log for each message and each connection. It looks at the first letter of a command and knows
 * no errors, limits, users or addresses; a failed call ends it. No mail server does less.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    THREADS = 64,        /* of each process */
    BUFFER = 64 << 10,   /* octets; a message is smaller */
    CROWD = 8,           /* members of a round for whom the file system is synced */
    SILENCE = 300 * 1000 /* milliseconds */
};

struct member {
    struct member *next;
    sem_t wake;
    bool leads;
    int file;
    char name[64];
};

static int listener, maildir, tmp, new;
static atomic_uint counter;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct member *waiting, **last = &waiting;
static bool busy;

static long must(long result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static void bring_in(struct member *first)
{
    struct member *each;
    int count = 0;
    for (each = first; each; each = each->next)
        count++;
    bool whole = count >= CROWD;
    if (!whole)
        for (each = first->next; each; each = each->next)
            sync_file_range(each->file, 0, 0, SYNC_FILE_RANGE_WRITE);
    if (whole)
        must(syncfs(maildir), "syncfs");
    for (each = first; each; each = each->next) {
        if (!whole)
            must(fsync(each->file), "fsync");
        close(each->file);
    }
    for (each = first; each; each = each->next)
        must(renameat2(tmp, each->name, new, each->name, RENAME_NOREPLACE), "renameat2");
    must(whole ? syncfs(maildir) : fsync(new), "fsync of the directory");
}

/* Returns once the file is on disk and in new/: by this thread for all who wait, or by another. */
static void join(struct member *me)
{
    me->next = NULL;
    me->leads = false;
    pthread_mutex_lock(&lock);
    if (busy) {
        sem_init(&me->wake, 0, 0);
        *last = me;
        last = &me->next;
        pthread_mutex_unlock(&lock);
        sem_wait(&me->wake);
        if (!me->leads)
            return;
        pthread_mutex_lock(&lock);
    }
    busy = true;
    me->next = waiting;
    waiting = NULL;
    last = &waiting;
    pthread_mutex_unlock(&lock);

    bring_in(me);

    pthread_mutex_lock(&lock);
    for (struct member *each = me->next, *following; each; each = following) {
        following = each->next;
        sem_post(&each->wake);
    }
    if (waiting) {
        struct member *leader = waiting;
        waiting = leader->next;
        if (!waiting)
            last = &waiting;
        leader->leads = true;
        sem_post(&leader->wake);
    } else {
        busy = false;
    }
    pthread_mutex_unlock(&lock);
}

static void deliver(char *text, size_t size)
{
    static char path[] = "Return-Path: <load@bench.test>\n";
    static char trace[] = "Received: from load (localhost [127.0.0.1])\n\tby mx.bench.test with SMTP\n"
                          "\tfor <u@bench.test>; Tue, 1 Dec 2026 00:00:00 +0000\n";
    struct member me;
    struct iovec parts[] = {{path, sizeof path - 1}, {trace, sizeof trace - 1}, {text, size}};
    snprintf(me.name, sizeof me.name, "%ld.P%dQ%u.mx", (long)time(NULL), getpid(), counter++);
    me.file = (int)must(openat(tmp, me.name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), "openat");
    must(writev(me.file, parts, 3), "writev");
    join(&me);
}

static void say(int peer, const char *reply)
{
    send(peer, reply, strlen(reply), MSG_NOSIGNAL);
}

static void note(const char *event, size_t size)
{
    char line[128];
    int length = snprintf(line, sizeof line, "event=%s client=127.0.0.1 size=%zu\n", event, size);
    must(write(STDOUT_FILENO, line, (size_t)length), "write");
}

static size_t receive(int peer, char *into, size_t room)
{
    struct pollfd readable = {.fd = peer, .events = POLLIN};
    if (room == 0 || poll(&readable, 1, SILENCE) <= 0)
        return 0;
    ssize_t got = recv(peer, into, room, 0);
    return got > 0 ? (size_t)got : 0;
}

static void serve(int peer, char *octets)
{
    size_t size = 0, got;
    bool in_text = false;
    say(peer, "220 mx.bench.test ESMTP\r\n");
    while ((got = receive(peer, octets + size, BUFFER - size)) > 0) {
        size += got;
        if (in_text) {
            if (size < 5 || memcmp(octets + size - 5, "\r\n.\r\n", 5) != 0)
                continue;
            deliver(octets, size - 3);
            say(peer, "250 2.0.0 OK\r\n");
            note("stored", size);
            in_text = false;
        } else if (octets[size - 1] != '\n') {
            continue;
        } else if ((octets[0] | 32) == 'd') {
            say(peer, "354 Go ahead\r\n");
            in_text = true;
        } else if ((octets[0] | 32) == 'q') {
            say(peer, "221 2.0.0 Bye\r\n");
            break;
        } else {
            say(peer, "250 2.1.0 OK\r\n");
        }
        size = 0;
    }
    close(peer);
    note("closed", 0);
}

static void *connections(void *none)
{
    char *octets = malloc(BUFFER);
    for (;;)
        serve((int)must(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept4"), octets);
    return none;
}

static void work(int number)
{
    cpu_set_t core;
    CPU_ZERO(&core);
    CPU_SET(number, &core);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sched_setaffinity(0, sizeof core, &core);
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    for (int count = 1; count < THREADS; count++) {
        pthread_t thread;
        must(-pthread_create(&thread, NULL, connections, NULL), "pthread_create");
    }
    connections(NULL);
}

static int open_directory(const char *path)
{
    return (int)must(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), path);
}

int main(int count, char **arguments)
{
    int option, processes = 1, on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    while ((option = getopt(count, arguments, "p:w:")) != -1) {
        switch (option) {
        case 'p': address.sin_port = htons((unsigned short)atoi(optarg)); break;
        case 'w': processes = atoi(optarg); break;
        default: return 2;
        }
    }
    if (arguments[optind] == NULL) {
        fprintf(stderr, "see the head of bare.c\n");
        return 2;
    }
    maildir = open_directory(arguments[optind]);
    must(fchdir(maildir), "fchdir");
    tmp = open_directory("tmp");
    new = open_directory("new");
    listener = (int)must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    must(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    must(listen(listener, 1024), "listen");
    for (int number = 0; number < processes; number++)
        if (must(fork(), "fork") == 0)
            work(number);
    must(wait(NULL), "wait");
    return 1;
}
