/* Every block format as one formula: w[i] = scale[i / 16] * q[i] - min[i / 16].
 *
 * The portable reference for expanding and for dot products; the SIMD kernels do the same with vectors.
 * Source of the layouts: llama.cpp ggml-quants.c, dequantize_row_*. */

#ifndef GG_DECODE_H
#define GG_DECODE_H

#include "portable/blocks.h"
#include "portable/convert.h"

struct gg_unpacked { /* where the numbers of a block go */
    float *scale, *min;
    int8_t *q;
    size_t groups; /* of 16 */
};

/* Scale and minimum of a 32-weight block. */
static inline void gg_set_block(struct gg_unpacked *u, float scale, float min) {
    u->scale[0] = u->scale[1] = scale;
    u->min[0] = u->min[1] = min;
}

static inline void gg_no_min(struct gg_unpacked *u) { memset(u->min, 0, u->groups * sizeof *u->min); }

static inline void gg_unpack_q8_0(const uint8_t *p, struct gg_unpacked *u) {
    const block_q8_0 *b = (const block_q8_0 *)p;
    gg_set_block(u, gg_f16_to_f32(b->d), 0.0f);
    for (int i = 0; i < 32; i++) u->q[i] = b->qs[i];
}

/* 32 nibbles: the low ones of 16 bytes, then the high ones. Eight bytes at a time: GCC vectorizes no loop this short. */
static inline void gg_unpack_16_bytes(const uint8_t *qs, int8_t *q) {
    for (int i = 0; i < 2; i++) {
        uint64_t bytes;
        memcpy(&bytes, qs + 8 * i, sizeof bytes);
        const uint64_t low = bytes & UINT64_C(0x0f0f0f0f0f0f0f0f), high = bytes >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f);
        memcpy(q + 8 * i, &low, sizeof low);
        memcpy(q + 8 * i + 16, &high, sizeof high);
    }
}

/* Bits of a byte as bytes, 0 or 1. A byte times 0x01...01 is 8 copies of it; each keeps another bit. */
static inline uint64_t gg_ones(unsigned bits) {
    const uint64_t kept = bits * UINT64_C(0x0101010101010101) & UINT64_C(0x8040201008040201);
    return (kept + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 7 & UINT64_C(0x0101010101010101);
}

/* q[i] |= 16 where bit i of 32 is set. */
static inline void gg_or_fifth_bits(const uint8_t *qh, int8_t *q) {
    for (int i = 0; i < 4; i++) {
        uint64_t low;
        memcpy(&low, q + 8 * i, sizeof low);
        low |= gg_ones(qh[i]) << 4;
        memcpy(q + 8 * i, &low, sizeof low);
    }
}

/* q[i] -= bias, for 32 q in [0, 128): each byte borrows from its own top bit only. */
static inline void gg_subtract(unsigned bias, int8_t *q) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (int i = 0; i < 4; i++) {
        uint64_t eight;
        memcpy(&eight, q + 8 * i, sizeof eight);
        eight = ((eight | ones << 7) - bias * ones) ^ ones << 7;
        memcpy(q + 8 * i, &eight, sizeof eight);
    }
}

static inline void gg_unpack_q4_0(const uint8_t *p, struct gg_unpacked *u) {
    const block_q4_0 *b = (const block_q4_0 *)p;
    gg_set_block(u, gg_f16_to_f32(b->d), 0.0f);
    gg_unpack_16_bytes(b->qs, u->q);
    gg_subtract(8, u->q);
}

static inline void gg_unpack_q4_1(const uint8_t *p, struct gg_unpacked *u) {
    const block_q4_1 *b = (const block_q4_1 *)p;
    gg_set_block(u, gg_f16_to_f32(b->d), -gg_f16_to_f32(b->m));
    gg_unpack_16_bytes(b->qs, u->q);
}

static inline void gg_unpack_q5_0(const uint8_t *p, struct gg_unpacked *u) {
    const block_q5_0 *b = (const block_q5_0 *)p;
    gg_set_block(u, gg_f16_to_f32(b->d), 0.0f);
    gg_unpack_16_bytes(b->qs, u->q);
    gg_or_fifth_bits(b->qh, u->q);
    gg_subtract(16, u->q);
}

static inline void gg_unpack_q5_1(const uint8_t *p, struct gg_unpacked *u) {
    const block_q5_1 *b = (const block_q5_1 *)p;
    gg_set_block(u, gg_f16_to_f32(b->d), -gg_f16_to_f32(b->m));
    gg_unpack_16_bytes(b->qs, u->q);
    gg_or_fifth_bits(b->qh, u->q);
}

