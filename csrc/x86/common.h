/* What the dot kernels of all x86 instruction sets share. */

#ifndef GG_X86_COMMON_H
#define GG_X86_COMMON_H

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile with -mavx2 -mfma -mf16c"
#endif

#include <immintrin.h>

#include "portable/convert.h"
#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE float f32(gg_f16 h) { return _cvtsh_ss(h); }
INLINE __m128i load128(const void *p) { return _mm_loadu_si128(p); }
INLINE __m256i load256(const void *p) { return _mm256_loadu_si256(p); }
INLINE uint32_t load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE uint64_t load_u64(const void *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE __m256i low_bits(__m256i x, const int bits) {
    return _mm256_and_si256(x, _mm256_set1_epi8((char)((1 << bits) - 1)));
}

/* Weights come from memory once: ask for those to come, across pages, where the hardware does not (never faults).
 * So far ahead they go to L2: prefetching into L1 takes the few buffers that reading itself needs. */
INLINE void prefetch(const uint8_t *w, const size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)w + 12288 + i, _MM_HINT_T1);
}

INLINE float sum8(__m256 x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

/* Eight f16, `size` bytes apart. */
INLINE __m256 eight_f16(const uint8_t *p, const int size) {
    const __m128i x_f16 = _mm_set_epi16(
        (short)gg_load_u16(p + 7 * size), (short)gg_load_u16(p + 6 * size), (short)gg_load_u16(p + 5 * size),
        (short)gg_load_u16(p + 4 * size), (short)gg_load_u16(p + 3 * size), (short)gg_load_u16(p + 2 * size),
        (short)gg_load_u16(p + size), (short)gg_load_u16(p));
    return _mm256_cvtph_ps(x_f16);
}

INLINE __m256i nibbles(const uint8_t *qs) { /* of 16 bytes: 16 low, 16 high */
    const __m128i q_u8 = load128(qs);
    return low_bits(_mm256_inserti128_si256(_mm256_castsi128_si256(q_u8), _mm_srli_epi16(q_u8, 4), 1), 4);
}

/* 0xff in byte i where bit i is set. */
INLINE __m256i bit_mask(uint32_t bits) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    return _mm256_movm_epi8(bits);
#else
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bytes_u8 = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte_of);
    const __m256i bit_u8 = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes_u8, bit_u8), bit_u8);
#endif
}

#endif
