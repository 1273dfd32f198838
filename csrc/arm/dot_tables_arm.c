/* Dot products of the types whose nibbles choose from a table, and of those with two, three or four values, with quantized
 * activations. */

#include "portable/decode_tables.h"
#include "skeleton_direct_arm.h"

/* ---- Tables ---- */

/* w[0] from the low nibbles of 16 bytes, w[1] from the high ones. */
INLINE void look_up(const int8_t *table, const uint8_t *p, int8x16_t *w) {
    const int8x16_t table_i8 = vld1q_s8(table);
    const uint8x16_t q_u8 = vld1q_u8(p);
    w[0] = vqtbl1q_s8(table_i8, low_bits(q_u8, 4));
    w[1] = vqtbl1q_s8(table_i8, vshrq_n_u8(q_u8, 4));
}

INLINE void unpack_iq4_nl(const uint8_t *p, const int h, struct weights *u) {
    (void)h;
    for (int j = 0; j < 4; j++) look_up(gg_table_iq4, p + 18 * j + 2, u->q + 2 * j);
    u->scale[0] = four_f16(p, 18);
}

/* Four scales of six bits: four low ones in two bytes, two high ones in one. */
INLINE void unpack_iq4_xs(const uint8_t *p, const int h, struct weights *u) {
    const block_iq4_xs *b = (const block_iq4_xs *)p;
    const int32_t low_shift[4] = {0, -4, -8, -12}, high_shift[4] = {4, 2, 0, -2};
    const uint32x4_t low_u32 = vdupq_n_u32(gg_load_u16(b->scales_l + 2 * h));
    const uint32x4_t high_u32 = vdupq_n_u32((uint32_t)b->scales_h >> (8 * h));
    const uint32x4_t low_bits_u32 = vandq_u32(vshlq_u32(low_u32, vld1q_s32(low_shift)), vdupq_n_u32(15));
    const uint32x4_t scale_u32 =
        vbslq_u32(vdupq_n_u32(48), vshlq_u32(high_u32, vld1q_s32(high_shift)), low_bits_u32);
    const int32x4_t scale_i32 = vsubq_s32(vreinterpretq_s32_u32(scale_u32), vdupq_n_s32(32));
    for (int j = 0; j < 4; j++) look_up(gg_table_iq4, b->qs + 64 * h + 16 * j, u->q + 2 * j);
    u->scale[0] = vmulq_n_f32(vcvtq_f32_s32(scale_i32), f32(b->d));
}

INLINE void unpack_mxfp4(const uint8_t *p, const int h, struct weights *u) {
    (void)h;
    const float scale[4] = {gg_half_e8m0(p[0]), gg_half_e8m0(p[17]), gg_half_e8m0(p[34]), gg_half_e8m0(p[51])};
    for (int j = 0; j < 4; j++) look_up(gg_table_e2m1, p + 17 * j + 1, u->q + 2 * j);
    u->scale[0] = vld1q_f32(scale);
}

/* Four scales as gg_half_ue4m3 has them. */
INLINE float32x4_t half_ue4m3(uint32_t four) {
    const uint32x4_t d_u32 = vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
    const uint16x4_t f16_u16 = vshl_n_u16(vmovn_u32(vandq_u32(d_u32, vdupq_n_u32(0x7f))), 7);
    const float32x4_t scale_f32 = vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(f16_u16)), 128.0f);
    const uint32x4_t is_zero = vceqq_u32(d_u32, vdupq_n_u32(0x7f));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(scale_f32), is_zero));
}

INLINE void unpack_nvfp4(const uint8_t *p, const int h, struct weights *u) {
    (void)h;
    for (int k = 0; k < 2; k++, p += 36) {
        for (int i = 0; i < 2; i++) { /* 8 bytes are a group: their low nibbles, then their high ones */
            int8x16_t w_i8[2];
            look_up(gg_table_e2m1, p + 4 + 16 * i, w_i8);
            const int64x2_t low_i64 = vreinterpretq_s64_s8(w_i8[0]), high_i64 = vreinterpretq_s64_s8(w_i8[1]);
            u->q[4 * k + 2 * i] = vreinterpretq_s8_s64(vzip1q_s64(low_i64, high_i64));
            u->q[4 * k + 2 * i + 1] = vreinterpretq_s8_s64(vzip2q_s64(low_i64, high_i64));
        }
        u->scale[k] = half_ue4m3(load_u32(p));
    }
}

/* ---- Two, three or four values ---- */

INLINE int8x16_t minus_one(uint8x16_t x) { return vsubq_s8(as_i8(x), vdupq_n_s8(1)); }

