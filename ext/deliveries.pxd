"""Deliveries: several files, all or none, in the order that makes them durable.

All are written to their first directories and synced, then all renamed into their second ones,
each of which is synced once; what went before a failure is undone (`take_back`). Each function
returns 0 or an errno, and notes in `Fault` what it was at; all run without the GIL. Inline, for the
one module that needs them.
"""

from groupcommit cimport Group, group_bring_in, group_sync, leader_syncs
from jobs cimport (
    Fault,
    Job,
    at,
    close_job,
    is_large,
    show_job,
    start_job,
    sync_job,
    take_back_job,
    write_job,
)

cdef enum:
    OPEN_AT_ONCE = 32  # files written before the first of them is synced
    SEVERAL = 4        # files of one message, from which on their file system may be synced instead


cdef struct Delivery:
    Job job
    Group *file_group      # NULL: the file has an fsync of its own
    Group *new_group
    Group *whole           # NULL, or what may be synced in place of both when many deliver


cdef inline int sync_groups(
    Delivery *deliveries, int count, bint files, Fault *fault
) noexcept nogil:
    """Sync each group once: those of the files, or those of their entries in new/."""
    cdef Group *group
    cdef int error, i, j
    for i in range(count):
        group = deliveries[i].file_group if files else deliveries[i].new_group
        if group == NULL:
            continue
        j = 0
        while (deliveries[j].file_group if files else deliveries[j].new_group) != group:
            j += 1
        if j < i:
            continue
        error = group_sync(group)
        if error:
            return at("sync", deliveries[i].job.name, error, fault)
    return 0


cdef inline int stage(Delivery *deliveries, int count, Fault *fault) noexcept nogil:
    """Write and sync all files.

    Some at a time are written before the first is synced: one commit of the journal serves all.
    """
    cdef int error, i, first = 0, end = 0
    while end < count:
        first = end
        end = min(count, first + <int> OPEN_AT_ONCE)
        for i in range(first, end):
            error = write_job(&deliveries[i].job, fault)
            if error:
                return error
            if count > 1 and deliveries[i].file_group == NULL:
                start_job(&deliveries[i].job)
        for i in range(first, end):
            if deliveries[i].file_group == NULL:
                error = sync_job(&deliveries[i].job, fault)
            else:
                error = close_job(&deliveries[i].job, fault)
            if error:
                return error
    return sync_groups(deliveries, count, True, fault)


cdef inline int show(Delivery *deliveries, int count, Fault *fault) noexcept nogil:
    """Rename all into new/, then make that durable."""
    cdef int error, i
    for i in range(count):
        error = show_job(&deliveries[i].job, fault)
        if error:
            return error
    return sync_groups(deliveries, count, False, fault)


cdef inline int deliver_one(Delivery *delivery, Fault *fault) noexcept nogil:
    """`stage` and `show` for a single file: whoever syncs its new/ does the rest for all."""
    cdef int error = write_job(&delivery.job, fault)
    if not error and (is_large(&delivery.job) or not leader_syncs(delivery.new_group)):
        error = sync_job(&delivery.job, fault)
    if error:
        return error
    # Unless a step of its own fails, which notes that.
    fault.step = "sync"
    fault.name = delivery.job.name
    return group_bring_in(delivery.new_group, &delivery.job, fault, delivery.whole)


cdef inline void take_back(Delivery *deliveries, int count) noexcept nogil:
    """After a failure: leave nothing, as far as the disk lets us."""
    cdef int i
    for i in range(count):
        take_back_job(&deliveries[i].job)
    for i in range(count):
        if deliveries[i].job.moved:
            # One whose sync has failed returns at once.
            group_sync(deliveries[i].new_group)
