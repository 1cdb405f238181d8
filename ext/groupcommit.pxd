"""Group commit: threads that want the same thing synced at the same moment have it synced once.

The first becomes the leader and syncs; those who come while it does wait for the next round, which
the first of them leads. A member may bring a file that has to be on disk and in the directory
before that: then the leader does so for him. Of files that were made together one sync writes most
of what the others need, and only one thread waits for the disk. For a crowd it may sync the file
system in place of each file and of the directory.
Runs without the GIL. Inline, for the modules that need it.
"""

from libc.errno cimport errno
from libc.stdlib cimport calloc, free
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close, fdatasync, fsync

from jobs cimport Fault, Job, at, close_job, show_job, start_job, sync_job

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass
    int sem_init(sem_t *, int, unsigned int)
    int sem_destroy(sem_t *)
    int sem_wait(sem_t *)
    int sem_post(sem_t *)

cdef extern from "<unistd.h>" nogil:
    int syncfs(int)


cdef enum Turn:
    WAITS
    LEADS
    DONE

cdef enum How:
    ENTRY                  # fsync, of a directory
    CONTENT                # fdatasync, of a file
    WHOLE                  # syncfs, of a file system

cdef enum:
    DEAR = 1_000            # microseconds of a sync
    UNKNOWN = 1_000_000_000
    MANY = 4                # members of a round
    CROWD = 8               # members from which on one sync of all costs less than theirs


cdef struct Waiter:
    sem_t wake
    Waiter *next
    Turn turn
    int error
    Job *job               # NULL, or what is to be in the directory before the sync
    Fault *fault


cdef struct Group:
    pthread_mutex_t lock
    int fd
    How how
    bint busy              # a leader syncs, or has been woken to
    int failed             # errno of a sync that failed: nothing is good from then on
    long cost              # microseconds of a sync, at its quickest of late
    int members            # of the largest round of late
    Waiter *first          # who waits for the next round
    Waiter *last
    int waiting


cdef inline bint leader_syncs(Group *group) noexcept nogil:
    """Whether it costs less to have the leader of a round sync the files of its members.

    Only where they are many: what files that were made side by side share is written once. Not
    where the disk takes long to sync: then the kernel flushes its cache once for all threads that
    ask for it at the same moment, and one thread would ask again and again.
    """
    return group.members >= MANY and group.cost <= DEAR


cdef inline void settle(Waiter *waiter, int error) noexcept nogil:
    """Tell everybody in this list how their round ended. They are gone once they wake."""
    cdef Waiter *following
    while waiter != NULL:
        following = waiter.next
        if not waiter.error:
            waiter.error = error
        waiter.turn = DONE
        sem_post(&waiter.wake)
        waiter = following


cdef inline Waiter *take_all(Group *group) noexcept nogil:
    cdef Waiter *first = group.first
    group.first = group.last = NULL
    group.waiting = 0
    return first


cdef inline void line_up(Group *group, Waiter *me) noexcept nogil:
    """Be of the round that begins after now; `wake` tells when it is done, or ours to lead."""
    me.turn = WAITS
    sem_init(&me.wake, 0, 0)
    if group.last == NULL:
        group.first = me
    else:
        group.last.next = me
    group.last = me
    group.waiting += 1


cdef inline void wait(Waiter *me) noexcept nogil:
    while sem_wait(&me.wake) != 0:
        pass  # EINTR
    sem_destroy(&me.wake)


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
    sem_post(&leader.wake)


cdef inline void sync_files(Waiter *members) noexcept nogil:
    """Put the members' files on disk, one after the other; the errors are each one's own."""
    cdef Waiter *member = members.next
    while member != NULL:
        if member.job != NULL and member.job.fd >= 0:
            start_job(member.job)
        member = member.next
    member = members
    while member != NULL:
        if member.job != NULL and member.job.fd >= 0:
            member.error = sync_job(member.job, member.fault)
        member = member.next


