/* Dot products of the types whose weights are rows of a grid, with signs or a shift, with quantized activations. */

#include "portable/decode_grids.h"
#include "skeleton_direct_arm.h"

INLINE int8x16_t two_rows(uint64_t a, uint64_t b) {
    return vreinterpretq_s8_u64(vcombine_u64(vcreate_u64(a), vcreate_u64(b)));
}

/* Byte 2 k of x eight times, then byte 2 k + 1 eight times: what belongs to the rows of weights 16 k to 16 k + 15. */
INLINE uint8x16_t spread(uint8x16_t x, const int k) {
    return vqtbl1q_u8(x, vcombine_u8(vdup_n_u8((uint8_t)(2 * k)), vdup_n_u8((uint8_t)(2 * k + 1))));
}

/* Sixteen times eight weights, negated where a bit of signs is set. */
INLINE void negate(uint8x16_t signs_u8, struct weights *u) {
    const uint8x16_t bit_u8 = vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201)));
    for (int k = 0; k < 8; k++) {
        const int8x16_t mask_i8 = as_i8(vtstq_u8(spread(signs_u8, k), bit_u8));
        u->q[k] = vsubq_s8(veorq_s8(u->q[k], mask_i8), mask_i8);
    }
}

/* Seven signs in each byte; the eighth makes their number even. */
INLINE uint8x16_t even_signs(uint8x16_t sevens_u8) { return vsliq_n_u8(sevens_u8, vcntq_u8(sevens_u8), 7); }

/* Four times seven bits of each integer, as bytes. */
INLINE uint8x16_t four_sevens(uint32x4_t x_u32) {
    uint32x4_t y_u32 = vandq_u32(x_u32, vdupq_n_u32(0x7f));
    y_u32 = vbslq_u32(vdupq_n_u32(0x7f00), vshlq_n_u32(x_u32, 1), y_u32);
    y_u32 = vbslq_u32(vdupq_n_u32(0x7f0000), vshlq_n_u32(x_u32, 2), y_u32);
    y_u32 = vbslq_u32(vdupq_n_u32(0x7f000000), vshlq_n_u32(x_u32, 3), y_u32);
    return vreinterpretq_u8_u32(y_u32);
}

/* Half h of block b, without signs, from its rows. */
#define ROWS(row_of, b, h, u) \
    for (int k_ = 0; k_ < 8; k_++) (u)->q[k_] = two_rows(row_of(b, 16 * (h) + 2 * k_), row_of(b, 16 * (h) + 2 * k_ + 1))

/* Nibbles of two bytes, lowest first. */
INLINE uint32x4_t four_nibbles(const uint8_t *p) {
    const int32_t shift[4] = {0, -4, -8, -12};
    return vandq_u32(vshlq_u32(vdupq_n_u32(gg_load_u16(p)), vld1q_s32(shift)), vdupq_n_u32(15));
}

/* d * (2 x + 1) */
INLINE float32x4_t odd_multiples(uint32x4_t x_u32, float d) {
    return vmulq_n_f32(vcvtq_f32_u32(vorrq_u32(vshlq_n_u32(x_u32, 1), vdupq_n_u32(1))), d);
}

/* ---- iq1: rows are biased by 8, and each is an eighth lower or higher ---- */

/* Sixteen rows, lower by one where there is a mask, else higher, and without their bias. */
INLINE void shift_rows(uint8x16_t is_lower, struct weights *u) {
    const uint8x16_t shift_u8 = vbslq_u8(is_lower, vdupq_n_u8(256 - 9), vdupq_n_u8(256 - 7));
    for (int k = 0; k < 8; k++) u->q[k] = as_i8(vaddq_u8(vreinterpretq_u8_s8(u->q[k]), spread(shift_u8, k)));
}

INLINE void unpack_iq1_s(const uint8_t *p, const int h, struct weights *u) {
    const block_iq1_s *b = (const block_iq1_s *)p;
    const uint16x4_t qh_u16 = vld1_u16(b->qh + 4 * h);
    const int32x4_t qh_i32 = vshll_n_s16(vreinterpret_s16_u16(qh_u16), 16);
    const uint32x4_t scale_u32 = vandq_u32(vmovl_u16(vshr_n_u16(qh_u16, 12)), vdupq_n_u32(7));
    ROWS(gg_iq1_s_row, b, h, u);
    shift_rows(vreinterpretq_u8_u32(vcltzq_s32(qh_i32)), u);
    u->scale[0] = odd_multiples(scale_u32, 0.125f * f32(b->d));
}

