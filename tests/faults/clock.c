/* A wall clock that is set back again and again, and has whole seconds only (LD_PRELOAD). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

enum { CALLS = 20, STEPS = 4 }; /* set back a second every so many calls, and then right again */

static int real(clockid_t which, struct timespec *now)
{
    static int (*next)(clockid_t, struct timespec *);
    if (!next)
        next = dlsym(RTLD_NEXT, "clock_gettime");
    return next(which, now);
}

static void set_back(struct timespec *now)
{
    static _Atomic unsigned calls;
    now->tv_sec -= calls++ / CALLS % STEPS;
    now->tv_nsec = 0;
}

int clock_gettime(clockid_t which, struct timespec *now)
{
    int result = real(which, now);
    if (result == 0 && which == CLOCK_REALTIME)
        set_back(now);
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec found;
    (void)zone;
    real(CLOCK_REALTIME, &found);
    set_back(&found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec found;
    real(CLOCK_REALTIME, &found);
    set_back(&found);
    if (into)
        *into = found.tv_sec;
    return found.tv_sec;
}
