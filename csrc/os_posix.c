/* Where there is no futex (macOS): one condition for all words; sleepers look again at every wake. */

#include <pthread.h>

#include "os.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

void gg_os_wait(uint32_t *word, uint32_t value) {
    pthread_mutex_lock(&mutex);
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == value) pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
}

void gg_os_wake(uint32_t *word) {
    (void)word;
    pthread_mutex_lock(&mutex); /* a waiter is now before its check or inside the wait */
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

int gg_os_cpu(void) { return -1; }

void gg_os_leave_cpu(int cpu) { (void)cpu; }

int gg_os_request_tiles(void) { return 0; }
