/* AVX2: dot products of 32 weights at a time, for types whose weights can be negative.
 *
 * maddubs multiplies unsigned with signed bytes: the signs of the weights go to the activations. */

#ifndef GG_X86_SKELETON_SIGNED_AVX2_H
#define GG_X86_SKELETON_SIGNED_AVX2_H

#include "portable/simd.h"
#include "common.h"

/* ---- Products of 32 weights with x, summed by two ---- */

/* |w| is at most 127: no sum of two products leaves 16 bits. */
INLINE __m256i signed_products(__m256i w_i8, __m256i x_i8) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w_i8), _mm256_sign_epi8(x_i8, w_i8));
}

/* x, negated where a bit of signs is set. */
INLINE __m256i negate(__m256i x_i8, uint32_t signs) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    return _mm256_mask_sub_epi8(x_i8, signs, _mm256_setzero_si256(), x_i8);
#else
    const __m256i mask_u8 = bit_mask(signs);
    return _mm256_sub_epi8(_mm256_xor_si256(x_i8, mask_u8), mask_u8);
#endif
}

#define DOT_KERNEL(name)                                                                                        \
    void GG_NAME(dot_##name)(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,                \
                             const struct gg_activation *x, float *y, size_t ldy) {                             \
        for (size_t r = 0; r < rows; r++)                                                                       \
            for (size_t c = 0; c < n_x; c++)                                                                    \
                y[c * ldy + r] = row_##name(n, (const block_##name *)(w + r * stride), x + c);                  \
    }

#endif
