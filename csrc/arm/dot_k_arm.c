/* Dot products of the K-quants, 256 weights to a block, with quantized activations. */

#include "skeleton_direct_arm.h"

/* Eight integers as floats 0 to 3 and 4 to 7. */
INLINE void eight_floats(int8x8_t x_i8, float32x4_t *y) {
    const int16x8_t x_i16 = vmovl_s8(x_i8);
    y[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(x_i16)));
    y[1] = vcvtq_f32_s32(vmovl_high_s16(x_i16));
}

/* Layers 0 to 3 of 32 bytes have weights of two bits; 1 and 2 stay where they are, 4 and 16 times as large. */
INLINE void unpack_q2_K(const uint8_t *p, const int h, struct weights *u) {
    const block_q2_K *b = (const block_q2_K *)p;
    static const float in_place[8] = {1, 1, 0.25f, 0.25f, 0.0625f, 0.0625f, 1, 1};
    const uint8x8_t scales_u8 = vld1_u8(b->scales + 8 * h);
    for (int i = 0; i < 2; i++) {
        const uint8x16_t q_u8 = vld1q_u8(b->qs + 32 * h + 16 * i);
        u->q[i] = as_i8(vandq_u8(q_u8, vdupq_n_u8(3)));
        u->q[i + 2] = as_i8(vandq_u8(q_u8, vdupq_n_u8(12)));
        u->q[i + 4] = as_i8(vandq_u8(q_u8, vdupq_n_u8(48)));
        u->q[i + 6] = as_i8(vshrq_n_u8(q_u8, 6));
    }
    eight_floats(vreinterpret_s8_u8(vand_u8(scales_u8, vdup_n_u8(15))), u->scale);
    eight_floats(vreinterpret_s8_u8(vshr_n_u8(scales_u8, 4)), u->offset);
    for (int k = 0; k < 2; k++) {
        u->scale[k] = vmulq_f32(u->scale[k], vmulq_n_f32(vld1q_f32(in_place + 4 * k), f32(b->d)));
        u->offset[k] = vmulq_n_f32(u->offset[k], -f32(b->dmin));
    }
}

INLINE void unpack_q3_K(const uint8_t *p, const int h, struct weights *u) {
    const block_q3_K *b = (const block_q3_K *)p;
    for (int i = 0; i < 2; i++) {
        const uint8x16_t q_u8 = vld1q_u8(b->qs + 32 * h + 16 * i), high_u8 = vmvnq_u8(vld1q_u8(b->hmask + 16 * i));
        for (int j = 0; j < 4; j++) { /* the third bit is not set: q - 4 has ones above its two bits */
            const uint8x16_t is_negative = vtstq_u8(high_u8, vdupq_n_u8((uint8_t)(1 << (4 * h + j))));
            u->q[2 * j + i] = as_i8(vsliq_n_u8(shift_right(q_u8, 2 * j), is_negative, 2));
        }
    }
    const uint8x8_t low_u8 = vld1_u8(b->scales);
    const uint32_t high = load_u32(b->scales + 8) >> (4 * h);
    const uint64_t high_bits = (high & 0x03030303) | (uint64_t)(high >> 2 & 0x03030303) << 32;
    const uint8x8_t scales_u8 = vsli_n_u8(h ? vshr_n_u8(low_u8, 4) : low_u8, vcreate_u8(high_bits), 4);
    eight_floats(vsub_s8(vreinterpret_s8_u8(scales_u8), vdup_n_s8(32)), u->scale);
    for (int k = 0; k < 2; k++) u->scale[k] = vmulq_n_f32(u->scale[k], f32(b->d));
}

