/* AVX2: dot products of the types whose weights are nibbles that choose from a table, or of two bits at most. */

#include "skeleton_signed_avx2.h"
#include "decode_tables_avx2.h"

/* ---- Scales of a block's groups of 16 ---- */

#define ONE_SCALE(name, groups)                                         \
    INLINE void scales_##name(const block_##name *b, float *scale) {    \
        for (int g = 0; g < groups; g++) scale[g] = _cvtsh_ss(b->d);    \
    }

ONE_SCALE(iq4_nl, 2)
ONE_SCALE(tq1_0, 16)
ONE_SCALE(tq2_0, 16)
ONE_SCALE(q1_0, 8)
ONE_SCALE(q2_0, 4)

INLINE void scales_mxfp4(const block_mxfp4 *b, float *scale) { scale[0] = scale[1] = gg_half_e8m0(b->e); }

INLINE void scales_nvfp4(const block_nvfp4 *b, float *scale) {
    _mm_storeu_ps(scale, _mm256_castps256_ps128(half_ue4m3(_mm_cvtsi32_si128((int)load_u32(b->d)))));
}

/* ---- Products of weights 32 k to 32 k + 31 with x ---- */

#define PRODUCTS(name)                                                                        \
    INLINE __m256i products_##name(const block_##name *b, const int k, __m256i x_i8) {        \
        return signed_products(weights_##name(b, k), x_i8);                                   \
    }

PRODUCTS(iq4_nl)
PRODUCTS(iq4_xs)
PRODUCTS(mxfp4)
PRODUCTS(nvfp4)
PRODUCTS(tq1_0)
PRODUCTS(tq2_0)
PRODUCTS(q2_0)

INLINE __m256i products_q1_0(const block_q1_0 *b, int k, __m256i x_i8) {
    return _mm256_maddubs_epi16(_mm256_set1_epi8(1), negate(x_i8, ~load_u32(b->qs + 4 * k)));
}

/* ---- Rows ---- */

/* sum += products * scale * d, with a scale for each 16 weights. */
INLINE __m256 add_blocks(__m256 sum_f32, __m256i products_i16, const float *scale, float d) {
    const __m256i products_i32 = _mm256_madd_epi16(products_i16, _mm256_set1_epi16(1));
    const __m256 scale_f32 = _mm256_set_m128(_mm_set1_ps(scale[1] * d), _mm_set1_ps(scale[0] * d));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(products_i32), scale_f32, sum_f32);
}

#define DOT(name, weights, scales)                                                                              \
    INLINE float row_##name(size_t n, const block_##name *b, const struct gg_activation *x) {                   \
        __m256 sum_f32[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};                                         \
        for (size_t i = 0; i < n; i += weights, b++) {                                                          \
            float scale[weights / 16];                                                                          \
            if (i % 256 == 0) prefetch((const uint8_t *)b, 256 / weights * sizeof *b);                          \
            scales(b, scale);                                                                                   \
            _Pragma("GCC unroll 8") for (int k = 0; k < weights / 32; k++)                                      \
                sum_f32[k % 2] = add_blocks(sum_f32[k % 2], products_##name(b, k, load256(x->q + i + 32 * k)),      \
                                        scale + 2 * k, x->d[i / 32 + (size_t)k]);                               \
        }                                                                                                       \
        return sum8(_mm256_add_ps(sum_f32[0], sum_f32[1]));                                                     \
    }\
    DOT_KERNEL(name)

DOT(iq4_nl, 32, scales_iq4_nl)
DOT(iq4_xs, 256, gg_iq4_xs_scales)
DOT(mxfp4, 32, scales_mxfp4)
DOT(nvfp4, 64, scales_nvfp4)
DOT(tq1_0, 256, scales_tq1_0)
DOT(tq2_0, 256, scales_tq2_0)
DOT(q1_0, 128, scales_q1_0)
DOT(q2_0, 64, scales_q2_0)
