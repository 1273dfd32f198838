/* AVX2: dot products of the types whose weights are nibbles that choose from a table, or of two bits at most. */

#include "../unpack_tables.h"
#include "../unpack_ternary.h"
#include "signed_avx2.h"

/* ---- Types: scales of a block's groups of 16, products of weights 32 k to 32 k + 31 with x ---- */

#define ONE_SCALE(name, groups)                                         \
    INLINE void scales_##name(const block_##name *b, float *scale) {    \
        for (int g = 0; g < groups; g++) scale[g] = _cvtsh_ss(b->d);    \
    }

ONE_SCALE(iq4_nl, 2)
ONE_SCALE(tq1_0, 16)
ONE_SCALE(tq2_0, 16)
ONE_SCALE(q1_0, 8)
ONE_SCALE(q2_0, 4)

INLINE __m256i look_up(const int8_t *table, __m256i nibbles_u8) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load128(table)), nibbles_u8);
}

INLINE __m256i products_iq4_nl(const block_iq4_nl *b, int k, __m256i x_i8) {
    return signed_products(look_up(gg_table_iq4, nibbles(b->qs + 16 * k)), x_i8);
}

INLINE __m256i products_iq4_xs(const block_iq4_xs *b, int k, __m256i x_i8) {
    return signed_products(look_up(gg_table_iq4, nibbles(b->qs + 16 * k)), x_i8);
}

INLINE void scales_mxfp4(const block_mxfp4 *b, float *scale) { scale[0] = scale[1] = gg_half_e8m0(b->e); }

INLINE __m256i products_mxfp4(const block_mxfp4 *b, int k, __m256i x_i8) {
    return signed_products(look_up(gg_table_e2m1, nibbles(b->qs + 16 * k)), x_i8);
}

INLINE void scales_nvfp4(const block_nvfp4 *b, float *scale) {
    const __m128i d_u8 = _mm_cvtsi32_si128((int)load_u32(b->d)); /* as gg_half_ue4m3 does it */
    const __m128i low_i32 = _mm_cvtepu8_epi32(d_u8), zero_i32 = _mm_cmpeq_epi32(low_i32, _mm_set1_epi32(0x7f));
    const __m128i half_u16 = _mm_slli_epi16(_mm_and_si128(_mm_cvtepu8_epi16(d_u8), _mm_set1_epi16(0x7f)), 7);
    const __m128 scale_f32 = _mm_mul_ps(_mm_cvtph_ps(half_u16), _mm_set1_ps(128.0f));
    _mm_storeu_ps(scale, _mm_andnot_ps(_mm_castsi128_ps(zero_i32), scale_f32));
}

INLINE __m256i products_nvfp4(const block_nvfp4 *b, int k, __m256i x_i8) { /* 8 low, 8 high, twice */
    const __m256i order = _mm256_permute4x64_epi64(nibbles(b->qs + 16 * k), _MM_SHUFFLE(3, 1, 2, 0));
    return signed_products(look_up(gg_table_e2m1, order), x_i8);
}

INLINE __m256i products_tq2_0(const block_tq2_0 *b, int k, __m256i x_i8) {
    const __m256i w_u8 = low_bits(_mm256_srli_epi16(load256(b->qs + k / 4 * 32), k % 4 * 2), 2);
    return signed_products(_mm256_sub_epi8(w_u8, _mm256_set1_epi8(1)), x_i8);
}

/* w times powers, in each half's bytes. */
INLINE __m256i times(__m256i w_u8, __m256i power_i16) {
    const __m256i odd_u16 = _mm256_mullo_epi16(_mm256_srli_epi16(w_u8, 8), power_i16);
    const __m256i even_u16 = _mm256_and_si256(_mm256_mullo_epi16(w_u8, power_i16), _mm256_set1_epi16(255));
    return _mm256_or_si256(_mm256_slli_epi16(odd_u16, 8), even_u16);
}

/* Digits 0 to 4 of 32 bytes, of 16 bytes, and 0 to 3 of 4 bytes: moved to the front by powers of 3. */
INLINE __m256i products_tq1_0(const block_tq1_0 *b, int k, __m256i x_i8) {
    static const int16_t power[5] = {1, 3, 9, 27, 81};
    const __m128i middle_u8 = load128(b->qs + 32), last_u8 = _mm_set1_epi32((int)load_u32(b->qh));
    __m256i w_u8, power_i16;
    if (k < 5) {
        w_u8 = load256(b->qs);
        power_i16 = _mm256_set1_epi16(power[k]);
    } else if (k < 7) {
        w_u8 = _mm256_broadcastsi128_si256(middle_u8);
        power_i16 = _mm256_set_m128i(_mm_set1_epi16(power[2 * k - 9]), _mm_set1_epi16(power[2 * k - 10]));
    } else {
        w_u8 = _mm256_set_m128i(last_u8, middle_u8);
        power_i16 = _mm256_set_m128i(_mm_set_epi16(27, 27, 9, 9, 3, 3, 1, 1), _mm_set1_epi16(81));
    }
    w_u8 = times(w_u8, power_i16);
    const __m256i one_or_two = _mm256_cmpeq_epi8(_mm256_max_epu8(w_u8, _mm256_set1_epi8(86)), w_u8);
    const __m256i two = _mm256_cmpeq_epi8(_mm256_max_epu8(w_u8, _mm256_set1_epi8((char)171)), w_u8);
    return signed_products(_mm256_sub_epi8(_mm256_set1_epi8(-1), _mm256_add_epi8(one_or_two, two)), x_i8);
}

INLINE __m256i products_q1_0(const block_q1_0 *b, int k, __m256i x_i8) {
    return _mm256_maddubs_epi16(_mm256_set1_epi8(1), negate(x_i8, ~load_u32(b->qs + 4 * k)));
}

INLINE __m256i products_q2_0(const block_q2_0 *b, int k, __m256i x_i8) { /* from each of 8 bytes, four neighbours */
    const __m256i q_i32 = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(b->qs + 8 * k)));
    const __m256i two_i32 = _mm256_or_si256(q_i32, _mm256_slli_epi32(q_i32, 6));
    const __m256i w_u8 = low_bits(_mm256_or_si256(two_i32, _mm256_slli_epi32(two_i32, 12)), 2);
    return signed_products(_mm256_sub_epi8(w_u8, _mm256_set1_epi8(1)), x_i8);
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
            for (int k = 0; k < weights / 32; k++)                                                              \
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
