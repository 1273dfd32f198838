/* Block types whose weights are rows of a grid, with signs or a shift: iq1, iq2, iq3. As in decode.h. */

#ifndef GG_DECODE_GRIDS_H
#define GG_DECODE_GRIDS_H

#include "portable/grids.h"
#include "portable/decode.h"

static inline unsigned gg_nibble(const uint8_t *p, int i) { return p[i / 2] >> (i % 2 * 4) & 15; }

/* q[0..8) = bytes of row, negated where a bit of signs is set; where it is, the byte is not 0: nothing carries. */
static inline void gg_put_row(uint64_t row, unsigned signs, int8_t *q) {
    const uint64_t ones = gg_ones(signs);
    row = (row ^ ones * 0xff) + ones;
    memcpy(q, &row, sizeof row);
}

/* Seven signs in the low bits; the eighth makes their number even. */
static inline unsigned gg_even_signs(unsigned signs) {
    return (signs & 127) | (unsigned)__builtin_parity(signs & 127) << 7;
}

/* ---- Rows r of 32, of eight weights without their signs ---- */

/* Those of iq1 are biased by 8, and each is one eighth lower or higher than the grid has it. */
static inline uint64_t gg_iq1_s_row(const block_iq1_s *b, int r) {
    return gg_grid_iq1[b->qs[r] | (b->qh[r / 4] >> (r % 4 * 3) & 7) << 8];
}
static inline uint64_t gg_iq1_m_row(const block_iq1_m *b, int r) {
    return gg_grid_iq1[b->qs[r] | (gg_nibble(b->qh, r) & 7) << 8];
}
static inline uint64_t gg_iq2_xxs_row(const block_iq2_xxs *b, int r) {
    return gg_grid_iq2_xxs[b->qs[r / 4].rows[r % 4]];
}
static inline uint64_t gg_iq2_xs_row(const block_iq2_xs *b, int r) { return gg_grid_iq2_xs[b->qs[r] & 511]; }
static inline uint64_t gg_iq2_s_row(const block_iq2_s *b, int r) {
    return gg_grid_iq2_s[b->qs[r] | (b->qh[r / 4] >> (r % 4 * 2) & 3) << 8];
}
static inline uint64_t gg_iq3_xxs_row(const block_iq3_xxs *b, int r) {
    return gg_grid_iq3_xxs[b->qs[2 * r]] | (uint64_t)gg_grid_iq3_xxs[b->qs[2 * r + 1]] << 32;
}
static inline uint64_t gg_iq3_s_row(const block_iq3_s *b, int r) {
    const unsigned high = b->qh[r / 4] >> (r % 4 * 2);
    return gg_grid_iq3_s[b->qs[2 * r] | (high & 1) << 8] |
           (uint64_t)gg_grid_iq3_s[b->qs[2 * r + 1] | (high >> 1 & 1) << 8] << 32;
}

/* ---- Scales, one for each 16 weights ---- */

static inline void gg_iq1_s_scales(const block_iq1_s *b, float *scale) {
    const float d = gg_f16_to_f32(b->d) * 0.125f;
    for (int g = 0; g < 16; g++) scale[g] = d * (float)(2 * (b->qh[g / 2] >> 12 & 7) + 1);
}

static inline void gg_iq1_m_scales(const block_iq1_m *b, float *scale) {
    unsigned d_bits = 0; /* in the high nibbles */
    for (int k = 0; k < 4; k++) d_bits |= (b->scales[k] >> 12 & 15u) << (4 * k);
    const float d = gg_f16_to_f32((gg_f16)d_bits) * 0.125f;
    for (int g = 0; g < 16; g++) scale[g] = d * (float)(2 * (b->scales[g / 4] >> (g % 4 * 3) & 7) + 1);
}

static inline void gg_iq2_xxs_scales(const block_iq2_xxs *b, float *scale) {
    const float d = gg_f16_to_f32(b->d) * 0.25f;
    for (int g = 0; g < 16; g++) scale[g] = d * (0.5f + (float)(b->qs[g / 2].signs >> 28));
}

