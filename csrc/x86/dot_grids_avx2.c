/* AVX2: dot products of the types whose weights are rows of a grid, with signs or a shift. */

#include "../unpack_grids.h"
#include "signed_avx2.h"
#include "signs.h"

/* ---- Super-blocks: w = d * scale * q, scales are integers ---- */

struct scales {
    __m256i even_odd_i16; /* of groups 0, 2, ... 14 and 1, 3, ... 15 of 16 weights */
    float d;
};

/* sum += products of group pair k * scales * d of x. */
INLINE __m256 add_products(__m256 sum_f32, __m256i products_i16, __m256i even_odd_i16, const int k, const float *d) {
    const __m256i scale_i16 =
        _mm256_shuffle_epi8(even_odd_i16, _mm256_set1_epi16((short)(2 * k | (2 * k + 1) << 8)));
    const __m256i sum_i32 = _mm256_madd_epi16(products_i16, scale_i16);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum_i32), _mm256_broadcast_ss(d + k), sum_f32);
}

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
    const __m256i twice_u8 =
        _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0706070605040504, 0x0302030201000100));
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

/* A nibble for each row, in the low bits of bytes: three bits of its number; is it lower than in the grid? */
INLINE __m256i iq1_m_nibbles(const block_iq1_m *b) {
    const __m128i qh_u8 = load128(b->qh), qh4_u8 = _mm_srli_epi16(qh_u8, 4);
    return _mm256_set_m128i(_mm_unpackhi_epi8(qh_u8, qh4_u8), _mm_unpacklo_epi8(qh_u8, qh4_u8));
}

INLINE void signs_iq1_m(const block_iq1_m *b, uint32_t *lower) {
    const __m256i bit_u8 = _mm256_set1_epi8(8);
    store_signs(_mm256_cmpeq_epi8(_mm256_and_si256(iq1_m_nibbles(b), bit_u8), bit_u8), lower);
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

INLINE void numbers_iq1_s(const block_iq1_s *b, uint16_t *r) {
    const __m128i qh_u16 = load128(b->qh);
    store_numbers(b->qs, shifted_words(_mm256_cvtepu16_epi64(qh_u16), 3),
                  shifted_words(_mm256_cvtepu16_epi64(_mm_srli_si128(qh_u16, 8)), 3), r);
}

INLINE void numbers_iq1_m(const block_iq1_m *b, uint16_t *r) {
    const __m256i both_u8 = iq1_m_nibbles(b);
    const __m256i low_u16 = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(both_u8));
    const __m256i high_u16 = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(both_u8, 1));
    store_numbers(b->qs, _mm256_slli_epi16(low_u16, 8), _mm256_slli_epi16(high_u16, 8), r);
}

INLINE void numbers_iq2_xxs(const block_iq2_xxs *b, uint16_t *r) {
    const __m256 low_f32 = _mm256_castsi256_ps(load256(b->qs)), high_f32 = _mm256_castsi256_ps(load256(b->qs + 4));
    const __m256 both_f32 = _mm256_shuffle_ps(low_f32, high_f32, 0x88);
    const __m256i rows_u8 = _mm256_permute4x64_epi64(_mm256_castps_si256(both_f32), 0xd8);
    _mm256_store_si256((void *)r, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(rows_u8)));
    _mm256_store_si256((void *)(r + 16), _mm256_cvtepu8_epi16(_mm256_extracti128_si256(rows_u8, 1)));
}

INLINE void numbers_iq2_xs(const block_iq2_xs *b, uint16_t *r) {
    for (int i = 0; i < 32; i += 16)
        _mm256_store_si256((void *)(r + i), _mm256_and_si256(load256(b->qs + i), _mm256_set1_epi16(511)));
}

INLINE void numbers_iq2_s(const block_iq2_s *b, uint16_t *r) {
    const __m256i low_u64 = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128((int)load_u32(b->qh)));
    const __m256i high_u64 = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128((int)load_u32(b->qh + 4)));
    const __m256i two_u16 = _mm256_set1_epi16(0x300);
    store_numbers(b->qs, _mm256_and_si256(shifted_words(low_u64, 2), two_u16),
                  _mm256_and_si256(shifted_words(high_u64, 2), two_u16), r);
}

INLINE void numbers_iq3_xxs(const block_iq3_xxs *b, uint16_t *r) {
    for (int i = 0; i < 64; i += 16) _mm256_store_si256((void *)(r + i), _mm256_cvtepu8_epi16(load128(b->qs + i)));
}

