/* The programs `pfsmtp` and `pfsmtp-sendmail`: hand a message to the running outbound server, without
 * starting Python.
 *
 * What sendmail(8) does with options, addresses and messages is written once, in pfsmtp/sendmail/.
 * The server has it in memory, so this program collects what was given to it (command line, user,
 * stdin) in a sealed file in memory, and hands that over at the server's socket. The server answers
 * with an exit status and what stderr is to say. pfsmtp/sendmail/request.py describes both.
 *
 * What is anything else than a message to be sent, or asks for a particular server or for the
 * dialogue to be shown, is left to Python: this program becomes `pfsmtp-python sendmail`. So is all,
 * with the message on stdin, when nobody answers at the socket or the server says so. Once the server
 * has been given a message, nobody else is: if it breaks off, the exit status is 75, EX_TEMPFAIL.
 *
 * Compiled with SENDMAIL it is sendmail, whatever it is called. Else it is that when the first
 * argument says so, and otherwise becomes `pfsmtp-python` with the arguments that it was given.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

static const char PYTHON[] = "pfsmtp-python";
static const char DEFAULT_SOCKET[] = "/run/pfsmtp-out/sendmail";
static const uint32_t VERSION = 1;
static const unsigned char ELSEWHERE = 0xff;
static const off_t LONGEST = 1 << 30; /* octets; no server takes as much */
static const struct timeval CONNECT_TIME = {.tv_sec = 30}, ANSWER_TIME = {.tv_sec = 600};

/* The options of pfsmtp/sendmail/options.py. */
static const char OPTIONS[] = "+A:B:C:D:F:GIL:M:N:O:R:UV:X:b:c:d::e:f:h:imno:p:q::r:stvx78";

static char buffer[64 * 1024];

__attribute__((noreturn, format(printf, 2, 3))) static void fail(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("sendmail: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(status);
}

static bool is_called(char **argv, const char *name)
{
    return argv[0] != NULL && strcmp(basename(argv[0]), name) == 0;
}

/* Become the part in Python, which was installed beside this program, else is on the PATH; speak as
 * `who`, and end with `status`, if it is not there. */
__attribute__((noreturn)) static void become_python(char **arguments, const char *who, int status)
{
    char program[PATH_MAX + sizeof PYTHON];
    ssize_t length = readlink("/proc/self/exe", program, PATH_MAX);
    program[length > 0 ? length : 0] = '\0';
    strcpy(basename(program), PYTHON);
    if (length > 0)
        execv(program, arguments);
    int reason = errno;
    execvp(PYTHON, arguments);
    fprintf(stderr,
            "%s: %s: %s; install pfsmtp again, or if this program is a copy, make it a link\n",
            who, program, strerror(reason));
    exit(status);
}

__attribute__((noreturn)) static void become_python_sendmail(int argc, char **argv)
{
    char **given = calloc((size_t)argc + 4, sizeof *given);
    if (given == NULL)
        fail(EX_OSERR, "%s", strerror(errno));
    int count = 0;
    given[count++] = "pfsmtp";
    given[count++] = "sendmail";
    if (is_called(argv, "mailq"))
        given[count++] = "-bp";
    else if (is_called(argv, "newaliases"))
        given[count++] = "-bi";
    for (int i = 1; i < argc; i++)
        given[count++] = argv[i];
    become_python(given, "sendmail", EX_OSFILE);
}

/* Whether the command line asks for a message to be sent, and for nothing that takes Python. */
static bool is_plain(int argc, char **argv, bool *dot_ends)
{
    bool in_header = false;
    opterr = 0;
    *dot_ends = true;
    for (int option; (option = getopt(argc, argv, OPTIONS)) != -1;) {
        if (strchr("CcIqv?", option) || (option == 'b' && strcmp(optarg, "m") != 0) ||
            (option == 'o' && strcmp(optarg, "v") == 0))
            return false;
        if (option == 'i' || (option == 'o' && strcmp(optarg, "i") == 0))
            *dot_ends = false;
        in_header |= option == 't';
    }
    return (in_header || optind < argc) && !is_called(argv, "mailq") &&
           !is_called(argv, "newaliases");
}

static void keep(int file, const char *octets, size_t count)
{
    while (count > 0) {
        ssize_t written = write(file, octets, count);
        if (written < 0 && errno != EINTR)
            fail(EX_TEMPFAIL, "the message cannot be kept in memory: %s", strerror(errno));
        if (written > 0) {
            octets += written;
            count -= (size_t)written;
        }
    }
}

static void keep_string(int file, const char *text)
{
    keep(file, text ? text : "", text ? strlen(text) + 1 : 1);
}

static ssize_t read_stdin(void)
{
    ssize_t count;
    while ((count = read(STDIN_FILENO, buffer, sizeof buffer)) < 0) {
        if (errno == EAGAIN)
            poll(&(struct pollfd){.fd = STDIN_FILENO, .events = POLLIN}, 1, -1);
        else if (errno != EINTR)
            fail(EX_IOERR, "stdin cannot be read: %s", strerror(errno));
    }
    return count;
}

/* Append stdin to the file, to its end, or to a line that is a lone dot. */
static void keep_message(int file, bool dot_ends)
{
    enum { LINE_BEGINS, DOT, DOT_CR, WITHIN_LINE, ENDED } at = LINE_BEGINS;
    off_t size = lseek(file, 0, SEEK_CUR), dot = 0;
    ssize_t count;
    while (at != ENDED && (count = read_stdin()) > 0) {
        for (ssize_t i = 0; dot_ends && i < count && at != ENDED; i++) {
            bool after_dot = at == DOT || at == DOT_CR;
            if (buffer[i] == '\n') {
                at = after_dot ? ENDED : LINE_BEGINS;
            } else if (at == LINE_BEGINS && buffer[i] == '.') {
                at = DOT;
                dot = size + i;
            } else {
                at = at == DOT && buffer[i] == '\r' ? DOT_CR : WITHIN_LINE;
            }
        }
        keep(file, buffer, (size_t)count);
        size += count;
        if (size > LONGEST)
            fail(EX_DATAERR, "the message is larger than any server takes");
    }
    if ((at == ENDED || at == DOT) && ftruncate(file, dot) < 0)
        fail(EX_OSERR, "%s", strerror(errno));
}

/* A connection to the server, or -1. */
static int connect_to_server(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("PFSMTP_SUBMIT");
    if (path == NULL || *path == '\0')
        path = DEFAULT_SOCKET;
    size_t length = strcspn(path, ", ");
    if (*path != '/' || length >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, path, length);
    int server = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (server < 0)
        return -1;
    setsockopt(server, SOL_SOCKET, SO_SNDTIMEO, &CONNECT_TIME, sizeof CONNECT_TIME);
    setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &ANSWER_TIME, sizeof ANSWER_TIME);
    if (connect(server, (struct sockaddr *)&address, sizeof address) == 0)
        return server;
    if (errno == EAGAIN)
        fail(EX_TEMPFAIL, "the mail server is too busy");
    close(server);
    return -1;
}