/* 256 two-bit values: 128 of them share 32 bytes, the first 32 lowest. */
static inline void gg_unpack_two_bits(const uint8_t *qs, int8_t *q) {
    for (int half = 0; half < 2; half++)
        for (int layer = 0; layer < 4; layer++)
            for (int i = 0; i < 32; i++) q[half * 128 + layer * 32 + i] = qs[half * 32 + i] >> (2 * layer) & 3;
}

static inline void gg_unpack_q2_K(const uint8_t *p, struct gg_unpacked *u) {
    const block_q2_K *b = (const block_q2_K *)p;
    const float d = gg_f16_to_f32(b->d), dmin = gg_f16_to_f32(b->dmin);
    for (int g = 0; g < 16; g++) {
        u->scale[g] = d * (float)(b->scales[g] & 15);
        u->min[g] = dmin * (float)(b->scales[g] >> 4);
    }
    gg_unpack_two_bits(b->qs, u->q);
}

/* Sixteen 6-bit scales: low 4 bits in bytes 0..7 (two nibbles), high 2 bits in bytes 8..11. */
static inline int gg_q3_K_scale(const uint8_t *s, int g) {
    const int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
    return (low | (s[8 + g % 4] >> (g / 4 * 2) & 3) << 4) - 32;
}

static inline void gg_unpack_q3_K(const uint8_t *p, struct gg_unpacked *u) {
    const block_q3_K *b = (const block_q3_K *)p;
    const float d = gg_f16_to_f32(b->d);
    for (int g = 0; g < 16; g++) {
        u->scale[g] = d * (float)gg_q3_K_scale(b->scales, g);
        u->min[g] = 0.0f;
    }
    gg_unpack_two_bits(b->qs, u->q);
    for (int layer = 0; layer < 8; layer++)
        for (int i = 0; i < 32; i++)
            u->q[layer * 32 + i] = (int8_t)((u->q[layer * 32 + i] | (b->hmask[i] >> layer & 1) << 2) - 4);
}

/* Scale and minimum of sub-block j of 8, six bits each. */
static inline void gg_q4_K_scale(const uint8_t *s, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}

static inline void gg_set_q4_K_scales(struct gg_unpacked *u, float d, float dmin, const uint8_t *scales) {
    for (int g = 0; g < 16; g++) {
        int scale, min;
        gg_q4_K_scale(scales, g / 2, &scale, &min);
        u->scale[g] = d * (float)scale;
        u->min[g] = dmin * (float)min;
    }
}

/* 256 nibbles: 64 of them share 32 bytes, the first 32 low. */
static inline void gg_unpack_nibbles(const uint8_t *qs, int8_t *q) {
    for (int quarter = 0; quarter < 4; quarter++, qs += 32, q += 64)
        for (int i = 0; i < 32; i++) {
            q[i] = qs[i] & 15;
            q[i + 32] = qs[i] >> 4;
        }
}

static inline void gg_unpack_q4_K(const uint8_t *p, struct gg_unpacked *u) {
    const block_q4_K *b = (const block_q4_K *)p;
    gg_set_q4_K_scales(u, gg_f16_to_f32(b->d), gg_f16_to_f32(b->dmin), b->scales);
    gg_unpack_nibbles(b->qs, u->q);
}

static inline void gg_unpack_q5_K(const uint8_t *p, struct gg_unpacked *u) {
    const block_q5_K *b = (const block_q5_K *)p;
    gg_set_q4_K_scales(u, gg_f16_to_f32(b->d), gg_f16_to_f32(b->dmin), b->scales);
    gg_unpack_nibbles(b->qs, u->q);
    for (int layer = 0; layer < 8; layer++)
        for (int i = 0; i < 32; i++)
            u->q[layer * 32 + i] = (int8_t)(u->q[layer * 32 + i] | (b->qh[i] >> layer & 1) << 4);
}

static inline void gg_unpack_q6_K(const uint8_t *p, struct gg_unpacked *u) {
    const block_q6_K *b = (const block_q6_K *)p;
    const float d = gg_f16_to_f32(b->d);
    for (int g = 0; g < 16; g++) {
        u->scale[g] = d * (float)b->scales[g];
        u->min[g] = 0.0f;
    }
    gg_unpack_two_bits(b->qh, u->q);
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 64; i++) {
            int8_t *low = u->q + half * 128 + i, *high = low + 64;
            *low = (int8_t)((*low << 4 | (b->ql[half * 64 + i] & 15)) - 32);
            *high = (int8_t)((*high << 4 | b->ql[half * 64 + i] >> 4) - 32);
        }
}

#endif