INLINE void numbers_iq3_s(const block_iq3_s *b, uint16_t *r) {
    const __m256i bit_u16 = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384,
                                              (short)0x8000);
    for (int i = 0; i < 64; i += 16) {
        const __m256i high_u16 = _mm256_set1_epi16((short)gg_load_u16(b->qh + i / 8));
        const __m256i is_set = _mm256_cmpeq_epi16(_mm256_and_si256(high_u16, bit_u16), bit_u16);
        _mm256_store_si256((void *)(r + i), _mm256_or_si256(_mm256_cvtepu8_epi16(load128(b->qs + i)),
                                                            _mm256_slli_epi16(_mm256_srli_epi16(is_set, 15), 8)));
    }
}

/* ---- Products of 32 weights: eight of each row, or four ---- */

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

INLINE __m256i long_products(const uint64_t *grid, const uint16_t *r, uint32_t signs, __m256i x_i8) {
    return _mm256_maddubs_epi16(long_rows(grid, r), negate(x_i8, signs));
}

INLINE __m256i short_products(const uint32_t *grid, const uint16_t *r, uint32_t signs, __m256i x_i8) {
    return _mm256_maddubs_epi16(short_rows(grid, r), negate(x_i8, signs));
}

/* The rows are biased by 8; 1 is subtracted or added. */
INLINE __m256i iq1_products(const uint64_t *grid, const uint16_t *r, uint32_t lower, __m256i x_i8) {
    const __m256i by_i8 = _mm256_sub_epi8(negate(_mm256_set1_epi8(1), lower), _mm256_set1_epi8(8));
    return signed_products(_mm256_add_epi8(long_rows(grid, r), by_i8), x_i8);
}

/* ---- Rows of weights ---- */

enum { AHEAD = 4 }; /* numbers are stored so many superblocks before they are loaded: no load waits */

/* Eight steps are too many for GCC to unroll by itself. */
#define STEP(sum, products, grid, n_rows, k)                                                                    \
    sum = add_products(sum, products(grid, r + n_rows / 8 * k, signs[k], load256(q + 32 * k)),                  \
                       scales.even_odd_i16, k, d);

#define DOT(name, products, grid, n_rows)                                                                       \
    INLINE float row_##name(size_t n, const block_##name *b, const struct gg_activation *x) {                   \
        _Alignas(32) uint16_t numbers[AHEAD][n_rows];                                                           \
        __m256 sum_f32 = _mm256_setzero_ps();                                                                   \
        for (size_t i = 0; i < AHEAD && 256 * i < n; i++) numbers_##name(b + i, numbers[i]);                    \
        for (size_t i = 0; i < n / 256; i++, b++) {                                                             \
            const int8_t *q = x->q + 256 * i;                                                                   \
            const float *d = x->d + 8 * i;                                                                      \
            uint16_t *r = numbers[i % AHEAD];                                                                   \
            __m256 even_f32 = _mm256_setzero_ps(), odd_f32 = _mm256_setzero_ps();                               \
            uint32_t signs[8];                                                                                  \
            prefetch((const uint8_t *)b, sizeof *b);                                                            \
            const struct scales scales = scales_##name(b);                                                      \
            signs_##name(b, signs);                                                                             \
            STEP(even_f32, products, grid, n_rows, 0) STEP(odd_f32, products, grid, n_rows, 1)                  \
            STEP(even_f32, products, grid, n_rows, 2) STEP(odd_f32, products, grid, n_rows, 3)                  \
            STEP(even_f32, products, grid, n_rows, 4) STEP(odd_f32, products, grid, n_rows, 5)                  \
            STEP(even_f32, products, grid, n_rows, 6) STEP(odd_f32, products, grid, n_rows, 7)                  \
            sum_f32 = _mm256_fmadd_ps(_mm256_add_ps(even_f32, odd_f32), _mm256_set1_ps(scales.d), sum_f32);     \
            if (i + AHEAD < n / 256) numbers_##name(b + AHEAD, r);                                              \
        }                                                                                                       \
        return sum8(sum_f32);                                                                                   \
    }                                                                                                           \
    DOT_KERNEL(name)

DOT(iq1_s, iq1_products, gg_grid_iq1, 32)
DOT(iq1_m, iq1_products, gg_grid_iq1, 32)
DOT(iq2_xxs, long_products, gg_grid_iq2_xxs, 32)
DOT(iq2_xs, long_products, gg_grid_iq2_xs, 32)
DOT(iq2_s, long_products, gg_grid_iq2_s, 32)
DOT(iq3_xxs, short_products, gg_grid_iq3_xxs, 64)
DOT(iq3_s, short_products, gg_grid_iq3_s, 64)
