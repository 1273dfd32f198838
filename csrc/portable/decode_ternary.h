/* Block types of one scale with two, three or four values: q1_0, tq1_0, tq2_0, q2_0. As in decode.h. */

#ifndef GG_DECODE_TERNARY_H
#define GG_DECODE_TERNARY_H

#include "portable/decode.h"

static inline void gg_set_all(struct gg_unpacked *u, int groups, gg_f16 d) {
    for (int g = 0; g < groups; g++) u->scale[g] = gg_f16_to_f32(d);
    gg_no_min(u);
}

/* Bit i is weight i: 1 or -1. */
static inline void gg_unpack_q1_0(const uint8_t *p, struct gg_unpacked *u) {
    const block_q1_0 *b = (const block_q1_0 *)p;
    gg_set_all(u, 8, b->d);
    for (int i = 0; i < 16; i++) {
        const uint64_t bias = UINT64_C(0x7f7f7f7f7f7f7f7f); /* 128 - 1 */
        const uint64_t row = (bias + 2 * gg_ones(b->qs[i])) ^ UINT64_C(0x8080808080808080);
        memcpy(u->q + 8 * i, &row, sizeof row);
    }
}

/* A byte holds four neighbours, each -1, 0, 1 or 2. */
static inline void gg_unpack_q2_0(const uint8_t *p, struct gg_unpacked *u) {
    const block_q2_0 *b = (const block_q2_0 *)p;
    gg_set_all(u, 4, b->d);
    for (int i = 0; i < 16; i++) {
        const uint32_t two = b->qs[i] | (uint32_t)b->qs[i] << 6, four = (two | two << 12) & 0x03030303;
        const uint32_t row = (four + 0x7f7f7f7f) ^ 0x80808080; /* 128 - 1 added, 128 subtracted */
        memcpy(u->q + 4 * i, &row, sizeof row);
    }
}

static inline void gg_unpack_tq2_0(const uint8_t *p, struct gg_unpacked *u) {
    const block_tq2_0 *b = (const block_tq2_0 *)p;
    gg_set_all(u, 16, b->d);
    gg_unpack_two_bits(b->qs, u->q);
    for (int i = 0; i < 256; i++) u->q[i] = (int8_t)(u->q[i] - 1);
}

/* Digits of n bytes, which are fractions in base 3: the first digit of each, the second of each, ... */
static inline void gg_unpack_trits(int n, int digits, const uint8_t *qs, int8_t *q) {
    uint8_t rest[32];
    for (int i = 0; i < n; i++) rest[i] = qs[i];
    for (int k = 0; k < digits; k++)
        for (int i = 0; i < n; i++) {
            q[k * n + i] = (int8_t)((rest[i] > 85) + (rest[i] > 170) - 1); /* thirds of 256 */
            rest[i] = (uint8_t)(rest[i] * 3);
        }
}

static inline void gg_unpack_tq1_0(const uint8_t *p, struct gg_unpacked *u) {
    const block_tq1_0 *b = (const block_tq1_0 *)p;
    gg_set_all(u, 16, b->d);
    gg_unpack_trits(32, 5, b->qs, u->q);
    gg_unpack_trits(16, 5, b->qs + 32, u->q + 160);
    gg_unpack_trits(4, 4, b->qh, u->q + 240);
}

#endif
