/* Sends mail as smtp-source of Postfix does, where that cannot: over STARTTLS, to many domains.
 *
 *     load [-cdR] -s SESSIONS -m MESSAGES -l SIZE -f SENDER -t RECIPIENT [-n DOMAINS] 127.0.0.1:PORT
 *
 * So many threads send one message after the other until all are sent: EHLO, STARTTLS, EHLO, MAIL,
 * RCPT, DATA, text, each when the reply to the one before is there. Each message has a connection
 * of its own; with -d a connection carries as many as it can. With -R each thread keeps the session
 * of its last connection, and resumes it; without, every handshake is a whole one. TLS 1.3 only,
 * and no certificate is verified, since that is not what the server pays for.
 *
 * With -c it sends in clear. With -n the messages go to so many domains, one after the other: a %
 * in RECIPIENT stands for the number of the domain, from 0 on.
 *
 * At the end it prints how many handshakes there were, and how many of them resumed a session.
 * Whatever goes wrong ends it, with a line on stderr and status 1.
 */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "threads.h"

enum { LINE = 78, PATIENCE_SECONDS = 60 };

struct peer {
    int fd;
    SSL *tls; /* NULL before STARTTLS */
    char input[4096];
    size_t begin, end; /* of what is received and not yet read */
};

static struct sockaddr_in address = {.sin_family = AF_INET};
static const char *sender, *recipient;
static int carry_many, resume, in_clear, domains = 1;
static char *text; /* header, body, and the final dot */
static size_t text_size;
static SSL_CTX *context;
static atomic_long handshakes, resumed;

static void die(const char *what)
{
    unsigned long error = ERR_get_error();
    fprintf(stderr, "%s: %s\n", what, error ? ERR_reason_error_string(error) : "unexpected");
    exit(1);
}

static void put(struct peer *peer, const char *octets, size_t size)
{
    while (size > 0) {
        long sent = peer->tls ? SSL_write(peer->tls, octets, (int)size)
                              : send(peer->fd, octets, size, MSG_NOSIGNAL);
        if (sent <= 0)
            die("sending");
        octets += sent;
        size -= (size_t)sent;
    }
}

/* Has what has come acknowledged at once: a server that does not turn Nagle's algorithm off would
 * wait for that with its next reply, 40 ms, as it does for its session tickets to be received. */
