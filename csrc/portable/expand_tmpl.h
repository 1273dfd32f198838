/* Blocks to integers, integers to floats; contracts in kernels.h. The loops of decode.h are written for the compiler to
 * vectorize. */

#include "kernels.h"
#include "portable/simd.h"
#include "portable/decode.h"
#include "portable/decode_grids.h"
#include "portable/decode_tables.h"
#include "portable/decode_ternary.h"

#if !defined(__AVX2__) /* x86/unpack*.c */
#define GG_BLOCK_TYPE(name, id, weights, bytes, ...)                                                     \
    void GG_NAME(unpack_##name)(size_t n, const uint8_t *restrict w, int low, int8_t *restrict q,        \
                                float *restrict scale, float *restrict min) {                            \
        for (size_t i = 0; i < n; i += weights, w += bytes) {                                            \
            struct gg_unpacked u = {scale + i / 16, min + i / 16, q + i, weights / 16};                  \
            gg_unpack_##name(w, &u);                                                                     \
        }                                                                                                \
        for (size_t i = 0; low && i < n; i++) q[i] = (int8_t)(q[i] - low);                               \
    }
#include "types.inc"
#endif

void GG_NAME(dequantize)(size_t n, const int8_t *q, const float *scale, const float *min, float *y) {
    for (size_t i = 0; i < n; i += VL)
        v_store(y + i, v_set1(scale[i / 16]) * v_load_i8(q + i) - v_set1(min[i / 16]));
}

void GG_NAME(expand_f32)(size_t n, const uint8_t *w, float *y) { memcpy(y, w, n * sizeof *y); }

void GG_NAME(expand_f16)(size_t n, const uint8_t *w, float *y) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_load_f16(w + 2 * i));
    for (; i < n; i++) y[i] = gg_f16_to_f32(gg_load_u16(w + 2 * i));
}

void GG_NAME(expand_bf16)(size_t n, const uint8_t *w, float *y) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_load_bf16(w + 2 * i));
    for (; i < n; i++) y[i] = gg_bf16_to_f32(gg_load_u16(w + 2 * i));
}
