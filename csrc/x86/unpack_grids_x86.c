/* Blocks to integers: the types whose weights are rows of a grid, with signs or a shift. */

#include "decode_grids_avx2.h"
#include "skeleton_unpack_x86.h"

/* ---- Scales: step * (n + 0.5), which is exact ---- */

INLINE __m256 steps(float step, __m256i n_i32) {
    return _mm256_mul_ps(_mm256_set1_ps(step), _mm256_add_ps(_mm256_cvtepi32_ps(n_i32), _mm256_set1_ps(0.5f)));
}

INLINE void store_16_steps(float *scale, float step, __m128i n_u8) {
    _mm256_storeu_ps(scale, steps(step, _mm256_cvtepu8_epi32(n_u8)));
    _mm256_storeu_ps(scale + 8, steps(step, _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(n_u8, n_u8))));
}

INLINE void store_nibbles(float *scale, float step, const uint8_t *scales) { /* of eight bytes */
    const __m128i two_u8 = _mm_loadl_epi64((const void *)scales);
    const __m128i n_u8 = _mm_unpacklo_epi8(two_u8, _mm_srli_epi16(two_u8, 4));
    store_16_steps(scale, step, _mm_and_si128(n_u8, _mm_set1_epi8(15)));
}

INLINE void scales_iq1_s(const block_iq1_s *b, float *scale) {
    const __m128i n_i16 = _mm_and_si128(_mm_srli_epi16(load128(b->qh), 12), _mm_set1_epi16(7));
    store_8_twice(scale, steps(0.25f * f32(b->d), _mm256_cvtepi16_epi32(n_i16)));
}

INLINE void scales_iq1_m(const block_iq1_m *b, float *scale) {
    const __m128i words_u16 = _mm_loadl_epi64((const void *)b->scales);
    const __m256i n_u16 = _mm256_and_si256(_mm256_srli_epi16(shifted_words(_mm256_cvtepu16_epi64(words_u16), 3), 8),
                                           _mm256_set1_epi16(7));
    const __m128i n_u8 = _mm_packus_epi16(_mm256_castsi256_si128(n_u16), _mm256_extracti128_si256(n_u16, 1));
    store_16_steps(scale, 0.25f * f32(iq1_m_d(b)), n_u8);
}

INLINE void scales_iq2_xxs(const block_iq2_xxs *b, float *scale) {
    store_8_twice(scale, steps(0.25f * f32(b->d), _mm256_srli_epi32(iq2_xxs_signs(b), 28)));
}
INLINE void scales_iq2_xs(const block_iq2_xs *b, float *scale) { store_nibbles(scale, 0.25f * f32(b->d), b->scales); }
INLINE void scales_iq2_s(const block_iq2_s *b, float *scale) { store_nibbles(scale, 0.25f * f32(b->d), b->scales); }
INLINE void scales_iq3_xxs(const block_iq3_xxs *b, float *scale) {
    store_8_twice(scale, steps(0.5f * f32(b->d), _mm256_srli_epi32(load256(b->signs), 28)));
}
INLINE void scales_iq3_s(const block_iq3_s *b, float *scale) {
    store_8_twice(scale, steps(2.0f * f32(b->d), iq3_s_nibbles(b)));
}

/* ---- Rows of weights 32 k to 32 k + 31: by numbers as they are stored, or as vectors make them ---- */

#define ROW(grid, four, i) grid[(four) >> 16 * (i) & 0xffff]
INLINE __m256i four_rows(const uint64_t *grid, const uint16_t *numbers) {
    const uint64_t r = load_u64(numbers); /* cheaper than words of a vector, one by one */
    return _mm256_setr_epi64x((int64_t)ROW(grid, r, 0), (int64_t)ROW(grid, r, 1), (int64_t)ROW(grid, r, 2),
                              (int64_t)ROW(grid, r, 3));
}
INLINE __m256i eight_rows(const uint32_t *grid, const uint16_t *numbers) {
    const uint64_t r = load_u64(numbers), s = load_u64(numbers + 4);
    return _mm256_setr_epi32((int)ROW(grid, r, 0), (int)ROW(grid, r, 1), (int)ROW(grid, r, 2), (int)ROW(grid, r, 3),
                             (int)ROW(grid, s, 0), (int)ROW(grid, s, 1), (int)ROW(grid, s, 2), (int)ROW(grid, s, 3));
}

#define ROWS(name, rows, grid, n_rows)                                          \
    INLINE __m256i rows_##name(const block_##name *b, const int k) {            \
        _Alignas(32) uint16_t numbers[n_rows];                                  \
        numbers_##name((const uint8_t *)b, numbers);                            \
        return rows(grid, numbers + n_rows / 8 * k);                            \
    }
ROWS(iq1_s, four_rows, gg_grid_iq1, 32)
ROWS(iq1_m, four_rows, gg_grid_iq1, 32)
ROWS(iq2_s, four_rows, gg_grid_iq2_s, 32)
ROWS(iq3_s, eight_rows, gg_grid_iq3_s, 64)

INLINE __m256i rows_iq2_xxs(const block_iq2_xxs *b, const int k) {
    return _mm256_setr_epi64x((int64_t)gg_iq2_xxs_row(b, 4 * k), (int64_t)gg_iq2_xxs_row(b, 4 * k + 1),
                              (int64_t)gg_iq2_xxs_row(b, 4 * k + 2), (int64_t)gg_iq2_xxs_row(b, 4 * k + 3));
}
INLINE __m256i rows_iq2_xs(const block_iq2_xs *b, const int k) {
    return _mm256_setr_epi64x((int64_t)gg_iq2_xs_row(b, 4 * k), (int64_t)gg_iq2_xs_row(b, 4 * k + 1),
                              (int64_t)gg_iq2_xs_row(b, 4 * k + 2), (int64_t)gg_iq2_xs_row(b, 4 * k + 3));
}
INLINE __m256i rows_iq3_xxs(const block_iq3_xxs *b, const int k) {
    const uint32_t *grid = gg_grid_iq3_xxs;
    const uint8_t *r = b->qs + 8 * k;
    return _mm256_setr_epi32((int)grid[r[0]], (int)grid[r[1]], (int)grid[r[2]], (int)grid[r[3]], (int)grid[r[4]],
                             (int)grid[r[5]], (int)grid[r[6]], (int)grid[r[7]]);
}

#define UNPACK_ROWS(name, put)                                                                                  \
    UNPACK_KERNEL(name) {                                                                                       \
        const block_##name *b = (const block_##name *)w;                                                        \
        const __m256i low_i8 = _mm256_set1_epi8((char)low);                                                     \
        for (size_t i = 0; i < n; i += 256, b++) {                                                              \
            uint32_t signs[8];                                                                                  \
            signs_##name(b, signs);                                                                             \
            _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++)                                                 \
                store256(q + i + 32 * k, _mm256_sub_epi8(put(rows_##name(b, k), signs[k]), low_i8));            \
            scales_##name(b, scale + i / 16);                                                                   \
            store_zeros(min + i / 16);                                                                          \
        }                                                                                                       \
    }

UNPACK_ROWS(iq1_s, shifted)
UNPACK_ROWS(iq1_m, shifted)
UNPACK_ROWS(iq2_xxs, negate)
UNPACK_ROWS(iq2_xs, negate)
UNPACK_ROWS(iq2_s, negate)
UNPACK_ROWS(iq3_xxs, negate)
UNPACK_ROWS(iq3_s, negate)