static long acknowledge(BIO *bio, int operation, const char *octets, size_t size, int number,
                        long value, int result, size_t *done)
{
    (void)octets, (void)size, (void)number, (void)value, (void)done;
    if (operation == (BIO_CB_READ | BIO_CB_RETURN)) {
        int on = 1;
        setsockopt((int)BIO_get_fd(bio, NULL), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    }
    return result;
}

/* Reads one line into `line`, cut to its size. */
static void get_line(struct peer *peer, char *line, size_t size)
{
    size_t length = 0;
    for (;;) {
        while (peer->begin < peer->end) {
            char octet = peer->input[peer->begin++];
            if (octet == '\n') {
                line[length] = '\0';
                return;
            }
            if (length + 1 < size)
                line[length++] = octet;
        }
        long got = peer->tls ? SSL_read(peer->tls, peer->input, sizeof peer->input)
                             : recv(peer->fd, peer->input, sizeof peer->input, 0);
        if (got <= 0)
            die("receiving");
        peer->begin = 0;
        peer->end = (size_t)got;
    }
}

static void expect(struct peer *peer, const char *code)
{
    char line[256];
    do {
        get_line(peer, line, sizeof line);
        if (strncmp(line, code, 3) != 0)
            die(line);
    } while (line[3] == '-');
}

static void command(struct peer *peer, const char *line, const char *code)
{
    put(peer, line, strlen(line));
    expect(peer, code);
}

static void start_tls(struct peer *peer, SSL_SESSION *session)
{
    command(peer, "STARTTLS\r\n", "220");
    SSL *tls = SSL_new(context);
    if (tls == NULL || !SSL_set_fd(tls, peer->fd))
        die("SSL_new");
    BIO_set_callback_ex(SSL_get_rbio(tls), acknowledge);
    if (session != NULL)
        SSL_set_session(tls, session);
    if (SSL_connect(tls) != 1)
        die("handshake");
    peer->tls = tls;
    atomic_fetch_add(&handshakes, 1);
    if (SSL_session_reused(tls))
        atomic_fetch_add(&resumed, 1);
}

static void open_peer(struct peer *peer, SSL_SESSION *session)
{
    int on = 1;
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    *peer = (struct peer){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(peer->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(peer->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connecting");
    expect(peer, "220");
    command(peer, "EHLO load.bench.test\r\n", "250");
    if (in_clear)
        return;
    start_tls(peer, session);
    command(peer, "EHLO load.bench.test\r\n", "250");
}

static void send_message(struct peer *peer, long number)
{
    char line[512];
    const char *mark = strchr(recipient, '%');
    snprintf(line, sizeof line, "MAIL FROM:<%s>\r\n", sender);
    command(peer, line, "250");
    if (mark == NULL)
        snprintf(line, sizeof line, "RCPT TO:<%s>\r\n", recipient);
    else
        snprintf(line, sizeof line, "RCPT TO:<%.*s%ld%s>\r\n", (int)(mark - recipient), recipient,
                 number % domains, mark + 1);
    command(peer, line, "250");
    command(peer, "DATA\r\n", "354");
    put(peer, text, text_size);
    expect(peer, "250");
}

/* `session` becomes the one to be resumed next: a new one if the server has given one. */
static void close_peer(struct peer *peer, SSL_SESSION **session)
{
    command(peer, "QUIT\r\n", "221");
    if (in_clear) {
        close(peer->fd);
        return;
    }
    SSL_SESSION *last = SSL_get0_session(peer->tls);
    if (resume && SSL_SESSION_is_resumable(last) && SSL_SESSION_up_ref(last)) {
        SSL_SESSION_free(*session);
        *session = last;
    }
    SSL_shutdown(peer->tls);
    SSL_free(peer->tls);
    close(peer->fd);
}

static void *client(void *none)
{
    SSL_SESSION *session = NULL;
    long number = take_one();
    while (number > 0) {
        struct peer peer;
        open_peer(&peer, session);
        do {
            send_message(&peer, number);
            number = take_one();
        } while (number > 0 && carry_many);
        close_peer(&peer, &session);
    }
    SSL_SESSION_free(session);
    return none;
}

static void make_text(size_t size)
{
    char header[1024];
    int header_size =
        snprintf(header, sizeof header,
                 "From: <%s>\r\nTo: <%s>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
                 "Message-Id: <%d@load.bench.test>\r\nSubject: load\r\n\r\n",
                 sender, recipient, (int)getpid());
    text_size = (size_t)header_size + size + 3;
    text = malloc(text_size);
    char *body = text + header_size;
    memcpy(text, header, (size_t)header_size);
    memset(body, 'X', size);
    for (size_t end = LINE; end < size - 2; end += LINE)
        memcpy(body + end - 2, "\r\n", 2);
    memcpy(body + size - 2, "\r\n.\r\n", 5);
}

static void make_context(void)
{
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION))
        die("SSL_CTX_new");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    /* With a cache, OpenSSL would let a session be resumed once only; Postfix gives no new one. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

int main(int count, char **arguments)
{
    int option, threads = 1;
    size_t size = 1024;
    while ((option = getopt(count, arguments, "cdRs:m:l:f:t:n:")) != -1) {
        switch (option) {
        case 'c': in_clear = 1; break;
        case 'd': carry_many = 1; break;
        case 'R': resume = 1; break;
        case 's': threads = atoi(optarg); break;
        case 'm': unsent = atol(optarg); break;
        case 'l': size = (size_t)atol(optarg); break;
        case 'f': sender = optarg; break;
        case 't': recipient = optarg; break;
        case 'n': domains = atoi(optarg); break;
        default: return 2;
        }
    }
    char *target = arguments[optind], *colon = target ? strchr(target, ':') : NULL;
    if (colon == NULL || !sender || !recipient || size < LINE || threads > MOST_THREADS ||
        domains < 1) {
        fprintf(stderr, "see the head of load.c\n");
        return 2;
    }
    *colon = '\0';
    address.sin_port = htons((unsigned short)atoi(colon + 1));
    if (inet_pton(AF_INET, target, &address.sin_addr) != 1)
        die(target);
    signal(SIGPIPE, SIG_IGN);
    make_text(size);
    make_context();
    run_threads(threads, client);
    printf("handshakes=%ld resumed=%ld\n", handshakes, resumed);
    return 0;
}
