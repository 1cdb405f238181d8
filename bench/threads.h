/* Threads that share out a number of messages among them: for disk.c and load.c. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_THREADS = 1000 };

static atomic_long unsent;

/* The number of a message that is still to be sent, down to 1; none if it is not positive. */
static long take_one(void)
{
    return atomic_fetch_sub(&unsent, 1);
}

/* Has so many threads do it, MOST_THREADS at most, and waits for them. */
static void run_threads(int threads, void *(*client)(void *))
{
    pthread_t all[MOST_THREADS];
    for (int number = 0; number < threads; number++)
        if (pthread_create(&all[number], NULL, client, NULL) != 0) {
            fprintf(stderr, "pthread_create: no more threads\n");
            exit(1);
        }
    for (int number = 0; number < threads; number++)
        pthread_join(all[number], NULL);
}
