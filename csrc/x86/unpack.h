/* Blocks to integers: what the x86 kernels share. They are written for AVX2, and compiled for AVX-512, too: with
 * stores of 32 bytes, memory is the limit. */

#ifndef GG_X86_UNPACK_H
#define GG_X86_UNPACK_H

#include "../simd.h"
#include "../unpack.h"
#include "common.h"

INLINE void store256(int8_t *p, __m256i x) { _mm256_storeu_si256((void *)p, x); }

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

INLINE void store_16_zeros(float *p) {
    for (int i = 0; i < 2; i++) _mm256_storeu_ps(p + 8 * i, _mm256_setzero_ps());
}

/* The kernel of a type: weights_<name>(b, k) gives 32 bytes, set(b, scale, min) stores the rest. bias is subtracted. */
#define UNPACK(name, weights, bias, set)                                                                        \
    void GG_NAME(unpack_##name)(size_t n, const uint8_t *restrict w, int8_t *restrict q,                        \
                                float *restrict scale, float *restrict min) {                                   \
        const block_##name *b = (const block_##name *)w;                                                        \
        for (size_t i = 0; i < n; i += weights, b++) {                                                          \
            for (int k = 0; k < weights / 32; k++)                                                              \
                store256(q + i + 32 * k, _mm256_sub_epi8(weights_##name(b, k), _mm256_set1_epi8(bias)));        \
            set(b, scale + i / 16, min + i / 16);                                                               \
        }                                                                                                       \
    }

/* The same for blocks of 32, eight at a time, with weights_<name>(b) and set_8(p, size, scale, min); the reference does
 * the rest. */
#define UNPACK_32(name, bias, set_8)                                                                            \
    void GG_NAME(unpack_##name)(size_t n, const uint8_t *restrict w, int8_t *restrict q,                        \
                                float *restrict scale, float *restrict min) {                                   \
        const block_##name *b = (const block_##name *)w;                                                        \
        size_t i = 0;                                                                                           \
        for (; i + 256 <= n; i += 256, b += 8) {                                                                \
            for (int k = 0; k < 8; k++)                                                                         \
                store256(q + i + 32 * k, _mm256_sub_epi8(weights_##name(b + k), _mm256_set1_epi8(bias)));       \
            set_8((const uint8_t *)b, sizeof *b, scale + i / 16, min + i / 16);                                 \
        }                                                                                                       \
        for (; i < n; i += 32, b++) {                                                                           \
            struct gg_unpacked u = {scale + i / 16, min + i / 16, q + i, 2};                                    \
            gg_unpack_##name((const uint8_t *)b, &u);                                                           \
        }                                                                                                       \
    }

#endif
