/* Dot products of the types with 32 weights to a block and with 2 to 8 bits, q4_0 to q8_0, with quantized activations. */

#include "skeleton_direct_arm.h"

/* Where weights are signed, their bits are put at the top of a byte with the sign bit flipped, or their sign is extended:
 * both cost nothing, a subtraction would. */

INLINE void unpack_q4_0(const uint8_t *p, const int h, struct weights *u) {
    (void)h;
    for (int j = 0; j < 4; j++) {
        const uint8x16_t q_u8 = veorq_u8(vld1q_u8(p + 18 * j + 2), vdupq_n_u8(0x88)); /* q - 8 */
        u->q[2 * j] = as_i8(vshlq_n_u8(q_u8, 4));                                     /* times 16 */
        u->q[2 * j + 1] = as_i8(vandq_u8(q_u8, vdupq_n_u8(0xf0)));
    }
    u->scale[0] = vmulq_n_f32(four_f16(p, 18), 0.0625f);
}

INLINE void unpack_q4_1(const uint8_t *p, const int h, struct weights *u) {
    (void)h;
    for (int j = 0; j < 4; j++) {
        const uint8x16_t q_u8 = vld1q_u8(p + 20 * j + 4);
        u->q[2 * j] = as_i8(low_bits(q_u8, 4));
        u->q[2 * j + 1] = as_i8(vshrq_n_u8(q_u8, 4));
    }
    u->scale[0] = four_f16(p, 20);
    u->offset[0] = four_f16(p + 2, 20);
}

INLINE void unpack_q5_0(const uint8_t *p, const int h, struct weights *u) {
    (void)h;
    for (int j = 0; j < 4; j++) {
        const uint8x16_t q_u8 = vld1q_u8(p + 22 * j + 6);
        uint8x16_t is_negative[2]; /* the fifth bit is not set: q - 16 has ones above its four bits */
        bit_masks(~load_u32(p + 22 * j + 2), is_negative);
        u->q[2 * j] = as_i8(vsliq_n_u8(q_u8, is_negative[0], 4));
        u->q[2 * j + 1] = as_i8(vsliq_n_u8(vshrq_n_u8(q_u8, 4), is_negative[1], 4));
    }
    u->scale[0] = four_f16(p, 22);
}

INLINE void unpack_q5_1(const uint8_t *p, const int h, struct weights *u) {
    (void)h;
    const uint8x16_t fifth_u8 = vdupq_n_u8(16);
    for (int j = 0; j < 4; j++) {
        const uint8x16_t q_u8 = vld1q_u8(p + 24 * j + 8);
        uint8x16_t is_set[2];
        bit_masks(load_u32(p + 24 * j + 4), is_set);
        u->q[2 * j] = as_i8(vbslq_u8(fifth_u8, is_set[0], low_bits(q_u8, 4)));
        u->q[2 * j + 1] = as_i8(vbslq_u8(fifth_u8, is_set[1], vshrq_n_u8(q_u8, 4)));
    }
    u->scale[0] = four_f16(p, 24);
    u->offset[0] = four_f16(p + 2, 24);
}

INLINE void unpack_q8_0(const uint8_t *p, const int h, struct weights *u) {
    (void)h;
    for (int j = 0; j < 4; j++) {
        u->q[2 * j] = as_i8(vld1q_u8(p + 34 * j + 2));
        u->q[2 * j + 1] = as_i8(vld1q_u8(p + 34 * j + 18));
    }
    u->scale[0] = four_f16(p, 34);
}

DOT(q4_0)
DOT(q4_1)
DOT(q5_0)
DOT(q5_1)
DOT(q8_0)
