/* AVX2: numbers of rows, signs, and 32 weights at a time of the types whose weights are rows of a grid. */

#ifndef GG_X86_DECODE_GRIDS_AVX2_H
#define GG_X86_DECODE_GRIDS_AVX2_H

#include "portable/decode_grids.h"
#include "decode_signs_x86.h"

/* ---- Signs: a bit for each weight ---- */

INLINE __m256i iq2_xxs_signs(const block_iq2_xxs *b) { /* and scales, in the highest bits */
    const __m256i low_f32 = load256(b->qs), high_f32 = load256(b->qs + 4);
    const __m256 both_f32 = _mm256_shuffle_ps(_mm256_castsi256_ps(low_f32), _mm256_castsi256_ps(high_f32), 0xdd);
    return _mm256_permute4x64_epi64(_mm256_castps_si256(both_f32), 0xd8);
}

INLINE void store_signs(__m256i signs_u8, uint32_t *signs) { _mm256_storeu_si256((void *)signs, signs_u8); }

/* Rows of iq1 have no signs, but numbers that are added, bytes: they are biased by 8, and 1 is subtracted or added. */
INLINE void store_shifts(__m256i two_or_zero_u8, uint32_t *shifts) {
    store_signs(_mm256_sub_epi8(_mm256_set1_epi8(1 - 8), two_or_zero_u8), shifts);
}

INLINE void signs_iq1_s(const block_iq1_s *b, uint32_t *shifts) {
    const __m256i lower = _mm256_srai_epi32(_mm256_cvtepi16_epi32(load128(b->qh)), 15);
    store_shifts(_mm256_and_si256(lower, _mm256_set1_epi8(2)), shifts);
}

/* A nibble for each row, in the low bits of bytes: three bits of its number; is it lower than in the grid? */
INLINE __m256i iq1_m_nibbles(const block_iq1_m *b) {
    const __m128i qh_u8 = load128(b->qh), qh4_u8 = _mm_srli_epi16(qh_u8, 4);
    return _mm256_set_m128i(_mm_unpackhi_epi8(qh_u8, qh4_u8), _mm_unpacklo_epi8(qh_u8, qh4_u8));
}

INLINE void signs_iq1_m(const block_iq1_m *b, uint32_t *shifts) {
    store_shifts(_mm256_srli_epi16(_mm256_and_si256(iq1_m_nibbles(b), _mm256_set1_epi8(8)), 2), shifts);
}

INLINE void signs_iq2_xxs(const block_iq2_xxs *b, uint32_t *signs) {
    store_signs(even_signs(sevens(iq2_xxs_signs(b))), signs);
}

INLINE void signs_iq2_xs(const block_iq2_xs *b, uint32_t *signs) {
    const __m256i low_u16 = _mm256_srli_epi16(load256(b->qs), 9), high_u16 = _mm256_srli_epi16(load256(b->qs + 16), 9);
    store_signs(even_signs(_mm256_permute4x64_epi64(_mm256_packus_epi16(low_u16, high_u16), 0xd8)), signs);
}

INLINE void signs_iq2_s(const block_iq2_s *b, uint32_t *signs) { memcpy(signs, b->signs, sizeof b->signs); }

INLINE void signs_iq3_xxs(const block_iq3_xxs *b, uint32_t *signs) {
    store_signs(even_signs(sevens(load256(b->signs))), signs);
}

INLINE void signs_iq3_s(const block_iq3_s *b, uint32_t *signs) { memcpy(signs, b->signs, sizeof b->signs); }

/* ---- Numbers of rows ---- */

/* 32 numbers of eight bits, and above them three bits of `high`. */
INLINE void store_numbers(const uint8_t *low, __m256i high0_u16, __m256i high1_u16, uint16_t *r) {
    const __m256i mask_u16 = _mm256_set1_epi16(0x700);
    const __m256i low0_u16 = _mm256_cvtepu8_epi16(load128(low)), low1_u16 = _mm256_cvtepu8_epi16(load128(low + 16));
    _mm256_store_si256((void *)r, _mm256_or_si256(low0_u16, _mm256_and_si256(high0_u16, mask_u16)));
    _mm256_store_si256((void *)(r + 16), _mm256_or_si256(low1_u16, _mm256_and_si256(high1_u16, mask_u16)));
}

/* Each of four 16-bit words four times, times 512, 512 >> step, 512 >> 2 * step, 512 >> 3 * step, halved. */
INLINE __m256i shifted_words(const __m256i words_u64, const int step) {
    const __m256i four_u8 =
        _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0908090809080908, 0x0100010001000100));
    const int64_t power = 512 | 512LL >> step << 16 | 512LL >> 2 * step << 32 | 512LL >> 3 * step << 48;
    return _mm256_srli_epi16(
        _mm256_mullo_epi16(_mm256_shuffle_epi8(words_u64, four_u8), _mm256_set1_epi64x(power)), 1);
}

INLINE void numbers_iq1_s(const uint8_t *p, uint16_t *r) {
    const block_iq1_s *b = (const block_iq1_s *)p;
    const __m128i qh_u16 = load128(b->qh);
    store_numbers(b->qs, shifted_words(_mm256_cvtepu16_epi64(qh_u16), 3),
                  shifted_words(_mm256_cvtepu16_epi64(_mm_srli_si128(qh_u16, 8)), 3), r);
}

