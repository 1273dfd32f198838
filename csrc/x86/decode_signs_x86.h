/* Signs of weights: a bit for each. Of eight, seven may be stored: their number is even. */

#ifndef GG_X86_DECODE_SIGNS_H
#define GG_X86_DECODE_SIGNS_H

#include "common.h"

/* Bit 7 of each byte becomes the parity of the others. */
INLINE __m256i even_signs(__m256i x_u8) {
#if defined(__GFNI__)
    return _mm256_gf2p8affine_epi64_epi8(x_u8, _mm256_set1_epi64x(0x010204081020407f), 0);
#else
    const __m256i parity_u8 = _mm256_broadcastsi128_si256(
        _mm_set_epi64x((int64_t)0x0080800080000080, (int64_t)0x8000008000808000));
    const __m256i low_u8 = low_bits(x_u8, 4), high_u8 = low_bits(_mm256_srli_epi16(x_u8, 4), 3);
    const __m256i odd_u8 =
        _mm256_xor_si256(_mm256_shuffle_epi8(parity_u8, low_u8), _mm256_shuffle_epi8(parity_u8, high_u8));
    return _mm256_or_si256(low_bits(x_u8, 7), odd_u8);
#endif
}

/* Bytes of seven bits, from the lowest 28 bits of each 32; their top bits are undefined. */
INLINE __m256i sevens(__m256i x_u32) {
#if defined(__AVX512VBMI__)
    return _mm256_multishift_epi64_epi8(_mm256_set1_epi64x(0x352e2720150e0700), x_u32);
#else
    const __m256i first = _mm256_and_si256(x_u32, _mm256_set1_epi32(0x7f));
    const __m256i second = _mm256_and_si256(_mm256_slli_epi32(x_u32, 1), _mm256_set1_epi32(0x7f00));
    const __m256i third = _mm256_and_si256(_mm256_slli_epi32(x_u32, 2), _mm256_set1_epi32(0x7f0000));
    const __m256i fourth = _mm256_and_si256(_mm256_slli_epi32(x_u32, 3), _mm256_set1_epi32(0x7f000000));
    return _mm256_or_si256(_mm256_or_si256(first, second), _mm256_or_si256(third, fourth));
#endif
}

/* x, negated where a bit of signs is set. */
INLINE __m256i negate(__m256i x_i8, uint32_t signs) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    return _mm256_mask_sub_epi8(x_i8, signs, _mm256_setzero_si256(), x_i8);
#else
    const __m256i mask_u8 = bit_mask(signs);
    return _mm256_sub_epi8(_mm256_xor_si256(x_i8, mask_u8), mask_u8);
#endif
}

#endif
