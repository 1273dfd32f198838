/* Dot products of the types whose weights are rows of a grid, with signs or a shift, with quantized activations. */

#include "../unpack_grids.h"
#include "dot.h"

INLINE uint8x16_t two_rows(uint64_t a, uint64_t b) { return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(a), vcreate_u64(b))); }

/* w[0] and w[1], negated where a bit of signs is set. */
INLINE void negate(uint32_t signs, int8x16_t *w) {
    uint8x16_t mask[2];
    bit_masks(signs, mask);
    for (int i = 0; i < 2; i++) w[i] = vsubq_s8(veorq_s8(w[i], as_i8(mask[i])), as_i8(mask[i]));
}

/* Four times eight signs from four times seven, the eighths making their numbers even. */
INLINE uint32_t even_signs(uint32_t sevens) {
    const uint32_t x = (sevens & 0x7f) | (sevens << 1 & 0x7f00) | (sevens << 2 & 0x7f0000) | (sevens << 3 & 0x7f000000);
    uint32_t parity = x ^ x >> 4;
    parity ^= parity >> 2 & 0x3f3f3f3f;
    parity ^= parity >> 1;
    return x | (parity & 0x01010101) << 7;
}

/* Rows 4 k to 4 k + 3 of a block, 32 weights without signs. */
#define ROWS(row_of, b, k, w)                                                       \
    for (int i_ = 0; i_ < 2; i_++)                                                  \
    (w)[i_] = as_i8(two_rows(row_of(b, 4 * (k) + 2 * i_), row_of(b, 4 * (k) + 2 * i_ + 1)))

/* Nibbles of two bytes, lowest first. */
INLINE uint32x4_t four_nibbles(const uint8_t *p) {
    const int32_t shift[4] = {0, -4, -8, -12};
    return vandq_u32(vshlq_u32(vdupq_n_u32(gg_load_u16(p)), vld1q_s32(shift)), vdupq_n_u32(15));
}

/* d * (2 x + 1) */
INLINE float32x4_t odd_multiples(uint32x4_t x_u32, float d) {
    return vmulq_n_f32(vcvtq_f32_u32(vorrq_u32(vshlq_n_u32(x_u32, 1), vdupq_n_u32(1))), d);
}

/* ---- iq1: each weight is an eighth higher or lower than the grid has it; rows are biased by 128 ---- */

INLINE void shift_iq1(uint8x16_t shift_u8, int8x16_t *w) {
    *w = veorq_s8(as_i8(vaddq_u8(vreinterpretq_u8_s8(*w), shift_u8)), vdupq_n_s8(-128));
}

INLINE void unpack_iq1_s(const uint8_t *p, const int h, struct weights *u) {
    const block_iq1_s *b = (const block_iq1_s *)p;
    for (int j = 0; j < 4; j++) {
        ROWS(gg_iq1_s_row, b, 4 * h + j, u->q + 2 * j);
        const uint8x16_t shift_u8 = vdupq_n_u8(b->qh[4 * h + j] & 0x8000 ? 0xff : 1);
        for (int i = 0; i < 2; i++) shift_iq1(shift_u8, u->q + 2 * j + i);
    }
    const uint32x4_t qh_u32 = vmovl_u16(vld1_u16(b->qh + 4 * h));
    u->scale[0] = odd_multiples(vandq_u32(vshrq_n_u32(qh_u32, 12), vdupq_n_u32(7)), 0.125f * f32(b->d));
}

