/* Mapped files that become shorter while they are read. Contracts in gg_cdef.h.
 *
 * Reading behind the end of a file is SIGBUS. The handler puts zeros there, so that whoever reads goes on, and notes it:
 * his result is thrown away afterwards. Only what is safe in a signal handler is done: atomics and mmap. */

#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gg.h"

enum { WATCHES = 1024 };

static struct {
    uintptr_t first, end; /* first 0: free */
    int is_cut;
} watches[WATCHES];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;
static uintptr_t page_bytes;

static uintptr_t load(const uintptr_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }

/* Zeros from the page of `at` to the end of its watch; returns 0 if nobody watches it. */
static int put_zeros(uintptr_t at) {
    for (int i = 0; i < WATCHES; i++) {
        const uintptr_t first = load(&watches[i].first), end = load(&watches[i].end);
        if (first == 0 || at < first || at >= end) continue;
        const uintptr_t page = at / page_bytes * page_bytes;
        __atomic_store_n(&watches[i].is_cut, 1, __ATOMIC_SEQ_CST);
        return mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    }
    return 0;
}

/* What is not ours happens again, to the handler that was there before. */
static void on_bus_error(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (!put_zeros((uintptr_t)info->si_addr)) sigaction(signal, &before, NULL);
}

static int install(void) {
    struct sigaction now, ours = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (sigaction(SIGBUS, NULL, &now)) return 0;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error) return 1;
    before = now;
    return sigaction(SIGBUS, &ours, NULL) == 0;
}

int gg_watch(const uint8_t *p, size_t bytes) {
    pthread_mutex_lock(&mutex);
    int i = install() ? 0 : WATCHES;
    while (i < WATCHES && watches[i].first) i++;
    if (i < WATCHES) {
        __atomic_store_n(&watches[i].is_cut, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&watches[i].end, (uintptr_t)p + bytes, __ATOMIC_SEQ_CST);
        __atomic_store_n(&watches[i].first, (uintptr_t)p, __ATOMIC_SEQ_CST);
    }
    pthread_mutex_unlock(&mutex);
    return i < WATCHES ? i : -1;
}

int gg_is_cut(int watch) {
    return watch >= 0 && watch < WATCHES && __atomic_load_n(&watches[watch].is_cut, __ATOMIC_SEQ_CST);
}

void gg_unwatch(int watch) {
    if (watch >= 0 && watch < WATCHES) __atomic_store_n(&watches[watch].first, 0, __ATOMIC_SEQ_CST);
}
