/* Dot products of block types, for AVX-512: row by row, with columns as they lie.
 *
 * unpack_<name>(p, u) makes 256 weights unsigned bytes, as dpbusd multiplies unsigned with signed ones. Weights that can be
 * negative are biased, which the sums of the activations correct, or their signs go to the activations. */

#ifndef GG_X86_SKELETON_DIRECT_AVX512_H
#define GG_X86_SKELETON_DIRECT_AVX512_H

#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni"
#endif

#include "portable/simd.h"
#include "common.h"

struct weights {
    __m512i q_u8[4];
    uint64_t minus[4]; /* bits of weights whose products are subtracted */
    __m512 scale_f32;  /* of 16 groups of 16, in the order of sums_of_16 */
    __m512 shift_f32;  /* the same in natural order: each times a sum of 16 activations, times bias, is subtracted */
};
typedef void unpack_fn(const uint8_t *p, struct weights *u);
typedef __m512i numbers_fn(const uint8_t *p);
typedef void unpack_rows_fn(const uint8_t *p, const uint16_t *numbers, struct weights *u);

/* What kernels differ in. */
struct type {
    size_t block_weights, block_bytes;
    unpack_fn *unpack;           /* or else: */
    numbers_fn *numbers;         /* of 32 rows of a grid, */
    unpack_rows_fn *unpack_rows; /* which gets them */
    int max;                     /* the largest q_u8 */
    int bias;                    /* what is to be subtracted from each q_u8 */
    int has_minus;
};

/* Place i has the sum of group order(i); the order is its own inverse. */
INLINE __m512i order_i32(void) { return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15); }

INLINE void set_scales(struct weights *u, __m512 scale_f32) {
    u->scale_f32 = _mm512_permutexvar_ps(order_i32(), scale_f32);
    u->shift_f32 = scale_f32;
}

/* Of eight numbers for 32 each, 16 for 16 each: in natural order, in the order of sums_of_16. */
INLINE __m512 twice(__m256 x_f32) {
    const __m512i index_i32 = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(index_i32, _mm512_castps256_ps512(x_f32));
}
INLINE __m512 twice_in_order(__m256 x_f32) {
    const __m512i index_i32 = _mm512_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6, 1, 3, 5, 7, 1, 3, 5, 7);
    return _mm512_permutexvar_ps(index_i32, _mm512_castps256_ps512(x_f32));
}

INLINE void set_eight_scales(struct weights *u, __m256 scale_f32) {
    u->scale_f32 = twice_in_order(scale_f32);
    u->shift_f32 = twice(scale_f32);
}

/* Sums of 16 neighbours: group 4 z + lane of four vectors z goes to place 4 lane + z. Each p is the sum of four products
 * of at most 127 * max; sums that fit are made of 16 bits. */
INLINE __m512i sums_of_16(const __m512i p_i32[4], const int max) {
    const __m512i one_i16 = _mm512_set1_epi16(1);
    if (4 * 127 * max > INT16_MAX) {
        __m512i two_i32[2];
        for (int k = 0; k < 2; k++)
            two_i32[k] = _mm512_add_epi32(_mm512_unpacklo_epi32(p_i32[2 * k], p_i32[2 * k + 1]),
                                          _mm512_unpackhi_epi32(p_i32[2 * k], p_i32[2 * k + 1]));
        return _mm512_add_epi32(_mm512_unpacklo_epi64(two_i32[0], two_i32[1]),
                                _mm512_unpackhi_epi64(two_i32[0], two_i32[1]));
    }
    const __m512i a_i32 = _mm512_madd_epi16(_mm512_packs_epi32(p_i32[0], p_i32[1]), one_i16);
    const __m512i b_i32 = _mm512_madd_epi16(_mm512_packs_epi32(p_i32[2], p_i32[3]), one_i16);
    if (8 * 127 * max <= INT16_MAX) return _mm512_madd_epi16(_mm512_packs_epi32(a_i32, b_i32), one_i16);
    const __m512 a_f32 = _mm512_castsi512_ps(a_i32), b_f32 = _mm512_castsi512_ps(b_i32);
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(a_f32, b_f32, _MM_SHUFFLE(2, 0, 2, 0))),
                            _mm512_castps_si512(_mm512_shuffle_ps(a_f32, b_f32, _MM_SHUFFLE(3, 1, 3, 1))));
}

struct sums {
    __m512 products_f32, shifts_f32;
};

/* *sum += products of weights and activations. */
INLINE void add_products(struct sums *sum, const struct weights *u, const int8_t *q, const float *d, const float *s,
                         const struct type t) {
    __m512i p_i32[4];
    for (int z = 0; z < 4; z++) {
        __m512i x_i8 = _mm512_loadu_si512(q + 64 * z);
        if (t.has_minus) x_i8 = _mm512_mask_sub_epi8(x_i8, u->minus[z], _mm512_setzero_si512(), x_i8);
        p_i32[z] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u->q_u8[z], x_i8);
    }
    const __m512 scale_f32 = _mm512_mul_ps(u->scale_f32, twice_in_order(_mm256_loadu_ps(d)));
    const __m512 sum_f32 = _mm512_cvtepi32_ps(sums_of_16(p_i32, t.max));
    sum->products_f32 = _mm512_fmadd_ps(sum_f32, scale_f32, sum->products_f32);
    if (t.bias) sum->shifts_f32 = _mm512_fmadd_ps(u->shift_f32, _mm512_loadu_ps(s), sum->shifts_f32);
}

