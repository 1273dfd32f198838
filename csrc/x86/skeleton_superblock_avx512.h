/* Dot products of 256 weights at a time with AVX-512: what does not depend on the block type.
 *
 * A type unpacks 256 weights to unsigned bytes, as dpbusd multiplies unsigned with signed ones. Weights that can be
 * negative are biased, which the sums of the activations correct, or their signs go to the activations. */

#ifndef GG_X86_SKELETON_SUPERBLOCK_AVX512_H
#define GG_X86_SKELETON_SUPERBLOCK_AVX512_H

#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "compile with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni"
#endif

#include "portable/simd.h"
#include "common.h"

struct superblock {
    __m512i w_u8[4];
    uint64_t minus[4]; /* bits of weights whose products are subtracted */
    __m512 scale_f32;  /* of 16 groups of 16, in the order of sums_of_16 */
    __m512 shift_f32;  /* the same in natural order: each times a sum of 16 activations, times bias, is subtracted */
};
typedef void unpack_fn(const uint8_t *p, struct superblock *u);
typedef __m512i numbers_fn(const uint8_t *p);
typedef void unpack_rows_fn(const uint8_t *p, const uint16_t *numbers, struct superblock *u);

/* What a type's dot kernel is made of: unpack, or numbers, which makes 32 numbers of rows of a grid, and unpack_rows,
 * which gets them. max: the largest w_u8. bias: what is to be subtracted from each w_u8. */
struct kind {
    unpack_fn *unpack;
    numbers_fn *numbers;
    unpack_rows_fn *unpack_rows;
    size_t bytes, block_weights;
    int max, bias, has_minus;
};

/* Place i has the sum of group order(i); the order is its own inverse. */
INLINE __m512i order_i32(void) { return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15); }

