# Waiting on sockets with the GIL let go once: "accept the next connection", "send the replies and
# wait for the next octets".
#
# A wait can be ended from outside, through a descriptor `wake` that becomes readable: so a server
# that is told to stop reaches the threads that wait. pfsmtp/net/_socketio.pyi documents what is
# here for its callers.

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EBADF, ECONNABORTED, EEXIST, EINTR, EPROTO, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strerror

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd* fds, unsigned long nfds, int timeout)
    int POLLIN, POLLOUT

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epfd, epoll_event* events, int maxevents, int timeout)
    int epoll_ctl(int epfd, int operation, int fd, epoll_event* event)
    int EPOLL_CTL_ADD, EPOLL_CTL_DEL
    uint32_t EPOLLIN, EPOLLET, EPOLLEXCLUSIVE

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int count, int flags)
    int eventfd_write(int fd, uint64_t count)
    int EFD_CLOEXEC, EFD_NONBLOCK

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int usleep(unsigned int microseconds)

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int fd, sockaddr* address, socklen_t* length, int flags)
    int getsockname(int fd, sockaddr* address, socklen_t* length)
    ssize_t send(int fd, const void* octets, size_t count, int flags)
    ssize_t recv(int fd, void* octets, size_t count, int flags)
    int SOCK_CLOEXEC, MSG_NOSIGNAL, MSG_DONTWAIT, AF_INET, AF_INET6

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        unsigned char s6_addr[16]
    struct sockaddr_in:
        unsigned short sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        unsigned short sin6_port
        in6_addr sin6_addr
    unsigned short ntohs(unsigned short)

cdef extern from "<arpa/inet.h>" nogil:
    const char* inet_ntop(int family, const void* source, char* target, socklen_t size)


cdef enum:
    # What waiting, sending or receiving came to, beside a number of octets.
    FAILED = -1     # errno says why
    TIMED_OUT = -2
    NOT_TAKEN = -3  # what was to be sent
    WOKEN = -4

cdef enum:
    RETRY = 10_000  # microseconds


cdef ssize_t _wait(int fd, short events, int milliseconds, int wake) noexcept nogil:
    """Wait until `fd` is ready: 0, FAILED, TIMED_OUT, or WOKEN when nothing but `wake` is."""
    cdef pollfd both[2]
    cdef int ready
    both[0].fd = fd
    both[0].events = events
    both[0].revents = 0
    both[1].fd = wake  # poll passes over a negative one
    both[1].events = POLLIN
    both[1].revents = 0
    ready = poll(both, 2, milliseconds)
    while ready < 0 and errno == EINTR:
        ready = poll(both, 2, milliseconds)
    if ready < 0:
        return FAILED
    if ready == 0:
        return TIMED_OUT
    return 0 if both[0].revents else WOKEN


cdef str _address(sockaddr_storage* address, int* port):
    """The IP address as text; IPv4 in an IPv6 socket (::ffff:a.b.c.d) is given as IPv4."""
    cdef char text[64]
    cdef sockaddr_in* four = <sockaddr_in*>address
    cdef sockaddr_in6* six = <sockaddr_in6*>address
    if address.ss_family == AF_INET:
        port[0] = ntohs(four.sin_port)
        inet_ntop(AF_INET, &four.sin_addr, text, sizeof(text))
    elif address.ss_family == AF_INET6:
        port[0] = ntohs(six.sin6_port)
        inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof(text))
        if text[0] == b":" and text[1] == b":" and text[2] == b"f" and text[6] == b":":
            mapped = (<bytes>text).decode()
            if mapped.startswith("::ffff:") and "." in mapped:
                return mapped[7:]
    else:
        port[0] = 0
        return ""
    return (<bytes>text).decode()


cdef int _accept(int listener, sockaddr_storage* client, sockaddr_storage* own) noexcept nogil:
    """The descriptor of the next connection, and both its ends; FAILED, and errno says why."""
    cdef socklen_t length = sizeof(sockaddr_storage)
    cdef int fd = accept4(listener, <sockaddr*>client, &length, SOCK_CLOEXEC)
    if fd >= 0:
        length = sizeof(sockaddr_storage)
        own.ss_family = 0
        getsockname(fd, <sockaddr*>own, &length)
    return fd


cdef tuple _accepted(int fd, sockaddr_storage* client, sockaddr_storage* own, int listener):
    cdef int port = 0, own_port = 0
    address = _address(client, &port)
    return fd, address, port, _address(own, &own_port), listener


