/* Peaks of the instructions that multiply bytes; contract in kernels.h. One per library's instruction set. */

#include <arm_neon.h>

#include "kernels.h"
#include "portable/peak.h"

#if defined(__ARM_FEATURE_MATMUL_INT8)
#define NAME gg_peak_i8_i8mm
#define MULTIPLY vmmlaq_s32
enum { MACS = 32 };
#else
#define NAME gg_peak_i8_dotprod
#define MULTIPLY vdotq_s32
enum { MACS = 16 };
#endif

#define STEP(k)        \
    PEAK_HIDE(x_i8x16); \
    sum##k = MULTIPLY(sum##k, x_i8x16, x_i8x16);

uint64_t NAME(size_t rounds) {
    int8x16_t x_i8x16 = vdupq_n_s8(3);
    PEAK_SUMS(int32x4_t, vdupq_n_s32(0))
    for (size_t i = 0; i < rounds; i++) { PEAK_EACH(STEP) }
    PEAK_EACH(PEAK_KEEP)
    return rounds * PEAK_CHAINS * MACS;
}
