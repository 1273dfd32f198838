/* Scalar conversions between float formats. */

#ifndef GG_CONVERT_H
#define GG_CONVERT_H

#include <stdint.h>
#include <string.h>

#include "portable/blocks.h"

static inline float gg_bits_f32(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t gg_f32_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Exact. Subnormals are normalized by the multiplication. */
static inline float gg_f16_to_f32(gg_f16 h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00) return gg_bits_f32(sign | 0x7f800000 | (magnitude << 13));
    return gg_bits_f32(sign | gg_f32_bits(gg_bits_f32(magnitude << 13) * 0x1p112f));
}

/* Rounds to nearest, ties to even; overflow gives infinity. */
static inline gg_f16 gg_f32_to_f16(float x) {
    const uint32_t bits = gg_f32_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (gg_f16)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return (gg_f16)(sign | 0x7c00);
    if (magnitude < 0x38800000) /* subnormal: let the addition of 0.5 round at the right bit */
        return (gg_f16)(sign | (gg_f32_bits(gg_bits_f32(magnitude) + 0.5f) - 0x3f000000));
    return (gg_f16)(sign | ((magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13));
}

static inline float gg_bf16_to_f32(uint16_t h) { return gg_bits_f32((uint32_t)h << 16); }

/* Rounds to nearest, ties to even; subnormals become zeros, as the CPUs' own conversion has it. */
static inline uint16_t gg_f32_to_bf16(float x) {
    const uint32_t bits = gg_f32_bits(x), magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    if (magnitude < 0x00800000) return (uint16_t)(bits >> 16 & 0x8000);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A little-endian 16-bit value at any address. */
static inline uint16_t gg_load_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

#endif
