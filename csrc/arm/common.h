/* What the kernels of aarch64 share: loads and lanes. */

#ifndef GG_ARM_COMMON_H
#define GG_ARM_COMMON_H

#include <arm_neon.h>

#include "portable/convert.h"
#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE float f32(gg_f16 h) {
    __fp16 x;
    memcpy(&x, &h, sizeof x);
    return x;
}

INLINE uint32_t load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE int8x16_t as_i8(uint8x16_t x) { return vreinterpretq_s8_u8(x); }
INLINE uint8x16_t low_bits(uint8x16_t x, const int bits) { return vandq_u8(x, vdupq_n_u8((uint8_t)((1 << bits) - 1))); }

/* The intrinsics want literals between 1 and 7. */
INLINE uint8x16_t shift_right(uint8x16_t x, const int n) { return x >> vdupq_n_u8((uint8_t)n); }
INLINE uint8x16_t shift_left(uint8x16_t x, const int n) { return x << vdupq_n_u8((uint8_t)n); }

INLINE float32x4_t floats_u8(uint32_t four) {
    const uint16x8_t x_u16 = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(x_u16)));
}

/* The f16 at p, p + step, ..., as floats. */
INLINE float32x4_t four_f16(const uint8_t *p, const size_t step) {
    const uint64_t low = gg_load_u16(p) | (uint32_t)gg_load_u16(p + step) << 16;
    const uint64_t high = gg_load_u16(p + 2 * step) | (uint32_t)gg_load_u16(p + 3 * step) << 16;
    return vcvt_f32_f16(vcreate_f16(low | high << 32));
}

/* 0xff in byte i where bit i is set; of 32. */
INLINE void bit_masks(uint32_t bits, uint8x16_t *mask) {
    const uint8x16_t bytes_u8 = vreinterpretq_u8_u32(vdupq_n_u32(bits));
    const uint8x16_t bit_u8 = vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201)));
    const uint8x16_t first = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1)), second = vcombine_u8(vdup_n_u8(2), vdup_n_u8(3));
    mask[0] = vtstq_u8(vqtbl1q_u8(bytes_u8, first), bit_u8);
    mask[1] = vtstq_u8(vqtbl1q_u8(bytes_u8, second), bit_u8);
}

#endif
