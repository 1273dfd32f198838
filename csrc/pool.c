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

#include "os/os.h"
#include "pool.h"

enum { MAX_THREADS = 1024, SPINS = 400, YIELDS = 1000 };

/* state: the phase, and in its low bits how many are inside: have taken numbers and may still be at work. CLOSING instead
 * of a number: the last of them has left and prepares the next phase. */
enum { INSIDE_BITS = 12, CLOSING = (1 << INSIDE_BITS) - 1 };

struct gg_team {
    size_t counter;
    const int32_t *abort;
    uint32_t state, phase, sleepers; /* phase: as in state, for those who wait for the next */
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

static uint32_t state_of(uint32_t phase, uint32_t inside) { return phase << INSIDE_BITS | inside; }

static int exchange(uint32_t *word, uint32_t *expected, uint32_t desired) {
    return __atomic_compare_exchange_n(word, expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* Be counted as inside the worker's phase; returns 0 if it is over. */
static int enter(struct gg_worker *w) {
    uint32_t *word = &w->team->state, state = load(word);
    while (!w->inside) {
        if (state >= state_of(w->phase, CLOSING) || state < state_of(w->phase, 0)) return 0;
        w->inside = exchange(word, &state, state + 1);
    }
    return 1;
}

/* Numbers are used up, and nobody is at work. */
static void close_phase(struct gg_team *team, uint32_t phase) {
    team->counter = 0;
    if (team->abort && __atomic_load_n(team->abort, __ATOMIC_RELAXED)) __atomic_store_n(&team->stop, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&team->state, state_of(phase + 1, 0), __ATOMIC_SEQ_CST);
    change(&team->phase, phase + 1, &team->sleepers);
}

/* Returns 1 to the last one inside: the phase is closing, for him to end it. */
static int leave(struct gg_worker *w) {
    uint32_t *word = &w->team->state, state = load(word);
    const uint32_t alone = state_of(w->phase, 1);
    while (!exchange(word, &state, state == alone ? state_of(w->phase, CLOSING) : state - 1)) continue;
    w->inside = 0;
    return state == alone;
}

size_t gg_take(struct gg_worker *w) {
    return enter(w) ? __atomic_fetch_add(&w->team->counter, 1, __ATOMIC_RELAXED) : SIZE_MAX;
}

int gg_barrier(struct gg_worker *w) {
    struct gg_team *team = w->team;
    if (enter(w) && leave(w)) close_phase(team, w->phase);
    else wait_change(&team->phase, w->phase, &team->sleepers);
    w->phase++;
    return __atomic_load_n(&team->stop, __ATOMIC_SEQ_CST);
}

/* ---- Between jobs ---- */

/* `ticket` changes with every job and says how many threads it takes: low 16 bits; a job number above them. `gate` has
 * the same number above, then OPEN while workers may join, and in its low bits how many have. The caller closes it when the
 * work is done: workers that had no CPU meanwhile keep nobody waiting. */
enum { NUMBER_SHIFT = 16, OPEN = 1 << 15 };

static struct {
    pthread_mutex_t mutex;
    uint32_t ticket, sleepers, gate, caller_sleeps;
    int n_workers; /* beside the caller */
    int caller_cpu;
    gg_job_fn *job;
    void *arg;
    struct gg_team team;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static int join(uint32_t ticket) {
    const uint32_t open = ticket >> NUMBER_SHIFT << NUMBER_SHIFT | OPEN;
    uint32_t gate = load(&pool.gate);
    while ((gate & ~(uint32_t)(OPEN - 1)) == open)
        if (exchange(&pool.gate, &gate, gate + 1)) return 1;
    return 0;
}

static void *worker_main(void *index) {
    struct gg_worker worker = {.team = &pool.team, .index = (int)(intptr_t)index};
    uint32_t seen = 0;
    for (;;) {
        wait_change(&pool.ticket, seen, &pool.sleepers);
        seen = load(&pool.ticket);
        if (worker.index >= (int)(seen & 0xffff) || !join(seen)) continue;
        /* A wake may have put us beside the caller, where we would take turns and the scheduler sees no wrong. */
        if (gg_os_cpu() == pool.caller_cpu) gg_os_leave_cpu(pool.caller_cpu);
        worker.phase = 0;
        worker.inside = 0;
        worker.n_threads = pool.team.n_threads;
        pool.job(pool.arg, &worker);
        __atomic_sub_fetch(&pool.gate, 1, __ATOMIC_SEQ_CST);
        if (load(&pool.caller_sleeps)) gg_os_wake(&pool.gate);
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
    if (n_threads > 1) {
        const uint32_t number = (pool.ticket >> NUMBER_SHIFT) + 1;
        __atomic_store_n(&pool.gate, number << NUMBER_SHIFT | OPEN, __ATOMIC_SEQ_CST);
        change(&pool.ticket, number << NUMBER_SHIFT | (uint32_t)n_threads, &pool.sleepers);
    }
    struct gg_worker self = {.team = &pool.team, .n_threads = n_threads};
    job(arg, &self);
    const uint32_t nobody = __atomic_and_fetch(&pool.gate, ~(uint32_t)OPEN, __ATOMIC_SEQ_CST) >> NUMBER_SHIFT << NUMBER_SHIFT;
    for (uint32_t gate; (gate = load(&pool.gate)) != nobody;) wait_change(&pool.gate, gate, &pool.caller_sleeps);
    const int stopped = pool.team.stop;
    pthread_mutex_unlock(&pool.mutex);
    return stopped;
}
