/* The peak of f32 multiply-adds; contract in kernels.h. */

#include "kernels.h"
#include "portable/peak.h"
#include "portable/simd.h"

#define PEAK_STEP(k)  \
    PEAK_HIDE(x_f32); \
    sum##k = v_fma(x_f32, y_f32, sum##k);

uint64_t GG_NAME(peak_f32)(size_t rounds) {
    vf x_f32 = v_set1(0.5f), y_f32 = v_set1(0.25f);
    PEAK_SUMS(vf, v_set1(0.0f))
    for (size_t i = 0; i < rounds; i++) { PEAK_EACH(PEAK_STEP) }
    PEAK_EACH(PEAK_KEEP)
    return rounds * PEAK_CHAINS * VL;
}

#undef PEAK_STEP
