/* AVX-512: rows, signs and scales of the types whose weights are rows of a grid. */

#ifndef GG_X86_DECODE_GRIDS_AVX512_H
#define GG_X86_DECODE_GRIDS_AVX512_H

#include "portable/decode_grids.h"
#include "decode_signs_x86.h"
#include "skeleton_direct_avx512.h"

/* ---- Rows ---- */

/* Rows of eight weights by four numbers. A broadcast that loads needs no port for shuffles. */
INLINE __m256i four_rows(const uint64_t *grid, size_t r0, size_t r1, size_t r2, size_t r3) {
    __m256i rows_u8 = _mm256_castsi128_si256(_mm_loadl_epi64((const void *)(grid + r0)));
    rows_u8 = _mm256_mask_broadcastq_epi64(rows_u8, 2, _mm_loadl_epi64((const void *)(grid + r1)));
    rows_u8 = _mm256_mask_broadcastq_epi64(rows_u8, 4, _mm_loadl_epi64((const void *)(grid + r2)));
    return _mm256_mask_broadcastq_epi64(rows_u8, 8, _mm_loadl_epi64((const void *)(grid + r3)));
}

INLINE __m512i join(__m256i low, __m256i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

INLINE void set_rows(struct weights *u, const uint64_t *grid, const uint16_t *r) {
    for (int z = 0; z < 4; z++, r += 8) {
        u->q_u8[z] = join(four_rows(grid, r[0], r[1], r[2], r[3]), four_rows(grid, r[4], r[5], r[6], r[7]));
        __asm__ volatile("" : "+v"(u->q_u8[z])); /* or GCC loads all rows before it puts them together: 32 registers */
    }
}

/* ---- Signs ---- */

INLINE void set_signs(struct weights *u, __m256i signs_u8) { _mm256_storeu_si256((void *)u->minus, signs_u8); }

/* ---- Scales: step * (n + 0.5) ---- */

INLINE void set_eight(struct weights *u, float step, __m256i n_i32) {
    set_eight_scales(u, _mm256_fmadd_ps(_mm256_cvtepi32_ps(n_i32), _mm256_set1_ps(step), _mm256_set1_ps(0.5f * step)));
}

/* 16 nibbles of eight bytes. */
INLINE void set_sixteen(struct weights *u, float step, const uint8_t *scales) {
    const __m128i two_u8 = _mm_loadl_epi64((const void *)scales), loq_u8 = _mm_set1_epi8(15);
    const __m128i n_u8 = _mm_and_si128(_mm_unpacklo_epi8(two_u8, _mm_srli_epi16(two_u8, 4)), loq_u8);
    const __m512i n_i32 = _mm512_cvtepu8_epi32(_mm_shuffle_epi8(n_u8, _mm512_cvtepi32_epi8(order_i32())));
    u->scale_f32 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n_i32), _mm512_set1_ps(step), _mm512_set1_ps(0.5f * step));
}

/* ---- Types: signs and scales ---- */

INLINE void rest_iq2_xxs(const block_iq2_xxs *b, struct weights *u) {
    const __m512i odd_i32 = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15);
    const __m256i signs_u32 = _mm512_castsi512_si256(_mm512_permutexvar_epi32(odd_i32, _mm512_loadu_si512(b->qs)));
    set_signs(u, even_signs(sevens(signs_u32)));
    set_eight(u, 0.25f * f32(b->d), _mm256_srli_epi32(signs_u32, 28));
}

INLINE void rest_iq2_xs(const block_iq2_xs *b, struct weights *u) {
    set_signs(u, even_signs(_mm512_cvtepi16_epi8(_mm512_srli_epi16(_mm512_loadu_si512(b->qs), 9))));
    set_sixteen(u, 0.25f * f32(b->d), b->scales);
}

INLINE void rest_iq2_s(const block_iq2_s *b, struct weights *u) {
    memcpy(u->minus, b->signs, sizeof u->minus);
    set_sixteen(u, 0.25f * f32(b->d), b->scales);
}

INLINE void rest_iq3_xxs(const block_iq3_xxs *b, struct weights *u) {
    const __m256i signs_u32 = load256(b->signs);
    set_signs(u, even_signs(sevens(signs_u32)));
    set_eight(u, 0.5f * f32(b->d), _mm256_srli_epi32(signs_u32, 28));
}

INLINE void rest_iq3_s(const block_iq3_s *b, struct weights *u) {
    uint32_t scales;
    memcpy(&scales, b->scales, sizeof scales);
    const __m256i shift_u32 = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i n_i32 = _mm256_srlv_epi32(_mm256_set1_epi32((int)scales), shift_u32);
    memcpy(u->minus, b->signs, sizeof u->minus);
    set_eight(u, 2.0f * f32(b->d), _mm256_and_si256(n_i32, _mm256_set1_epi32(15)));
}

#endif
