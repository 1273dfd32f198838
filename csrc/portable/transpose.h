/* A square of floats turned over its diagonal: rows of VL floats become columns. Bits are moved, not computed with. */

#ifndef GG_TRANSPOSE_H
#define GG_TRANSPOSE_H

#include "portable/simd.h"

#if defined(__AVX512F__)

/* Four rows at a time: in each 128-bit quarter, column q of a 4 x 4 square comes into r[4 * i + q]. */
static inline void v_transpose_quarters(vf r[16]) {
    for (int i = 0; i < 16; i += 4) {
        const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
        const __m512d b = _mm512_castps_pd(_mm512_unpacklo_ps(r[i + 2], r[i + 3]));
        const __m512d c = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
        const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[i + 2], r[i + 3]));
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
    }
}

static inline void v_transpose(vf r[16]) {
    v_transpose_quarters(r);
    for (int q = 0; q < 4; q++) { /* now the quarters themselves: r[q], r[q + 4], ... are a 4 x 4 square of them */
        const vf a = _mm512_shuffle_f32x4(r[q], r[q + 4], 0x88), b = _mm512_shuffle_f32x4(r[q + 8], r[q + 12], 0x88);
        const vf c = _mm512_shuffle_f32x4(r[q], r[q + 4], 0xdd), d = _mm512_shuffle_f32x4(r[q + 8], r[q + 12], 0xdd);
        r[q] = _mm512_shuffle_f32x4(a, b, 0x88);
        r[q + 4] = _mm512_shuffle_f32x4(c, d, 0x88);
        r[q + 8] = _mm512_shuffle_f32x4(a, b, 0xdd);
        r[q + 12] = _mm512_shuffle_f32x4(c, d, 0xdd);
    }
}

#elif defined(__AVX2__)

static inline void v_transpose(vf r[8]) {
    for (int i = 0; i < 8; i += 4) { /* in each half, column q of a 4 x 4 square comes into r[i + q] */
        const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[i], r[i + 1]));
        const __m256d b = _mm256_castps_pd(_mm256_unpacklo_ps(r[i + 2], r[i + 3]));
        const __m256d c = _mm256_castps_pd(_mm256_unpackhi_ps(r[i], r[i + 1]));
        const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(r[i + 2], r[i + 3]));
        r[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
        r[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
        r[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(c, d));
        r[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(c, d));
    }
    for (int q = 0; q < 4; q++) {
        const vf low = r[q], high = r[q + 4];
        r[q] = _mm256_permute2f128_ps(low, high, 0x20);
        r[q + 4] = _mm256_permute2f128_ps(low, high, 0x31);
    }
}

#elif defined(__aarch64__) && !defined(GG_PORTABLE)

static inline void v_transpose(vf r[4]) {
    const float64x2_t a = vreinterpretq_f64_f32(vzip1q_f32(r[0], r[1])), b = vreinterpretq_f64_f32(vzip1q_f32(r[2], r[3]));
    const float64x2_t c = vreinterpretq_f64_f32(vzip2q_f32(r[0], r[1])), d = vreinterpretq_f64_f32(vzip2q_f32(r[2], r[3]));
    r[0] = vreinterpretq_f32_f64(vzip1q_f64(a, b));
    r[1] = vreinterpretq_f32_f64(vzip2q_f64(a, b));
    r[2] = vreinterpretq_f32_f64(vzip1q_f64(c, d));
    r[3] = vreinterpretq_f32_f64(vzip2q_f64(c, d));
}

#else

static inline void v_transpose(vf r[4]) {
    const vf a = r[0], b = r[1], c = r[2], d = r[3];
    for (int i = 0; i < 4; i++) r[i] = (vf){a[i], b[i], c[i], d[i]};
}

#endif

#endif
