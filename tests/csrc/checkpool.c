/* The thread pool, with more threads than CPUs: every number is taken once, phases do not overlap, jobs end when their
 * work is done, in a child of fork too. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool.h"

enum { PHASES = 50, ITEMS = 37, JOBS = 300, MOST_THREADS = 8 };

struct work {
    uint32_t taken[PHASES][ITEMS], done[PHASES];
    int32_t abort;
    uint32_t errors, stops;
};

static uint32_t add(uint32_t *word, uint32_t n) { return __atomic_fetch_add(word, n, __ATOMIC_SEQ_CST); }

static void run_phases(void *arg, struct gg_worker *worker) {
    struct work *work = arg;
    for (size_t phase = 0; phase < PHASES; phase++) {
        for (size_t i; (i = gg_take(worker)) < ITEMS;) {
            if (add(&work->taken[phase][i], 1)) add(&work->errors, 1);
            if (phase && __atomic_load_n(&work->done[phase - 1], __ATOMIC_SEQ_CST) != ITEMS) add(&work->errors, 1);
            if (i % 16 == 0) usleep(1); /* give the CPU away in the middle of the work */
            add(&work->done[phase], 1);
        }
        if (phase == PHASES / 2 && work->abort < 0 && worker->index == 0) work->abort = 1;
        if (gg_barrier(worker)) {
            add(&work->stops, 1);
            return;
        }
    }
}

/* Returns the number of mistakes. Aborting: in the middle of the phases. */
static uint32_t run(int n_threads, int aborting) {
    static struct work work;
    memset(&work, 0, sizeof work);
    work.abort = aborting ? -1 : 0;
    const int32_t never = 0;
    const int stopped = gg_pool_run(n_threads, run_phases, &work, aborting ? &work.abort : &never);
    const size_t last = aborting ? 0 : PHASES - 1; /* of an aborted job, how far it came is chance */
    for (size_t phase = 0; phase <= last; phase++)
        if (work.done[phase] != ITEMS) work.errors++;
    if (stopped != aborting || (aborting && work.stops == 0)) work.errors++;
    return work.errors;
}

static uint32_t run_all(int jobs) {
    uint32_t errors = 0;
    for (int job = 0; job < jobs; job++) errors += run(1 + job % MOST_THREADS, job % 7 == 3);
    return errors;
}

int main(void) {
    uint32_t errors = run_all(JOBS);
    const pid_t child = fork();
    if (child == 0) _exit(run_all(20) != 0);
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) errors++;
    errors += run_all(20);
    printf("checkpool: %u mistakes\n", errors);
    return errors != 0;
}
