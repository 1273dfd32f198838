/* Integer matrix product, AVX2; contract in kernels.h.
 *
 * A vector holds four inputs of 8 lanes of activations. maddubs multiplies it with four weights of one row, broadcast,
 * and adds pairs into 16 bits: as many products as fit there are added before they are widened. Weights of eight bits
 * do not fit at all: their nibbles are multiplied apart. */

#include "common.h"

enum { V = 2 /* vectors of lanes */, ROWS = 4, PANEL = 64, SLICE = 256 /* rows and columns at a time */ };

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

/* acc + the products of pairs. Left alone, GCC adds all products of a chain in a tree, which takes more registers than
 * there are. */
INLINE __m256i add_products(__m256i acc_i16, __m256i w_u8, __m256i q_i8) {
    acc_i16 = _mm256_add_epi16(acc_i16, _mm256_maddubs_epi16(w_u8, q_i8));
    __asm__("" : "+x"(acc_i16));
    return acc_i16;
}

/* acc_i32[r] += products of `steps` times four inputs, all of which fit into 16 bits; w: the first row's weights. */
INLINE void add_steps(const int rows, const int steps, const uint8_t *w, size_t ld, const int8_t (*q)[GG_LANES][4],
                      __m256i (*acc_i32)[V]) {
    __m256i acc_i16[ROWS][V];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++) acc_i16[r][v] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int step = 0; step < steps; step++) {
        const __m256i q_i8[V] = {load256(q[step]), load256(q[step] + 8)};
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const __m256i w_u8 = four_weights(w + (size_t)r * ld + 4 * step);
            for (int v = 0; v < V; v++) acc_i16[r][v] = add_products(acc_i16[r][v], w_u8, q_i8[v]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++) acc_i32[r][v] = _mm256_add_epi32(acc_i32[r][v], widen(acc_i16[r][v]));
}

/* c += a group's part for all its products: acc_i32[r], of the rows from r0 on; l: its first weight. */
INLINE void add_group(const int rows, const struct gg_panel_i8 *a, size_t r0, size_t l, const struct lanes *x,
                      __m256i (*acc_i32)[V], float *c) {
#pragma GCC unroll 4
    for (size_t r = 0; r < (size_t)rows; r++) {
        const size_t g = ((r0 + r) * a->ld + l) / 16;
        const __m256 scale_f32 = _mm256_set1_ps(a->scale[g]);
        for (int v = 0; v < V; v++) {
            float *to = c + (r0 + r) * GG_LANES + 8 * v;
            __m256 sum_f32 = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc_i32[r][v]),
                                             _mm256_mul_ps(scale_f32, x->d_f32[v]), _mm256_loadu_ps(to));
            if (a->min) sum_f32 = _mm256_fnmadd_ps(_mm256_set1_ps(a->min[g]), x->s_f32[v], sum_f32);
            _mm256_storeu_ps(to, sum_f32);
        }
    }
}

/* A group of rows r0 .. r0 + rows. depth: steps whose products fit into 16 bits. */
INLINE void multiply_group(const int rows, const int group, const int depth, const struct gg_panel_i8 *a, size_t r0,
                           size_t l, const struct lanes *x, const int8_t (*q)[GG_LANES][4], float *c) {
    const int steps = group / 4, together = depth < steps ? depth : steps;
    __m256i acc_i32[ROWS][V];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++) acc_i32[r][v] = x->start_i32[v];
#pragma GCC unroll 8
    for (int step = 0; step < steps; step += together)
        add_steps(rows, together, a->q + r0 * a->ld + l + 4 * (size_t)step, a->ld, q + step, acc_i32);
    add_group(rows, a, r0, l, x, acc_i32, c);
}

/* The same for weights of eight bits. nibbles: low ones and high ones of each row, in turn. */
INLINE void multiply_bytes(const int rows, const int group, const struct gg_panel_i8 *a, size_t r0, size_t l,
                           const struct lanes *x, const int8_t (*q)[GG_LANES][4], const uint8_t *nibbles, float *c) {
    __m256i part_i32[ROWS][V], acc_i32[ROWS / 2][V];
    for (int r = 0; r < 2 * rows; r++)
        for (int v = 0; v < V; v++) part_i32[r][v] = r % 2 ? _mm256_setzero_si256() : x->start_i32[v];
    add_steps(2 * rows, group / 4, nibbles + 2 * r0 * SLICE + l % SLICE, SLICE, q, part_i32);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++)
            acc_i32[r][v] = _mm256_add_epi32(part_i32[2 * r][v], _mm256_slli_epi32(part_i32[2 * r + 1][v], 4));
    add_group(rows, a, r0, l, x, acc_i32, c);
}

static void split(size_t m, const struct gg_panel_i8 *a, size_t l, size_t n, uint8_t *nibbles) {
    for (size_t r = 0; r < m; r++, nibbles += 2 * SLICE)
        for (size_t i = 0; i < n; i += 32) {
            const __m256i q_u8 = load256(a->q + r * a->ld + l + i);
            _mm256_storeu_si256((void *)(nibbles + i), low_bits(q_u8, 4));
            _mm256_storeu_si256((void *)(nibbles + SLICE + i), low_bits(_mm256_srli_epi16(q_u8, 4), 4));
        }
}

/* Columns l .. l + n of m <= PANEL rows, n <= SLICE. depth 0: bytes. */
INLINE void multiply_slice(const int group, const int depth, size_t m, size_t l, size_t n, const struct gg_panel_i8 *a,
                           const struct gg_tile_i8 *b, float *c) {
    uint8_t nibbles[2 * PANEL * SLICE];
    if (depth == 0) split(m, a, l, n, nibbles);
    for (size_t i = l; i < l + n; i += (size_t)group)
        for (int first = 0; first < GG_LANES; first += 8 * V) {
            const struct gg_tile_i8 *t = b + i / 32;
            const int half = i % 32 / 16;
            const struct lanes x = load_lanes(t, first, half, group, a->low);
            const int8_t(*q)[GG_LANES][4] = (const int8_t(*)[GG_LANES][4])t->q[4 * half][first];
            size_t r = 0;
            if (depth == 0) {
                for (; r + 2 <= m; r += 2) multiply_bytes(2, group, a, r, i, &x, q, nibbles, c + first);
                if (r < m) multiply_bytes(1, group, a, r, i, &x, q, nibbles, c + first);
                continue;
            }
            for (; r + ROWS <= m; r += ROWS) multiply_group(ROWS, group, depth, a, r, i, &x, q, c + first);
            for (; r < m; r++) multiply_group(1, group, depth, a, r, i, &x, q, c + first);
        }
}

INLINE void multiply(const int group, const int depth, size_t m, size_t k, struct gg_panel_i8 a,
                     const struct gg_tile_i8 *b, float *c, int accumulate) {
    if (!accumulate) memset(c, 0, m * GG_LANES * sizeof *c);
    for (size_t i = 0; i < m; i += PANEL) {
        const size_t rows = m - i < PANEL ? m - i : PANEL;
        for (size_t l = 0; l < k; l += SLICE)
            multiply_slice(group, depth, rows, l, k - l < SLICE ? k - l : SLICE, &a, b, c);
        a.q += rows * a.ld, a.scale += rows * a.ld / 16;
        if (a.min) a.min += rows * a.ld / 16;
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
