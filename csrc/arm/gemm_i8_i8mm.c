/* Integer matrix product, matrix products of bytes; contract in kernels.h.
 *
 * smmla multiplies 8 inputs of two rows of weights with those of two lanes. Both operands are first brought into such
 * pairs, a slice of inputs at a time, and so are scales: vectors hold rows 0, 0, 1, 1 and lanes 0, 1, 0, 1. */

#if !defined(__ARM_FEATURE_MATMUL_INT8)
#error "compile this file with -march=armv8.2-a+dotprod+i8mm"
#endif

#include "common.h"

enum { SLICE = 256 /* inputs at a time */, PAIRS = GG_LANES / 2, V = 4 /* pairs of lanes */, R = 2 /* pairs of rows */ };

/* ---- Operands ---- */

struct lanes { /* 32 inputs */
    int8x16_t q[4][PAIRS];
    float32x4_t d[PAIRS], s[2][PAIRS]; /* s: d times the sums of each group's q */
};

struct rows { /* SLICE inputs of 2 * R rows */
    int8x16_t q[SLICE / 8][R];
    float32x4_t scale[SLICE / 16][R], min[SLICE / 16][R];
};

INLINE float32x4_t twice(float32x2_t x) { return vcombine_f32(x, x); }

static void pair_lanes(const struct gg_tile_i8 *t, const int group, struct lanes *x) {
    for (int step = 0; step < 4; step++)
        for (int j = 0; j < PAIRS; j += 2) {
            const int32x4_t low_i8 = vreinterpretq_s32_s8(vld1q_s8(t->q[2 * step][2 * j]));
            const int32x4_t high_i8 = vreinterpretq_s32_s8(vld1q_s8(t->q[2 * step + 1][2 * j]));
            x->q[step][j] = vreinterpretq_s8_s32(vzip1q_s32(low_i8, high_i8));
            x->q[step][j + 1] = vreinterpretq_s8_s32(vzip2q_s32(low_i8, high_i8));
        }
    for (int j = 0; j < PAIRS; j++) {
        const float32x2_t d_f32 = vld1_f32(t->d + 2 * j);
        x->d[j] = twice(d_f32);
        for (int half = 0; half < 32 / group; half++) {
            const int16_t *sum = t->sum[half] + 2 * j, *other = t->sum[1] + 2 * j;
            const int32_t two[2] = {sum[0] + (group == 32 ? other[0] : 0), sum[1] + (group == 32 ? other[1] : 0)};
            x->s[half][j] = twice(vmul_f32(d_f32, vcvt_f32_s32(vld1_s32(two))));
        }
    }
}

INLINE float32x4_t pair_floats(const float *first, const float *second) {
    return vcombine_f32(vld1_dup_f32(first), vld1_dup_f32(second));
}

/* k <= SLICE inputs from l on; of less than 2 * R rows the last counts several times. */
static void pair_rows(const struct gg_panel_i8 *a, size_t l, size_t k, size_t rows, struct rows *w) {
    const uint8x16_t low_u8 = vdupq_n_u8((uint8_t)a->low); /* makes weights signed again */
    for (size_t p = 0; p < R; p++) {
        const size_t first = 2 * p < rows ? 2 * p : rows - 1, second = 2 * p + 1 < rows ? 2 * p + 1 : rows - 1;
        const size_t at0 = first * a->ld + l, at1 = second * a->ld + l;
        for (size_t i = 0; i < k; i += 16) {
            const int64x2_t w0 = vreinterpretq_s64_u8(vaddq_u8(vld1q_u8(a->q + at0 + i), low_u8));
            const int64x2_t w1 = vreinterpretq_s64_u8(vaddq_u8(vld1q_u8(a->q + at1 + i), low_u8));
            w->q[i / 8][p] = vreinterpretq_s8_s64(vzip1q_s64(w0, w1));
            w->q[i / 8 + 1][p] = vreinterpretq_s8_s64(vzip2q_s64(w0, w1));
            w->scale[i / 16][p] = pair_floats(a->scale + (at0 + i) / 16, a->scale + (at1 + i) / 16);
            if (a->min) w->min[i / 16][p] = pair_floats(a->min + (at0 + i) / 16, a->min + (at1 + i) / 16);
        }
    }
}

/* ---- Products ---- */

