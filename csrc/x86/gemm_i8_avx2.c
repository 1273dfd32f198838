/* Integer matrix product, AVX2; contract in kernels.h.
 *
 * A vector holds four inputs of 8 lanes of activations. maddubs multiplies it with four weights of one row, broadcast,
 * and adds pairs into 16 bits: as many products as fit there are added before they are widened. Weights of eight bits
 * do not fit at all: their nibbles are multiplied apart. */

#include "common.h"

enum { V = 2 /* vectors of lanes */, ROWS = 4 };

struct lanes {
    __m256i start_i32[V]; /* low * sum of q */
    __m256 d_f32[V], s_f32[V];
};

INLINE struct lanes load_lanes(const struct gg_tile_i8 *t, int first, int half, int group, int low) {
    struct lanes x;
    for (int v = 0; v < V; v++) {
        const int lane = first + 8 * v;
        __m256i sum_i32 = _mm256_cvtepi16_epi32(load128(t->sum[half] + lane));
        if (group == 32) sum_i32 = _mm256_add_epi32(sum_i32, _mm256_cvtepi16_epi32(load128(t->sum[1] + lane)));
        x.start_i32[v] = _mm256_mullo_epi32(sum_i32, _mm256_set1_epi32(low));
        x.d_f32[v] = _mm256_loadu_ps(t->d + lane);
        x.s_f32[v] = _mm256_mul_ps(x.d_f32[v], _mm256_cvtepi32_ps(sum_i32));
    }
    return x;
}

INLINE __m256i four_weights(const uint8_t *q) {
    int four;
    memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
}

INLINE __m256i widen(__m256i x_i16) { return _mm256_madd_epi16(x_i16, _mm256_set1_epi16(1)); }

/* acc_i32[r] += products of `steps` times four inputs, all of which fit into 16 bits; w: the first row's weights. */
INLINE void add_steps(const int rows, const int steps, const uint8_t *w, size_t ld, const int8_t (*q)[GG_LANES][4],
                      __m256i (*acc_i32)[V]) {
    __m256i acc_i16[ROWS][V];
#pragma GCC unroll 8
    for (int step = 0; step < steps; step++) {
        const __m256i q_i8[V] = {load256(q[step]), load256(q[step] + 8)};
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const __m256i w_u8 = four_weights(w + (size_t)r * ld + 4 * step);
            for (int v = 0; v < V; v++) {
                const __m256i products_i16 = _mm256_maddubs_epi16(w_u8, q_i8[v]);
                acc_i16[r][v] = step ? _mm256_add_epi16(acc_i16[r][v], products_i16) : products_i16;
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++) acc_i32[r][v] = _mm256_add_epi32(acc_i32[r][v], widen(acc_i16[r][v]));
}

/* The same for weights of eight bits, one row: high and low nibbles. */
INLINE void add_bytes(const int steps, const uint8_t *w, const int8_t (*q)[GG_LANES][4], __m256i *acc_i32) {
    __m256i low_i16[V], high_i16[V];
    for (int v = 0; v < V; v++) low_i16[v] = high_i16[v] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int step = 0; step < steps; step++) {
        const __m256i w_u8 = four_weights(w + 4 * step);
        const __m256i low_u8 = low_bits(w_u8, 4), high_u8 = low_bits(_mm256_srli_epi16(w_u8, 4), 4);
        for (int v = 0; v < V; v++) {
            const __m256i q_i8 = load256(q[step] + 8 * v);
            low_i16[v] = _mm256_add_epi16(low_i16[v], _mm256_maddubs_epi16(low_u8, q_i8));
            high_i16[v] = _mm256_add_epi16(high_i16[v], _mm256_maddubs_epi16(high_u8, q_i8));
        }
    }
    for (int v = 0; v < V; v++) {
        const __m256i sixteen_i16 = _mm256_set1_epi16(16);
        acc_i32[v] = _mm256_add_epi32(acc_i32[v], widen(low_i16[v]));
        acc_i32[v] = _mm256_add_epi32(acc_i32[v], _mm256_madd_epi16(high_i16[v], sixteen_i16));
    }
}

