/* Linux: futexes, affinity, memory, the auxiliary vector. */

#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "gg.h"
#include "os/os.h"

void gg_os_wait(uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

void gg_os_wake(uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

int gg_os_cpu(void) { return sched_getcpu(); }

void gg_os_leave_cpu(int cpu) {
    cpu_set_t allowed, others;
    if (cpu < 0 || sched_getaffinity(0, sizeof allowed, &allowed) || !CPU_ISSET(cpu, &allowed)) return;
    others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others)) return;
    sched_setaffinity(0, sizeof allowed, &allowed); /* free to move on later */
}

int gg_os_request_tiles(void) {
#if defined(SYS_arch_prctl)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return 0;
#endif
}

int gg_lock_memory(const uint8_t *p, size_t bytes) { return mlock(p, bytes) ? errno : 0; }

void gg_advise_huge_pages(const uint8_t *p, size_t bytes) {
    const size_t before = (uintptr_t)p % (size_t)sysconf(_SC_PAGESIZE); /* advice takes whole pages */
    madvise((void *)(uintptr_t)(p - before), before + bytes, MADV_HUGEPAGE);
}

#if defined(__aarch64__)
unsigned gg_os_arm_flags(void) {
    const unsigned dotprod = getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? GG_DOTPROD : 0;
    return dotprod | (getauxval(AT_HWCAP2) & HWCAP2_I8MM ? GG_I8MM : 0);
}
#endif
