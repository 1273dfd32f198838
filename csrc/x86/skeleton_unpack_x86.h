/* Blocks to integers, for x86: written with AVX2, and compiled for AVX-512, too. */

#ifndef GG_X86_SKELETON_UNPACK_H
#define GG_X86_SKELETON_UNPACK_H

#include "portable/simd.h"
#include "portable/decode.h"
#include "common.h"

INLINE void store256(int8_t *p, __m256i x) { _mm256_storeu_si256((void *)p, x); }

INLINE void store_zeros(float *p) {
    for (int i = 0; i < 2; i++) _mm256_storeu_ps(p + 8 * i, _mm256_setzero_ps());
}

/* factor * x for sixteen bytes. */
INLINE void store_16(float *p, __m128i x_i8, float factor) {
    const __m256 factor_f32 = _mm256_set1_ps(factor);
    for (int i = 0; i < 2; i++, x_i8 = _mm_unpackhi_epi64(x_i8, x_i8))
        _mm256_storeu_ps(p + 8 * i, _mm256_mul_ps(factor_f32, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x_i8))));
}

/* Each of eight numbers twice. */
INLINE void store_8_twice(float *p, __m256 x_f32) {
    _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(x_f32, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)));
    _mm256_storeu_ps(p + 8, _mm256_permutevar8x32_ps(x_f32, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7)));
}

#define UNPACK_KERNEL(name)                                                                                     \
    void GG_NAME(unpack_##name)(size_t n, const uint8_t *restrict w, int low, int8_t *restrict q,               \
                                float *restrict scale, float *restrict min)

/* gg_unpack_<name>_<isa>, 256 weights at a time; the reference does the rest. weights_<name>(b, k) gives weights 32 k to
 * 32 k + 31 of a block, plus bias; set(b, scale, min) stores 16 scales and minima, of b and, if it is smaller than that,
 * the blocks behind it. */
#define UNPACK(name, bias, set)                                                                                 \
    UNPACK_KERNEL(name) {                                                                                       \
        enum { WEIGHTS = GG_WEIGHTS_##name };                                                                   \
        const block_##name *b = (const block_##name *)w;                                                        \
        const __m256i low_i8 = _mm256_set1_epi8((char)(bias + low));                                            \
        size_t i = 0;                                                                                           \
        for (; i + 256 <= n; i += 256, b += 256 / WEIGHTS) {                                                    \
            _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++) {                                               \
                const __m256i w_i8 = weights_##name(b + 32 * k / WEIGHTS, k % (WEIGHTS / 32));                  \
                store256(q + i + 32 * k, _mm256_sub_epi8(w_i8, low_i8));                                        \
            }                                                                                                   \
            set(b, scale + i / 16, min + i / 16);                                                               \
        }                                                                                                       \
        for (; WEIGHTS < 256 && i < n; i += WEIGHTS, b++) {                                                     \
            struct gg_unpacked u = {scale + i / 16, min + i / 16, q + i, WEIGHTS / 16};                         \
            gg_unpack_##name((const uint8_t *)b, &u);                                                           \
            for (int k = 0; k < WEIGHTS; k++) u.q[k] = (int8_t)(u.q[k] - low);                                  \
        }                                                                                                       \
    }

#endif