/* Give the server the file; false when it cannot have got it. */
static bool hand_over(int server, int file, off_t strings)
{
    uint32_t packet[] = {VERSION, (uint32_t)strings};
    struct iovec octets = {.iov_base = packet, .iov_len = sizeof packet};
    union {
        char space[CMSG_SPACE(sizeof file)];
        struct cmsghdr aligned;
    } control = {.space = {0}};
    struct msghdr message = {.msg_iov = &octets,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof file);
    memcpy(CMSG_DATA(rights), &file, sizeof file);
    return sendmsg(server, &message, MSG_NOSIGNAL) == (ssize_t)sizeof packet;
}

/* Hear what the server says, and do it: the exit status, or ELSEWHERE. */
static int hear(int server, bool handed_over)
{
    /* One that is full says so and closes, request or not; the kernel tells of the second first. */
    int resets = 0;
    ssize_t count;
    do
        count = recv(server, buffer, sizeof buffer, handed_over ? 0 : MSG_DONTWAIT);
    while (count < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
    if (count < 1 && !handed_over)
        return ELSEWHERE;
    if (count < 1)
        fail(EX_TEMPFAIL, "the mail server broke off, and may have the message or not: %s",
             count < 0 ? strerror(errno) : "it closed the connection");
    fwrite(buffer + 1, 1, (size_t)count - 1, stderr);
    return (unsigned char)buffer[0];
}

/* Hand over a message, or become who does what is asked; returns the exit status. */
static int send_mail(int argc, char **argv)
{
    bool dot_ends;
    if (!is_plain(argc, argv, &dot_ends))
        become_python_sendmail(argc, argv);
    /* None of ours is to get the number of one that was closed. */
    for (int standard = 0; standard <= STDERR_FILENO; standard++)
        if (fcntl(standard, F_GETFD) < 0)
            become_python_sendmail(argc, argv);
    int file = memfd_create("mail", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0)
        become_python_sendmail(argc, argv);
    signal(SIGXFSZ, SIG_IGN); /* EFBIG says it */
    struct passwd *user = getpwuid(getuid());
    keep_string(file, user ? user->pw_name : NULL);
    keep_string(file, user ? user->pw_gecos : NULL);
    keep_string(file, getenv("NAME"));
    keep_string(file, getenv("LOGNAME"));
    for (int i = 0; i < argc; i++)
        keep_string(file, argv[i]);
    off_t strings = lseek(file, 0, SEEK_CUR);
    keep_message(file, dot_ends);
    if (fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        fail(EX_OSERR, "%s", strerror(errno));
    int server = connect_to_server();
    if (server >= 0) {
        int status = hear(server, hand_over(server, file, strings));
        if (status != ELSEWHERE)
            return status;
    }
    if (lseek(file, strings, SEEK_SET) < 0 || dup2(file, STDIN_FILENO) < 0)
        fail(EX_OSERR, "%s", strerror(errno));
    become_python_sendmail(argc, argv);
}

int main(int argc, char **argv)
{
#ifndef SENDMAIL
    if (argc < 2 || strcmp(argv[1], "sendmail") != 0)
        become_python(argv, "pfsmtp", EXIT_FAILURE);
    argc--;
    argv++;
#endif
    return send_mail(argc, argv);
}
