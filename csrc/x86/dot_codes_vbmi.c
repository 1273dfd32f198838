/* VBMI: dot products of the types whose weights fit a table of codes in registers: 64 bytes of it are looked up
 * at a time. */

#include "decode_codes_vbmi.h"

/* ---- tq1_0 ---- */

/* Digits stay where their codes have them: times 1, 4, 16 or 64, which the scales undo. */
INLINE void unpack_tq1_0(const uint8_t *p, struct weights *u) {
    const block_tq1_0 *b = (const block_tq1_0 *)p;
    const __m512i q_u8 = _mm512_maskz_loadu_epi8(((__mmask64)1 << 52) - 1, b->qs); /* 32, 16 and 4 bytes */
    const __mmask64 upper = _mm512_movepi8_mask(q_u8);
    const __m512i four_u8 = look_up(gg_codes_tq1_0[0], q_u8, upper), fifth_u8 = look_up(gg_codes_tq1_0[1], q_u8, upper);
    const __m512i twice_u8 = _mm512_shuffle_i64x2(four_u8, four_u8, _MM_SHUFFLE(1, 0, 1, 0));
    const __m512i third_u8 = _mm512_permutex2var_epi64(fifth_u8, _mm512_setr_epi64(0, 1, 2, 3, 12, 13, 12, 13), four_u8);
    const __m512i fourth_u8 = _mm512_permutex2var_epi32(
        four_u8, _mm512_setr_epi32(8, 9, 10, 11, 8, 9, 10, 11, 24, 25, 26, 27, 12, 12, 12, 12), fifth_u8);
    const __m512i shift_u32 = _mm512_setr_epi32(4, 4, 4, 4, 6, 6, 6, 6, 0, 0, 0, 0, 0, 2, 4, 6);
    const __m512i mask_u8 = _mm512_inserti64x4(_mm512_set1_epi8(3), _mm256_set1_epi8(12), 1);
    u->q_u8[0] = _mm512_and_si512(twice_u8, mask_u8);
    u->q_u8[1] = _mm512_and_si512(twice_u8, _mm512_slli_epi16(mask_u8, 4));
    u->q_u8[2] = _mm512_and_si512(third_u8, _mm512_mask_set1_epi32(_mm512_set1_epi8(3), 0xf000, 0x0c0c0c0c));
    u->q_u8[3] = _mm512_and_si512(_mm512_srlv_epi32(fourth_u8, shift_u32), _mm512_set1_epi8(3));
    const float a = 1.0f / 4, b16 = 1.0f / 16, c = 1.0f / 64;
    u->shift_f32 = _mm512_set1_ps(f32(b->d));
    u->scale_f32 = _mm512_mul_ps(u->shift_f32, _mm512_setr_ps(1, b16, 1, 1, 1, b16, 1, 1, a, c, 1, 1, a, c, a, 1));
}

/* name, max, bias, has_minus */
DOT(iq3_xxs, 62, 0, 1)
DOT(iq3_s, 15, 0, 1)
DOT(tq1_0, 128, 1, 0)
