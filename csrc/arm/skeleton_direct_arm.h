/* Dot products of block types, for aarch64: row by row, with columns as they lie. 128 weights at a time become bytes and
 * scales, once for up to four columns.
 *
 * Compiled for ARMv8.0 (neon), where a dot product of bytes takes three instructions, and with dotprod, where it takes
 * one. Integer sums are exact, so both give the same bits. */

#ifndef GG_ARM_SKELETON_DIRECT_H
#define GG_ARM_SKELETON_DIRECT_H

#include "portable/simd.h"
#include "common.h"

/* ---- 128 weights ---- */

/* w = scale * q + offset; scales and offsets of four groups of 32 weights, or of two times four groups of 16. */
struct weights {
    int8x16_t q[8];
    float32x4_t scale[2], offset[2];
};

/* unpack_<name>: half h of the block at p, or, of types with less than 256 weights to a block, the blocks at p. */
typedef void unpack_fn(const uint8_t *p, const int h, struct weights *u);

/* What kernels differ in. */
struct type {
    size_t block_weights, block_bytes;
    unpack_fn *unpack;
    int group, has_offset;
};

/* What one call to unpack takes, or two if it is a block of 256: a step. */
INLINE size_t step_weights(const struct type t) { return t.block_weights < 128 ? 128 : t.block_weights; }
INLINE size_t step_bytes(const struct type t) { return step_weights(t) / t.block_weights * t.block_bytes; }

INLINE int32x4_t add_fours(int32x4_t sum_i32, int8x16_t w_i8, int8x16_t x_i8) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum_i32, w_i8, x_i8);
#else /* two products fit 16 bits: x is never -128 */
    const int16x8_t low_i16 = vmull_s8(vget_low_s8(w_i8), vget_low_s8(x_i8));
    return vpadalq_s16(sum_i32, vmlal_high_s8(low_i16, w_i8, x_i8));
#endif
}

/* Four sums over groups of 16 * n weights. */
INLINE float32x4_t group_sums(const int8x16_t *w, const int8_t *x, const int n) {
    int32x4_t sum[4];
    for (int g = 0; g < 4; g++) {
        sum[g] = add_fours(vdupq_n_s32(0), w[g * n], vld1q_s8(x + 16 * g * n));
        if (n == 2) sum[g] = add_fours(sum[g], w[g * 2 + 1], vld1q_s8(x + 32 * g + 16));
    }
    return vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(sum[0], sum[1]), vpaddq_s32(sum[2], sum[3])));
}

/* sum_f32 + products of weights and activations. */
INLINE float32x4_t add_products(float32x4_t sum_f32, const struct weights *u, const int8_t *q, const float *d,
                                const float *s, const struct type t) {
    const float32x4_t d_f32 = vld1q_f32(d);
    if (t.group == 32) {
        sum_f32 = vfmaq_f32(sum_f32, group_sums(u->q, q, 2), vmulq_f32(u->scale[0], d_f32));
        if (!t.has_offset) return sum_f32;
        return vfmaq_f32(sum_f32, u->offset[0], vpaddq_f32(vld1q_f32(s), vld1q_f32(s + 4)));
    }
    for (int k = 0; k < 2; k++) {
        const float32x4_t pairs_f32 = k ? vzip2q_f32(d_f32, d_f32) : vzip1q_f32(d_f32, d_f32);
        sum_f32 = vfmaq_f32(sum_f32, group_sums(u->q + 4 * k, q + 64 * k, 1), vmulq_f32(u->scale[k], pairs_f32));
        if (t.has_offset) sum_f32 = vfmaq_f32(sum_f32, u->offset[k], vld1q_f32(s + 4 * k));
    }
    return sum_f32;
}

/* ---- Rows ---- */

/* The last blocks of a row, less than 128 weights, and their activations, with zeros after them. */
struct tail {
    uint8_t w[144];
    int8_t q[128];
    float d[4], s[8];
};