static inline void gg_iq2_scales(gg_f16 d, const uint8_t *scales, float *scale) {
    for (int g = 0; g < 16; g++) scale[g] = gg_f16_to_f32(d) * 0.25f * (0.5f + (float)gg_nibble(scales, g));
}

static inline void gg_iq3_xxs_scales(const block_iq3_xxs *b, float *scale) {
    const float d = gg_f16_to_f32(b->d) * 0.5f;
    for (int g = 0; g < 16; g++) scale[g] = d * (0.5f + (float)(b->signs[g / 2] >> 28));
}

static inline void gg_iq3_s_scales(const block_iq3_s *b, float *scale) {
    const float d = gg_f16_to_f32(b->d);
    for (int g = 0; g < 16; g++) scale[g] = d * (float)(2 * gg_nibble(b->scales, g / 2) + 1);
}

/* ---- Blocks ---- */

static inline void gg_put_iq1_row(uint64_t row, unsigned is_lower, int8_t *q) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    row = (row + (is_lower ? 119 : 121) * ones) ^ ones << 7; /* - 8 and - 1 or + 1: no byte of the sum carries */
    memcpy(q, &row, sizeof row);
}

static inline void gg_unpack_iq1_s(const uint8_t *p, struct gg_unpacked *u) {
    const block_iq1_s *b = (const block_iq1_s *)p;
    gg_iq1_s_scales(b, u->scale);
    for (int r = 0; r < 32; r++) gg_put_iq1_row(gg_iq1_s_row(b, r), b->qh[r / 4] >> 15, u->q + 8 * r);
    gg_no_min(u);
}

static inline void gg_unpack_iq1_m(const uint8_t *p, struct gg_unpacked *u) {
    const block_iq1_m *b = (const block_iq1_m *)p;
    gg_iq1_m_scales(b, u->scale);
    for (int r = 0; r < 32; r++) gg_put_iq1_row(gg_iq1_m_row(b, r), gg_nibble(b->qh, r) >> 3, u->q + 8 * r);
    gg_no_min(u);
}

static inline void gg_unpack_iq2_xxs(const uint8_t *p, struct gg_unpacked *u) {
    const block_iq2_xxs *b = (const block_iq2_xxs *)p;
    gg_iq2_xxs_scales(b, u->scale);
    for (int r = 0; r < 32; r++)
        gg_put_row(gg_iq2_xxs_row(b, r), gg_even_signs(b->qs[r / 4].signs >> (r % 4 * 7)), u->q + 8 * r);
    gg_no_min(u);
}

static inline void gg_unpack_iq2_xs(const uint8_t *p, struct gg_unpacked *u) {
    const block_iq2_xs *b = (const block_iq2_xs *)p;
    gg_iq2_scales(b->d, b->scales, u->scale);
    for (int r = 0; r < 32; r++)
        gg_put_row(gg_iq2_xs_row(b, r), gg_even_signs(b->qs[r] >> 9), u->q + 8 * r);
    gg_no_min(u);
}

static inline void gg_unpack_iq2_s(const uint8_t *p, struct gg_unpacked *u) {
    const block_iq2_s *b = (const block_iq2_s *)p;
    gg_iq2_scales(b->d, b->scales, u->scale);
    for (int r = 0; r < 32; r++) gg_put_row(gg_iq2_s_row(b, r), b->signs[r], u->q + 8 * r);
    gg_no_min(u);
}

static inline void gg_unpack_iq3_xxs(const uint8_t *p, struct gg_unpacked *u) {
    const block_iq3_xxs *b = (const block_iq3_xxs *)p;
    gg_iq3_xxs_scales(b, u->scale);
    for (int r = 0; r < 32; r++)
        gg_put_row(gg_iq3_xxs_row(b, r), gg_even_signs(b->signs[r / 4] >> (r % 4 * 7)), u->q + 8 * r);
    gg_no_min(u);
}

static inline void gg_unpack_iq3_s(const uint8_t *p, struct gg_unpacked *u) {
    const block_iq3_s *b = (const block_iq3_s *)p;
    gg_iq3_s_scales(b, u->scale);
    for (int r = 0; r < 32; r++) gg_put_row(gg_iq3_s_row(b, r), b->signs[r], u->q + 8 * r);
    gg_no_min(u);
}

#endif