/* depth: steps that fit into 16 bits, 0 for weights of eight bits. */
INLINE void add_group(const int rows, const int group, const int depth, const struct gg_panel_i8 *a, size_t l,
                      const struct gg_tile_i8 *t, int first, __m256 (*sum_f32)[V]) {
    const int half = l % 32 / 16, steps = group / 4, together = depth < steps ? depth : steps;
    const struct lanes x = load_lanes(t, first, half, group, a->low);
    __m256i acc_i32[ROWS][V];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++) acc_i32[r][v] = x.start_i32[v];
    const int8_t(*q)[GG_LANES][4] = (const int8_t(*)[GG_LANES][4])t->q[4 * half][first];
    if (depth == 0)
        for (int r = 0; r < rows; r++) add_bytes(steps, a->q + (size_t)r * a->ld + l, q, acc_i32[r]);
    else
#pragma GCC unroll 8
        for (int step = 0; step < steps; step += together)
            add_steps(rows, together, a->q + l + 4 * (size_t)step, a->ld, q + step, acc_i32);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        const size_t g = ((size_t)r * a->ld + l) / 16;
        const __m256 scale_f32 = _mm256_set1_ps(a->scale[g]);
        for (int v = 0; v < V; v++) {
            sum_f32[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc_i32[r][v]), _mm256_mul_ps(scale_f32, x.d_f32[v]),
                                            sum_f32[r][v]);
            if (a->min) sum_f32[r][v] = _mm256_fnmadd_ps(_mm256_set1_ps(a->min[g]), x.s_f32[v], sum_f32[r][v]);
        }
    }
}

INLINE void multiply_rows(const int rows, const int group, const int depth, size_t k, const struct gg_panel_i8 *a,
                          const struct gg_tile_i8 *b, float *c, int accumulate) {
    for (int first = 0; first < GG_LANES; first += 8 * V) {
        __m256 sum_f32[ROWS][V];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < V; v++)
                sum_f32[r][v] = accumulate ? _mm256_loadu_ps(c + r * GG_LANES + first + 8 * v) : _mm256_setzero_ps();
        for (size_t l = 0; l < k; l += 32)
            for (int half = 0; half < 32 / group; half++)
                add_group(rows, group, depth, a, l + 16 * (size_t)half, b + l / 32, first, sum_f32);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < V; v++) _mm256_storeu_ps(c + r * GG_LANES + first + 8 * v, sum_f32[r][v]);
    }
}

INLINE void multiply(const int group, const int depth, size_t m, size_t k, struct gg_panel_i8 a,
                     const struct gg_tile_i8 *b, float *c, int accumulate) {
    for (size_t i = 0, rows; i < m; i += rows) {
        rows = m - i >= ROWS ? ROWS : 1;
        if (rows == ROWS) multiply_rows(ROWS, group, depth, k, &a, b, c, accumulate);
        else multiply_rows(1, group, depth, k, &a, b, c, accumulate);
        a.q += rows * a.ld, a.scale += rows * a.ld / 16, a.min += a.min ? rows * a.ld / 16 : 0;
        c += rows * GG_LANES;
    }
}

void gg_gemm_i8_avx2(size_t m, size_t k, const struct gg_panel_i8 *a, const struct gg_tile_i8 *b, float *c,
                     int accumulate) {
    const int depth = INT16_MAX / (2 * 127 * a->range); /* products of pairs that fit */
#define MULTIPLY(group, depth) multiply(group, depth, m, k, *a, b, c, accumulate)
    if (a->group == 32 && depth >= 8) MULTIPLY(32, 8);
    else if (a->group == 32 && depth >= 4) MULTIPLY(32, 4);
    else if (a->group == 32 && depth >= 1) MULTIPLY(32, 1);
    else if (a->group == 32) MULTIPLY(32, 0);
    else if (depth >= 4) MULTIPLY(16, 4);
    else if (depth >= 2) MULTIPLY(16, 2);
    else if (depth >= 1) MULTIPLY(16, 1);
    else MULTIPLY(16, 0);
#undef MULTIPLY
}