INLINE void numbers_iq1_m(const uint8_t *p, uint16_t *r) {
    const block_iq1_m *b = (const block_iq1_m *)p;
    const __m256i both_u8 = iq1_m_nibbles(b);
    const __m256i low_u16 = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(both_u8));
    const __m256i high_u16 = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(both_u8, 1));
    store_numbers(b->qs, _mm256_slli_epi16(low_u16, 8), _mm256_slli_epi16(high_u16, 8), r);
}

INLINE void numbers_iq2_xxs(const uint8_t *p, uint16_t *r) {
    const block_iq2_xxs *b = (const block_iq2_xxs *)p;
    const __m256 low_f32 = _mm256_castsi256_ps(load256(b->qs)), high_f32 = _mm256_castsi256_ps(load256(b->qs + 4));
    const __m256 both_f32 = _mm256_shuffle_ps(low_f32, high_f32, 0x88);
    const __m256i rows_u8 = _mm256_permute4x64_epi64(_mm256_castps_si256(both_f32), 0xd8);
    _mm256_store_si256((void *)r, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(rows_u8)));
    _mm256_store_si256((void *)(r + 16), _mm256_cvtepu8_epi16(_mm256_extracti128_si256(rows_u8, 1)));
}

INLINE void numbers_iq2_xs(const uint8_t *p, uint16_t *r) {
    const block_iq2_xs *b = (const block_iq2_xs *)p;
    for (int i = 0; i < 32; i += 16)
        _mm256_store_si256((void *)(r + i), _mm256_and_si256(load256(b->qs + i), _mm256_set1_epi16(511)));
}

INLINE void numbers_iq2_s(const uint8_t *p, uint16_t *r) {
    const block_iq2_s *b = (const block_iq2_s *)p;
    const __m256i low_u64 = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128((int)load_u32(b->qh)));
    const __m256i high_u64 = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128((int)load_u32(b->qh + 4)));
    const __m256i two_u16 = _mm256_set1_epi16(0x300);
    store_numbers(b->qs, _mm256_and_si256(shifted_words(low_u64, 2), two_u16),
                  _mm256_and_si256(shifted_words(high_u64, 2), two_u16), r);
}

INLINE void numbers_iq3_xxs(const uint8_t *p, uint16_t *r) {
    const block_iq3_xxs *b = (const block_iq3_xxs *)p;
    for (int i = 0; i < 64; i += 16) _mm256_store_si256((void *)(r + i), _mm256_cvtepu8_epi16(load128(b->qs + i)));
}

INLINE void numbers_iq3_s(const uint8_t *p, uint16_t *r) {
    const block_iq3_s *b = (const block_iq3_s *)p;
    const __m256i bit_u16 = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384,
                                              (short)0x8000);
    for (int i = 0; i < 64; i += 16) {
        const __m256i high_u16 = _mm256_set1_epi16((short)gg_load_u16(b->qh + i / 8));
        const __m256i is_set = _mm256_cmpeq_epi16(_mm256_and_si256(high_u16, bit_u16), bit_u16);
        _mm256_store_si256((void *)(r + i), _mm256_or_si256(_mm256_cvtepu8_epi16(load128(b->qs + i)),
                                                            _mm256_slli_epi16(_mm256_srli_epi16(is_set, 15), 8)));
    }
}

/* ---- Scales ---- */

INLINE gg_f16 iq1_m_d(const block_iq1_m *b) { /* its bits are in the high nibbles */
    uint64_t q;
    memcpy(&q, b->scales, sizeof q);
    return (gg_f16)((q >> 12 & 15) | (q >> 24 & 0xf0) | (q >> 36 & 0xf00) | (q >> 48 & 0xf000));
}

INLINE __m256i iq3_s_nibbles(const block_iq3_s *b) {
    const __m256i shift_u32 = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i n_i32 = _mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(b->scales)), shift_u32);
    return _mm256_and_si256(n_i32, _mm256_set1_epi32(15));
}

/* ---- 32 weights: eight of each row, or four ---- */

INLINE __m256i long_rows(const uint64_t *grid, const uint16_t *r) {
    __m256i rows_u8 =
        _mm256_set_epi64x((int64_t)grid[r[3]], (int64_t)grid[r[2]], (int64_t)grid[r[1]], (int64_t)grid[r[0]]);
    __asm__ volatile("" : "+x"(rows_u8)); /* or GCC loads all rows before it puts them together: 32 registers */
    return rows_u8;
}

INLINE __m256i short_rows(const uint32_t *grid, const uint16_t *r) {
    __m256i rows_u8 = _mm256_setr_epi32((int)grid[r[0]], (int)grid[r[1]], (int)grid[r[2]], (int)grid[r[3]],
                                        (int)grid[r[4]], (int)grid[r[5]], (int)grid[r[6]], (int)grid[r[7]]);
    __asm__ volatile("" : "+x"(rows_u8));
    return rows_u8;
}

/* Each of four bytes is added to a row. */
INLINE __m256i shifted(__m256i rows_u8, uint32_t shifts) {
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    return _mm256_add_epi8(rows_u8, _mm256_shuffle_epi8(_mm256_set1_epi32((int)shifts), byte_of));
}

#endif
