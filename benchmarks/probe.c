/* Reads memory as fast as it comes: what a token that needs every weight once can hardly beat. */

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* In words of 8 bytes. A page ahead: the processor's own prefetchers stop at the end of one. */
enum { LANES = 32, LINE = 8, CHUNK = 1 << 17, AHEAD = 512 };

typedef struct {
    const uint64_t *data;
    size_t words;
    int passes;
    atomic_size_t *next; /* per pass: the next chunk that nobody has taken */
    pthread_barrier_t barrier;
    _Atomic uint64_t sum;
} work;

/* Lanes are independent, and few enough for 16 registers of 16 bytes. */
static uint64_t sum_words(const uint64_t *data, size_t words)
{
    uint64_t lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= words; i += LANES) {
        for (int line = 0; line < LANES; line += LINE)
            __builtin_prefetch(data + i + AHEAD + line);
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += data[i + lane];
    }
    uint64_t sum = 0;
    for (; i < words; i++)
        sum += data[i];
    for (int lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum;
}

static void *run(void *argument)
{
    work *w = argument;
    uint64_t sum = 0;
    for (int pass = 0; pass < w->passes; pass++) {
        size_t first;
        while ((first = atomic_fetch_add(&w->next[pass], CHUNK)) < w->words) {
            size_t left = w->words - first;
            sum += sum_words(w->data + first, left < CHUNK ? left : CHUNK);
        }
        pthread_barrier_wait(&w->barrier);
    }
    w->sum += sum;
    return NULL;
}

/* Reads data[words] `passes` times with `threads` threads, which take chunks as they come, so that a slow core delays
 * nobody, and meet after each pass. Returns the sum of all words read, so that no read can be left out. */
uint64_t probe(const uint64_t *data, size_t words, int threads, int passes)
{
    work w = {.data = data, .words = words, .passes = passes, .next = calloc(passes, sizeof *w.next)};
    pthread_t *ids = calloc(threads, sizeof *ids);
    if (!ids || !w.next || pthread_barrier_init(&w.barrier, NULL, threads))
        abort();
    for (int i = 1; i < threads; i++)
        if (pthread_create(&ids[i], NULL, run, &w))
            abort();
    run(&w);
    for (int i = 1; i < threads; i++)
        pthread_join(ids[i], NULL);
    pthread_barrier_destroy(&w.barrier);
    free(w.next);
    free(ids);
    return w.sum;
}
