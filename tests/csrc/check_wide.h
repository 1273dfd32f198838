/* Checks of the products of many rows: operands, GEMM of bf16, results. */

#ifndef CHECK_WIDE_H
#define CHECK_WIDE_H

#include "checkkern.h"
#include "portable/convert.h"
#include "gg.h"
#include "kernels.h"

/* ---- Operands ---- */

/* Ordinary values, and in each 16th place any bits: subnormals, infinities, NaNs. */
static void fill_all_kinds(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const uint32_t subnormal = 0x807fffff, mask = random_u64() % 2 ? subnormal : ~0u;
        x[i] = random_u64() % 16 ? random_f32() : gg_bits_f32((uint32_t)random_u64() & mask);
    }
}

static int same_u16(const char *what, size_t n, const uint16_t *want, const uint16_t *got) {
    for (size_t i = 0; i < n; i++)
        if (want[i] != got[i]) {
            fprintf(stderr, "  %s, place %zu of %zu: want %#x, got %#x\n", what, i, n, want[i], got[i]);
            return 0;
        }
    return 1;
}

static int check_pack_bf16(gg_pack_bf16_fn *ref, gg_pack_bf16_fn *new, double *ns) {
    enum { K = 100, PAD = 5, BIG = 1024 };
    static uint16_t want[K * GG_LANES];
    (void)ref; /* the reference itself is held against plain loops too */
    for (size_t k = 0; k < K; k += k < 5 ? 1 : 3)
        for (size_t rows = 0; rows <= GG_LANES; rows++) {
            const size_t stride = k + PAD, pairs = (k + 1) / 2, size = 2 * pairs * GG_LANES;
            float *x = floats(0, rows ? (rows - 1) * stride + k : 0);
            uint16_t *got = guarded(1, size * sizeof *got);
            fill_all_kinds(x, rows ? (rows - 1) * stride + k : 0);
            memset(want, 0, sizeof want);
            for (size_t l = 0; l < k; l++)
                for (size_t j = 0; j < rows; j++)
                    want[(l / 2 * GG_LANES + j) * 2 + l % 2] = gg_f32_to_bf16(x[j * stride + l]);
            new(k, rows, x, stride, got);
            if (!same_u16("pack_bf16", size, want, got)) return 0;
        }
    float *x = floats(0, BIG * GG_LANES);
    uint16_t *b = guarded(1, BIG * GG_LANES * sizeof *b);
    TIME(ns, new(BIG, GG_LANES, x, BIG, b));
    return 1;
}

/* ---- GEMM ---- */

enum { GEMM_K = 160, GEMM_M = 70, GEMM_TILES = 3, GEMM_PAD = 64 };

static uint16_t *bf16s(int i, size_t n) {
    uint16_t *x = guarded(i, n * sizeof *x);
    for (size_t j = 0; j < n; j++) x[j] = gg_f32_to_bf16(random_f32());
    return x;
}

/* What row 0 of tile 0 gives alone is what it gives among others. */
static int check_gemm_bf16_alone(gg_gemm_bf16_fn *new, size_t k, const uint16_t *a, size_t lda, const uint16_t *b,
                                 const float *among) {
    float *alone = floats(3, GG_LANES);
    new(1, k, a, lda, 1, b, 0, alone, 0, 0);
    return all_close("alone", GG_LANES, among, alone, 0.0f, 0.0f);
}

