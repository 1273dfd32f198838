/* AVX2: 32 weights of a block, in order, as signed bytes: types whose weights are nibbles that choose from a table, or
 * are of two bits at most. */

#ifndef GG_X86_DECODE_TABLES_AVX2_H
#define GG_X86_DECODE_TABLES_AVX2_H

#include "portable/decode_tables.h"
#include "portable/decode_ternary.h"
#include "common.h"

/* ---- Weights 32 k to 32 k + 31 ---- */

INLINE __m256i look_up(const int8_t *table, __m256i nibbles_u8) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load128(table)), nibbles_u8);
}

INLINE __m256i weights_iq4_nl(const block_iq4_nl *b, const int k) {
    return look_up(gg_table_iq4, nibbles(b->qs + 16 * k));
}

INLINE __m256i weights_iq4_xs(const block_iq4_xs *b, const int k) {
    return look_up(gg_table_iq4, nibbles(b->qs + 16 * k));
}

INLINE __m256i weights_mxfp4(const block_mxfp4 *b, const int k) {
    return look_up(gg_table_e2m1, nibbles(b->qs + 16 * k));
}

INLINE __m256i weights_nvfp4(const block_nvfp4 *b, const int k) { /* 8 low, 8 high, twice */
    const __m256i order = _mm256_permute4x64_epi64(nibbles(b->qs + 16 * k), _MM_SHUFFLE(3, 1, 2, 0));
    return look_up(gg_table_e2m1, order);
}

INLINE __m256i weights_tq2_0(const block_tq2_0 *b, const int k) {
    const __m256i w_u8 = low_bits(_mm256_srli_epi16(load256(b->qs + k / 4 * 32), k % 4 * 2), 2);
    return _mm256_sub_epi8(w_u8, _mm256_set1_epi8(1));
}

INLINE __m256i thrice(__m256i x_8) { return _mm256_add_epi8(x_8, _mm256_add_epi8(x_8, x_8)); }

/* Digits 0 to 4 of 32 bytes, of 16 bytes, and 0 to 3 of 4 bytes: moved to the front by powers of 3. As the comparisons
 * are signed, bytes are biased by 128; as 3 * 128 is 128 modulo 256, they stay so. */
INLINE __m256i weights_tq1_0(const block_tq1_0 *b, const int k) {
    const __m128i middle_u8 = load128(b->qs + 32), last_u8 = _mm_set1_epi32((int)load_u32(b->qh));
    const __m256i twice_u8 = _mm256_broadcastsi128_si256(middle_u8);
    __m256i w_u8 = k < 5 ? load256(b->qs) : _mm256_blend_epi32(twice_u8, thrice(twice_u8), 0xf0);
    const int power = k < 5 ? k : 2 * (k - 5);
    if (power > 0) w_u8 = thrice(w_u8);
    if (power > 1) w_u8 = thrice(w_u8);
    if (power > 2) w_u8 = thrice(w_u8);
    if (power > 3) w_u8 = thrice(w_u8);
    if (k == 7) {
        const __m256i one = _mm256_set_m128i(last_u8, last_u8), three = thrice(one), nine = thrice(three);
        w_u8 = _mm256_blend_epi32(w_u8, one, 0x10), w_u8 = _mm256_blend_epi32(w_u8, three, 0x20);
        w_u8 = _mm256_blend_epi32(w_u8, nine, 0x40), w_u8 = _mm256_blend_epi32(w_u8, thrice(nine), 0x80);
    }
    const __m256i w_i8 = _mm256_xor_si256(w_u8, _mm256_set1_epi8((char)128));
    const __m256i one_or_two = _mm256_cmpgt_epi8(w_i8, _mm256_set1_epi8(85 - 128)); /* thirds of 256 */
    const __m256i two = _mm256_cmpgt_epi8(w_i8, _mm256_set1_epi8(170 - 128));
    return _mm256_sub_epi8(_mm256_set1_epi8(-1), _mm256_add_epi8(one_or_two, two));
}

INLINE __m256i weights_q1_0(const block_q1_0 *b, const int k) { /* -1, or 1 where a bit is set */
    return _mm256_or_si256(bit_mask(~load_u32(b->qs + 4 * k)), _mm256_set1_epi8(1));
}

INLINE __m256i weights_q2_0(const block_q2_0 *b, const int k) { /* from each of 8 bytes, four neighbours */
    const __m256i q_i32 = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(b->qs + 8 * k)));
    const __m256i two_i32 = _mm256_or_si256(q_i32, _mm256_slli_epi32(q_i32, 6));
    const __m256i w_u8 = low_bits(_mm256_or_si256(two_i32, _mm256_slli_epi32(two_i32, 12)), 2);
    return _mm256_sub_epi8(w_u8, _mm256_set1_epi8(1));
}

/* ---- Scales ---- */

INLINE __m256 eight_scales_iq4_xs(const block_iq4_xs *b) {
    const __m256i two_k_i32 = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256i low_i32 =
        _mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(b->scales_l)), _mm256_add_epi32(two_k_i32, two_k_i32));
    const __m256i high_i32 = _mm256_srlv_epi32(_mm256_set1_epi32(b->scales_h << 4), two_k_i32);
    const __m256i scale_i32 = _mm256_or_si256(_mm256_and_si256(low_i32, _mm256_set1_epi32(15)),
                                              _mm256_and_si256(high_i32, _mm256_set1_epi32(48)));
    const __m256 biased_f32 = _mm256_cvtepi32_ps(_mm256_sub_epi32(scale_i32, _mm256_set1_epi32(32)));
    return _mm256_mul_ps(biased_f32, _mm256_set1_ps(f32(b->d)));
}

INLINE __m256 half_e8m0(__m256i e_i32) { /* as gg_half_e8m0 does it */
    const __m256i one_i32 = _mm256_set1_epi32(1);
    const __m256i normal_i32 = _mm256_slli_epi32(_mm256_sub_epi32(e_i32, one_i32), 23);
    const __m256i subnormal_i32 = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e_i32);
    return _mm256_castsi256_ps(
        _mm256_blendv_epi8(subnormal_i32, normal_i32, _mm256_cmpgt_epi32(e_i32, one_i32)));
}

INLINE __m256 half_ue4m3(__m128i d_u8) { /* of eight bytes, as gg_half_ue4m3 does it */
    const __m256i zero_i32 = _mm256_cmpeq_epi32(_mm256_cvtepu8_epi32(d_u8), _mm256_set1_epi32(0x7f));
    const __m128i half_u16 = _mm_slli_epi16(_mm_and_si128(_mm_cvtepu8_epi16(d_u8), _mm_set1_epi16(0x7f)), 7);
    const __m256 scale_f32 = _mm256_mul_ps(_mm256_cvtph_ps(half_u16), _mm256_set1_ps(128.0f));
    return _mm256_andnot_ps(_mm256_castsi256_ps(zero_i32), scale_f32);
}

#endif