/* n bytes and then zeros: `room` bytes, a multiple of 64. */
INLINE void copy_padded(void *to, const size_t room, const void *from, size_t n) {
    for (size_t i = 0; i < room; i += 64) {
        const __mmask64 wanted = n >= i + 64 ? ~(__mmask64)0 : n > i ? ((__mmask64)1 << (n - i)) - 1 : 0;
        _mm512_store_si512((uint8_t *)to + i, _mm512_maskz_loadu_epi8(wanted, (const uint8_t *)from + i));
    }
}

/* The last blocks of a row, n < 256 weights, and their activations, with zeros after them. */
struct tail {
    _Alignas(64) uint8_t w[192];
    _Alignas(64) int8_t q[4][256];
    _Alignas(64) float d[4][16], s[4][16];
};

INLINE void load_tail(size_t n, const uint8_t *w, const int n_x, const struct gg_activation *x, size_t i,
                      struct tail *tail, const struct type t) {
    copy_padded(tail->w, sizeof tail->w, w, n / t.block_weights * t.block_bytes);
    for (int c = 0; c < n_x; c++) {
        copy_padded(tail->q[c], sizeof tail->q[c], x[c].q + i, n);
        copy_padded(tail->d[c], sizeof tail->d[c], x[c].d + i / 32, n / 8);
        copy_padded(tail->s[c], sizeof tail->s[c], x[c].s + i / 16, n / 4);
    }
}

INLINE void add_tail(struct sums *sum, const struct tail *tail, const int n_x, const struct type t) {
    struct weights u;
    t.unpack(tail->w, &u);
    for (int c = 0; c < n_x; c++) add_products(sum + c, &u, tail->q[c], tail->d[c], tail->s[c], t);
}

/* What is stored to be loaded in other sizes waits in memory for a while, or the loads would wait: numbers of rows for
 * so many units, the tail till the end. */
enum { UNIT = 256 /* weights that are unpacked together */, AHEAD = 4 };

/* One row, n_x columns. */
INLINE void dot_row(size_t n, const uint8_t *w, const int n_x, const struct gg_activation *x, float *y, size_t ldy,
                    const struct type t) {
    const size_t bytes = UNIT / t.block_weights * t.block_bytes, units = n / UNIT;
    const int has_tail = t.block_weights < UNIT && n % UNIT;
    _Alignas(64) uint16_t numbers[AHEAD][32];
    struct tail tail;
    struct sums sum[4];
    if (has_tail) load_tail(n % UNIT, w + units * bytes, n_x, x, n - n % UNIT, &tail, t);
    for (int c = 0; c < n_x; c++) sum[c] = (struct sums){_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (size_t k = 0; t.numbers && k < AHEAD && k < units; k++)
        _mm512_store_si512(numbers[k], t.numbers(w + k * bytes));
    for (size_t k = 0; k < units; k++, w += bytes) {
        struct weights u;
        prefetch(w, bytes);
        if (t.numbers) t.unpack_rows(w, numbers[k % AHEAD], &u);
        else t.unpack(w, &u);
        for (int c = 0; c < n_x; c++) add_products(sum + c, &u, x[c].q + UNIT * k, x[c].d + 8 * k, x[c].s + 16 * k, t);
        if (t.numbers && k + AHEAD < units) _mm512_store_si512(numbers[k % AHEAD], t.numbers(w + AHEAD * bytes));
    }
    if (has_tail) add_tail(sum, &tail, n_x, t);
    for (int c = 0; c < n_x; c++) {
        __m512 sum_f32 = sum[c].products_f32;
        if (t.bias) sum_f32 = _mm512_fmadd_ps(sum[c].shifts_f32, _mm512_set1_ps((float)-t.bias), sum_f32);
        y[(size_t)c * ldy] = _mm512_reduce_add_ps(sum_f32);
    }
}

INLINE void dot(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x, const struct gg_activation *x,
                float *y, size_t ldy, const struct type t) {
    for (size_t r = 0; r < rows; r++) {
        size_t c = 0;
        for (; c + 4 <= n_x; c += 4) dot_row(n, w + r * stride, 4, x + c, y + c * ldy + r, ldy, t);
        for (; c + 2 <= n_x; c += 2) dot_row(n, w + r * stride, 2, x + c, y + c * ldy + r, ldy, t);
        for (; c < n_x; c++) dot_row(n, w + r * stride, 1, x + c, y + c * ldy + r, ldy, t);
    }
}

/* gg_dot_<name>_<isa>, from unpack_<name>, and numbers_<name> if there is a grid; then what else a struct type has. */
#define DOT(name, ...) DOT_TYPE(name, unpack_##name, NULL, NULL, __VA_ARGS__)
#define DOT_ROWS(name, ...) DOT_TYPE(name, NULL, numbers_##name, unpack_##name, __VA_ARGS__)
#define DOT_TYPE(name, ...)                                                                                     \
    void GG_NAME(dot_##name)(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,                \
                             const struct gg_activation *x, float *y, size_t ldy) {                             \
        const struct type t = {GG_WEIGHTS_##name, sizeof(block_##name), __VA_ARGS__};                           \
        dot(n, rows, w, stride, n_x, x, y, ldy, t);                                                             \
    }

#endif
