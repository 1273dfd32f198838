/* AVX2: dot products of the types whose weights are rows of a grid, with signs or a shift. */

#include "decode_grids_avx2.h"
#include "skeleton_signed_avx2.h"

/* 256 weights, but for their rows. w = d * scale * q, scales are integers. */
struct weights {
    uint32_t signs[8];    /* a bit for each weight; of iq1, a byte for each row, which is added to it */
    __m256i even_odd_i16; /* scales of groups 0, 2, ... 14 and 1, 3, ... 15 of 16 weights */
    float d;
};

typedef void numbers_fn(const uint8_t *p, uint16_t *numbers);
typedef void unpack_fn(const uint8_t *p, struct weights *u);
typedef __m256i products_fn(const void *grid, const uint16_t *numbers, uint32_t signs, __m256i x_i8);

/* What kernels differ in. */
struct type {
    size_t block_weights, block_bytes;
    unpack_fn *unpack;
    numbers_fn *numbers; /* of rows of the grid */
    const void *grid;
    int n_rows;            /* of 256 weights */
    products_fn *products; /* of 32 weights and activations, added in pairs */
};

/* sum_f32 + products of group pair k, times scales and d of x. */
INLINE __m256 add_products(__m256 sum_f32, __m256i products_i16, __m256i even_odd_i16, const int k, const float *d) {
    const __m256i scale_i16 =
        _mm256_shuffle_epi8(even_odd_i16, _mm256_set1_epi16((short)(2 * k | (2 * k + 1) << 8)));
    const __m256i sum_i32 = _mm256_madd_epi16(products_i16, scale_i16);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum_i32), _mm256_broadcast_ss(d + k), sum_f32);
}

enum { MAX_ROWS = 64, AHEAD = 4 /* numbers are stored so many blocks before they are loaded: no load waits */ };

/* Written out: GCC orders what it unrolls by itself worse. */
#define STEP(sum, k)                                                                                            \
    sum = add_products(sum, t.products(t.grid, r + t.n_rows / 8 * k, u.signs[k], load256(q + 32 * k)),          \
                       u.even_odd_i16, k, d);

INLINE float dot_row(size_t n, const uint8_t *w, const struct gg_activation *x, const struct type t) {
    _Alignas(32) uint16_t numbers[AHEAD][MAX_ROWS];
    __m256 sum_f32 = _mm256_setzero_ps();
    for (size_t i = 0; i < AHEAD && 256 * i < n; i++) t.numbers(w + i * t.block_bytes, numbers[i]);
    for (size_t i = 0; i < n / 256; i++, w += t.block_bytes) {
        const int8_t *q = x->q + 256 * i;
        const float *d = x->d + 8 * i;
        uint16_t *r = numbers[i % AHEAD];
        __m256 even_f32 = _mm256_setzero_ps(), odd_f32 = _mm256_setzero_ps();
        struct weights u;
        prefetch(w, t.block_bytes);
        t.unpack(w, &u);
        STEP(even_f32, 0) STEP(odd_f32, 1) STEP(even_f32, 2) STEP(odd_f32, 3)
        STEP(even_f32, 4) STEP(odd_f32, 5) STEP(even_f32, 6) STEP(odd_f32, 7)
        sum_f32 = _mm256_fmadd_ps(_mm256_add_ps(even_f32, odd_f32), _mm256_set1_ps(u.d), sum_f32);
        if (i + AHEAD < n / 256) t.numbers(w + AHEAD * t.block_bytes, r);
    }
    return sum8(sum_f32);
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

INLINE __m256i scales_iq1_m(const block_iq1_m *b) {
    uint64_t q;
    memcpy(&q, b->scales, sizeof q);
    const __m256i twice_u8 =
        _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0706070605040504, 0x0302030201000100));
    const __m256i words_u16 = _mm256_shuffle_epi8(_mm256_set1_epi64x((int64_t)((q & 0x7fff7fff7fff7fff) << 1)), twice_u8);
    const __m256i power_u16 = _mm256_setr_epi32(0x02008000, 0x02008000, 0x02008000, 0x02008000, /* >> 1 and 7 */
                                                0x00401000, 0x00401000, 0x00401000, 0x00401000); /* >> 4 and 10 */
    return odd(_mm256_and_si256(_mm256_mulhi_epu16(words_u16, power_u16), _mm256_set1_epi16(7)));
}