cdef inline void sync_files_at_once(Waiter *members, Group *whole) noexcept nogil:
    """Put the members' files on disk with their file system; its error is everybody's."""
    cdef Waiter *member = members
    cdef bint synced = False
    cdef int error = 0
    while member != NULL:
        if member.job != NULL and member.job.fd >= 0:
            if not synced:
                error = group_sync(whole)
                synced = True
            member.error = close_job(member.job, member.fault)
            if error:
                member.error = at("sync", member.job.name, error, member.fault)
        member = member.next


cdef inline bint bring_in(Waiter *members, Group *whole) noexcept nogil:
    """Put the members' files on disk, and into the directory; whether there is more to sync then.

    `whole` is NULL, or their file system, to be synced in place of each.
    """
    cdef Waiter *member = members
    cdef bint changed = False
    if whole == NULL:
        sync_files(members)
    else:
        sync_files_at_once(members, whole)
    while member != NULL:
        if member.job != NULL and not member.error:
            member.error = show_job(member.job, member.fault)
        changed |= not member.error
        member = member.next
    return changed


cdef inline long microseconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000 + now.tv_nsec // 1_000


cdef inline int sync(Group *group) noexcept nogil:
    """Sync now, and note what it costs; returns its errno."""
    cdef long began = microseconds(), took
    cdef int error = 0
    if group.how == WHOLE:
        error = errno if syncfs(group.fd) != 0 else 0
    elif group.how == CONTENT:
        error = errno if fdatasync(group.fd) != 0 else 0
    elif fsync(group.fd) != 0:
        error = errno
    took = microseconds() - began
    # A wait for the processor is no sign of a dear disk; that it never is quick, is one.
    group.cost = min(took, group.cost + group.cost // 16 + 1)
    return error


cdef inline int group_sync(Group *group) noexcept nogil:
    """Sync for all that was done before now.

    Alone, or with those who ask at the same moment: who comes while a sync runs is not served by
    it, since it may be past what he wants synced.
    """
    return group_bring_in(group, NULL, NULL, NULL)


cdef inline int group_bring_in(
    Group *group, Job *job, Fault *fault, Group *whole
) noexcept nogil:
    """Bring in `job` unless it is NULL, and sync for that, as `group_sync` does.

    `whole` is NULL, or the group of the file system, which may be synced in place of all else.
    """
    cdef Waiter me
    cdef bint waits = False
    cdef int error = 0, members
    me.next = NULL
    me.turn = LEADS
    me.error = 0
    me.job = job
    me.fault = fault
    pthread_mutex_lock(&group.lock)
    if group.failed:
        me.error = group.failed
        me.turn = DONE
    elif group.busy:
        line_up(group, &me)
        waits = True
    else:
        group.busy = True
    pthread_mutex_unlock(&group.lock)
    if waits:
        wait(&me)  # whatever `turn` is by now: until `wake` has told, somebody is at it
    if me.turn == DONE:
        return me.error

    pthread_mutex_lock(&group.lock)
    members = group.waiting + 1
    group.members = max(members, group.members * 3 // 4)
    me.next = take_all(group)
    pthread_mutex_unlock(&group.lock)

    if members < CROWD:
        whole = NULL
    if bring_in(&me, whole):
        error = sync(group) if whole == NULL else group_sync(whole)

    pthread_mutex_lock(&group.lock)
    settle(me.next, error)
    if error:
        # The kernel reports a lost write once: what those who came meanwhile have done may be
        # among it, and their own sync would be told that all is well.
        group.failed = error
        settle(take_all(group), error)
    pass_on(group)
    pthread_mutex_unlock(&group.lock)
    return me.error or error


cdef inline Group *new_group(int fd, How how) except NULL:
    cdef Group *group = <Group *> calloc(1, sizeof(Group))
    if group == NULL:
        raise MemoryError
    pthread_mutex_init(&group.lock, NULL)
    group.fd = fd
    group.how = how
    group.cost = UNKNOWN
    return group


cdef inline void free_group(Group *group) noexcept:
    """Only when nobody can be in it: its owner's last reference is gone."""
    if group != NULL:
        pthread_mutex_destroy(&group.lock)
        close(group.fd)
        free(group)
