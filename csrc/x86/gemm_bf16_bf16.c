/* bf16 for AVX512-BF16: two multiplications and additions per float of a vector and instruction. */

#if !defined(__AVX512BF16__)
#error "compile this file with the AVX-512 flags and -mavx512bf16"
#endif

#include "portable/bf16_tmpl.h"

/* The weights 2 * l and 2 * l + 1, in all lanes. */
static inline __m512bh weight_pair(const uint16_t *a, size_t l) {
    int32_t pair;
    memcpy(&pair, a + 2 * l, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

static inline __m512bh load_pairs(const uint16_t *b) { return (__m512bh)_mm512_loadu_si512(b); }

/* R rows by two vectors: R * 2 accumulators stay in registers. */
#define GEMM_BLOCK(R)                                                                                             \
    static inline void gemm_##R(size_t k, const uint16_t *a, size_t lda, const uint16_t *b, float *c,             \
                                int accumulate) {                                                                 \
        vf acc[R][2];                                                                                             \
        for (int i = 0; i < R; i++)                                                                               \
            for (int j = 0; j < 2; j++)                                                                           \
                acc[i][j] = accumulate ? v_load(c + i * GG_LANES + j * VL) : v_set1(0.0f);                        \
        for (size_t l = 0; l < k / 2; l++) {                                                                      \
            const __m512bh b0 = load_pairs(b + l * 2 * GG_LANES), b1 = load_pairs(b + l * 2 * GG_LANES + 2 * VL); \
            for (int i = 0; i < R; i++) {                                                                         \
                const __m512bh w = weight_pair(a + (size_t)i * lda, l);                                           \
                acc[i][0] = _mm512_dpbf16_ps(acc[i][0], w, b0);                                                   \
                acc[i][1] = _mm512_dpbf16_ps(acc[i][1], w, b1);                                                   \
            }                                                                                                     \
        }                                                                                                         \
        for (int i = 0; i < R; i++)                                                                               \
            for (int j = 0; j < 2; j++) v_store(c + i * GG_LANES + j * VL, acc[i][j]);                            \
    }

GEMM_BLOCK(12)
GEMM_BLOCK(4)
GEMM_BLOCK(1)

void gg_gemm_bf16_bf16(size_t m, size_t k, const uint16_t *a, size_t lda, size_t n_tiles, const uint16_t *b,
                       size_t b_tile, float *c, size_t c_tile, int accumulate) {
    for (size_t i = 0, rows; i < m; i += rows, a += rows * lda, c += rows * GG_LANES) {
        rows = m - i >= 12 ? 12 : m - i >= 4 ? 4 : 1;
        for (size_t t = 0; t < n_tiles; t++) {
            const uint16_t *tile = b + t * b_tile;
            float *to = c + t * c_tile;
            if (rows == 12) gemm_12(k, a, lda, tile, to, accumulate);
            else if (rows == 4) gemm_4(k, a, lda, tile, to, accumulate);
            else gemm_1(k, a, lda, tile, to, accumulate);
        }
    }
}
