/* Block types whose nibbles choose from a table of sixteen: iq4, mxfp4, nvfp4. As in decode.h. */

#ifndef GG_DECODE_TABLES_H
#define GG_DECODE_TABLES_H

#include "portable/decode.h"

#if defined(__SSSE3__)
#include <immintrin.h>
#elif defined(__aarch64__) && !defined(GG_PORTABLE)
#include <arm_neon.h>
#endif

static const int8_t gg_table_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t gg_table_e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}; /* doubled */

/* The low nibbles of 16 bytes, then the high ones. */
static inline void gg_look_up(const int8_t *table, const uint8_t *qs, int8_t *q) {
#if defined(__SSSE3__) /* no compiler finds the shuffle by itself */
    const __m128i table_i8 = _mm_loadu_si128((const __m128i *)(const void *)table), mask_u8 = _mm_set1_epi8(15);
    const __m128i qs_u8 = _mm_loadu_si128((const __m128i *)(const void *)qs);
    const __m128i low_i8 = _mm_shuffle_epi8(table_i8, _mm_and_si128(qs_u8, mask_u8));
    const __m128i high_i8 = _mm_shuffle_epi8(table_i8, _mm_and_si128(_mm_srli_epi16(qs_u8, 4), mask_u8));
    _mm_storeu_si128((__m128i *)(void *)q, low_i8);
    _mm_storeu_si128((__m128i *)(void *)(q + 16), high_i8);
#elif defined(__aarch64__) && !defined(GG_PORTABLE)
    const int8x16_t table_i8 = vld1q_s8(table);
    const uint8x16_t qs_u8 = vld1q_u8(qs);
    vst1q_s8(q, vqtbl1q_s8(table_i8, vandq_u8(qs_u8, vdupq_n_u8(15))));
    vst1q_s8(q + 16, vqtbl1q_s8(table_i8, vshrq_n_u8(qs_u8, 4)));
#else
    for (int i = 0; i < 16; i++) {
        q[i] = table[qs[i] & 15];
        q[i + 16] = table[qs[i] >> 4];
    }
#endif
}

static inline void gg_unpack_iq4_nl(const uint8_t *p, struct gg_unpacked *u) {
    const block_iq4_nl *b = (const block_iq4_nl *)p;
    gg_set_block(u, gg_f16_to_f32(b->d), 0.0f);
    gg_look_up(gg_table_iq4, b->qs, u->q);
}

/* Scales of eight sub-blocks, each for two groups: six bits, biased by 32. */
static inline void gg_iq4_xs_scales(const block_iq4_xs *b, float *scale) {
    const float d = gg_f16_to_f32(b->d);
    for (int g = 0; g < 16; g++) {
        const int low = b->scales_l[g / 4] >> (g / 2 % 2 * 4) & 15, high = b->scales_h >> (g / 2 * 2) & 3;
        scale[g] = d * (float)((low | high << 4) - 32);
    }
}

static inline void gg_unpack_iq4_xs(const uint8_t *p, struct gg_unpacked *u) {
    const block_iq4_xs *b = (const block_iq4_xs *)p;
    gg_iq4_xs_scales(b, u->scale);
    for (int k = 0; k < 8; k++) gg_look_up(gg_table_iq4, b->qs + 16 * k, u->q + 32 * k);
    gg_no_min(u);
}

/* 2^(e - 128): half of what the exponent says, as the table is doubled. */
static inline float gg_half_e8m0(uint8_t e) {
    return gg_bits_f32(e < 2 ? (uint32_t)0x00200000 << e : (uint32_t)(e - 1) << 23);
}

static inline void gg_unpack_mxfp4(const uint8_t *p, struct gg_unpacked *u) {
    const block_mxfp4 *b = (const block_mxfp4 *)p;
    gg_set_block(u, gg_half_e8m0(b->e), 0.0f);
    gg_look_up(gg_table_e2m1, b->qs, u->q);
}

/* Half of a float with four bits of exponent, biased by 7, and three of mantissa: as f16, it is 2^8 times too small.
 * The top bit is unused, 0x7f is 0. */
static inline float gg_half_ue4m3(uint8_t x) {
    return x == 0x7f ? 0.0f : gg_f16_to_f32((gg_f16)((x & 0x7f) << 7)) * 128.0f;
}

static inline void gg_unpack_nvfp4(const uint8_t *p, struct gg_unpacked *u) {
    const block_nvfp4 *b = (const block_nvfp4 *)p;
    for (int g = 0; g < 4; g++) u->scale[g] = gg_half_ue4m3(b->d[g]);
    for (int pair = 0; pair < 2; pair++) { /* of groups: 8 bytes each, their low nibbles before their high ones */
        int8_t *q = u->q + 32 * pair;
        uint64_t second, third;
        gg_look_up(gg_table_e2m1, b->qs + 16 * pair, q);
        memcpy(&second, q + 8, sizeof second), memcpy(&third, q + 16, sizeof third);
        memcpy(q + 8, &third, sizeof third), memcpy(q + 16, &second, sizeof second);
    }
    gg_no_min(u);
}

#endif