INLINE void set_scales(struct superblock *u, __m512 scale_f32) {
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

INLINE void set_eight_scales(struct superblock *u, __m256 scale_f32) {
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

/* Adds the products of a superblock with 256 activations. */
INLINE void add_products(const struct superblock *u, const int8_t *q, const float *d, const float *s,
                         const struct kind kind, struct sums *sum) {
    __m512i p_i32[4];
    for (int z = 0; z < 4; z++) {
        __m512i x_i8 = _mm512_loadu_si512(q + 64 * z);
        if (kind.has_minus) x_i8 = _mm512_mask_sub_epi8(x_i8, u->minus[z], _mm512_setzero_si512(), x_i8);
        p_i32[z] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u->w_u8[z], x_i8);
    }
    const __m512 scale_f32 = _mm512_mul_ps(u->scale_f32, twice_in_order(_mm256_loadu_ps(d)));
    const __m512 sum_f32 = _mm512_cvtepi32_ps(sums_of_16(p_i32, kind.max));
    sum->products_f32 = _mm512_fmadd_ps(sum_f32, scale_f32, sum->products_f32);
    if (kind.bias) sum->shifts_f32 = _mm512_fmadd_ps(u->shift_f32, _mm512_loadu_ps(s), sum->shifts_f32);
}

/* n bytes and then zeros: `room` bytes, a multiple of 64. */
INLINE void copy_padded(void *to, const size_t room, const void *from, size_t n) {
    for (size_t i = 0; i < room; i += 64) {
        const __mmask64 wanted = n >= i + 64 ? ~(__mmask64)0 : n > i ? ((__mmask64)1 << (n - i)) - 1 : 0;
        _mm512_store_si512((uint8_t *)to + i, _mm512_maskz_loadu_epi8(wanted, (const uint8_t *)from + i));
    }
}

/* The last n < 256 weights of a row as a superblock with zeros behind them, and their activations. */
struct rest {
    _Alignas(64) uint8_t block[192];
    _Alignas(64) int8_t q[4][256];
    _Alignas(64) float d[4][16], s[4][16];
};

INLINE void copy_rest(size_t n, const uint8_t *w, size_t i, const struct gg_activation *x, const int n_x,
                      const struct kind kind, struct rest *rest) {
    copy_padded(rest->block, sizeof rest->block, w, n / kind.block_weights * kind.bytes);
    for (int c = 0; c < n_x; c++) {
        copy_padded(rest->q[c], sizeof rest->q[c], x[c].q + i, n);
        copy_padded(rest->d[c], sizeof rest->d[c], x[c].d + i / 32, n / 8);
        copy_padded(rest->s[c], sizeof rest->s[c], x[c].s + i / 16, n / 4);
    }
}

INLINE void add_rest(const struct rest *rest, const int n_x, const struct kind kind, struct sums *sum) {
    struct superblock u;
    kind.unpack(rest->block, &u);
    for (int c = 0; c < n_x; c++) add_products(&u, rest->q[c], rest->d[c], rest->s[c], kind, sum + c);
}

/* What is stored to be loaded in other sizes waits in memory for a while, or the loads would wait: numbers of rows for
 * so many superblocks, the rest of a row till the end. */
enum { AHEAD = 4 };

/* One row of weights with n_x columns of activations. */
INLINE void dot_row(size_t n, const uint8_t *w, const struct gg_activation *x, const int n_x, const struct kind kind,
                    float *y, size_t ldy) {
    const size_t bytes = 256 / kind.block_weights * kind.bytes, superblocks = n / 256;
    const int has_rest = kind.block_weights < 256 && n % 256;
    _Alignas(64) uint16_t numbers[AHEAD][32];
    struct rest rest;
    struct sums sum[4];
    if (has_rest) copy_rest(n % 256, w + superblocks * bytes, n - n % 256, x, n_x, kind, &rest);
    for (int c = 0; c < n_x; c++) sum[c] = (struct sums){_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (size_t k = 0; kind.numbers && k < AHEAD && k < superblocks; k++)
        _mm512_store_si512(numbers[k], kind.numbers(w + k * bytes));
    for (size_t k = 0; k < superblocks; k++, w += bytes) {
        struct superblock u;
        prefetch(w, bytes);
        if (kind.numbers) kind.unpack_rows(w, numbers[k % AHEAD], &u);
        else kind.unpack(w, &u);
        for (int c = 0; c < n_x; c++)
            add_products(&u, x[c].q + 256 * k, x[c].d + 8 * k, x[c].s + 16 * k, kind, sum + c);
        if (kind.numbers && k + AHEAD < superblocks)
            _mm512_store_si512(numbers[k % AHEAD], kind.numbers(w + AHEAD * bytes));
    }
    if (has_rest) add_rest(&rest, n_x, kind, sum);
    for (int c = 0; c < n_x; c++) {
        __m512 sum_f32 = sum[c].products_f32;
        if (kind.bias) sum_f32 = _mm512_fmadd_ps(sum[c].shifts_f32, _mm512_set1_ps((float)-kind.bias), sum_f32);
        y[(size_t)c * ldy] = _mm512_reduce_add_ps(sum_f32);
    }
}

INLINE void dot_columns(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,
                        const struct gg_activation *x, float *y, size_t ldy, const struct kind kind) {
    for (size_t r = 0; r < rows; r++) {
        size_t c = 0;
        for (; c + 4 <= n_x; c += 4) dot_row(n, w + r * stride, x + c, 4, kind, y + c * ldy + r, ldy);
        for (; c + 2 <= n_x; c += 2) dot_row(n, w + r * stride, x + c, 2, kind, y + c * ldy + r, ldy);
        for (; c < n_x; c++) dot_row(n, w + r * stride, x + c, 1, kind, y + c * ldy + r, ldy);
    }
}

#define DOT_KIND(name, ...)                                                                                     \
    void GG_NAME(dot_##name)(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,                \
                             const struct gg_activation *x, float *y, size_t ldy) {                             \
        const struct kind kind = {__VA_ARGS__};                                                                 \
        dot_columns(n, rows, w, stride, n_x, x, y, ldy, kind);                                                  \
    }
#define DOT(name, weights, ...) DOT_KIND(name, unpack_##name, NULL, NULL, sizeof(block_##name), weights, __VA_ARGS__)
#define DOT_ROWS(name, ...) \
    DOT_KIND(name, NULL, numbers_##name, unpack_##name, sizeof(block_##name), 256, __VA_ARGS__)

#endif
