/* AVX-512: dot products of the types whose weights are nibbles that choose from a table, or of two bits at most. */

#include "../unpack_tables.h"
#include "../unpack_ternary.h"
#include "superblock_avx512.h"

/* ---- Tables of 16 ---- */

/* Nibbles of 2 * 16 bytes: 16 low, 16 high, of each. */
INLINE __m512i two_nibbles(const uint8_t *qs0, const uint8_t *qs1) {
    const __m512i both_u8 = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(load128(qs0)), 0xff00, load128(qs1));
    const __m512i shift_u64 = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
    return _mm512_and_si512(_mm512_srlv_epi64(both_u8, shift_u64), _mm512_set1_epi8(15));
}

/* The table's numbers plus bias. */
INLINE __m512i look_up(const int8_t *table, const int bias, __m512i nibbles_u8) {
    const __m128i biased_u8 = _mm_add_epi8(load128(table), _mm_set1_epi8((char)bias));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(biased_u8), nibbles_u8);
}

/* Each of the 16-bit words at words i, i, i + step, i + step, ... of the 128 bytes at p. */
INLINE __m256i words(const uint8_t *p, __m256i index_i16) {
    return _mm512_castsi512_si256(_mm512_permutex2var_epi16(
        _mm512_loadu_si512(p), _mm512_castsi256_si512(index_i16), _mm512_loadu_si512(p + 64)));
}

enum { IQ4_BIAS = 127, E2M1_BIAS = 12 };

INLINE void unpack_iq4_nl(const uint8_t *p, struct superblock *u) {
    const __m256i at_i16 = _mm256_set_epi16(63, 63, 54, 54, 45, 45, 36, 36, 27, 27, 18, 18, 9, 9, 0, 0);
    set_scales(u, _mm512_cvtph_ps(words(p, at_i16)));
    for (int z = 0; z < 4; z++)
        u->w_u8[z] = look_up(gg_table_iq4, IQ4_BIAS, two_nibbles(p + 36 * z + 2, p + 36 * z + 20));
}

INLINE void unpack_iq4_xs(const uint8_t *p, struct superblock *u) {
    const block_iq4_xs *b = (const block_iq4_xs *)p;
    uint32_t low;
    memcpy(&low, b->scales_l, sizeof low);
    const __m256i low_i32 = _mm256_srlv_epi32(_mm256_set1_epi32((int)low), _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0));
    const __m256i high_i32 = _mm256_srlv_epi32(_mm256_set1_epi32(b->scales_h << 4), _mm256_set_epi32(14, 12, 10, 8, 6, 4, 2, 0));
    const __m256i scale_i32 = _mm256_or_si256(_mm256_and_si256(low_i32, _mm256_set1_epi32(15)),
                                              _mm256_and_si256(high_i32, _mm256_set1_epi32(48)));
    const __m256 biased_f32 = _mm256_cvtepi32_ps(_mm256_sub_epi32(scale_i32, _mm256_set1_epi32(32)));
    set_eight_scales(u, _mm256_mul_ps(biased_f32, _mm256_set1_ps(f32(b->d))));
    for (int z = 0; z < 4; z++)
        u->w_u8[z] = look_up(gg_table_iq4, IQ4_BIAS, two_nibbles(b->qs + 32 * z, b->qs + 32 * z + 16));
}

INLINE void unpack_mxfp4(const uint8_t *p, struct superblock *u) {
    const __m256i at_i16 = _mm256_set_epi16(59, 59, 51, 51, 42, 42, 34, 34, 25, 25, 17, 17, 8, 8, 0, 0);
    const __m256i shift_i16 = _mm256_set_epi16(8, 8, 0, 0, 8, 8, 0, 0, 8, 8, 0, 0, 8, 8, 0, 0);
    const __m256i e_u16 = _mm256_and_si256(_mm256_srlv_epi16(words(p, at_i16), shift_i16), _mm256_set1_epi16(255));
    const __m512i e_i32 = _mm512_cvtepu16_epi32(e_u16), one_i32 = _mm512_set1_epi32(1);
    const __m512i normal_i32 = _mm512_slli_epi32(_mm512_sub_epi32(e_i32, one_i32), 23); /* as gg_half_e8m0 does it */
    const __mmask16 subnormal = _mm512_cmple_epu32_mask(e_i32, one_i32);
    set_scales(u, _mm512_castsi512_ps(
        _mm512_mask_sllv_epi32(normal_i32, subnormal, _mm512_set1_epi32(0x00200000), e_i32)));
    for (int z = 0; z < 4; z++)
        u->w_u8[z] = look_up(gg_table_e2m1, E2M1_BIAS, two_nibbles(p + 34 * z + 1, p + 34 * z + 18));
}

INLINE void unpack_nvfp4(const uint8_t *p, struct superblock *u) {
    uint32_t d[4];
    for (int k = 0; k < 4; k++) memcpy(d + k, p + 36 * k, 4);
    const __m256i d_u16 = _mm256_and_si256(
        _mm256_cvtepu8_epi16(_mm_set_epi32((int)d[3], (int)d[2], (int)d[1], (int)d[0])), _mm256_set1_epi16(0xff));
    const __mmask16 zero = _mm256_cmpeq_epi16_mask(d_u16, _mm256_set1_epi16(0x7f)); /* as gg_half_ue4m3 does it */
    const __m256i half_u16 = _mm256_slli_epi16(_mm256_and_si256(d_u16, _mm256_set1_epi16(0x7f)), 7);
    set_scales(u, _mm512_maskz_mul_ps((__mmask16)~zero, _mm512_cvtph_ps(half_u16), _mm512_set1_ps(128.0f)));
    const __m512i twice_i64 = _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0), shift_u64 = _mm512_set_epi64(4, 0, 4, 0, 4, 0, 4, 0);
    for (int z = 0; z < 4; z++) { /* 8 low, 8 high of 8 bytes */
        const __m512i q_u8 = _mm512_permutexvar_epi64(twice_i64, _mm512_castsi256_si512(load256(p + 36 * z + 4)));
        u->w_u8[z] = look_up(gg_table_e2m1, E2M1_BIAS,
                             _mm512_and_si512(_mm512_srlv_epi64(q_u8, shift_u64), _mm512_set1_epi8(15)));
    }
}

