/* Blocks to integers: the types whose weights are numbers of two to eight bits. */

#include "unpack.h"
#include "weights_avx2.h"

/* ---- Blocks of 32 ---- */

INLINE __m256i weights_q4_0(const block_q4_0 *b, int k) { return nibbles(b->qs + 16 * k); }
INLINE __m256i weights_q4_1(const block_q4_1 *b, int k) { return nibbles(b->qs + 16 * k); }
INLINE __m256i weights_q5_0(const block_q5_0 *b, int k) {
    return _mm256_or_si256(nibbles(b->qs + 16 * k), fifth_bits(b->qh + 4 * k));
}
INLINE __m256i weights_q5_1(const block_q5_1 *b, int k) {
    return _mm256_or_si256(nibbles(b->qs + 16 * k), fifth_bits(b->qh + 4 * k));
}
INLINE __m256i weights_q8_0(const block_q8_0 *b, int k) { return load256(b->qs + 32 * k); }

INLINE void set_d(const void *d, float *scale, float *min) {
    _mm_storel_pi((void *)scale, _mm_cvtph_ps(_mm_set1_epi16((short)gg_load_u16(d))));
    _mm_storel_pi((void *)min, _mm_setzero_ps());
}

/* d, and m, which is added. */
INLINE void set_dm(const void *dm, float *scale, float *min) {
    int32_t both;
    memcpy(&both, dm, sizeof both);
    const __m128 dmdm_f32 = _mm_cvtph_ps(_mm_set1_epi32(both));
    const __m128 negated_f32 = _mm_xor_ps(dmdm_f32, _mm_setr_ps(0.0f, -0.0f, 0.0f, -0.0f));
    const __m128 ddmm_f32 = _mm_permute_ps(negated_f32, _MM_SHUFFLE(3, 1, 2, 0));
    _mm_storel_pi((void *)scale, ddmm_f32);
    _mm_storeh_pi((void *)min, ddmm_f32);
}

UNPACK(q4_0, 32, 8, set_d)
UNPACK(q4_1, 32, 0, set_dm)
UNPACK(q5_0, 32, 16, set_d)
UNPACK(q5_1, 32, 0, set_dm)
UNPACK(q8_0, 32, 0, set_d)

/* ---- Super-blocks ---- */

INLINE void set_q2_K(const block_q2_K *b, float *scale, float *min) {
    const __m128i scales_u8 = load128(b->scales), low_u8 = _mm_set1_epi8(15);
    store_16(scale, _mm_and_si128(scales_u8, low_u8), f32(b->d));
    store_16(min, _mm_and_si128(_mm_srli_epi16(scales_u8, 4), low_u8), f32(b->dmin));
}

INLINE void set_q3_K(const block_q3_K *b, float *scale, float *min) {
    store_16(scale, scales_q3_K(b), f32(b->d));
    store_16_zeros(min);
}

INLINE void set_q4_K(const void *p, float *scale, float *min) { /* q5_K begins like q4_K */
    const block_q4_K *b = p;
    const __m128i both_u8 = scales_q4_K(b->scales);
    store_16(scale, _mm_unpacklo_epi8(both_u8, both_u8), f32(b->d));
    store_16(min, _mm_unpackhi_epi8(both_u8, both_u8), f32(b->dmin));
}

INLINE void set_q6_K(const block_q6_K *b, float *scale, float *min) {
    store_16(scale, load128(b->scales), f32(b->d));
    store_16_zeros(min);
}

UNPACK(q2_K, 256, 0, set_q2_K)
UNPACK(q3_K, 256, 4, set_q3_K)
UNPACK(q4_K, 256, 0, set_q4_K)
UNPACK(q5_K, 256, 0, set_q4_K)
UNPACK(q6_K, 256, 32, set_q6_K)
