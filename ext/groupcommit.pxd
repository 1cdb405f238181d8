"""Group commit: threads that want the same thing synced at the same moment have it synced once.

The first becomes the leader and syncs; those who come while it does wait for the next round, which
the first of them leads. Runs without the GIL. Inline, for the one module that needs it.
"""

from libc.errno cimport errno
from libc.stdlib cimport calloc, free
from posix.unistd cimport close, fsync

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, void *)
    int pthread_cond_destroy(pthread_cond_t *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_signal(pthread_cond_t *)

cdef extern from "<unistd.h>" nogil:
    int syncfs(int)


cdef enum Turn:
    WAITS
    LEADS
    DONE


cdef struct Waiter:
    pthread_cond_t wake
    Waiter *next
    Turn turn
    int error


cdef struct Group:
    pthread_mutex_t lock
    int fd
    bint whole             # syncfs of its file system in place of fsync
    bint busy              # a leader syncs, or has been woken to
    int failed             # errno of a sync that failed: nothing is good from then on
    Waiter *first          # who waits for the next round
    Waiter *last
    int waiting


cdef inline void settle(Waiter *waiter, int error) noexcept nogil:
    """Tell everybody in this list how their round ended. They are gone once they wake."""
    cdef Waiter *following
    while waiter != NULL:
        following = waiter.next
        waiter.error = error
        waiter.turn = DONE
        pthread_cond_signal(&waiter.wake)
        waiter = following


cdef inline Waiter *take_all(Group *group) noexcept nogil:
    cdef Waiter *first = group.first
    group.first = group.last = NULL
    group.waiting = 0
    return first


cdef inline int wait_turn(Group *group) noexcept nogil:
    """Wait for the round that begins after now; return its errno, or -1 to lead it."""
    cdef Waiter me
    pthread_cond_init(&me.wake, NULL)
    me.next = NULL
    me.turn = WAITS
    me.error = 0
    if group.last == NULL:
        group.first = &me
    else:
        group.last.next = &me
    group.last = &me
    group.waiting += 1
    while me.turn == WAITS:
        pthread_cond_wait(&me.wake, &group.lock)
    pthread_cond_destroy(&me.wake)
    return -1 if me.turn == LEADS else me.error


cdef inline void pass_on(Group *group) noexcept nogil:
    """Wake the first of those who came meanwhile to lead the next round."""
    cdef Waiter *leader = group.first
    if leader == NULL:
        group.busy = False
        return
    group.first = leader.next
    if group.first == NULL:
        group.last = NULL
    group.waiting -= 1
    leader.turn = LEADS
    pthread_cond_signal(&leader.wake)


cdef inline int group_sync(Group *group) noexcept nogil:
    """Sync for all that was done before now: alone, or with those who ask at the same moment.

    Who comes while a sync runs is not served by it: it may be past what he wants synced.
    """
    cdef Waiter *members
    cdef int error = -1
    pthread_mutex_lock(&group.lock)
    if group.failed:
        error = group.failed
    elif group.busy:
        error = wait_turn(group)
    if error >= 0:
        pthread_mutex_unlock(&group.lock)
        return error
    group.busy = True
    members = take_all(group)
    pthread_mutex_unlock(&group.lock)

    error = 0
    if (syncfs(group.fd) if group.whole else fsync(group.fd)) != 0:
        error = errno

    pthread_mutex_lock(&group.lock)
    settle(members, error)
    if error:
        # The kernel reports a lost write once: what those who came meanwhile have done may be
        # among it, and their own sync would be told that all is well.
        group.failed = error
        settle(take_all(group), error)
    pass_on(group)
    pthread_mutex_unlock(&group.lock)
    return error


cdef inline Group *new_group(int fd, bint whole) except NULL:
    cdef Group *group = <Group *> calloc(1, sizeof(Group))
    if group == NULL:
        raise MemoryError
    pthread_mutex_init(&group.lock, NULL)
    group.fd = fd
    group.whole = whole
    return group


cdef inline void free_group(Group *group) noexcept:
    """Only when nobody can be in it: its owner's last reference is gone."""
    if group != NULL:
        pthread_mutex_destroy(&group.lock)
        close(group.fd)
        free(group)