INLINE void load_tail(const struct gg_activation *x, size_t i, size_t left, struct tail *tail) {
    *tail = (struct tail){0};
    memcpy(tail->q, x->q + i, left);
    memcpy(tail->d, x->d + i / 32, left / 32 * sizeof *tail->d);
    memcpy(tail->s, x->s + i / 16, left / 16 * sizeof *tail->s);
}

INLINE float32x4_t add_tail(float32x4_t sum_f32, size_t left, const uint8_t *w, size_t bytes,
                            const struct gg_activation *x, size_t i, const struct type t) {
    struct tail tail;
    struct weights u;
    load_tail(x, i, left, &tail);
    memcpy(tail.w, w, bytes);
    t.unpack(tail.w, 0, &u);
    return add_products(sum_f32, &u, tail.q, tail.d, tail.s, t);
}

/* sum_f32[c] += half h of the weights at w, times activations from i on. */
INLINE void add_half(const uint8_t *w, const int h, const int n_x, const struct gg_activation *x, size_t i,
                     const struct type t, float32x4_t *sum_f32) {
    struct weights u;
    t.unpack(w, h, &u);
    for (int c = 0; c < n_x; c++)
        sum_f32[c] = add_products(sum_f32[c], &u, x[c].q + i, x[c].d + i / 32, x[c].s + i / 16, t);
}

/* One row, n_x columns. */
INLINE void dot_row(size_t n, const uint8_t *w, const int n_x, const struct gg_activation *x, float *y, size_t ldy,
                    const struct type t) {
    float32x4_t sum_f32[4];
    size_t i = 0;
    for (int c = 0; c < n_x; c++) sum_f32[c] = vdupq_n_f32(0.0f);
    for (; i + step_weights(t) <= n; i += step_weights(t), w += step_bytes(t)) {
        add_half(w, 0, n_x, x, i, t, sum_f32);
        if (t.block_weights == 256) add_half(w, 1, n_x, x, i + 128, t, sum_f32);
    }
    if (step_weights(t) == 128 && i < n)
        for (int c = 0; c < n_x; c++)
            sum_f32[c] = add_tail(sum_f32[c], n - i, w, (n - i) * step_bytes(t) / 128, x + c, i, t);
    for (int c = 0; c < n_x; c++) y[(size_t)c * ldy] = vaddvq_f32(sum_f32[c]);
}

#if defined(__ARM_FEATURE_MATMUL_INT8)
#include "skeleton_pairs_i8mm.h"
#else
INLINE size_t dot_pairs(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,
                        const struct gg_activation *x, float *y, size_t ldy, const struct type t) {
    (void)n, (void)rows, (void)w, (void)stride, (void)n_x, (void)x, (void)y, (void)ldy, (void)t;
    return 0;
}
#endif

INLINE void dot(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x, const struct gg_activation *x,
                float *y, size_t ldy, const struct type t) {
    const size_t done = dot_pairs(n, rows, w, stride, n_x, x, y, ldy, t);
    n_x -= done, x += done, y += done * ldy;
    for (size_t r = 0; r < rows; r++, w += stride, y++) {
        size_t c = 0;
        for (; c + 4 <= n_x; c += 4) dot_row(n, w, 4, x + c, y + c * ldy, ldy, t);
        if (c + 2 <= n_x) dot_row(n, w, 2, x + c, y + c * ldy, ldy, t), c += 2;
        if (c < n_x) dot_row(n, w, 1, x + c, y + c * ldy, ldy, t);
    }
}

/* gg_dot_<name>_<isa>, from unpack_<name>. */
#define DOT(name)                                                                                                \
    void GG_NAME(dot_##name)(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,                 \
                             const struct gg_activation *x, float *y, size_t ldy) {                              \
        const struct type t = {GG_WEIGHTS_##name, sizeof(block_##name), unpack_##name, GG_GROUP_##name,          \
                               GG_HAS_MIN_##name};                                                               \
        dot(n, rows, w, stride, n_x, x, y, ldy, t);                                                              \
    }

#endif
