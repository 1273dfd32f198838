/* Dot products of block types with quantized activations: the portable reference. */

#define GG_PORTABLE
#include "kernels.h"
#include "portable/decode.h"
#include "portable/decode_grids.h"
#include "portable/decode_tables.h"
#include "portable/decode_ternary.h"

/* Sum over one unpacked block of n weights; x is at its first weight. */
static inline float dot_block(size_t n, const struct gg_unpacked *u, const int8_t *q, const float *d, const float *s) {
    float sum = 0.0f;
    for (size_t g = 0; g < n / 16; g++) {
        int products = 0;
        for (size_t i = g * 16; i < g * 16 + 16; i++) products += u->q[i] * q[i];
        sum += u->scale[g] * d[g / 2] * (float)products - u->min[g] * s[g];
    }
    return sum;
}

#define GG_BLOCK_TYPE(name, id, weights, bytes, ...)                                            \
    void gg_dot_##name##_c(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,  \
                           const struct gg_activation *x, float *y, size_t ldy) {               \
        for (size_t r = 0; r < rows; r++) {                                                     \
            for (size_t c = 0; c < n_x; c++) y[c * ldy + r] = 0.0f;                             \
            for (size_t i = 0; i < n; i += weights) {                                           \
                float scale[16], min[16];                                                       \
                int8_t q[GG_QK_K];                                                              \
                struct gg_unpacked u = {scale, min, q, weights / 16};                           \
                gg_unpack_##name(w + r * stride + i / weights * bytes, &u);                     \
                for (size_t c = 0; c < n_x; c++)                                                \
                    y[c * ldy + r] += dot_block(weights, &u, x[c].q + i, x[c].d + i / 32, x[c].s + i / 16); \
            }                                                                                   \
        }                                                                                       \
    }
#include "types.inc"