static int check_gemm_bf16_shape(gg_gemm_bf16_fn *ref, gg_gemm_bf16_fn *new, size_t m, size_t k, size_t tiles,
                                 int accumulate) {
    static float want[GEMM_TILES * (GEMM_M * GG_LANES + GEMM_PAD)];
    const size_t lda = k + 32 * (m % 2), b_tile = k * GG_LANES + GEMM_PAD, c_tile = m * GG_LANES + GEMM_PAD;
    const size_t c_size = tiles * c_tile - GEMM_PAD;
    const uint16_t *a = bf16s(0, m ? (m - 1) * lda + k : 0), *b = bf16s(1, tiles * b_tile - GEMM_PAD);
    float *got = floats(2, c_size);
    fill(got, c_size, 1.0f);
    memcpy(want, got, c_size * sizeof *got);
    ref(m, k, a, lda, tiles, b, b_tile, want, c_tile, accumulate);
    new(m, k, a, lda, tiles, b, b_tile, got, c_tile, accumulate);
    const float tolerance = (float)(k + 1) * FLT_EPSILON * (float)(k + 1);
    for (size_t t = 0; t < tiles; t++) {
        const size_t gap = t + 1 < tiles ? GEMM_PAD : 0, at = t * c_tile;
        if (!all_close("gemm_bf16", m * GG_LANES, want + at, got + at, 0.0f, tolerance) ||
            !all_close("gap", gap, want + at + m * GG_LANES, got + at + m * GG_LANES, 0.0f, 0.0f))
            return 0;
    }
    return accumulate || m == 0 || check_gemm_bf16_alone(new, k, a, lda, b, got);
}

static int check_gemm_bf16(gg_gemm_bf16_fn *ref, gg_gemm_bf16_fn *new, double *ns) {
    for (size_t m = 0; m <= GEMM_M; m++)
        for (size_t k = 0; k <= GEMM_K; k += 32)
            for (size_t tiles = 1; tiles <= GEMM_TILES; tiles++)
                if (!check_gemm_bf16_shape(ref, new, m, k, tiles, (int)(m + tiles) % 2)) return 0;
    enum { M = 64, K = 1024, TILES = 4 }; /* 8.4 million multiplications and additions */
    const uint16_t *a = bf16s(0, M * K), *b = bf16s(1, TILES * K * GG_LANES);
    float *c = floats(2, TILES * M * GG_LANES);
    TIME(ns, new(M, K, a, K, TILES, b, K * GG_LANES, c, M * GG_LANES, 0));
    return 1;
}

/* ---- Results ---- */

/* Besides the values: nothing between the rows of y is written, and y may be add. */
static int check_untile_shape(gg_untile_fn *new, size_t m, size_t rows, int has_bias, int has_add) {
    enum { PAD = 3 };
    static float want[(64 + PAD) * GG_LANES];
    const size_t ld = m + PAD, size = rows ? (rows - 1) * ld + m : 0;
    float *c = floats(0, m * GG_LANES), *bias = floats(1, m), *add = floats(2, size), *y = floats(3, size);
    fill(c, m * GG_LANES, 1.0f), fill(bias, m, 1.0f), fill(add, size, 1.0f), fill(y, size, 1.0f);
    memcpy(want, y, size * sizeof *y);
    for (size_t j = 0; j < rows; j++)
        for (size_t i = 0; i < m; i++) {
            want[j * ld + i] = c[i * GG_LANES + j];
            if (has_bias) want[j * ld + i] += bias[i];
            if (has_add) want[j * ld + i] += add[j * ld + i];
        }
    new(m, rows, c, has_bias ? bias : NULL, has_add ? add : NULL, ld, y, ld);
    if (!all_close("untile", size, want, y, 0.0f, 0.0f)) return 0;
    if (!has_add) return 1;
    for (size_t j = 0; j < rows; j++) memcpy(want + j * m, y + j * ld, m * sizeof *y);
    new(m, rows, c, has_bias ? bias : NULL, add, ld, add, ld);
    for (size_t j = 0; j < rows; j++)
        if (!all_close("untile in place", m, want + j * m, add + j * ld, 0.0f, 0.0f)) return 0;
    return 1;
}

static int check_untile(gg_untile_fn *ref, gg_untile_fn *new, double *ns) {
    (void)ref; /* the reference itself is held against plain loops too */
    for (size_t m = 0; m <= 64; m += m < 18 ? 1 : 7)
        for (size_t rows = 0; rows <= GG_LANES; rows++)
            for (int options = 0; options < 4; options++)
                if (!check_untile_shape(new, m, rows, options % 2, options / 2)) return 0;
    float *c = floats(0, 64 * GG_LANES), *add = floats(1, 64 * GG_LANES), *y = floats(2, 64 * GG_LANES);
    TIME(ns, new(64, GG_LANES, c, NULL, add, 64, y, 64));
    return 1;
}

#endif