/* ---- Types ---- */

INLINE void set_scales(struct weights *u, float d, __m256i even_odd_i16) { u->d = d, u->even_odd_i16 = even_odd_i16; }

INLINE void unpack_iq1_s(const uint8_t *p, struct weights *u) {
    const block_iq1_s *b = (const block_iq1_s *)p;
    const __m128i n_i16 = _mm_and_si128(_mm_srli_epi16(load128(b->qh), 12), _mm_set1_epi16(7));
    set_scales(u, 0.125f * f32(b->d), odd(_mm256_broadcastsi128_si256(n_i16)));
    signs_iq1_s(b, u->signs);
}

INLINE void unpack_iq1_m(const uint8_t *p, struct weights *u) {
    const block_iq1_m *b = (const block_iq1_m *)p;
    set_scales(u, 0.125f * f32(iq1_m_d(b)), scales_iq1_m(b));
    signs_iq1_m(b, u->signs);
}

INLINE void unpack_iq2_xxs(const uint8_t *p, struct weights *u) {
    const block_iq2_xxs *b = (const block_iq2_xxs *)p;
    set_scales(u, 0.125f * f32(b->d), eight_scales(_mm256_srli_epi32(iq2_xxs_signs(b), 28)));
    signs_iq2_xxs(b, u->signs);
}

INLINE void unpack_iq2_xs(const uint8_t *p, struct weights *u) {
    const block_iq2_xs *b = (const block_iq2_xs *)p;
    set_scales(u, 0.125f * f32(b->d), sixteen_scales(b->scales));
    signs_iq2_xs(b, u->signs);
}

INLINE void unpack_iq2_s(const uint8_t *p, struct weights *u) {
    const block_iq2_s *b = (const block_iq2_s *)p;
    set_scales(u, 0.125f * f32(b->d), sixteen_scales(b->scales));
    signs_iq2_s(b, u->signs);
}

INLINE void unpack_iq3_xxs(const uint8_t *p, struct weights *u) {
    const block_iq3_xxs *b = (const block_iq3_xxs *)p;
    set_scales(u, 0.25f * f32(b->d), eight_scales(_mm256_srli_epi32(load256(b->signs), 28)));
    signs_iq3_xxs(b, u->signs);
}

INLINE void unpack_iq3_s(const uint8_t *p, struct weights *u) {
    const block_iq3_s *b = (const block_iq3_s *)p;
    set_scales(u, f32(b->d), eight_scales(iq3_s_nibbles(b)));
    signs_iq3_s(b, u->signs);
}

/* ---- Products of 32 weights ---- */

INLINE __m256i long_products(const void *grid, const uint16_t *r, uint32_t signs, __m256i x_i8) {
    return _mm256_maddubs_epi16(long_rows(grid, r), negate(x_i8, signs));
}

INLINE __m256i short_products(const void *grid, const uint16_t *r, uint32_t signs, __m256i x_i8) {
    return _mm256_maddubs_epi16(short_rows(grid, r), negate(x_i8, signs));
}

INLINE __m256i iq1_products(const void *grid, const uint16_t *r, uint32_t shifts, __m256i x_i8) {
    return signed_products(shifted(long_rows(grid, r), shifts), x_i8);
}

/* name, grid, n_rows, products */
#define DOT(name, ...) DOT_TYPE(name, unpack_##name, numbers_##name, __VA_ARGS__)
DOT(iq1_s, gg_grid_iq1, 32, iq1_products)
DOT(iq1_m, gg_grid_iq1, 32, iq1_products)
DOT(iq2_xxs, gg_grid_iq2_xxs, 32, long_products)
DOT(iq2_xs, gg_grid_iq2_xs, 32, long_products)
DOT(iq2_s, gg_grid_iq2_s, 32, long_products)
DOT(iq3_xxs, gg_grid_iq3_xxs, 64, short_products)
DOT(iq3_s, gg_grid_iq3_s, 64, short_products)
