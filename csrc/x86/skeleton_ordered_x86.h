/* Dot products of block types, for AVX2 and AVX-512: rows by columns that are ordered once.
 *
 * The file that includes this defines what it is made of, with the width of the instruction set:
 *   struct weights              256 unpacked weights
 *   struct activations          256 activations, in the order of the weights
 *   struct type                 what kernels differ in; block_weights and block_bytes come first
 *   order(q, d, x, t)           fills struct activations
 *   add_products(sum, u, x, t)  a vector of sums, plus the products of weights and activations
 *   keep_first(u, n, t)         weights from n on, a multiple of 32, have scale 0
 * and for each type
 *   unpack_<name>(p, u)         fills struct weights, from the blocks at p
 *
 * Activations are ordered once per call, columns of them share the unpacked weights. Weight rows go one by one: side by
 * side they come at half the speed from memory. */

#ifndef GG_X86_SKELETON_ORDERED_H
#define GG_X86_SKELETON_ORDERED_H

#include "portable/simd.h"
#include "common.h"

enum {
    UNIT = 256, /* weights that are unpacked together */
    SUMMED = 8, /* units that are summed in a vector: the order of additions is the same for any n_x */
    MAX_COLUMNS = 8,                 /* that share what is unpacked */
    BUFFERED = MAX_COLUMNS * SUMMED, /* units of activations: they stay in L1 */
};

typedef void unpack_fn(const uint8_t *p, struct weights *u);

/* Units of n activations; zeros fill the last. */
INLINE void order_all(size_t n, const int8_t *q, const float *d, struct activations *x, const struct type t) {
    for (; n >= UNIT; n -= UNIT, q += UNIT, d += UNIT / 32, x++) order(q, d, x, t);
    if (n == 0) return;
    int8_t last_q[UNIT] = {0};
    float last_d[UNIT / 32] = {0};
    memcpy(last_q, q, n);
    memcpy(last_d, d, n / 32 * sizeof *d);
    order(last_q, last_d, x, t);
}

/* The unit at w, of a row with `left` weights left. A short one reads on, into the row behind it; the last, behind which
 * memory may `end`, is copied: what was stored in pieces and is loaded as a whole has to wait. */
INLINE void unpack_unit(const uint8_t *w, size_t left, const uint8_t *end, struct weights *u, unpack_fn *unpack,
                        const struct type t) {
    const size_t bytes = UNIT / t.block_weights * t.block_bytes;
    uint8_t last[UNIT / 32 * sizeof(block_q8_0)];
    prefetch(w, bytes);
    if (t.block_weights == UNIT || left >= UNIT) {
        unpack(w, u);
        return;
    }
    if ((size_t)(end - w) < bytes) {
        memset(last, 0, sizeof last);
        w = memcpy(last, w, left / t.block_weights * t.block_bytes);
    }
    unpack(w, u);
    keep_first(u, left, t);
}

/* total[c] += products of n weights with column c. */
INLINE void add_row(size_t n, const uint8_t *w, const uint8_t *end, const struct activations *x, float total[MAX_COLUMNS],
                    const size_t columns, unpack_fn *unpack, const struct type t) {
    const size_t units = (n + UNIT - 1) / UNIT;
    for (size_t first = 0; first < units; first += SUMMED) {
        vf sum_f32[MAX_COLUMNS];
        for (size_t c = 0; c < columns; c++) sum_f32[c] = v_set1(0.0f);
        for (size_t i = first; i < units && i < first + SUMMED; i++, w += UNIT / t.block_weights * t.block_bytes) {
            struct weights u;
            unpack_unit(w, n - i * UNIT, end, &u, unpack, t);
            for (size_t c = 0; c < columns; c++) sum_f32[c] = add_products(sum_f32[c], &u, x + c * units + i, t);
        }
        for (size_t c = 0; c < columns; c++) total[c] += v_sum(sum_f32[c]);
    }
}

/* gg_dot_fn for n_x <= columns, on activations first to first + n - 1, which fit the buffer; adds to y unless they are
 * the first. The last column stands in for those there are not. */
INLINE void dot_slice(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,
                      const struct gg_activation *x, size_t first, float *y, size_t ldy, const size_t columns,
                      unpack_fn *unpack, const struct type t) {
    struct activations ordered[BUFFERED];
    for (size_t c = 0; c < columns; c++) {
        const struct gg_activation *a = x + (c < n_x ? c : n_x - 1);
        order_all(n, a->q + first, a->d + first / 32, ordered + c * ((n + UNIT - 1) / UNIT), t);
    }
    const uint8_t *end = rows ? w + (rows - 1) * stride + n / t.block_weights * t.block_bytes : w;
    for (size_t r = 0; r < rows; r++) {
        float total[MAX_COLUMNS];
        for (size_t c = 0; c < columns; c++) total[c] = first && c < n_x ? y[c * ldy + r] : 0.0f;
        add_row(n, w + r * stride, end, ordered, total, columns, unpack, t);
        for (size_t c = 0; c < columns && c < n_x; c++) y[c * ldy + r] = total[c];
    }
}

/* gg_dot_fn for n_x <= columns. */
INLINE void dot(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x, const struct gg_activation *x,
                float *y, size_t ldy, const size_t columns, unpack_fn *unpack, const struct type t) {
    const size_t slice = BUFFERED / columns * UNIT;
    size_t i = 0;
    do {
        const size_t width = n - i < slice ? n - i : slice;
        dot_slice(width, rows, w + i / t.block_weights * t.block_bytes, stride, n_x, x, i, y, ldy, columns, unpack,
                  t);
    } while ((i += slice) < n);
}

/* gg_dot_<name>_<isa>, from unpack_<name>; then what else a struct type has. */
#define DOT(name, ...)                                                                                          \
    void GG_NAME(dot_##name)(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,                \
                             const struct gg_activation *x, float *y, size_t ldy) {                             \
        const struct type t = {GG_WEIGHTS_##name, sizeof(block_##name), __VA_ARGS__};                           \
        for (size_t c = 0; c < n_x; c += MAX_COLUMNS) {                                                         \
            const size_t some = n_x - c < MAX_COLUMNS ? n_x - c : MAX_COLUMNS;                                  \
            if (some == 1) dot(n, rows, w, stride, some, x + c, y + c * ldy, ldy, 1, unpack_##name, t);         \
            else if (some == 2) dot(n, rows, w, stride, some, x + c, y + c * ldy, ldy, 2, unpack_##name, t);    \
            else if (some <= 4) dot(n, rows, w, stride, some, x + c, y + c * ldy, ldy, 4, unpack_##name, t);    \
            else dot(n, rows, w, stride, some, x + c, y + c * ldy, ldy, MAX_COLUMNS, unpack_##name, t);         \
        }                                                                                                       \
    }

#endif
