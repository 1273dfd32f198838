/* Where there is no futex (macOS): one condition for all words; sleepers look again at every wake. */

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "gg.h"
#include "os/os.h"

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

int gg_lock_memory(const uint8_t *p, size_t bytes) {
    const size_t before = (uintptr_t)p % (size_t)sysconf(_SC_PAGESIZE); /* POSIX may insist on whole pages */
    return mlock(p - before, before + bytes) ? errno : 0;
}

void gg_advise_huge_pages(const uint8_t *p, size_t bytes) { (void)p, (void)bytes; }

#if defined(__APPLE__)
static unsigned feature(const char *name, unsigned flag) {
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname(name, &has, &size, NULL, 0) == 0 && has ? flag : 0;
}

unsigned gg_os_arm_flags(void) {
    return feature("hw.optional.arm.FEAT_DotProd", GG_DOTPROD) | feature("hw.optional.arm.FEAT_I8MM", GG_I8MM);
}
#else
unsigned gg_os_arm_flags(void) { return 0; }
#endif
