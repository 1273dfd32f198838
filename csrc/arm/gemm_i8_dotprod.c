/* Integer matrix product, dot products of bytes; contract in kernels.h.
 *
 * A vector holds four inputs of 4 lanes of activations; a vector of one row's 16 weights is multiplied with four such, by
 * four of its bytes each. Weights are made signed again. */

#if !defined(__ARM_FEATURE_DOTPROD)
#error "compile this file with -march=armv8.2-a+dotprod"
#endif

#include "common.h"

enum { V = 2 /* vectors of lanes */, ROWS = 4 };

/* acc_i32[r] += 16 weights times as many inputs, from w and q on. */
INLINE void add_16(const int rows, const uint8_t *w, size_t ld, uint8x16_t low_u8, const int8_t (*q)[GG_LANES][4],
                   int32x4_t (*acc_i32)[V]) {
    int8x16_t w_i8[ROWS], q_i8[4][V];
    for (int r = 0; r < rows; r++) w_i8[r] = as_i8(vaddq_u8(vld1q_u8(w + (size_t)r * ld), low_u8));
    for (int step = 0; step < 4; step++)
        for (int v = 0; v < V; v++) q_i8[step][v] = vld1q_s8(q[step][4 * v]);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++) {
            acc_i32[r][v] = vdotq_laneq_s32(acc_i32[r][v], q_i8[0][v], w_i8[r], 0);
            acc_i32[r][v] = vdotq_laneq_s32(acc_i32[r][v], q_i8[1][v], w_i8[r], 1);
            acc_i32[r][v] = vdotq_laneq_s32(acc_i32[r][v], q_i8[2][v], w_i8[r], 2);
            acc_i32[r][v] = vdotq_laneq_s32(acc_i32[r][v], q_i8[3][v], w_i8[r], 3);
        }
}

/* d times the sums of a group's q. */
INLINE float32x4_t group_sum(const struct gg_tile_i8 *t, int half, int group, int lane) {
    int32x4_t sum_i32 = vmovl_s16(vld1_s16(t->sum[half] + lane));
    if (group == 32) sum_i32 = vaddw_s16(sum_i32, vld1_s16(t->sum[1] + lane));
    return vmulq_f32(vld1q_f32(t->d + lane), vcvtq_f32_s32(sum_i32));
}

/* sum_f32[r] += a group's part, which begins at weight l of each row, for 4 * V lanes from `first` on. */
INLINE void add_group(const int rows, const int group, const int has_min, const struct gg_panel_i8 *a, size_t l,
                      const struct gg_tile_i8 *t, int first, float32x4_t (*sum_f32)[V]) {
    const int half = l % 32 / 16;
    int32x4_t acc_i32[ROWS][V];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < V; v++) acc_i32[r][v] = vdupq_n_s32(0);
    for (int k = 0; k < group / 16; k++) {
        const int8_t(*q)[GG_LANES][4] = (const int8_t(*)[GG_LANES][4])t->q[4 * (half + k)][first];
        add_16(rows, a->q + l + 16 * (size_t)k, a->ld, vdupq_n_u8((uint8_t)a->low), q, acc_i32);
    }
    for (int v = 0; v < V; v++) {
        const float32x4_t d_f32 = vld1q_f32(t->d + first + 4 * v);
        const float32x4_t s_f32 = has_min ? group_sum(t, half, group, first + 4 * v) : d_f32;
        for (int r = 0; r < rows; r++) {
            const size_t g = ((size_t)r * a->ld + l) / 16;
            sum_f32[r][v] = vfmaq_f32(sum_f32[r][v], vcvtq_f32_s32(acc_i32[r][v]), vmulq_n_f32(d_f32, a->scale[g]));
            if (has_min) sum_f32[r][v] = vfmsq_n_f32(sum_f32[r][v], s_f32, a->min[g]);
        }
    }
}

INLINE void multiply_rows(const int rows, const int group, const int has_min, size_t k, const struct gg_panel_i8 *a,
                          const struct gg_tile_i8 *b, float *c, int accumulate) {
    for (int first = 0; first < GG_LANES; first += 4 * V) {
        float32x4_t sum_f32[ROWS][V];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < V; v++)
                sum_f32[r][v] = accumulate ? vld1q_f32(c + r * GG_LANES + first + 4 * v) : vdupq_n_f32(0.0f);
        for (size_t l = 0; l < k; l += 32)
            for (int half = 0; half < 32 / group; half++)
                add_group(rows, group, has_min, a, l + 16 * (size_t)half, b + l / 32, first, sum_f32);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < V; v++) vst1q_f32(c + r * GG_LANES + first + 4 * v, sum_f32[r][v]);
    }
}

INLINE void multiply(const int group, const int has_min, size_t m, size_t k, struct gg_panel_i8 a,
                     const struct gg_tile_i8 *b, float *c, int accumulate) {
    for (size_t i = 0, rows; i < m; i += rows) {
        rows = m - i >= ROWS ? ROWS : 1;
        if (rows == ROWS) multiply_rows(ROWS, group, has_min, k, &a, b, c, accumulate);
        else multiply_rows(1, group, has_min, k, &a, b, c, accumulate);
        a.q += rows * a.ld, a.scale += rows * a.ld / 16, a.min += has_min ? rows * a.ld / 16 : 0;
        c += rows * GG_LANES;
    }
}

void gg_gemm_i8_dotprod(size_t m, size_t k, const struct gg_panel_i8 *a, const struct gg_tile_i8 *b, float *c,
                        int accumulate) {
    if (a->group == 32 && a->min) multiply(32, 1, m, k, *a, b, c, accumulate);
    else if (a->group == 32) multiply(32, 0, m, k, *a, b, c, accumulate);
    else if (a->min) multiply(16, 1, m, k, *a, b, c, accumulate);
    else multiply(16, 0, m, k, *a, b, c, accumulate);
}
