/* The thread pool. Contracts in pool.h.
 *
 * Waiting means: spin briefly, since the next op is microseconds away; then yield, so that a team whose threads were put
 * on one core goes on at once and, being runnable, is spread again by the scheduler; then sleep in the kernel. So a
 * neighbour who takes a core costs about that core and no more. */

#include <pthread.h>
#include <sched.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "os.h"
#include "pool.h"

enum { MAX_THREADS = 1024, SPINS = 400, YIELDS = 1000 };

struct gg_team {
    size_t counter[2]; /* of even and odd phases: one is in use while the other waits, already zero */
    const int32_t *abort;
    uint32_t arrived, phase, sleepers;
    int stop, n_threads;
};

/* ---- Waiting ---- */

static void pause_cpu(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t load(uint32_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

/* Wait until *word != value. *sleepers tells who changes the word whether a wake is due. */
static void wait_change(uint32_t *word, uint32_t value, uint32_t *sleepers) {
    for (int i = 0; i < SPINS; i++) {
        if (load(word) != value) return;
        pause_cpu();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (load(word) != value) return;
        sched_yield();
    }
    __atomic_add_fetch(sleepers, 1, __ATOMIC_SEQ_CST);
    while (load(word) == value) gg_os_wait(word, value);
    __atomic_sub_fetch(sleepers, 1, __ATOMIC_SEQ_CST);
}

static void change(uint32_t *word, uint32_t value, uint32_t *sleepers) {
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    if (load(sleepers)) gg_os_wake(word);
}

/* ---- Inside a job ---- */

size_t gg_take(struct gg_worker *w) {
    return __atomic_fetch_add(&w->team->counter[w->phase % 2], 1, __ATOMIC_RELAXED);
}

int gg_barrier(struct gg_worker *w) {
    struct gg_team *team = w->team;
    const uint32_t phase = w->phase++;
    if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_SEQ_CST) == (uint32_t)team->n_threads) {
        team->arrived = 0;
        team->counter[phase % 2] = 0;
        team->stop = team->abort && __atomic_load_n(team->abort, __ATOMIC_RELAXED);
        change(&team->phase, phase + 1, &team->sleepers);
    } else {
        wait_change(&team->phase, phase, &team->sleepers);
    }
    return team->stop;
}

/* ---- Between jobs ---- */

/* `ticket` changes with every job and says how many threads it takes: low 16 bits; a job number above them. */
static struct {
    pthread_mutex_t mutex;
    uint32_t ticket, sleepers, busy, caller_sleeps;
    int n_workers; /* beside the caller */
    int caller_cpu;
    gg_job_fn *job;
    void *arg;
    struct gg_team team;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void *worker_main(void *index) {
    struct gg_worker worker = {.team = &pool.team, .index = (int)(intptr_t)index};
    uint32_t seen = 0;
    for (;;) {
        wait_change(&pool.ticket, seen, &pool.sleepers);
        seen = load(&pool.ticket);
        if (worker.index >= (int)(seen & 0xffff)) continue;
        /* A wake may have put us beside the caller, where we would take turns and the scheduler sees no wrong. */
        if (gg_os_cpu() == pool.caller_cpu) gg_os_leave_cpu(pool.caller_cpu);
        worker.phase = 0;
        worker.n_threads = pool.team.n_threads;
        pool.job(pool.arg, &worker);
        const uint32_t left = __atomic_sub_fetch(&pool.busy, 1, __ATOMIC_SEQ_CST);
        if (left == 0 && load(&pool.caller_sleeps)) gg_os_wake(&pool.busy);
    }
    return NULL;
}

/* A child of fork has none of its parent's threads; the mutex may have been held by one of them. */
static void forget_workers(void) {
    memset(&pool, 0, sizeof pool);
    pthread_mutex_init(&pool.mutex, NULL);
}

static void start_workers(int n_threads) {
    static int registered;
    if (!registered) registered = pthread_atfork(NULL, NULL, forget_workers) == 0;
    while (pool.n_workers + 1 < n_threads) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker_main, (void *)(intptr_t)(pool.n_workers + 1))) return;
        pthread_detach(thread);
        pool.n_workers++;
    }
}

int gg_pool_run(int n_threads, gg_job_fn *job, void *arg, const int32_t *abort) {
    pthread_mutex_lock(&pool.mutex);
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    start_workers(n_threads);
    if (n_threads > pool.n_workers + 1) n_threads = pool.n_workers + 1;
    pool.team = (struct gg_team){.abort = abort, .n_threads = n_threads};
    pool.job = job;
    pool.caller_cpu = gg_os_cpu();
    pool.arg = arg;
    pool.busy = (uint32_t)n_threads - 1;
    if (n_threads > 1) {
        const uint32_t number = (pool.ticket >> 16) + 1;
        change(&pool.ticket, number << 16 | (uint32_t)n_threads, &pool.sleepers);
    }
    struct gg_worker self = {.team = &pool.team, .n_threads = n_threads};
    job(arg, &self);
    for (uint32_t left; (left = load(&pool.busy)) != 0;) wait_change(&pool.busy, left, &pool.caller_sleeps);
    const int stopped = pool.team.stop;
    pthread_mutex_unlock(&pool.mutex);
    return stopped;
}
