/* AVX-512: dot products of the types whose weights are rows of a grid, with signs or a shift. */

#include "decode_grids_avx512.h"

/* ---- Numbers ---- */

/* Eight low bits from each of 32 bytes, and above them the lowest bits of 32 words, of which mask tells how many. */
INLINE __m512i indices(const uint8_t *low, __m512i high_u16, const int mask) {
    const __m512i high = _mm512_and_si512(_mm512_slli_epi16(high_u16, 8), _mm512_set1_epi16((short)(mask << 8)));
    return _mm512_or_si512(_mm512_cvtepu8_epi16(load256(low)), high);
}

/* In each 64 bits: the lowest 16 bits four times, shifted right by 0, step, 2 * step and 3 * step. */
INLINE __m512i four_words(__m512i x_u64, const int step) {
    const __m512i twice_u8 = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0908090809080908, 0x0100010001000100));
    return _mm512_srlv_epi16(_mm512_shuffle_epi8(x_u64, twice_u8),
                             _mm512_set1_epi64((int64_t)step << 16 | (int64_t)step << 33 | (int64_t)(3 * step) << 48));
}

/* ---- Two bits ---- */

INLINE __m512i numbers_iq2_s(const uint8_t *p) {
    const block_iq2_s *b = (const block_iq2_s *)p;
    return indices(b->qs, four_words(_mm512_cvtepu8_epi64(_mm_loadl_epi64((const void *)b->qh)), 2), 3);
}

INLINE void unpack_iq2_s(const uint8_t *p, const uint16_t *numbers, struct weights *u) {
    set_rows(u, gg_grid_iq2_s, numbers);
    rest_iq2_s((const block_iq2_s *)p, u);
}

/* ---- Three bits ---- */

INLINE __m256i eight_short_rows(const uint8_t *r) {
    const uint32_t *grid = gg_grid_iq3_xxs;
    return _mm256_setr_epi32((int)grid[r[0]], (int)grid[r[1]], (int)grid[r[2]], (int)grid[r[3]], (int)grid[r[4]],
                             (int)grid[r[5]], (int)grid[r[6]], (int)grid[r[7]]);
}

INLINE void unpack_iq3_xxs(const uint8_t *p, struct weights *u) { /* for iq3_s, AVX2 does better */
    const block_iq3_xxs *b = (const block_iq3_xxs *)p;
    for (int z = 0; z < 4; z++)
        u->q_u8[z] = join(eight_short_rows(b->qs + 16 * z), eight_short_rows(b->qs + 16 * z + 8));
    rest_iq3_xxs(b, u);
}

/* ---- One bit ---- */

INLINE __m512i numbers_iq1_s(const uint8_t *p) {
    const block_iq1_s *b = (const block_iq1_s *)p;
    return indices(b->qs, four_words(_mm512_cvtepu16_epi64(load128(b->qh)), 3), 7);
}

INLINE void unpack_iq1_s(const uint8_t *p, const uint16_t *numbers, struct weights *u) {
    const block_iq1_s *b = (const block_iq1_s *)p;
    set_rows(u, gg_grid_iq1, numbers);
    const __m256i qh_i32 = _mm256_cvtepi16_epi32(load128(b->qh)); /* the top bit: is it lower than in the grid? */
    const __m256i n_i32 = _mm256_and_si256(_mm256_srli_epi32(qh_i32, 12), _mm256_set1_epi32(7));
    const float step = 0.25f * f32(b->d);
    const __m256 scale_f32 =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(n_i32), _mm256_set1_ps(step), _mm256_set1_ps(0.5f * step));
    const __m256 shift_f32 = _mm256_blendv_ps(_mm256_set1_ps(7.0f), _mm256_set1_ps(9.0f), _mm256_castsi256_ps(qh_i32));
    u->scale_f32 = twice_in_order(scale_f32);
    u->shift_f32 = twice(_mm256_mul_ps(scale_f32, shift_f32));
}

INLINE float iq1_m_step(uint64_t scales) { /* its bits are in the high nibbles */
    const uint64_t d = (scales >> 12 & 15) | (scales >> 24 & 0xf0) | (scales >> 36 & 0xf00) | (scales >> 48 & 0xf000);
    return 0.25f * f32((gg_f16)d);
}

/* A nibble for each row, in the low bits of bytes: three bits of its number; is it lower than in the grid? */
INLINE __m256i iq1_m_nibbles(const block_iq1_m *b) {
    const __m128i qh_u8 = load128(b->qh), qh4_u8 = _mm_srli_epi16(qh_u8, 4);
    return _mm256_set_m128i(_mm_unpackhi_epi8(qh_u8, qh4_u8), _mm_unpacklo_epi8(qh_u8, qh4_u8));
}

INLINE __m512i numbers_iq1_m(const uint8_t *p) {
    const block_iq1_m *b = (const block_iq1_m *)p;
    return indices(b->qs, _mm512_cvtepu8_epi16(iq1_m_nibbles(b)), 7);
}

INLINE void unpack_iq1_m(const uint8_t *p, const uint16_t *numbers, struct weights *u) {
    const block_iq1_m *b = (const block_iq1_m *)p;
    const __mmask32 higher = _mm256_testn_epi8_mask(iq1_m_nibbles(b), _mm256_set1_epi8(8));
    set_rows(u, gg_grid_iq1, numbers);
    for (int z = 0; z < 4; z++)
        u->q_u8[z] = _mm512_mask_add_epi64(u->q_u8[z], (__mmask8)(higher >> 8 * z), u->q_u8[z],
                                           _mm512_set1_epi8(2));
    const uint64_t scales = load_u64(b->scales);
    const __m256i word_u8 = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0706050403020100, 0x0706050403020100));
    const __m256i shift_u16 = _mm256_set_epi64x(0x0009000900090009, 0x0006000600060006, 0x0003000300030003, 0);
    const __m256i words_u16 = _mm256_shuffle_epi8(_mm256_set1_epi64x((int64_t)scales), word_u8);
    const __m256i n_u16 = _mm256_srlv_epi16(words_u16, shift_u16);
    const __m512i n_i32 = _mm512_cvtepu16_epi32(_mm256_and_si256(n_u16, _mm256_set1_epi16(7)));
    const float step = iq1_m_step(scales);
    u->scale_f32 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n_i32), _mm512_set1_ps(step), _mm512_set1_ps(0.5f * step));
    u->shift_f32 = _mm512_permutexvar_ps(order_i32(), u->scale_f32);
}

/* name, max, bias, has_minus */
DOT_ROWS(iq2_s, 43, 0, 1)
DOT(iq3_xxs, 62, 0, 1)
DOT_ROWS(iq1_s, 16, 1, 0)
DOT_ROWS(iq1_m, 18, 9, 0)
