/* AVX-512: dot products of the types of one scale with two, three or four values. */

#include "portable/decode_ternary.h"
#include "skeleton_direct_avx512.h"

INLINE void unpack_tq2_0(const uint8_t *p, struct weights *u) {
    const block_tq2_0 *b = (const block_tq2_0 *)p;
    const __m512i shift_u64 = _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0);
    set_scales(u, _mm512_set1_ps(f32(b->d)));
    for (int z = 0; z < 4; z++) {
        const __m512i q_u8 = _mm512_srlv_epi64(_mm512_broadcast_i64x4(load256(b->qs + z / 2 * 32)),
                                               _mm512_add_epi64(shift_u64, _mm512_set1_epi64(z % 2 * 4)));
        u->q_u8[z] = _mm512_and_si512(q_u8, _mm512_set1_epi8(3));
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
INLINE void unpack_tq1_0(const uint8_t *p, struct weights *u) {
    const block_tq1_0 *b = (const block_tq1_0 *)p;
    uint32_t last;
    memcpy(&last, b->qh, sizeof last);
    const __m512i first_u8 = _mm512_broadcast_i64x4(load256(b->qs));
    const __m512i middle_u8 = _mm512_broadcast_i32x4(load128(b->qs + 32));
    const __m512i one_to_four = _mm512_inserti32x4(powers(9, 27, 81, 0), _mm_set_epi16(27, 27, 9, 9, 3, 3, 1, 1), 3);
    set_scales(u, _mm512_set1_ps(f32(b->d)));
    u->q_u8[0] = digits(first_u8, powers(1, 1, 3, 3));
    u->q_u8[1] = digits(first_u8, powers(9, 9, 27, 27));
    u->q_u8[2] = digits(_mm512_mask_blend_epi32(0xff00, first_u8, middle_u8), powers(81, 81, 1, 3));
    u->q_u8[3] = digits(_mm512_mask_set1_epi32(middle_u8, 0xf000, (int)last), one_to_four);
}

INLINE void unpack_q2_0(const uint8_t *p, struct weights *u) { /* from each byte, four neighbours */
    const __m512i at_i16 = _mm512_castsi256_si512(
        _mm256_set_epi16(27, 27, 27, 27, 18, 18, 18, 18, 9, 9, 9, 9, 0, 0, 0, 0));
    set_scales(u, _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(at_i16, _mm512_loadu_si512(p)))));
    for (int z = 0; z < 4; z++) {
        const __m512i q_i32 = _mm512_cvtepu8_epi32(load128(p + 18 * z + 2));
        const __m512i two_i32 = _mm512_or_si512(q_i32, _mm512_slli_epi32(q_i32, 6));
        u->q_u8[z] = _mm512_and_si512(_mm512_or_si512(two_i32, _mm512_slli_epi32(two_i32, 12)), _mm512_set1_epi8(3));
    }
}

INLINE void unpack_q1_0(const uint8_t *p, struct weights *u) {
    const __m512 d0_f32 = _mm512_set1_ps(f32(gg_load_u16(p))), d1_f32 = _mm512_set1_ps(f32(gg_load_u16(p + 18)));
    set_scales(u, _mm512_mask_blend_ps(0xff00, d0_f32, d1_f32));
    for (int z = 0; z < 4; z++) {
        uint64_t bits;
        memcpy(&bits, p + 18 * (z / 2) + 2 + 8 * (z % 2), sizeof bits);
        u->q_u8[z] = _mm512_maskz_set1_epi8(bits, 2);
    }
}

/* name, max, bias, has_minus */
DOT(tq1_0, 2, 1, 0)
DOT(tq2_0, 3, 1, 0)
DOT(q1_0, 2, 1, 0)
DOT(q2_0, 3, 1, 0)
