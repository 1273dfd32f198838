/* AVX2: dot products of the types whose weights are rows of a grid, with signs or a shift. */

#include "../unpack_grids.h"
#include "signed_avx2.h"
#include "signs.h"

/* ---- Scales: 2 n + 1 ---- */

INLINE __m256i odd(__m256i n_i16) { return _mm256_add_epi16(_mm256_add_epi16(n_i16, n_i16), _mm256_set1_epi16(1)); }

INLINE __m256i eight_scales(__m256i n_i32) { /* for 32 weights each */
    const __m128i n_i16 = _mm_packs_epi32(_mm256_castsi256_si128(n_i32), _mm256_extracti128_si256(n_i32, 1));
    return odd(_mm256_broadcastsi128_si256(n_i16));
}

INLINE __m256i sixteen_scales(const uint8_t *scales) { /* nibbles */
    const __m128i two_u16 = _mm_cvtepu8_epi16(_mm_loadl_epi64((const void *)scales));
    return odd(_mm256_set_m128i(_mm_srli_epi16(two_u16, 4), _mm_and_si128(two_u16, _mm_set1_epi16(15))));
}

INLINE struct scales scales_iq1_s(const block_iq1_s *b) {
    const __m128i n_i16 = _mm_and_si128(_mm_srli_epi16(load128(b->qh), 12), _mm_set1_epi16(7));
    return (struct scales){odd(_mm256_broadcastsi128_si256(n_i16)), 0.125f * f32(b->d)};
}

INLINE struct scales scales_iq1_m(const block_iq1_m *b) {
    uint64_t q;
    memcpy(&q, b->scales, sizeof q);
    const uint64_t d = (q >> 12 & 15) | (q >> 24 & 0xf0) | (q >> 36 & 0xf00) | (q >> 48 & 0xf000);
    const __m256i twice_u8 = _mm256_setr_epi64x(0x0302030201000100, 0x0706070605040504, 0x0302030201000100, 0x0706070605040504);
    const __m256i words_u16 = _mm256_shuffle_epi8(_mm256_set1_epi64x((int64_t)(q & 0x7fff7fff7fff7fff) << 1), twice_u8);
    const __m256i power_u16 = _mm256_setr_epi32(0x02008000, 0x02008000, 0x02008000, 0x02008000, /* >> 1 and 7 */
                                                0x00401000, 0x00401000, 0x00401000, 0x00401000); /* >> 4 and 10 */
    const __m256i n_i16 = _mm256_and_si256(_mm256_mulhi_epu16(words_u16, power_u16), _mm256_set1_epi16(7));
    return (struct scales){odd(n_i16), 0.125f * f32((gg_f16)d)};
}

INLINE __m256i iq2_xxs_signs(const block_iq2_xxs *b) { /* and scales, in the highest bits */
    const __m256i low_f32 = load256(b->qs), high_f32 = load256(b->qs + 4);
    const __m256 both_f32 = _mm256_shuffle_ps(_mm256_castsi256_ps(low_f32), _mm256_castsi256_ps(high_f32), 0xdd);
    return _mm256_permute4x64_epi64(_mm256_castps_si256(both_f32), 0xd8);
}

INLINE struct scales scales_iq2_xxs(const block_iq2_xxs *b) {
    return (struct scales){eight_scales(_mm256_srli_epi32(iq2_xxs_signs(b), 28)), 0.125f * f32(b->d)};
}

INLINE struct scales scales_iq2_xs(const block_iq2_xs *b) {
    return (struct scales){sixteen_scales(b->scales), 0.125f * f32(b->d)};
}

INLINE struct scales scales_iq2_s(const block_iq2_s *b) {
    return (struct scales){sixteen_scales(b->scales), 0.125f * f32(b->d)};
}

INLINE struct scales scales_iq3_xxs(const block_iq3_xxs *b) {
    return (struct scales){eight_scales(_mm256_srli_epi32(load256(b->signs), 28)), 0.25f * f32(b->d)};
}