INLINE void unpack_tq2_0(const uint8_t *p, const int h, struct weights *u) {
    const block_tq2_0 *b = (const block_tq2_0 *)p;
    for (int i = 0; i < 2; i++) {
        const uint8x16_t q_u8 = vld1q_u8(b->qs + 32 * h + 16 * i);
        for (int j = 0; j < 4; j++) u->q[2 * j + i] = minus_one(low_bits(shift_right(q_u8, 2 * j), 2));
    }
    u->scale[0] = vdupq_n_f32(f32(b->d));
}

/* The first digit of fractions in base 3, minus 1: thirds of 256 end at 85 and 170. */
INLINE int8x16_t first_trit(uint8x16_t x) {
    const uint8x16_t one_or_two = vcgtq_u8(x, vdupq_n_u8(85)), two = vcgtq_u8(x, vdupq_n_u8(170));
    return as_i8(vmvnq_u8(vaddq_u8(one_or_two, two))); /* ~x is -1 - x */
}

/* Digit k, moved to the front. */
INLINE int8x16_t trit(uint8x16_t x, const int k) {
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    return first_trit(vmulq_u8(x, vdupq_n_u8(power[k])));
}

/* Five digits of 32 bytes, five of 16, four of 4. */
INLINE void unpack_tq1_0(const uint8_t *p, const int h, struct weights *u) {
    const block_tq1_0 *b = (const block_tq1_0 *)p;
    const uint8x16_t first[2] = {vld1q_u8(b->qs), vld1q_u8(b->qs + 16)};
    u->scale[0] = vdupq_n_f32(f32(b->d));
    if (h == 0) {
        for (int i = 0; i < 8; i++) u->q[i] = trit(first[i % 2], i / 2);
        return;
    }
    const uint8x16_t middle_u8 = vld1q_u8(b->qs + 32), last_u8 = vreinterpretq_u8_u32(vdupq_n_u32(load_u32(b->qh)));
    const uint8x16_t powers_u8 = vreinterpretq_u8_u64(
        vcombine_u64(vcreate_u64(UINT64_C(0x0303030301010101)), vcreate_u64(UINT64_C(0x1b1b1b1b09090909))));
    for (int i = 0; i < 2; i++) u->q[i] = trit(first[i], 4);
    for (int i = 0; i < 5; i++) u->q[i + 2] = trit(middle_u8, i);
    u->q[7] = first_trit(vmulq_u8(last_u8, powers_u8));
}

INLINE void unpack_q1_0(const uint8_t *p, const int h, struct weights *u) {
    const block_q1_0 *b = (const block_q1_0 *)p;
    (void)h;
    for (int j = 0; j < 4; j++) {
        uint8x16_t is_negative[2];
        bit_masks(~load_u32(b->qs + 4 * j), is_negative);
        for (int i = 0; i < 2; i++) u->q[2 * j + i] = as_i8(vorrq_u8(is_negative[i], vdupq_n_u8(1)));
    }
    u->scale[0] = vdupq_n_f32(f32(b->d));
}

/* From each of 16 bytes four neighbours. */
INLINE void unpack_q2_0(const uint8_t *p, const int h, struct weights *u) {
    const int8x16_t shift_i8 = vreinterpretq_s8_u32(vdupq_n_u32(0xfafcfe00)); /* right by 0, 2, 4, 6 */
    const uint8x16_t spread = vcombine_u8(vcreate_u8(UINT64_C(0x0101010100000000)), vcreate_u8(UINT64_C(0x0303030302020202)));
    (void)h;
    for (int k = 0; k < 2; k++, p += 18) {
        const uint8x16_t q_u8 = vld1q_u8(p + 2);
        for (int i = 0; i < 4; i++) {
            const uint8x16_t four_u8 = vqtbl1q_u8(q_u8, vaddq_u8(spread, vdupq_n_u8((uint8_t)(4 * i))));
            u->q[4 * k + i] = minus_one(low_bits(vshlq_u8(four_u8, shift_i8), 2));
        }
        const float32x2_t d_f32 = vdup_n_f32(f32(gg_load_u16(p)));
        u->scale[0] = k ? vcombine_f32(vget_low_f32(u->scale[0]), d_f32) : vcombine_f32(d_f32, d_f32);
    }
}

DOT(iq4_nl)
DOT(iq4_xs)
DOT(mxfp4)
DOT(nvfp4)
DOT(tq2_0)
DOT(tq1_0)
DOT(q1_0)
DOT(q2_0)
