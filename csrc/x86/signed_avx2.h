/* AVX2: dot products of 32 weights at a time, for types whose weights can be negative.
 *
 * maddubs multiplies unsigned with signed bytes: the signs of the weights go to the activations. */

#ifndef GG_X86_SIGNED_AVX2_H
#define GG_X86_SIGNED_AVX2_H

#include "../simd.h"
#include "common.h"

/* ---- Products of 32 weights with x, summed by two ---- */

/* |w| is at most 127: no sum of two products leaves 16 bits. */
INLINE __m256i signed_products(__m256i w_i8, __m256i x_i8) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w_i8), _mm256_sign_epi8(x_i8, w_i8));
}

/* x, negated where a bit of signs is set. */
INLINE __m256i negate(__m256i x_i8, uint32_t signs) {
    const __m256i mask_u8 = bit_mask(signs);
    return _mm256_sub_epi8(_mm256_xor_si256(x_i8, mask_u8), mask_u8);
}

INLINE uint32_t load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* ---- Super-blocks: w = d * scale * q, scales are integers ---- */

struct scales {
    __m256i even_odd_i16; /* of groups 0, 2, ... 14 and 1, 3, ... 15 of 16 weights */
    float d;
};

/* sum += products of group pair k * scales * d of x. */
INLINE __m256 add_products(__m256 sum_f32, __m256i products_i16, __m256i even_odd_i16, const int k, const float *d) {
    const __m256i scale_i16 =
        _mm256_shuffle_epi8(even_odd_i16, _mm256_set1_epi16((short)(2 * k | (2 * k + 1) << 8)));
    const __m256i sum_i32 = _mm256_madd_epi16(products_i16, scale_i16);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum_i32), _mm256_broadcast_ss(d + k), sum_f32);
}

#define DOT_KERNEL(name)                                                                                        \
    void GG_NAME(dot_##name)(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,                \
                             const struct gg_activation *x, float *y, size_t ldy) {                             \
        for (size_t r = 0; r < rows; r++)                                                                       \
            for (size_t c = 0; c < n_x; c++)                                                                    \
                y[c * ldy + r] = row_##name(n, (const block_##name *)(w + r * stride), x + c);                  \
    }

#define DOT_SUPERBLOCKS(name)                                                                                   \
    INLINE float row_##name(size_t n, const block_##name *b, const struct gg_activation *x) {                   \
        __m256 sum_f32 = _mm256_setzero_ps();                                                                   \
        for (size_t i = 0; i < n; i += 256, b++) {                                                              \
            __m256 block_f32[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};                                   \
            prefetch((const uint8_t *)b, sizeof *b);                                                            \
            const struct scales scales = scales_##name(b);                                                      \
            uint32_t signs[8];                                                                                  \
            signs_##name(b, signs);                                                                             \
            for (int k = 0; k < 8; k++)                                                                         \
                block_f32[k % 2] = add_products(                                                                \
                    block_f32[k % 2], products_##name(b, k, signs[k], load256(x->q + i + 32 * (size_t)k)),      \
                    scales.even_odd_i16, k, x->d + i / 32);                                                     \
            sum_f32 = _mm256_fmadd_ps(_mm256_add_ps(block_f32[0], block_f32[1]), _mm256_set1_ps(scales.d), sum_f32); \
        }                                                                                                       \
        return sum8(sum_f32);                                                                                   \
    }                                                                                                           \
    DOT_KERNEL(name)

#endif
