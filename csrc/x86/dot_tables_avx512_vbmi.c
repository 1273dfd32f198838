/* AVX-512, without and with VBMI: dot products of the types whose weights are nibbles that choose from a table. */

#include "portable/decode_tables.h"
#include "skeleton_direct_avx512.h"

/* The table's numbers plus bias, by the low nibbles. */
INLINE __m512i look_up(const int8_t *table, const int bias, __m512i q_u8) {
    const __m512i biased_u8 =
        _mm512_broadcast_i32x4(_mm_add_epi8(load128(table), _mm_set1_epi8((char)bias)));
#if defined(__AVX512VBMI__)
    return _mm512_permutexvar_epi8(q_u8, biased_u8); /* by six bits: the table is there four times */
#else
    return _mm512_shuffle_epi8(biased_u8, _mm512_and_si512(q_u8, _mm512_set1_epi8(15)));
#endif
}

/* 2 * 16 bytes, twice each, the second time shifted: 16 low nibbles, 16 high ones. */
INLINE __m512i two_nibbles(const uint8_t *qs0, const uint8_t *qs1) {
    const __m512i both_u8 = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(load128(qs0)), 0xff00, load128(qs1));
    return _mm512_srlv_epi64(both_u8, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0));
}

/* 16-bit words of the 128 bytes at p. */
INLINE __m256i words(const uint8_t *p, __m256i index_i16) {
    return _mm512_castsi512_si256(_mm512_permutex2var_epi16(
        _mm512_loadu_si512(p), _mm512_castsi256_si512(index_i16), _mm512_loadu_si512(p + 64)));
}

enum { IQ4_BIAS = 127, E2M1_BIAS = 12 };

INLINE void unpack_iq4_nl(const uint8_t *p, struct weights *u) {
    const __m256i at_i16 = _mm256_set_epi16(63, 63, 54, 54, 45, 45, 36, 36, 27, 27, 18, 18, 9, 9, 0, 0);
    set_scales(u, _mm512_cvtph_ps(words(p, at_i16)));
    for (int z = 0; z < 4; z++)
        u->q_u8[z] = look_up(gg_table_iq4, IQ4_BIAS, two_nibbles(p + 36 * z + 2, p + 36 * z + 20));
}

INLINE void unpack_iq4_xs(const uint8_t *p, struct weights *u) {
    const block_iq4_xs *b = (const block_iq4_xs *)p;
    uint32_t low;
    memcpy(&low, b->scales_l, sizeof low);
    const __m256i two_k_i32 = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256i low_i32 = _mm256_srlv_epi32(_mm256_set1_epi32((int)low), _mm256_add_epi32(two_k_i32, two_k_i32));
    const __m256i high_i32 = _mm256_srlv_epi32(_mm256_set1_epi32(b->scales_h << 4), two_k_i32);
    const __m256i scale_i32 = _mm256_or_si256(_mm256_and_si256(low_i32, _mm256_set1_epi32(15)),
                                              _mm256_and_si256(high_i32, _mm256_set1_epi32(48)));
    const __m256 biased_f32 = _mm256_cvtepi32_ps(_mm256_sub_epi32(scale_i32, _mm256_set1_epi32(32)));
    set_eight_scales(u, _mm256_mul_ps(biased_f32, _mm256_set1_ps(f32(b->d))));
    for (int z = 0; z < 4; z++)
        u->q_u8[z] = look_up(gg_table_iq4, IQ4_BIAS, two_nibbles(b->qs + 32 * z, b->qs + 32 * z + 16));
}

INLINE void unpack_mxfp4(const uint8_t *p, struct weights *u) {
    const __m256i at_i16 = _mm256_set_epi16(59, 59, 51, 51, 42, 42, 34, 34, 25, 25, 17, 17, 8, 8, 0, 0);
    const __m256i shift_i16 = _mm256_set_epi16(8, 8, 0, 0, 8, 8, 0, 0, 8, 8, 0, 0, 8, 8, 0, 0);
    const __m256i e_u16 = _mm256_and_si256(_mm256_srlv_epi16(words(p, at_i16), shift_i16), _mm256_set1_epi16(255));
    const __m512i e_i32 = _mm512_cvtepu16_epi32(e_u16), one_i32 = _mm512_set1_epi32(1);
    const __m512i normal_i32 = _mm512_slli_epi32(_mm512_sub_epi32(e_i32, one_i32), 23); /* as gg_half_e8m0 does it */
    const __mmask16 subnormal = _mm512_cmple_epu32_mask(e_i32, one_i32);
    set_scales(u, _mm512_castsi512_ps(
        _mm512_mask_sllv_epi32(normal_i32, subnormal, _mm512_set1_epi32(0x00200000), e_i32)));
    for (int z = 0; z < 4; z++)
        u->q_u8[z] = look_up(gg_table_e2m1, E2M1_BIAS, two_nibbles(p + 34 * z + 1, p + 34 * z + 18));
}

INLINE void unpack_nvfp4(const uint8_t *p, struct weights *u) {
    uint32_t d[4];
    for (int k = 0; k < 4; k++) memcpy(d + k, p + 36 * k, 4);
    const __m256i d_u16 = _mm256_and_si256(
        _mm256_cvtepu8_epi16(_mm_set_epi32((int)d[3], (int)d[2], (int)d[1], (int)d[0])), _mm256_set1_epi16(0xff));
    const __mmask16 zero = _mm256_cmpeq_epi16_mask(d_u16, _mm256_set1_epi16(0x7f)); /* as gg_half_ue4m3 does it */
    const __m256i half_u16 = _mm256_slli_epi16(_mm256_and_si256(d_u16, _mm256_set1_epi16(0x7f)), 7);
    set_scales(u, _mm512_maskz_mul_ps((__mmask16)~zero, _mm512_cvtph_ps(half_u16), _mm512_set1_ps(128.0f)));
    const __m512i twice_i64 = _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0);
    const __m512i shift_u64 = _mm512_set_epi64(4, 0, 4, 0, 4, 0, 4, 0);
    for (int z = 0; z < 4; z++) { /* 8 low, 8 high of 8 bytes */
        const __m512i q_u8 = _mm512_permutexvar_epi64(twice_i64, _mm512_castsi256_si512(load256(p + 36 * z + 4)));
        u->q_u8[z] = look_up(gg_table_e2m1, E2M1_BIAS, _mm512_srlv_epi64(q_u8, shift_u64));
    }
}

/* name, max, bias, has_minus */
DOT(iq4_nl, 240, IQ4_BIAS, 0)
DOT(iq4_xs, 240, IQ4_BIAS, 0)
DOT(mxfp4, 24, E2M1_BIAS, 0)
DOT(nvfp4, 24, E2M1_BIAS, 0)