/* ---- Two bits at most ---- */

INLINE void unpack_tq2_0(const uint8_t *p, struct superblock *u) {
    const block_tq2_0 *b = (const block_tq2_0 *)p;
    const __m512i shift_u64 = _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0);
    set_scales(u, _mm512_set1_ps(f32(b->d)));
    for (int z = 0; z < 4; z++) {
        const __m512i q_u8 = _mm512_srlv_epi64(_mm512_broadcast_i64x4(load256(b->qs + z / 2 * 32)),
                                               _mm512_add_epi64(shift_u64, _mm512_set1_epi64(z % 2 * 4)));
        u->w_u8[z] = _mm512_and_si512(q_u8, _mm512_set1_epi8(3));
    }
}

/* Bytes that are fractions in base 3, times powers of 3: their first digits. Each power is for two bytes. */
INLINE __m512i digits(__m512i q_u8, __m512i power_i16) {
    const __m512i odd_u16 = _mm512_mullo_epi16(_mm512_andnot_si512(_mm512_set1_epi16(255), q_u8), power_i16);
    const __m512i rest_u8 = _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaa, _mm512_mullo_epi16(q_u8, power_i16), odd_u16);
    const __m512i one_u8 = _mm512_set1_epi8(1); /* more than 85, more than 170: thirds of 256 */
    return _mm512_add_epi8(_mm512_min_epu8(_mm512_subs_epu8(rest_u8, _mm512_set1_epi8(85)), one_u8),
                           _mm512_min_epu8(_mm512_subs_epu8(rest_u8, _mm512_set1_epi8((char)170)), one_u8));
}

INLINE __m512i powers(int16_t a, int16_t b, int16_t c, int16_t d) { /* for 16 bytes each */
    const __m256i low = _mm256_set_m128i(_mm_set1_epi16(b), _mm_set1_epi16(a));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm256_set_m128i(_mm_set1_epi16(d), _mm_set1_epi16(c)), 1);
}

/* Digits 0 to 4 of 32 bytes, of 16 bytes, and 0 to 3 of 4 bytes. */
INLINE void unpack_tq1_0(const uint8_t *p, struct superblock *u) {
    const block_tq1_0 *b = (const block_tq1_0 *)p;
    uint32_t last;
    memcpy(&last, b->qh, sizeof last);
    const __m512i first_u8 = _mm512_broadcast_i64x4(load256(b->qs));
    const __m512i middle_u8 = _mm512_broadcast_i32x4(load128(b->qs + 32));
    const __m512i one_to_four = _mm512_inserti32x4(powers(9, 27, 81, 0), _mm_set_epi16(27, 27, 9, 9, 3, 3, 1, 1), 3);
    set_scales(u, _mm512_set1_ps(f32(b->d)));
    u->w_u8[0] = digits(first_u8, powers(1, 1, 3, 3));
    u->w_u8[1] = digits(first_u8, powers(9, 9, 27, 27));
    u->w_u8[2] = digits(_mm512_mask_blend_epi32(0xff00, first_u8, middle_u8), powers(81, 81, 1, 3));
    u->w_u8[3] = digits(_mm512_mask_set1_epi32(middle_u8, 0xf000, (int)last), one_to_four);
}

INLINE void unpack_q2_0(const uint8_t *p, struct superblock *u) { /* from each byte, four neighbours */
    const __m512i at_i16 = _mm512_castsi256_si512(
        _mm256_set_epi16(27, 27, 27, 27, 18, 18, 18, 18, 9, 9, 9, 9, 0, 0, 0, 0));
    set_scales(u, _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(at_i16, _mm512_loadu_si512(p)))));
    for (int z = 0; z < 4; z++) {
        const __m512i q_i32 = _mm512_cvtepu8_epi32(load128(p + 18 * z + 2));
        const __m512i two_i32 = _mm512_or_si512(q_i32, _mm512_slli_epi32(q_i32, 6));
        u->w_u8[z] = _mm512_and_si512(_mm512_or_si512(two_i32, _mm512_slli_epi32(two_i32, 12)), _mm512_set1_epi8(3));
    }
}

INLINE void unpack_q1_0(const uint8_t *p, struct superblock *u) {
    const __m512 d0_f32 = _mm512_set1_ps(f32(gg_load_u16(p))), d1_f32 = _mm512_set1_ps(f32(gg_load_u16(p + 18)));
    set_scales(u, _mm512_mask_blend_ps(0xff00, d0_f32, d1_f32));
    for (int z = 0; z < 4; z++) {
        uint64_t bits;
        memcpy(&bits, p + 18 * (z / 2) + 2 + 8 * (z % 2), sizeof bits);
        u->w_u8[z] = _mm512_maskz_set1_epi8(bits, 2);
    }
}

DOT(iq4_nl, 32, 240, IQ4_BIAS, 0)
DOT(iq4_xs, 256, 240, IQ4_BIAS, 0)
DOT(mxfp4, 32, 24, E2M1_BIAS, 0)
DOT(nvfp4, 64, 24, E2M1_BIAS, 0)
DOT(tq1_0, 256, 2, 1, 0)
DOT(tq2_0, 256, 3, 1, 0)
DOT(q1_0, 128, 2, 1, 0)
DOT(q2_0, 64, 3, 1, 0)
