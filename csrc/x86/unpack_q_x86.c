/* Blocks to integers: the types whose weights are numbers of two to eight bits. */

#include "skeleton_unpack_x86.h"
#include "decode_q_avx2.h"

/* ---- Blocks of 32 ---- */

INLINE __m256i weights_q4_0(const block_q4_0 *b, const int k) { return nibbles(b->qs + 16 * k); }
INLINE __m256i weights_q4_1(const block_q4_1 *b, const int k) { return nibbles(b->qs + 16 * k); }
INLINE __m256i weights_q5_0(const block_q5_0 *b, const int k) {
    return _mm256_or_si256(nibbles(b->qs + 16 * k), fifth_bits(b->qh + 4 * k));
}
INLINE __m256i weights_q5_1(const block_q5_1 *b, const int k) {
    return _mm256_or_si256(nibbles(b->qs + 16 * k), fifth_bits(b->qh + 4 * k));
}
INLINE __m256i weights_q8_0(const block_q8_0 *b, const int k) { return load256(b->qs + 32 * k); }

INLINE void set_8_d(const uint8_t *p, const int size, float *scale, float *min) {
    store_8_twice(scale, eight_f16(p, size));
    store_zeros(min);
}
/* d, and m, which is added, of four blocks at a time. */
INLINE void set_8_dm(const uint8_t *p, const int size, float *scale, float *min) {
    const __m256i even_i32 = _mm256_setr_epi32(0, 0, 2, 2, 4, 4, 6, 6);
    const __m256i odd_i32 = _mm256_setr_epi32(1, 1, 3, 3, 5, 5, 7, 7);
    for (int i = 0; i < 2; i++, p += 4 * size) {
        const __m128i dm_f16 = _mm_setr_epi32((int)load_u32(p), (int)load_u32(p + size), (int)load_u32(p + 2 * size),
                                              (int)load_u32(p + 3 * size));
        const __m256 dm_f32 = _mm256_cvtph_ps(dm_f16);
        const __m256 m_f32 = _mm256_permutevar8x32_ps(dm_f32, odd_i32);
        _mm256_storeu_ps(scale + 8 * i, _mm256_permutevar8x32_ps(dm_f32, even_i32));
        _mm256_storeu_ps(min + 8 * i, _mm256_xor_ps(m_f32, _mm256_set1_ps(-0.0f)));
    }
}

#define SET_D(b, scale, min) set_8_d((const uint8_t *)b, sizeof *b, scale, min)
#define SET_DM(b, scale, min) set_8_dm((const uint8_t *)b, sizeof *b, scale, min)
UNPACK(q4_0, 8, SET_D)
UNPACK(q4_1, 0, SET_DM)
UNPACK(q5_0, 16, SET_D)
UNPACK(q5_1, 0, SET_DM)
UNPACK(q8_0, 0, SET_D)

/* ---- Super-blocks ---- */

INLINE void set_q2_K(const block_q2_K *b, float *scale, float *min) {
    const __m128i scales_u8 = load128(b->scales), low_u8 = _mm_set1_epi8(15);
    store_16(scale, _mm_and_si128(scales_u8, low_u8), f32(b->d));
    store_16(min, _mm_and_si128(_mm_srli_epi16(scales_u8, 4), low_u8), f32(b->dmin));
}

INLINE void set_q3_K(const block_q3_K *b, float *scale, float *min) {
    store_16(scale, scales_q3_K(b), f32(b->d));
    store_zeros(min);
}

INLINE void set_q4_K(const void *p, float *scale, float *min) { /* q5_K begins like q4_K */
    const block_q4_K *b = p;
    const __m128i both_u8 = scales_q4_K(b->scales);
    store_16(scale, _mm_unpacklo_epi8(both_u8, both_u8), f32(b->d));
    store_16(min, _mm_unpackhi_epi8(both_u8, both_u8), f32(b->dmin));
}

INLINE void set_q6_K(const block_q6_K *b, float *scale, float *min) {
    store_16(scale, load128(b->scales), f32(b->d));
    store_zeros(min);
}

UNPACK(q2_K, 0, set_q2_K)
UNPACK(q3_K, 4, set_q3_K)
UNPACK(q4_K, 0, set_q4_K)
UNPACK(q5_K, 0, set_q4_K)
UNPACK(q6_K, 32, set_q6_K)
