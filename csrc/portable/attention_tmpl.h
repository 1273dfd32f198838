/* Attention's products with one head of a page of the KV cache, and what puts values into it; contracts in kernels.h.
 *
 * Both products are a few query rows times panels of 32 columns, whose values are made floats in registers. */

#include <float.h>
#include <math.h>

#include "kernels.h"
#include "portable/simd.h"

#define INLINE static inline __attribute__((always_inline))

enum { DELTAS = GG_DELTA * GG_LANES }; /* bytes of scales before the values of a panel of a block type */

/* Values column .. column + VL of row l of a panel. */
typedef vf load_fn(const uint8_t *panel, size_t l, size_t column);

INLINE vf lanes_f32(const uint8_t *p, size_t l, size_t column) {
    return v_load((const float *)(const void *)p + l * GG_LANES + column);
}
INLINE vf lanes_f16(const uint8_t *p, size_t l, size_t column) { return v_load_f16(p + 2 * (l * GG_LANES + column)); }
INLINE vf lanes_bf16(const uint8_t *p, size_t l, size_t column) { return v_load_bf16(p + 2 * (l * GG_LANES + column)); }
INLINE vf lanes_q8_0(const uint8_t *p, size_t l, size_t column) {
    return v_load_i8((const int8_t *)p + l * GG_LANES + column);
}
/* Values i and i + 16 of a block share a byte: rows of a key panel, columns of a value panel. */
INLINE vf key_lanes_q4_0(const uint8_t *p, size_t l, size_t column) {
    return v_load_i4(p + l % 16 * GG_LANES + column, (int)(l / 16 * 4));
}
INLINE vf value_lanes_q4_0(const uint8_t *p, size_t l, size_t column) {
    return v_load_i4(p + l * 16 + column % 16, (int)(column / 16 * 4));
}

/* acc[i] += sum over l < k of a[i][l] * row l, for 2 * VL columns. k * step bytes from `next` on are asked for. */
INLINE void multiply(const int rows, size_t k, const float *a, size_t lda, const uint8_t *panel, size_t column,
                     load_fn *load, const uint8_t *next, const size_t step, vf acc[][2]) {
    for (size_t l = 0; l < k; l++) {
        __builtin_prefetch(next + l * step);
        const vf b0 = load(panel, l, column), b1 = load(panel, l, column + VL);
        for (int i = 0; i < rows; i++) {
            const vf w = v_set1(a[(size_t)i * lda + l]);
            acc[i][0] = v_fma(w, b0, acc[i][0]);
            acc[i][1] = v_fma(w, b1, acc[i][1]);
        }
    }
}

#if defined(__AVX512F__)
enum { MOST = 12 };
#else
enum { MOST = 6 };
#endif

INLINE size_t rows_together(size_t m) { return m >= MOST ? MOST : m >= 4 ? 4 : m >= 2 ? 2 : 1; }

/* ---- q k^T ---- */

/* Blocks have panels of 32 rows: the scales of a panel, one per position, apply to its sums. */
INLINE void score_rows(const int rows, size_t k, const float *q, size_t ldq, const uint8_t *keys, float *s, size_t lds,
                       const uint8_t *next, load_fn *load, const size_t panel_bytes, const int blocks) {
    for (size_t column = 0; column < GG_LANES; column += 2 * VL)
        for (size_t l = 0; l < k; l += blocks ? 32 : k) {
            const size_t first = blocks ? l / 32 * panel_bytes : 0;
            const uint8_t *panel = keys + first;
            vf acc[MOST][2];
            for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = v_set1(0.0f);
            multiply(rows, blocks ? 32 : k, q + l, ldq, panel + (blocks ? DELTAS : 0), column, load,
                     next + first, panel_bytes / 32, acc);
            for (int j = 0; j < 2; j++) {
                const vf d_f32 = blocks ? v_load_f16(panel + 2 * (column + (size_t)j * VL)) : v_set1(1.0f);
                for (int i = 0; i < rows; i++) {
                    float *y = s + (size_t)i * lds + column + (size_t)j * VL;
                    v_store(y, blocks ? v_fma(d_f32, acc[i][j], l ? v_load(y) : v_set1(0.0f)) : acc[i][j]);
                }
            }
        }
}

INLINE void scores(size_t m, size_t k, const float *q, size_t ldq, const uint8_t *keys, float *s, size_t lds,
                   const uint8_t *next, load_fn *load, const size_t panel_bytes, const int blocks) {
    for (size_t i = 0, rows; i < m; i += rows, q += rows * ldq, s += rows * lds) {
        rows = rows_together(m - i);
        if (rows == MOST) score_rows(MOST, k, q, ldq, keys, s, lds, next, load, panel_bytes, blocks);
        else if (rows == 4) score_rows(4, k, q, ldq, keys, s, lds, next, load, panel_bytes, blocks);
        else if (rows == 2) score_rows(2, k, q, ldq, keys, s, lds, next, load, panel_bytes, blocks);
        else score_rows(1, k, q, ldq, keys, s, lds, next, load, panel_bytes, blocks);
    }
}

/* ---- p v ---- */

