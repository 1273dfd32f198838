/* bf16 matrix product: the reference; contract in kernels.h. */

#include "portable/convert.h"
#include "kernels.h"

/* One row of one tile. */
static void gemm_row(size_t k, const uint16_t *a, const uint16_t *b, float *c) {
    for (size_t l = 0; l < k; l++) {
        const uint16_t *row = b + l / 2 * 2 * GG_LANES + l % 2;
        const float w = gg_bf16_to_f32(a[l]);
        for (size_t j = 0; j < GG_LANES; j++) c[j] += w * gg_bf16_to_f32(row[2 * j]);
    }
}

void gg_gemm_bf16_c(size_t m, size_t k, const uint16_t *a, size_t lda, size_t n_tiles, const uint16_t *b, size_t b_tile,
                    float *c, size_t c_tile, int accumulate) {
    for (size_t t = 0; t < n_tiles; t++)
        for (size_t i = 0; i < m; i++) {
            float *row = c + t * c_tile + i * GG_LANES;
            if (!accumulate) memset(row, 0, GG_LANES * sizeof *row);
            gemm_row(k, a + i * lda, b + t * b_tile, row);
        }
}
