/* What the peak loops share: PEAK_CHAINS sums that wait for nothing but their own last value.
 *
 * Twelve cover the latency of a multiply-add on all CPUs we know (2 a cycle, 5 cycles late), and with operands fit into 16
 * registers. They are variables, not an array: GCC keeps arrays in memory. */

#ifndef GG_PEAK_H
#define GG_PEAK_H

enum { PEAK_CHAINS = 12 };

#define PEAK_EACH(step) \
    step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)
#define PEAK_SUMS(type, zero)                                                                                  \
    type sum0 = zero, sum1 = zero, sum2 = zero, sum3 = zero, sum4 = zero, sum5 = zero, sum6 = zero, sum7 = zero, \
         sum8 = zero, sum9 = zero, sum10 = zero, sum11 = zero;

/* Make the compiler believe that a vector register was read and changed: it can move or leave out nothing. */
#if defined(__AVX512F__)
#define PEAK_HIDE(x) __asm__ volatile("" : "+v"(x))
#elif defined(__x86_64__)
#define PEAK_HIDE(x) __asm__ volatile("" : "+x"(x))
#elif defined(__aarch64__)
#define PEAK_HIDE(x) __asm__ volatile("" : "+w"(x))
#else
#define PEAK_HIDE(x) __asm__ volatile("" : "+m"(x))
#endif
#define PEAK_KEEP(k) PEAK_HIDE(sum##k);

#endif
