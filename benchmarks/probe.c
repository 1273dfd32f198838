/* Reads memory as fast as it comes: what a token that needs every weight once cannot beat. */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { LANES = 64 };

typedef struct {
    const uint64_t *data;
    size_t words;
    int passes;
    uint64_t sum;
    pthread_barrier_t *barrier;
} share;

/* Enough independent lanes for any vector width. */
static uint64_t sum_words(const uint64_t *data, size_t words)
{
    uint64_t lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= words; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += data[i + lane];
    uint64_t sum = 0;
    for (; i < words; i++)
        sum += data[i];
    for (int lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum;
}

static void *run(void *argument)
{
    share *mine = argument;
    for (int pass = 0; pass < mine->passes; pass++) {
        mine->sum += sum_words(mine->data, mine->words);
        pthread_barrier_wait(mine->barrier);
    }
    return NULL;
}

/* Reads data[words] `passes` times with `threads` threads that meet after each pass.
 * Stores the sum of all words read (so that no read can be left out). Returns 0, or -1 if threads cannot be had. */
int probe(const uint64_t *data, size_t words, int threads, int passes, uint64_t *sum)
{
    pthread_barrier_t barrier;
    pthread_t *ids = calloc(threads, sizeof *ids);
    share *shares = calloc(threads, sizeof *shares);
    int status = -1;
    if (ids && shares && pthread_barrier_init(&barrier, NULL, threads) == 0) {
        int started = 1;
        for (int i = 0; i < threads; i++) {
            size_t first = words * i / threads, last = words * (i + 1) / threads;
            shares[i] = (share){data + first, last - first, passes, 0, &barrier};
        }
        while (started < threads && pthread_create(&ids[started], NULL, run, &shares[started]) == 0)
            started++;
        /* Threads that wait at the barrier for one that never came cannot be joined: give up for good. */
        if (started < threads)
            abort();
        run(&shares[0]);
        *sum = shares[0].sum;
        for (int i = 1; i < threads; i++) {
            pthread_join(ids[i], NULL);
            *sum += shares[i].sum;
        }
        pthread_barrier_destroy(&barrier);
        status = 0;
    }
    free(ids);
    free(shares);
    return status;
}
