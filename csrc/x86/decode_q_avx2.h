/* AVX2: 32 weights of a block, in order, as unsigned bytes; scales of super-blocks as integers. */

#ifndef GG_X86_DECODE_Q_AVX2_H
#define GG_X86_DECODE_Q_AVX2_H

#include "common.h"

/* ---- Blocks of 32 ---- */

INLINE __m256i fifth_bits(const uint8_t *qh) { /* bit i of qh as 16 in byte i */
    return _mm256_and_si256(bit_mask(load_u32(qh)), _mm256_set1_epi8(16));
}

/* ---- Weights 32 k to 32 k + 31 of 256 ---- */

/* Bits from .. from + n of bytes, moved to bits to .. to + n. */
INLINE __m256i moved_bits(const uint8_t *qs, const int n, const int from, const int to) {
    const __m256i x = load256(qs);
    const __m256i moved = from < to ? _mm256_slli_epi16(x, to - from) : _mm256_srli_epi16(x, from - to);
    return _mm256_and_si256(moved, _mm256_set1_epi8((char)(((1 << n) - 1) << to)));
}
INLINE __m256i two_bits(const uint8_t *qs, const int k, const int to) {
    return moved_bits(qs + k / 4 * 32, 2, k % 4 * 2, to);
}
INLINE __m256i four_bits(const uint8_t *qs, const int k) { return moved_bits(qs + k / 2 * 32, 4, k % 2 * 4, 0); }

INLINE __m256i weights_q2_K(const block_q2_K *b, const int k) { return two_bits(b->qs, k, 0); }
INLINE __m256i weights_q3_K(const block_q3_K *b, const int k) {
    return _mm256_or_si256(two_bits(b->qs, k, 0), moved_bits(b->hmask, 1, k, 2));
}
INLINE __m256i weights_q4_K(const block_q4_K *b, const int k) { return four_bits(b->qs, k); }
INLINE __m256i weights_q5_K(const block_q5_K *b, const int k) {
    return _mm256_or_si256(four_bits(b->qs, k), moved_bits(b->qh, 1, k, 4));
}
INLINE __m256i weights_q6_K(const block_q6_K *b, const int k) {
    const __m256i low = moved_bits(b->ql + k / 4 * 64 + k % 2 * 32, 4, k / 2 % 2 * 4, 0);
    return _mm256_or_si256(low, two_bits(b->qh, k, 4));
}

/* ---- Scales ---- */

INLINE __m128i scales_q3_K(const block_q3_K *b) { /* sixteen */
    const int high = (int)load_u32(b->scales + 8);
    const __m128i low_u8 = _mm_loadl_epi64((const void *)b->scales);
    const __m128i nibbles_u8 =
        _mm_and_si128(_mm_unpacklo_epi64(low_u8, _mm_srli_epi16(low_u8, 4)), _mm_set1_epi8(15));
    const __m128i high_u8 =
        _mm_and_si128(_mm_srlv_epi32(_mm_set1_epi32(high), _mm_set_epi32(6, 4, 2, 0)), _mm_set1_epi8(3));
    return _mm_sub_epi8(_mm_or_si128(nibbles_u8, _mm_slli_epi16(high_u8, 4)), _mm_set1_epi8(32));
}

/* Eight scales and eight minima, of q4_K and q5_K. */
INLINE __m128i scales_q4_K(const uint8_t *s) {
    const uint32_t a = load_u32(s), b = load_u32(s + 4), c = load_u32(s + 8);
    const uint32_t scale_high = (c & 0x0f0f0f0f) | (a >> 6 & 0x03030303) << 4;
    const uint32_t min_high = (c >> 4 & 0x0f0f0f0f) | (b >> 6 & 0x03030303) << 4;
    return _mm_set_epi64x((int64_t)((uint64_t)min_high << 32 | (b & 0x3f3f3f3f)),
                          (int64_t)((uint64_t)scale_high << 32 | (a & 0x3f3f3f3f)));
}

#endif
