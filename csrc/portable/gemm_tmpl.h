/* f32 matrix product, register-blocked; contract in kernels.h. */

#include "kernels.h"
#include "portable/simd.h"

/* R rows by two vectors: R * 2 accumulators stay in registers. */
#define GEMM_BLOCK(R)                                                                                        \
    static inline void gemm_##R(size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c,  \
                                size_t ldc, int accumulate) {                                                \
        vf acc[R][2];                                                                                        \
        for (int i = 0; i < R; i++)                                                                          \
            for (int j = 0; j < 2; j++)                                                                      \
                acc[i][j] = accumulate ? v_load(c + (size_t)i * ldc + j * VL) : v_set1(0.0f);                \
        for (size_t l = 0; l < k; l++) {                                                                     \
            const vf b0 = v_load(b + l * ldb), b1 = v_load(b + l * ldb + VL);                                \
            for (int i = 0; i < R; i++) {                                                                    \
                const vf w = v_set1(a[(size_t)i * lda + l]);                                                 \
                acc[i][0] = v_fma(w, b0, acc[i][0]);                                                         \
                acc[i][1] = v_fma(w, b1, acc[i][1]);                                                         \
            }                                                                                                \
        }                                                                                                    \
        for (int i = 0; i < R; i++)                                                                          \
            for (int j = 0; j < 2; j++) v_store(c + (size_t)i * ldc + j * VL, acc[i][j]);                    \
    }

#if defined(__AVX512F__)
enum { R_MAX = 12 };
GEMM_BLOCK(12)
#define gemm_max gemm_12
#else
enum { R_MAX = 6 };
GEMM_BLOCK(6)
#define gemm_max gemm_6
#endif
GEMM_BLOCK(4)
GEMM_BLOCK(1)

void GG_NAME(gemm)(size_t m, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c, size_t ldc,
                   int accumulate) {
    for (size_t i = 0, rows; i < m; i += rows, a += rows * lda, c += rows * ldc) {
        rows = m - i >= R_MAX ? R_MAX : m - i >= 4 ? 4 : 1;
        for (size_t j = 0; j < GG_LANES; j += 2 * VL) {
            if (rows == R_MAX) gemm_max(k, a, lda, b + j, ldb, c + j, ldc, accumulate);
            else if (rows == 4) gemm_4(k, a, lda, b + j, ldb, c + j, ldc, accumulate);
            else gemm_1(k, a, lda, b + j, ldb, c + j, ldc, accumulate);
        }
    }
}