INLINE void unpack_iq1_m(const uint8_t *p, const int h, struct weights *u) {
    const block_iq1_m *b = (const block_iq1_m *)p;
    const int32_t shift[4] = {0, -3, -6, -9};
    const uint8x8_t qh_u8 = vld1_u8(b->qh + 8 * h); /* bits 3 and 7 are of a row each */
    const uint8x16_t lower_bit = vreinterpretq_u8_u16(vdupq_n_u16(0x8008));
    ROWS(gg_iq1_m_row, b, h, u);
    shift_rows(vtstq_u8(vcombine_u8(vzip1_u8(qh_u8, qh_u8), vzip2_u8(qh_u8, qh_u8)), lower_bit), u);
    unsigned d_bits = 0; /* in the high nibbles */
    for (int k = 0; k < 4; k++) d_bits |= (unsigned)(b->scales[k] >> 12) << (4 * k);
    for (int k = 0; k < 2; k++) {
        const uint32x4_t scales_u32 = vshlq_u32(vdupq_n_u32(b->scales[2 * h + k]), vld1q_s32(shift));
        u->scale[k] = odd_multiples(vandq_u32(scales_u32, vdupq_n_u32(7)), 0.125f * f32((gg_f16)d_bits));
    }
}

/* ---- iq2, iq3 ---- */

INLINE uint64_t iq2_xxs_row(const block_iq2_xxs *b, int r) { return gg_grid_iq2_xxs[b->qs[r / 4].rows[r % 4]]; }
INLINE uint64_t iq2_xs_row(const block_iq2_xs *b, int r) { return gg_grid_iq2_xs[b->qs[r] & 511]; }

INLINE void unpack_iq2_xxs(const uint8_t *p, const int h, struct weights *u) {
    const block_iq2_xxs *b = (const block_iq2_xxs *)p;
    const uint8_t *qs = (const uint8_t *)(b->qs + 4 * h);
    const uint32x4_t low_u32 = vreinterpretq_u32_u8(vld1q_u8(qs)), high_u32 = vreinterpretq_u32_u8(vld1q_u8(qs + 16));
    const uint32x4_t signs_u32 = vuzp2q_u32(low_u32, high_u32);
    ROWS(iq2_xxs_row, b, h, u);
    negate(even_signs(four_sevens(signs_u32)), u);
    u->scale[0] = odd_multiples(vshrq_n_u32(signs_u32, 28), 0.125f * f32(b->d));
}

/* Eight scales of four bits. */
INLINE void scales_iq2(const uint8_t *scales, gg_f16 d, struct weights *u) {
    for (int k = 0; k < 2; k++) u->scale[k] = odd_multiples(four_nibbles(scales + 2 * k), 0.125f * f32(d));
}

INLINE void unpack_iq2_xs(const uint8_t *p, const int h, struct weights *u) {
    const block_iq2_xs *b = (const block_iq2_xs *)p;
    const uint8_t *qs = (const uint8_t *)(b->qs + 16 * h);
    ROWS(iq2_xs_row, b, h, u);
    negate(even_signs(vshrq_n_u8(vuzp2q_u8(vld1q_u8(qs), vld1q_u8(qs + 16)), 1)), u);
    scales_iq2(b->scales + 4 * h, b->d, u);
}

INLINE void unpack_iq2_s(const uint8_t *p, const int h, struct weights *u) {
    const block_iq2_s *b = (const block_iq2_s *)p;
    ROWS(gg_iq2_s_row, b, h, u);
    negate(vld1q_u8(b->signs + 16 * h), u);
    scales_iq2(b->scales + 4 * h, b->d, u);
}

INLINE void unpack_iq3_xxs(const uint8_t *p, const int h, struct weights *u) {
    const block_iq3_xxs *b = (const block_iq3_xxs *)p;
    const uint32x4_t signs_u32 = vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)(b->signs + 4 * h)));
    ROWS(gg_iq3_xxs_row, b, h, u);
    negate(even_signs(four_sevens(signs_u32)), u);
    u->scale[0] = odd_multiples(vshrq_n_u32(signs_u32, 28), 0.25f * f32(b->d));
}

INLINE void unpack_iq3_s(const uint8_t *p, const int h, struct weights *u) {
    const block_iq3_s *b = (const block_iq3_s *)p;
    ROWS(gg_iq3_s_row, b, h, u);
    negate(vld1q_u8(b->signs + 16 * h), u);
    u->scale[0] = odd_multiples(four_nibbles(b->scales + 2 * h), f32(b->d));
}

DOT(iq1_s)
DOT(iq1_m)
DOT(iq2_xxs)
DOT(iq2_xs)
DOT(iq2_s)
DOT(iq3_xxs)
DOT(iq3_s)