INLINE struct scales scales_iq3_s(const block_iq3_s *b) {
    const __m256i n_i32 = _mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(b->scales)),
                                            _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    return (struct scales){eight_scales(_mm256_and_si256(n_i32, _mm256_set1_epi32(15))), f32(b->d)};
}

/* ---- Signs: a bit for each weight ---- */

INLINE void store_signs(__m256i signs_u8, uint32_t *signs) { _mm256_storeu_si256((void *)signs, signs_u8); }

INLINE void signs_iq1_s(const block_iq1_s *b, uint32_t *lower) { /* than in the grid, not higher */
    store_signs(_mm256_srai_epi32(_mm256_cvtepi16_epi32(load128(b->qh)), 15), lower);
}

INLINE void signs_iq1_m(const block_iq1_m *b, uint32_t *lower) { /* bits 3 and 7 of a byte are of eight weights each */
    const __m128i qh_u8 = load128(b->qh), bit_u8 = _mm_set1_epi8(8), qh4_u8 = _mm_srli_epi16(qh_u8, 4);
    const __m256i both_u8 = _mm256_set_m128i(_mm_unpackhi_epi8(qh_u8, qh4_u8), _mm_unpacklo_epi8(qh_u8, qh4_u8));
    const __m256i bits_u8 = _mm256_broadcastsi128_si256(bit_u8);
    store_signs(_mm256_cmpeq_epi8(_mm256_and_si256(both_u8, bits_u8), bits_u8), lower);
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

/* ---- Products of weights 32 k to 32 k + 31 ---- */

INLINE __m256i four_rows(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    return _mm256_set_epi64x((int64_t)d, (int64_t)c, (int64_t)b, (int64_t)a);
}

#define ROWS(row_of, b, k) four_rows(row_of(b, 4 * k), row_of(b, 4 * k + 1), row_of(b, 4 * k + 2), row_of(b, 4 * k + 3))

INLINE uint64_t iq2_xxs_row(const block_iq2_xxs *b, int r) { return gg_grid_iq2_xxs[b->qs[r / 4].rows[r % 4]]; }
INLINE uint64_t iq2_xs_row(const block_iq2_xs *b, int r) { return gg_grid_iq2_xs[b->qs[r] & 511]; }

/* The rows are biased by 8; 1 is subtracted or added. */
#define PRODUCTS_IQ1(name)                                                                                      \
    INLINE __m256i products_##name(const block_##name *b, int k, uint32_t lower, __m256i x_i8) {                \
        const __m256i by_i8 = _mm256_sub_epi8(negate(_mm256_set1_epi8(1), lower), _mm256_set1_epi8(8));         \
        return signed_products(_mm256_add_epi8(ROWS(gg_##name##_row, b, k), by_i8), x_i8);                      \
    }

#define PRODUCTS(name, row_of)                                                                                  \
    INLINE __m256i products_##name(const block_##name *b, int k, uint32_t signs, __m256i x_i8) {                \
        return _mm256_maddubs_epi16(ROWS(row_of, b, k), negate(x_i8, signs));                                   \
    }

PRODUCTS_IQ1(iq1_s)
PRODUCTS_IQ1(iq1_m)
PRODUCTS(iq2_xxs, iq2_xxs_row)
PRODUCTS(iq2_xs, iq2_xs_row)
PRODUCTS(iq2_s, gg_iq2_s_row)
PRODUCTS(iq3_xxs, gg_iq3_xxs_row)
PRODUCTS(iq3_s, gg_iq3_s_row)

DOT_SUPERBLOCKS(iq1_s)
DOT_SUPERBLOCKS(iq1_m)
DOT_SUPERBLOCKS(iq2_xxs)
DOT_SUPERBLOCKS(iq2_xs)
DOT_SUPERBLOCKS(iq2_s)
DOT_SUPERBLOCKS(iq3_xxs)
DOT_SUPERBLOCKS(iq3_s)