INLINE void unpack_iq1_m(const uint8_t *p, const int h, struct weights *u) {
    const block_iq1_m *b = (const block_iq1_m *)p;
    const int32_t shift[4] = {0, -3, -6, -9};
    for (int j = 0; j < 4; j++) {
        ROWS(gg_iq1_m_row, b, 4 * h + j, u->q + 2 * j);
        for (int i = 0; i < 2; i++) { /* bits 3 and 7 are of eight weights each */
            const unsigned qh = b->qh[8 * h + 2 * j + i];
            const uint8x16_t shift_u8 = vcombine_u8(vdup_n_u8(qh & 8 ? 0xff : 1), vdup_n_u8(qh & 0x80 ? 0xff : 1));
            shift_iq1(shift_u8, u->q + 2 * j + i);
        }
    }
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
    for (int j = 0; j < 4; j++) {
        ROWS(iq2_xxs_row, b, 4 * h + j, u->q + 2 * j);
        negate(even_signs(b->qs[4 * h + j].signs), u->q + 2 * j);
    }
    const uint8_t *qs = (const uint8_t *)(b->qs + 4 * h);
    const uint32x4_t low_u32 = vreinterpretq_u32_u8(vld1q_u8(qs)), high_u32 = vreinterpretq_u32_u8(vld1q_u8(qs + 16));
    const uint32x4_t signs_u32 = vuzp2q_u32(low_u32, high_u32);
    u->scale[0] = odd_multiples(vshrq_n_u32(signs_u32, 28), 0.125f * f32(b->d));
}

/* Eight scales of four bits. */
INLINE void scales_iq2(const uint8_t *scales, gg_f16 d, struct weights *u) {
    for (int k = 0; k < 2; k++) u->scale[k] = odd_multiples(four_nibbles(scales + 2 * k), 0.125f * f32(d));
}

INLINE void unpack_iq2_xs(const uint8_t *p, const int h, struct weights *u) {
    const block_iq2_xs *b = (const block_iq2_xs *)p;
    for (int j = 0; j < 4; j++) {
        const uint16_t *qs = b->qs + 16 * h + 4 * j;
        ROWS(iq2_xs_row, b, 4 * h + j, u->q + 2 * j);
        negate(even_signs((uint32_t)(qs[0] >> 9) | (uint32_t)(qs[1] >> 9) << 7 | (uint32_t)(qs[2] >> 9) << 14 |
                          (uint32_t)(qs[3] >> 9) << 21),
               u->q + 2 * j);
    }
    scales_iq2(b->scales + 4 * h, b->d, u);
}

INLINE void unpack_iq2_s(const uint8_t *p, const int h, struct weights *u) {
    const block_iq2_s *b = (const block_iq2_s *)p;
    for (int j = 0; j < 4; j++) {
        ROWS(gg_iq2_s_row, b, 4 * h + j, u->q + 2 * j);
        negate(load_u32(b->signs + 16 * h + 4 * j), u->q + 2 * j);
    }
    scales_iq2(b->scales + 4 * h, b->d, u);
}

INLINE void unpack_iq3_xxs(const uint8_t *p, const int h, struct weights *u) {
    const block_iq3_xxs *b = (const block_iq3_xxs *)p;
    for (int j = 0; j < 4; j++) {
        ROWS(gg_iq3_xxs_row, b, 4 * h + j, u->q + 2 * j);
        negate(even_signs(b->signs[4 * h + j]), u->q + 2 * j);
    }
    const uint32x4_t signs_u32 = vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)(b->signs + 4 * h)));
    u->scale[0] = odd_multiples(vshrq_n_u32(signs_u32, 28), 0.25f * f32(b->d));
}

INLINE void unpack_iq3_s(const uint8_t *p, const int h, struct weights *u) {
    const block_iq3_s *b = (const block_iq3_s *)p;
    for (int j = 0; j < 4; j++) {
        ROWS(gg_iq3_s_row, b, 4 * h + j, u->q + 2 * j);
        negate(load_u32(b->signs + 16 * h + 4 * j), u->q + 2 * j);
    }
    u->scale[0] = odd_multiples(four_nibbles(b->scales + 2 * h), f32(b->d));
}

DOT(iq1_s, 256, 32, 0)
DOT(iq1_m, 256, 16, 0)
DOT(iq2_xxs, 256, 32, 0)
DOT(iq2_xs, 256, 16, 0)
DOT(iq2_s, 256, 16, 0)
DOT(iq3_xxs, 256, 32, 0)
DOT(iq3_s, 256, 32, 0)