/* Scales and minima of sub-blocks 4 h to 4 h + 3, six bits each, as gg_q4_K_scale has them. */
INLINE void scales_q4_K(const uint8_t *s, gg_f16 d, gg_f16 dmin, const int h, struct weights *u) {
    uint32_t scale = load_u32(s), min = load_u32(s + 4);
    if (h) {
        const uint32_t low = load_u32(s + 8);
        scale = (low & 0x0f0f0f0f) | (scale >> 2 & 0x30303030);
        min = (low >> 4 & 0x0f0f0f0f) | (min >> 2 & 0x30303030);
    }
    u->scale[0] = vmulq_n_f32(floats_u8(scale & 0x3f3f3f3f), f32(d));
    u->offset[0] = vmulq_n_f32(floats_u8(min & 0x3f3f3f3f), -f32(dmin));
}

INLINE void unpack_q4_K(const uint8_t *p, const int h, struct weights *u) {
    const block_q4_K *b = (const block_q4_K *)p;
    for (int i = 0; i < 4; i++) { /* 32 bytes: 32 low nibbles, 32 high ones */
        const uint8x16_t q_u8 = vld1q_u8(b->qs + 64 * h + 16 * i);
        u->q[i / 2 * 4 + i % 2] = as_i8(low_bits(q_u8, 4));
        u->q[i / 2 * 4 + i % 2 + 2] = as_i8(vshrq_n_u8(q_u8, 4));
    }
    scales_q4_K(b->scales, b->d, b->dmin, h, u);
}

/* Bit `bit` of high_u8 as bit 4 of q_u8. */
INLINE int8x16_t with_fifth(uint8x16_t q_u8, uint8x16_t high_u8, const int bit) {
    const uint8x16_t fifth_u8 = bit < 4 ? shift_left(high_u8, 4 - bit) : shift_right(high_u8, bit - 4);
    return as_i8(vbslq_u8(vdupq_n_u8(16), fifth_u8, q_u8));
}

INLINE void unpack_q5_K(const uint8_t *p, const int h, struct weights *u) {
    const block_q5_K *b = (const block_q5_K *)p;
    for (int i = 0; i < 4; i++) {
        const uint8x16_t q_u8 = vld1q_u8(b->qs + 64 * h + 16 * i), high_u8 = vld1q_u8(b->qh + i % 2 * 16);
        const int layer = 4 * h + i / 2 * 2;
        u->q[i / 2 * 4 + i % 2] = with_fifth(low_bits(q_u8, 4), high_u8, layer);
        u->q[i / 2 * 4 + i % 2 + 2] = with_fifth(vshrq_n_u8(q_u8, 4), high_u8, layer + 1);
    }
    scales_q4_K(b->scales, b->d, b->dmin, h, u);
}

/* Six bits at the top of a byte, the sign flipped: 4 * (q - 32). */
INLINE void unpack_q6_K(const uint8_t *p, const int h, struct weights *u) {
    const block_q6_K *b = (const block_q6_K *)p;
    for (int i = 0; i < 2; i++) {
        const uint8x16_t high_u8 = veorq_u8(vld1q_u8(b->qh + 32 * h + 16 * i), vdupq_n_u8(0xaa));
        for (int j = 0; j < 2; j++) {
            const uint8x16_t low_u8 = vld1q_u8(b->ql + 64 * h + 32 * j + 16 * i);
            const uint8x16_t high_nibble = vandq_u8(low_u8, vdupq_n_u8(0xf0));
            u->q[2 * j + i] = as_i8(vsriq_n_u8(shift_left(high_u8, 6 - 2 * j), vshlq_n_u8(low_u8, 4), 2));
            u->q[2 * j + i + 4] = as_i8(vsriq_n_u8(shift_left(high_u8, 2 - 2 * j), high_nibble, 2));
        }
    }
    eight_floats(vld1_s8(b->scales + 8 * h), u->scale);
    for (int k = 0; k < 2; k++) u->scale[k] = vmulq_n_f32(u->scale[k], 0.25f * f32(b->d));
}

DOT(q2_K)
DOT(q3_K)
DOT(q4_K)
DOT(q5_K)
DOT(q6_K)
