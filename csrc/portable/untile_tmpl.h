/* From tiles of results back to rows; contract in kernels.h. */

#include "kernels.h"
#include "portable/simd.h"
#include "portable/transpose.h"

/* VL outputs of `rows` rows: a square of c, transposed in registers (which take known bounds of all loops). */
static inline void untile_square(size_t rows, const float *c, const float *bias, const float *add, size_t ldadd,
                                 float *y, size_t ldy) {
    const vf bias_f32 = bias ? v_load(bias) : v_set1(0.0f);
    vf r[VL];
    for (int i = 0; i < VL; i++) r[i] = v_load(c + i * GG_LANES);
    v_transpose(r);
    for (int j = 0; j < VL; j++) {
        if ((size_t)j == rows) break;
        vf sum_f32 = r[j] + bias_f32;
        if (add) sum_f32 += v_load(add + (size_t)j * ldadd);
        v_store(y + (size_t)j * ldy, sum_f32);
    }
}

void GG_NAME(untile)(size_t m, size_t rows, const float *c, const float *bias, const float *add, size_t ldadd, float *y,
                     size_t ldy) {
    for (size_t j = 0; j < rows; j += VL, c += VL, y += VL * ldy, add = add ? add + VL * ldadd : NULL) {
        const size_t n = rows - j < VL ? rows - j : VL;
        size_t i = 0;
        for (; i + VL <= m; i += VL)
            untile_square(n, c + i * GG_LANES, bias ? bias + i : NULL, add ? add + i : NULL, ldadd, y + i, ldy);
        for (; i < m; i++)
            for (size_t row = 0; row < n; row++) {
                const float sum = c[i * GG_LANES + row] + (bias ? bias[i] : 0.0f);
                y[row * ldy + i] = add ? sum + add[row * ldadd + i] : sum;
            }
    }
}
