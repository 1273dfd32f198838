/* Integer matrix product, AVX-512 with VNNI; contract in kernels.h.
 *
 * A vector holds four inputs of 16 lanes of activations; dpbusd multiplies it with four weights of one row, broadcast. */

#if !defined(__AVX512VNNI__)
#error "compile this file with the flags of the avx512 library"
#endif

#include "common.h"

enum { V = 2 /* vectors of lanes */, ROWS = 6 };

/* What a group of inputs is, besides its q: for 16 lanes each. */
struct lanes {
    __m512i start_i32[V]; /* low * sum of q */
    __m512 d_f32[V], s_f32[V];
};

INLINE struct lanes load_lanes(const struct gg_tile_i8 *t, int half, int group, int low) {
    struct lanes x;
    for (int v = 0; v < V; v++) {
        __m512i sum_i32 = _mm512_cvtepi16_epi32(load256(t->sum[half] + 16 * v));
        if (group == 32) sum_i32 = _mm512_add_epi32(sum_i32, _mm512_cvtepi16_epi32(load256(t->sum[1] + 16 * v)));
        x.start_i32[v] = _mm512_mullo_epi32(sum_i32, _mm512_set1_epi32(low));
        x.d_f32[v] = _mm512_loadu_ps(t->d + 16 * v);
        x.s_f32[v] = _mm512_mul_ps(x.d_f32[v], _mm512_cvtepi32_ps(sum_i32));
    }
    return x;
}

INLINE __m512i four_weights(const uint8_t *q) {
    int four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

/* sum_f32[r] += a group's part, which begins at weight `l` of each row. */
INLINE void add_group(const int rows, const int group, const int has_min, const struct gg_panel_i8 *a, size_t l,
                      const struct gg_tile_i8 *t, __m512 (*sum_f32)[V]) {
    const int half = l % 32 / 16;
    const struct lanes x = load_lanes(t, half, group, a->low);
    __m512i acc_i32[ROWS][V];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++) acc_i32[r][v] = x.start_i32[v];
#pragma GCC unroll 8
    for (int step = 0; step < group / 4; step++) {
        __m512i q_i8[V];
        for (int v = 0; v < V; v++) q_i8[v] = _mm512_loadu_si512(t->q[4 * half + step] + 16 * v);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            const __m512i w_u8 = four_weights(a->q + (size_t)r * a->ld + l + 4 * (size_t)step);
            for (int v = 0; v < V; v++) acc_i32[r][v] = _mm512_dpbusd_epi32(acc_i32[r][v], w_u8, q_i8[v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        const size_t g = ((size_t)r * a->ld + l) / 16;
        const __m512 scale_f32 = _mm512_set1_ps(a->scale[g]);
        for (int v = 0; v < V; v++) {
            sum_f32[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc_i32[r][v]), _mm512_mul_ps(scale_f32, x.d_f32[v]),
                                            sum_f32[r][v]);
            if (has_min) sum_f32[r][v] = _mm512_fnmadd_ps(_mm512_set1_ps(a->min[g]), x.s_f32[v], sum_f32[r][v]);
        }
    }
}

INLINE void multiply_rows(const int rows, const int group, const int has_min, size_t k, const struct gg_panel_i8 *a,
                          const struct gg_tile_i8 *b, float *c, int accumulate) {
    __m512 sum_f32[ROWS][V];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++)
            sum_f32[r][v] = accumulate ? _mm512_loadu_ps(c + r * GG_LANES + 16 * v) : _mm512_setzero_ps();
    for (size_t l = 0; l < k; l += 32)
        for (int half = 0; half < 32 / group; half++)
            add_group(rows, group, has_min, a, l + 16 * (size_t)half, b + l / 32, sum_f32);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++) _mm512_storeu_ps(c + r * GG_LANES + 16 * v, sum_f32[r][v]);
}

INLINE void multiply(const int group, const int has_min, size_t m, size_t k, struct gg_panel_i8 a,
                     const struct gg_tile_i8 *b, float *c, int accumulate) {
    for (size_t i = 0, rows; i < m; i += rows) {
        rows = m - i >= ROWS ? ROWS : m - i >= 4 ? 4 : 1;
        if (rows == ROWS) multiply_rows(ROWS, group, has_min, k, &a, b, c, accumulate);
        else if (rows == 4) multiply_rows(4, group, has_min, k, &a, b, c, accumulate);
        else multiply_rows(1, group, has_min, k, &a, b, c, accumulate);
        a.q += rows * a.ld, a.scale += rows * a.ld / 16;
        if (has_min) a.min += rows * a.ld / 16;
        c += rows * GG_LANES;
    }
}

void gg_gemm_i8_avx512(size_t m, size_t k, const struct gg_panel_i8 *a, const struct gg_tile_i8 *b, float *c,
                       int accumulate) {
    if (a->group == 32 && a->min) multiply(32, 1, m, k, *a, b, c, accumulate);
    else if (a->group == 32) multiply(32, 0, m, k, *a, b, c, accumulate);
    else if (a->min) multiply(16, 1, m, k, *a, b, c, accumulate);
    else multiply(16, 0, m, k, *a, b, c, accumulate);
}