/* Blocks: their scales, one per position, apply to the positions' weights. */
INLINE void value_rows(const int rows, size_t n, const float *p, size_t ldp, const uint8_t *panel, float *out,
                       size_t ldo, const uint8_t *next, load_fn *load, const size_t panel_bytes, const int blocks) {
    float scaled[MOST * GG_LANES];
    if (blocks) {
        for (size_t j = 0; j < GG_LANES; j += VL)
            for (int i = 0; i < rows; i++)
                v_store(scaled + (size_t)i * GG_LANES + j, v_load_f16(panel + 2 * j) * v_load(p + (size_t)i * ldp + j));
        p = scaled, ldp = GG_LANES, panel += DELTAS;
    }
    for (size_t column = 0; column < GG_LANES; column += 2 * VL) {
        vf acc[MOST][2];
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < 2; j++) acc[i][j] = v_load(out + (size_t)i * ldo + column + (size_t)j * VL);
        multiply(rows, n, p, ldp, panel, column, load, next, panel_bytes / 32, acc);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < 2; j++) v_store(out + (size_t)i * ldo + column + (size_t)j * VL, acc[i][j]);
    }
}

INLINE void values(size_t m, size_t n, const float *p, size_t ldp, const uint8_t *panel, size_t width, float *out,
                   size_t ldo, const uint8_t *next, load_fn *load, const size_t panel_bytes, const int blocks) {
    for (size_t c = 0; c < width; c += GG_LANES, panel += panel_bytes, next += panel_bytes)
        for (size_t i = 0, rows; i < m; i += rows) {
            const float *weight = p + i * ldp;
            float *y = out + i * ldo + c;
            rows = rows_together(m - i);
            if (rows == MOST) value_rows(MOST, n, weight, ldp, panel, y, ldo, next, load, panel_bytes, blocks);
            else if (rows == 4) value_rows(4, n, weight, ldp, panel, y, ldo, next, load, panel_bytes, blocks);
            else if (rows == 2) value_rows(2, n, weight, ldp, panel, y, ldo, next, load, panel_bytes, blocks);
            else value_rows(1, n, weight, ldp, panel, y, ldo, next, load, panel_bytes, blocks);
        }
}

#define PRODUCTS(name, key_lanes, value_lanes, panel_bytes, blocks)                                            \
    void GG_NAME(scores_##name)(size_t m, size_t k, const float *q, size_t ldq, const uint8_t *keys, float *s, \
                                size_t lds, const uint8_t *next) {                                             \
        scores(m, k, q, ldq, keys, s, lds, next, key_lanes, panel_bytes, blocks);                              \
    }                                                                                                          \
    void GG_NAME(values_##name)(size_t m, size_t n, const float *p, size_t ldp, const uint8_t *panels,         \
                                size_t width, float *out, size_t ldo, const uint8_t *next) {                   \
        values(m, n, p, ldp, panels, width, out, ldo, next, value_lanes, panel_bytes, blocks);                 \
    }

PRODUCTS(f32, lanes_f32, lanes_f32, 32 * 128, 0)
PRODUCTS(f16, lanes_f16, lanes_f16, 32 * 64, 0)
PRODUCTS(bf16, lanes_bf16, lanes_bf16, 32 * 64, 0)
PRODUCTS(q8_0, lanes_q8_0, lanes_q8_0, 32 * 34, 1)
PRODUCTS(q4_0, key_lanes_q4_0, value_lanes_q4_0, 32 * 18, 1)

/* ---- Rows of floats to rows of a cache type ---- */

void GG_NAME(store_f32)(size_t n, const float *x, uint8_t *y) { memcpy(y, x, n * sizeof *x); }

void GG_NAME(store_f16)(size_t n, const float *x, uint8_t *y) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store_f16(y + 2 * i, v_load(x + i));
    for (; i < n; i++) {
        const gg_f16 h = gg_f32_to_f16(x[i]);
        memcpy(y + 2 * i, &h, sizeof h);
    }
}

INLINE float largest(const float *x) { /* magnitude of 32 */
    vf max_f32 = v_set1(0.0f);
    for (int i = 0; i < 32; i += VL) max_f32 = v_max(max_f32, v_abs(v_load(x + i)));
    return v_hmax(max_f32);
}

void GG_NAME(store_q8_0)(size_t n, const float *x, uint8_t *y) {
    for (; n; n -= 32, x += 32, y += sizeof(block_q8_0)) {
        const float d = largest(x) / 127.0f, inverse = d > FLT_MIN ? 1.0f / d : 0.0f;
        block_q8_0 *b = (block_q8_0 *)(void *)y;
        b->d = gg_f32_to_f16(d);
        for (int i = 0; i < 32; i += VL) v_store_i8(b->qs + i, v_load(x + i) * v_set1(inverse));
    }
}

void GG_NAME(store_q4_0)(size_t n, const float *x, uint8_t *y) {
    for (; n; n -= 32, x += 32, y += sizeof(block_q4_0)) {
        const float magnitude = largest(x);
        size_t first = 0; /* of that magnitude: its sign counts */
        while (first < 31 && fabsf(x[first]) != magnitude) first++;
        const float d = x[first] / -8.0f, inverse = fabsf(d) > FLT_MIN ? 1.0f / d : 0.0f;
        block_q4_0 *b = (block_q4_0 *)(void *)y;
        b->d = gg_f32_to_f16(d);
        int8_t q[32];
        for (int i = 0; i < 32; i++) {
            const float shifted = x[i] * inverse + 8.5f;
            q[i] = (int8_t)(shifted > 0.0f ? fminf(shifted, 15.0f) : 0.0f); /* what is no number, too */
        }
        for (int i = 0; i < 16; i++) b->qs[i] = (uint8_t)(q[i] | q[i + 16] << 4);
    }
}
