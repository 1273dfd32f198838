/* AVX2: dot products of the types whose weights are rows of a grid, with signs or a shift. */

#include "decode_grids_avx2.h"

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
    const __m256i twice_u8 =
        _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0706070605040504, 0x0302030201000100));
    const __m256i words_u16 = _mm256_shuffle_epi8(_mm256_set1_epi64x((int64_t)(q & 0x7fff7fff7fff7fff) << 1), twice_u8);
    const __m256i power_u16 = _mm256_setr_epi32(0x02008000, 0x02008000, 0x02008000, 0x02008000, /* >> 1 and 7 */
                                                0x00401000, 0x00401000, 0x00401000, 0x00401000); /* >> 4 and 10 */
    const __m256i n_i16 = _mm256_and_si256(_mm256_mulhi_epu16(words_u16, power_u16), _mm256_set1_epi16(7));
    return (struct scales){odd(n_i16), 0.125f * f32(iq1_m_d(b))};
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
    return (struct scales){eight_scales(iq3_s_nibbles(b)), f32(b->d)};
}

/* ---- Products of 32 weights ---- */

INLINE __m256i long_products(const uint64_t *grid, const uint16_t *r, uint32_t signs, __m256i x_i8) {
    return _mm256_maddubs_epi16(long_rows(grid, r), negate(x_i8, signs));
}

INLINE __m256i short_products(const uint32_t *grid, const uint16_t *r, uint32_t signs, __m256i x_i8) {
    return _mm256_maddubs_epi16(short_rows(grid, r), negate(x_i8, signs));
}

INLINE __m256i iq1_products(const uint64_t *grid, const uint16_t *r, uint32_t shifts, __m256i x_i8) {
    return signed_products(shifted(long_rows(grid, r), shifts), x_i8);
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
