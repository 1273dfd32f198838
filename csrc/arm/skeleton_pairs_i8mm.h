/* Dot products of pairs of rows with pairs of columns, for skeleton_direct_arm.h: smmla multiplies 8 weights of two rows with 8
 * activations of two columns. Vectors of four floats are of rows 0, 0, 1, 1 and of columns 0, 1, 0, 1.
 *
 * Columns are paired once for many rows, a slice of them at a time. Groups of weights are added as dot_row adds them:
 * in four sums, by their number modulo four. */

#ifndef GG_ARM_SKELETON_PAIRS_I8MM_H
#define GG_ARM_SKELETON_PAIRS_I8MM_H

enum { SLICE = 512 /* weights at a time */, ROW_PAIRS = 8, COLUMN_PAIRS = 4 /* at most */ };

struct paired_weights { /* 128 of two rows */
    int8x16_t q[16];
    float32x4_t scale[8], offset[8];
};

struct paired_columns { /* 128 activations */
    int8x16_t q[16][COLUMN_PAIRS];
    float32x4_t d[4][COLUMN_PAIRS], s[8][COLUMN_PAIRS]; /* s: of each group */
};

INLINE void pair_bytes(int8x16_t a, int8x16_t b, int8x16_t *low, int8x16_t *high) {
    *low = vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
    *high = vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

INLINE float32x4_t low_twice(float32x4_t x) { return vcombine_f32(vget_low_f32(x), vget_low_f32(x)); }
INLINE float32x4_t high_twice(float32x4_t x) { return vcombine_f32(vget_high_f32(x), vget_high_f32(x)); }

/* ---- Operands ---- */

/* Four scales of each of two rows. */
INLINE void pair_scales(float32x4_t a, float32x4_t b, float32x4_t *y) {
    const float32x4_t a_low = vzip1q_f32(a, a), b_low = vzip1q_f32(b, b);
    const float32x4_t a_high = vzip2q_f32(a, a), b_high = vzip2q_f32(b, b);
    y[0] = vcombine_f32(vget_low_f32(a_low), vget_low_f32(b_low));
    y[1] = vcombine_f32(vget_high_f32(a_low), vget_high_f32(b_low));
    y[2] = vcombine_f32(vget_low_f32(a_high), vget_low_f32(b_high));
    y[3] = vcombine_f32(vget_high_f32(a_high), vget_high_f32(b_high));
}

INLINE void pair_weights(const uint8_t *w0, const uint8_t *w1, const int h, const struct type t,
                         struct paired_weights *w) {
    struct weights u0, u1;
    t.unpack(w0, h, &u0);
    t.unpack(w1, h, &u1);
    for (int k = 0; k < 8; k++) pair_bytes(u0.q[k], u1.q[k], &w->q[2 * k], &w->q[2 * k + 1]);
    for (int k = 0; k < 32 / t.group; k++) {
        pair_scales(u0.scale[k], u1.scale[k], w->scale + 4 * k);
        if (t.has_offset) pair_scales(u0.offset[k], u1.offset[k], w->offset + 4 * k);
    }
}

/* Four floats of each of two columns become pair p of four vectors. */
INLINE void pair_floats(float32x4_t a, float32x4_t b, const int p, float32x4_t (*y)[COLUMN_PAIRS]) {
    const float32x4_t low = vzip1q_f32(a, b), high = vzip2q_f32(a, b);
    y[0][p] = low_twice(low);
    y[1][p] = high_twice(low);
    y[2][p] = low_twice(high);
    y[3][p] = high_twice(high);
}

/* Activations from i on, `left` of which there are; zeros take the place of others. */
INLINE void pair_columns(const struct gg_activation *x, size_t i, size_t left, const int p, const struct type t,
                         struct paired_columns *y) {
    struct tail a, b;
    load_tail(x, i, left, &a);
    load_tail(x + 1, i, left, &b);
    for (int k = 0; k < 8; k++)
        pair_bytes(vld1q_s8(a.q + 16 * k), vld1q_s8(b.q + 16 * k), &y->q[2 * k][p], &y->q[2 * k + 1][p]);
    pair_floats(vld1q_f32(a.d), vld1q_f32(b.d), p, y->d);
    if (!t.has_offset) return;
    const float32x4_t a0 = vld1q_f32(a.s), a1 = vld1q_f32(a.s + 4), b0 = vld1q_f32(b.s), b1 = vld1q_f32(b.s + 4);
    if (t.group == 32) pair_floats(vpaddq_f32(a0, a1), vpaddq_f32(b0, b1), p, y->s);
    else pair_floats(a0, b0, p, y->s), pair_floats(a1, b1, p, y->s + 4);
}

/* ---- Products ---- */

/* sum_f32 += group g times activations, for n_p pairs of columns. */
INLINE void add_paired_group(const int g, const struct paired_weights *w, const struct paired_columns *x, const int n_p,
                             const int group, const int has_offset, float32x4_t (*sum_f32)[COLUMN_PAIRS]) {
    int32x4_t acc_i32[COLUMN_PAIRS];
    for (int p = 0; p < n_p; p++) acc_i32[p] = vdupq_n_s32(0);
    for (int k = g * group / 8; k < (g + 1) * group / 8; k++)
        for (int p = 0; p < n_p; p++) acc_i32[p] = vmmlaq_s32(acc_i32[p], w->q[k], x->q[k][p]);
    for (int p = 0; p < n_p; p++) {
        float32x4_t *sum = &sum_f32[g % 4][p];
        *sum = vfmaq_f32(*sum, vcvtq_f32_s32(acc_i32[p]), vmulq_f32(w->scale[g], x->d[g * group / 32][p]));
        if (has_offset) *sum = vfmaq_f32(*sum, w->offset[g], x->s[g][p]);
    }
}

/* The same for all groups of 128 weights; each has code of its own, where it knows its addresses. */
INLINE void add_paired(const struct paired_weights *w, const struct paired_columns *x, const int n_p, const int group,
                       const int has_offset, float32x4_t (*sum_f32)[COLUMN_PAIRS]) {
#define ADD(g) add_paired_group(g, w, x, n_p, group, has_offset, sum_f32)
    ADD(0), ADD(1), ADD(2), ADD(3);
    if (group == 16) ADD(4), ADD(5), ADD(6), ADD(7);
#undef ADD
}

/* Two rows times a slice of n weights. */
INLINE void add_slice(size_t n, const uint8_t *w0, const uint8_t *w1, const struct paired_columns *x, const int n_p,
                      const struct type t, float32x4_t (*sum_f32)[COLUMN_PAIRS]) {
    struct paired_weights w;
    for (; n >= step_weights(t); n -= step_weights(t), w0 += step_bytes(t), w1 += step_bytes(t)) {
        pair_weights(w0, w1, 0, t, &w);
        add_paired(&w, x++, n_p, t.group, t.has_offset, sum_f32);
        if (step_weights(t) == 128) continue;
        pair_weights(w0, w1, 1, t, &w);
        add_paired(&w, x++, n_p, t.group, t.has_offset, sum_f32);
    }
    if (step_weights(t) == 256 || n == 0) return;
    uint8_t tail[2][144] = {{0}};
    memcpy(tail[0], w0, n * step_bytes(t) / 128);
    memcpy(tail[1], w1, n * step_bytes(t) / 128);
    pair_weights(tail[0], tail[1], 0, t, &w);
    add_paired(&w, x, n_p, t.group, t.has_offset, sum_f32);
}

INLINE float32x4_t total(float32x4_t (*sum_f32)[COLUMN_PAIRS], const int p) { /* as vaddvq_f32 adds */
    return vaddq_f32(vaddq_f32(sum_f32[0][p], sum_f32[1][p]), vaddq_f32(sum_f32[2][p], sum_f32[3][p]));
}

/* Up to 2 * ROW_PAIRS rows, 2 * n_p columns. */
INLINE void dot_row_pairs(size_t n, size_t rows, const uint8_t *w, size_t stride, const int n_p,
                          const struct gg_activation *x, float *y, size_t ldy, const struct type t) {
    struct paired_columns columns[SLICE / 128];
    float32x4_t sum_f32[ROW_PAIRS][4][COLUMN_PAIRS];
    memset(sum_f32, 0, sizeof sum_f32);
    for (size_t i = 0; i < n; i += SLICE, w += SLICE / t.block_weights * t.block_bytes) {
        const size_t width = n - i < SLICE ? n - i : SLICE;
        for (size_t k = 0; k < width; k += 128)
            for (int p = 0; p < n_p; p++)
                pair_columns(x + 2 * p, i + k, width - k < 128 ? width - k : 128, p, t, columns + k / 128);
        for (size_t r = 0; r < rows; r += 2) /* an odd last row counts twice */
            add_slice(width, w + r * stride, w + (r + 1 < rows ? r + 1 : r) * stride, columns, n_p, t, sum_f32[r / 2]);
    }
    for (size_t r = 0; r < rows; r++)
        for (int p = 0; p < n_p; p++) {
            float four[4];
            vst1q_f32(four, total(sum_f32[r / 2], p));
            y[(size_t)(2 * p) * ldy + r] = four[r % 2 * 2];
            y[(size_t)(2 * p + 1) * ldy + r] = four[r % 2 * 2 + 1];
        }
}

/* Columns in eights, then in fours; returns how many there were. */
INLINE size_t dot_pairs(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,
                        const struct gg_activation *x, float *y, size_t ldy, const struct type t) {
    for (size_t r = 0; r < rows; r += 2 * ROW_PAIRS) {
        const size_t some = rows - r < 2 * ROW_PAIRS ? rows - r : 2 * ROW_PAIRS;
        size_t c = 0;
        for (; c + 8 <= n_x; c += 8) dot_row_pairs(n, some, w + r * stride, stride, 4, x + c, y + c * ldy + r, ldy, t);
        if (c + 4 <= n_x) dot_row_pairs(n, some, w + r * stride, stride, 2, x + c, y + c * ldy + r, ldy, t);
    }
    return n_x / 4 * 4;
}

#endif