/* sum_f32 += the part of the group that begins at input l of the slice, for V pairs of lanes from `first` on. */
INLINE void add_group(const int group, const int has_min, size_t l, const struct rows *w, const struct lanes *x, int first,
                      float32x4_t (*sum_f32)[V]) {
    const size_t half = l % 32 / 16;
    int32x4_t acc_i32[R][V];
    for (int p = 0; p < R; p++)
        for (int v = 0; v < V; v++) acc_i32[p][v] = vdupq_n_s32(0);
    for (size_t step = 0; step < (size_t)group / 8; step++)
        for (int p = 0; p < R; p++)
            for (int v = 0; v < V; v++)
                acc_i32[p][v] = vmmlaq_s32(acc_i32[p][v], w->q[l / 8 + step][p], x->q[2 * half + step][first + v]);
    for (int p = 0; p < R; p++)
        for (int v = 0; v < V; v++) {
            const float32x4_t scale_f32 = vmulq_f32(w->scale[l / 16][p], x->d[first + v]);
            sum_f32[p][v] = vfmaq_f32(sum_f32[p][v], vcvtq_f32_s32(acc_i32[p][v]), scale_f32);
            if (has_min) sum_f32[p][v] = vfmsq_f32(sum_f32[p][v], w->min[l / 16][p], x->s[half][first + v]);
        }
}

/* `rows` <= 2 * R rows of c, all lanes, k inputs. Of less rows the last is computed, and stored, several times. */
INLINE void multiply_rows(const int group, const int has_min, size_t rows, size_t k, const struct rows *w,
                          const struct lanes *x, float *c, int accumulate) {
    for (int first = 0; first < PAIRS; first += V) {
        float32x4_t sum_f32[R][V];
        float *at[2 * R];
        for (size_t r = 0; r < 2 * R; r++) at[r] = c + (r < rows ? r : rows - 1) * GG_LANES + 2 * first;
        for (int p = 0; p < R; p++)
            for (int v = 0; v < V; v++)
                sum_f32[p][v] = accumulate ? vcombine_f32(vld1_f32(at[2 * p] + 2 * v), vld1_f32(at[2 * p + 1] + 2 * v))
                                           : vdupq_n_f32(0.0f);
        for (size_t l = 0; l < k; l += 32)
            for (int half = 0; half < 32 / group; half++)
                add_group(group, has_min, l + 16 * (size_t)half, w, x + l / 32, first, sum_f32);
        for (int p = 0; p < R; p++)
            for (int v = 0; v < V; v++) {
                vst1_f32(at[2 * p] + 2 * v, vget_low_f32(sum_f32[p][v]));
                vst1_f32(at[2 * p + 1] + 2 * v, vget_high_f32(sum_f32[p][v]));
            }
    }
}

INLINE void multiply(const int group, const int has_min, size_t m, size_t k, const struct gg_panel_i8 *a,
                     const struct gg_tile_i8 *b, float *c, int accumulate) {
    struct lanes x[SLICE / 32];
    struct rows w;
    for (size_t l = 0; l == 0 || l < k; l += SLICE, accumulate = 1) { /* once if k is 0 */
        const size_t width = k - l < SLICE ? k - l : SLICE;
        for (size_t i = 0; i < width / 32; i++) pair_lanes(b + l / 32 + i, group, x + i);
        for (size_t i = 0; i < m; i += 2 * R) {
            const size_t rows = m - i < 2 * R ? m - i : 2 * R;
            struct gg_panel_i8 part = *a;
            part.q += i * a->ld, part.scale += i * a->ld / 16, part.min += has_min ? i * a->ld / 16 : 0;
            pair_rows(&part, l, width, rows, &w);
            multiply_rows(group, has_min, rows, width, &w, x, c + i * GG_LANES, accumulate);
        }
    }
}

void gg_gemm_i8_i8mm(size_t m, size_t k, const struct gg_panel_i8 *a, const struct gg_tile_i8 *b, float *c,
                     int accumulate) {
    if (a->group == 32 && a->min) multiply(32, 1, m, k, a, b, c, accumulate);
    else if (a->group == 32) multiply(32, 0, m, k, a, b, c, accumulate);
    else if (a->min) multiply(16, 1, m, k, a, b, c, accumulate);
    else multiply(16, 0, m, k, a, b, c, accumulate);
}
