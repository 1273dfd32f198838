/* The thread pool: one per process. A job runs on all threads of a team; they share work by taking numbers. */

#ifndef GG_POOL_H
#define GG_POOL_H

#include <stddef.h>
#include <stdint.h>

struct gg_team;

/* A thread in a team, in its own words. */
struct gg_worker {
    struct gg_team *team;
    int index, n_threads;
    uint32_t phase; /* barriers passed */
    int inside;     /* it has taken a number of this phase */
};

typedef void gg_job_fn(void *arg, struct gg_worker *worker);

/* Run job(arg, worker) on n_threads threads (fewer if the system gives no more), the caller being the first.
 * Waits while another caller's job runs. *abort (or NULL) is read at barriers. Returns 1 if it stopped the job. */
int gg_pool_run(int n_threads, gg_job_fn *job, void *arg, const int32_t *abort);

/* The next number of this phase: each number 0, 1, 2, ... goes to one worker of the team, SIZE_MAX to those who come when
 * the phase is over. All work of a phase must be shared by numbers, taken until there are no more: whoever has no CPU just
 * now takes none, and nobody waits for him. */
size_t gg_take(struct gg_worker *worker);

/* Wait for those who have taken numbers; then numbers start at 0 again. Returns 1, to all alike, if the job shall stop. */
int gg_barrier(struct gg_worker *worker);

#endif
