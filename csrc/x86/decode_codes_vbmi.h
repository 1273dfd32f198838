/* VBMI: rows of iq3 and other tables of codes in registers: 64 bytes are looked up at a time. */

#ifndef GG_X86_DECODE_CODES_VBMI_H
#define GG_X86_DECODE_CODES_VBMI_H

#include "portable/codes.h"
#include "decode_grids_avx512.h"

/* Bytes 0 to 255 of a table; upper: which numbers are above 127. */
INLINE __m512i look_up(const uint8_t *table, __m512i index_u8, __mmask64 upper) {
    const __m512i loq_u8 = _mm512_permutex2var_epi8(_mm512_load_si512(table), index_u8, _mm512_load_si512(table + 64));
    const __m512i high_u8 =
        _mm512_permutex2var_epi8(_mm512_load_si512(table + 128), index_u8, _mm512_load_si512(table + 192));
    return _mm512_mask_blend_epi8(upper, loq_u8, high_u8);
}

/* Rows of four codes: the first two from low's nibbles, the others from high's. */
INLINE void set_short_rows(struct weights *u, __m512i loq_u8, __m512i high_u8, uint64_t values) {
    const __m512i values_u8 = _mm512_set1_epi64((int64_t)values);
    const __m512i a = _mm512_permutexvar_epi32(order_i32(), loq_u8), b = _mm512_permutexvar_epi32(order_i32(), high_u8);
    const __m512i a4 = _mm512_srli_epi16(a, 4), b4 = _mm512_srli_epi16(b, 4);
    const __m512i first[2] = {_mm512_unpacklo_epi8(a, a4), _mm512_unpackhi_epi8(a, a4)};
    const __m512i last[2] = {_mm512_unpacklo_epi8(b, b4), _mm512_unpackhi_epi8(b, b4)};
    for (int z = 0; z < 4; z++) { /* vpermb takes the six lowest bits: values repeat */
        const __m512i codes_u8 = z % 2 ? _mm512_unpackhi_epi16(first[z / 2], last[z / 2])
                                       : _mm512_unpacklo_epi16(first[z / 2], last[z / 2]);
        u->q_u8[z] = _mm512_permutexvar_epi8(codes_u8, values_u8);
    }
}

INLINE void set_iq3_xxs_rows(const block_iq3_xxs *b, struct weights *u) {
    const __m512i index_u8 = _mm512_loadu_si512(b->qs);
    const __mmask64 upper = _mm512_movepi8_mask(index_u8);
    set_short_rows(u, look_up(gg_codes_iq3_xxs[0], index_u8, upper), look_up(gg_codes_iq3_xxs[1], index_u8, upper),
                   0x3e342c241c140c04);
}

INLINE void set_iq3_s_rows(const block_iq3_s *b, struct weights *u) {
    const __m512i index_u8 = _mm512_loadu_si512(b->qs);
    const __mmask64 upper = _mm512_movepi8_mask(index_u8), second = load_u64(b->qh);
    __m512i codes_u8[2];
    for (int k = 0; k < 2; k++)
        codes_u8[k] = _mm512_mask_blend_epi8(second, look_up(gg_codes_iq3_s[k], index_u8, upper),
                                             look_up(gg_codes_iq3_s[k] + 256, index_u8, upper));
    set_short_rows(u, codes_u8[0], codes_u8[1], 0x0f0d0b0907050301);
}

INLINE void unpack_iq3_xxs(const uint8_t *p, struct weights *u) {
    set_iq3_xxs_rows((const block_iq3_xxs *)p, u);
    rest_iq3_xxs((const block_iq3_xxs *)p, u);
}

INLINE void unpack_iq3_s(const uint8_t *p, struct weights *u) {
    set_iq3_s_rows((const block_iq3_s *)p, u);
    rest_iq3_s((const block_iq3_s *)p, u);
}

#endif
