/* From tiles of results back to rows; contract in kernels.h. */

#include "kernels.h"
#include "simd.h"
#include "transpose.h"

/* VL outputs of `rows` rows: a square of c, transposed in registers. */
static inline void untile_square(size_t rows, const float *c, const float *bias, const float *add, size_t ldadd,
                                 float *y, size_t ldy) {
    vf r[VL];
    for (int i = 0; i < VL; i++) r[i] = v_load(c + i * GG_LANES);
    for (int i = 0; bias && i < VL; i++) r[i] += v_set1(bias[i]);
    v_transpose(r);
    for (int j = 0; add && j < VL; j++) /* known bounds keep r in registers */
        if ((size_t)j < rows) r[j] += v_load(add + (size_t)j * ldadd);
    for (int j = 0; j < VL; j++)
        if ((size_t)j < rows) v_store(y + (size_t)j * ldy, r[j]);
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
                const float sum = bias ? c[i * GG_LANES + row] + bias[i] : c[i * GG_LANES + row];
                y[row * ldy + i] = add ? sum + add[row * ldadd + i] : sum;
            }
    }
}