cdef class Place:
    """A worker's place among those who wait for connections to the same listeners.

    Of a listener and of its bell an epoll event has both descriptors, the bell's in the upper half.
    """

    cdef int epoll
    cdef list bells
    cdef public bint kept

    def __cinit__(self, int epoll):
        self.epoll = epoll
        self.bells = []

    def __dealloc__(self):
        for bell in self.bells or ():
            close(bell)

    def take(self, int listener):
        cdef int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        cdef epoll_event event
        if bell < 0:
            PyErr_SetFromErrno(OSError)
        self.bells.append(bell)
        event.events = EPOLLIN | EPOLLET
        event.data.u64 = <uint64_t>bell << 32 | <uint32_t>listener
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, bell, &event) < 0 or self.queue_up(&event) < 0:
            PyErr_SetFromErrno(OSError)

    def leave(self, int listener):
        if epoll_ctl(self.epoll, EPOLL_CTL_DEL, listener, NULL) < 0:
            PyErr_SetFromErrno(OSError)

    cdef int queue_up(self, epoll_event* event) noexcept nogil:
        """Wait for connections, behind the workers that wait already.

        The kernel wakes who has waited longest, and that is always the same worker unless it queues
        up again behind the others. Other threads of this worker may do the same at this moment;
        whoever comes last adds it.
        """
        cdef int listener = <int><uint32_t>event.data.u64
        # Edge-triggered, so that one connection wakes one thread; adding it anew tells of others.
        event.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, listener, NULL)
        return epoll_ctl(self.epoll, EPOLL_CTL_ADD, listener, event)

    cdef void go_on(self, epoll_event* event, bint accepted) noexcept nogil:
        """See that a thread is told of the next connection: of each wait one has been told once.

        A worker that keeps its place wakes a thread of its own by the bell if another connection is
        there already.
        """
        cdef int listener = <int><uint32_t>event.data.u64
        if self.kept and accepted:
            if _wait(listener, POLLIN, 0, -1) != TIMED_OUT:
                eventfd_write(<int>(event.data.u64 >> 32), 1)
            return
        # For as long as memory for it lacks: without it, this worker would be deaf.
        while self.queue_up(event) < 0 and errno != EEXIST and errno != EBADF:
            usleep(RETRY)

    def accept(self, int stop):
        cdef epoll_event event
        cdef sockaddr_storage client, own
        cdef int fd, count, listener, error
        while True:
            with nogil:
                fd = FAILED
                listener = -1
                count = epoll_wait(self.epoll, &event, 1, -1)
                error = errno
                if count == 1:
                    listener = <int><uint32_t>event.data.u64
                    if listener != stop:
                        fd = _accept(listener, &client, &own)
                        error = errno
                        if fd >= 0 or error != EAGAIN:
                            self.go_on(&event, fd >= 0)
            if listener == stop:
                return None
            if fd >= 0:
                return _accepted(fd, &client, &own, listener)
            # Another thread or worker was quicker (EAGAIN), or the client has gone again.
            if error == EINTR:
                PyErr_CheckSignals()
            elif error != EAGAIN and error != ECONNABORTED and error != EPROTO:
                raise OSError(error, strerror(error).decode())


def accept_pending(int listener):
    """As `Place.accept`, but what waits on this listener already; None when nothing does."""
    cdef sockaddr_storage client, own
    cdef int fd = _accept(listener, &client, &own)
    return _accepted(fd, &client, &own, listener) if fd >= 0 else None


cdef ssize_t _send(int fd, const char* octets, Py_ssize_t count, int milliseconds) noexcept nogil:
    """Send all: 0, FAILED, or NOT_TAKEN when the peer takes nothing for so long."""
    cdef ssize_t sent
    cdef ssize_t ready
    while count:
        sent = send(fd, octets, count, MSG_NOSIGNAL | MSG_DONTWAIT)
        if sent >= 0:
            octets += sent
            count -= sent
        elif errno == EAGAIN:
            ready = _wait(fd, POLLOUT, milliseconds, -1)
            if ready != 0:
                return NOT_TAKEN if ready == TIMED_OUT else FAILED
        elif errno != EINTR:
            return FAILED
    return 0


cdef ssize_t _receive(int fd, void* target, size_t room, int milliseconds, int wake) noexcept nogil:
    cdef ssize_t result = _wait(fd, POLLIN, milliseconds, wake)
    if result == 0:
        result = recv(fd, target, room, 0)
        while result < 0 and errno == EINTR:
            result = recv(fd, target, room, 0)
    return result


cdef int _check(ssize_t result) except -1:
    if result == TIMED_OUT:
        raise TimeoutError("the peer was silent for too long")
    if result == NOT_TAKEN:
        raise ConnectionAbortedError("the peer does not read")
    if result == FAILED:
        PyErr_SetFromErrno(OSError)
    return 0


def send_all(int fd, bytes octets not None, double wait):
    """Send all. OSError, also when the peer takes nothing for `wait` seconds."""
    cdef const char* source = PyBytes_AS_STRING(octets)
    cdef Py_ssize_t count = PyBytes_GET_SIZE(octets)
    cdef ssize_t result
    with nogil:
        result = _send(fd, source, count, <int>(wait * 1000))
    _check(result)


def send_last(int fd, bytes octets not None, double wait):
    """Send what the peer takes of `octets` within `wait` seconds, and close. Never fails."""
    cdef const char* source = PyBytes_AS_STRING(octets)
    cdef Py_ssize_t count = PyBytes_GET_SIZE(octets)
    with nogil:
        _send(fd, source, count, <int>(wait * 1000))
        close(fd)


def exchange(int fd, bytes octets not None, into, double wait, int wake):
    """Send all of `octets`, then wait `wait` seconds for input, and put it into the buffer `into`.

    Returns the number of octets received, 0 when the peer has closed, -1 when `wake` could be read
    first. TimeoutError: all was sent and nothing received.
    """
    cdef const char* source = PyBytes_AS_STRING(octets)
    cdef Py_ssize_t count = PyBytes_GET_SIZE(octets)
    cdef Py_buffer space
    cdef ssize_t result = 0
    cdef int milliseconds = <int>(wait * 1000)
    PyObject_GetBuffer(into, &space, PyBUF_WRITABLE)
    with nogil:
        if count:
            result = _send(fd, source, count, milliseconds)
        if result == 0:
            result = _receive(fd, space.buf, space.len, milliseconds, wake)
    PyBuffer_Release(&space)
    if result == WOKEN:
        return -1
    _check(result)
    return result


def wait_for(int fd, bint write, double wait, int wake):
    """Wait until `fd` can be read, or written to: True; False when `wake` could be read first.

    TimeoutError after `wait` seconds.
    """
    cdef ssize_t result
    with nogil:
        result = _wait(fd, POLLOUT if write else POLLIN, <int>(wait * 1000), wake)
    if result == WOKEN:
        return False
    _check(result)
    return True
