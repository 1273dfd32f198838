/* Vectors of floats, as wide as the instruction set this file is compiled for. The templates (*_tmpl.h) are written
 * against it and compiled once per ISA. The compiler's own 4-wide vectors serve where there is nothing better, and for
 * the references, which say GG_PORTABLE. */

#ifndef GG_SIMD_H
#define GG_SIMD_H

#include <stdint.h>
#include <string.h>

#include "portable/convert.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)

#if defined(__AVX512BF16__)
#define GG_ISA bf16
#elif defined(__AVX512VBMI__)
#define GG_ISA vbmi
#else
#define GG_ISA avx512
#endif
enum { VL = 16 };
typedef __m512 vf;
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf v_set1(float x) { return _mm512_set1_ps(x); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf v_round(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_ldexp(vf x, vf n) { return _mm512_scalef_ps(x, n); } /* x 2^n for whole n in [-126, 127] */
static inline vf v_load_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vf v_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
static inline vf v_load_i4(const uint8_t *p, int shift) { /* bits shift .. shift + 4 of bytes, less 8 */
    const __m512i q_i32 = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    const vf values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_permutexvar_ps(_mm512_srl_epi32(q_i32, _mm_cvtsi32_si128(shift)), values);
}
static inline void v_store_i8(int8_t *p, vf x) { /* rounded to nearest even */
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}
static inline void v_store_f16(uint8_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vf v_load_bf16(const uint8_t *p) {
    const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline float v_sum(vf x) { return _mm512_reduce_add_ps(x); }
static inline float v_hmax(vf x) { return _mm512_reduce_max_ps(x); }

#elif defined(__AVX2__)

#define GG_ISA avx2
enum { VL = 8 };
typedef __m256 vf;
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf v_set1(float x) { return _mm256_set1_ps(x); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf v_round(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_ldexp(vf x, vf n) {
    return x * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtps_epi32(n + v_set1(127.0f)), 23));
}
static inline vf v_load_f16(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vf v_load_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
static inline vf v_load_i4(const uint8_t *p, int shift) {
    const __m256i q_i32 = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    const __m256i low_i32 = _mm256_and_si256(_mm256_srl_epi32(q_i32, _mm_cvtsi32_si128(shift)), _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(low_i32, _mm256_set1_epi32(8)));
}
static inline void v_store_i8(int8_t *p, vf x) {
    const __m256i q_i32 = _mm256_cvtps_epi32(x);
    const __m128i q_i16 = _mm_packs_epi32(_mm256_castsi256_si128(q_i32), _mm256_extracti128_si256(q_i32, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(q_i16, q_i16));
}
static inline void v_store_f16(uint8_t *p, vf x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vf v_load_bf16(const uint8_t *p) {
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline float v_sum(vf x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
static inline float v_hmax(vf x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

#elif defined(__aarch64__) && !defined(GG_PORTABLE)

#if defined(__ARM_FEATURE_MATMUL_INT8)
#define GG_ISA i8mm
#elif defined(__ARM_FEATURE_DOTPROD)
#define GG_ISA dotprod
#else
#define GG_ISA neon
#endif
enum { VL = 4 };
typedef float32x4_t vf;
static inline vf v_load(const float *p) { return vld1q_f32(p); }
static inline void v_store(float *p, vf x) { vst1q_f32(p, x); }
static inline vf v_set1(float x) { return vdupq_n_f32(x); }
static inline vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf v_max(vf a, vf b) { return vmaxq_f32(a, b); }
static inline vf v_min(vf a, vf b) { return vminq_f32(a, b); }
static inline vf v_round(vf x) { return vrndnq_f32(x); }
static inline vf v_ldexp(vf x, vf n) {
    return x * vreinterpretq_f32_s32(vshlq_n_s32(vcvtq_s32_f32(vaddq_f32(n, vdupq_n_f32(127.0f))), 23));
}
static inline vf v_load_f16(const uint8_t *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
static inline vf v_load_i8(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    const int16x8_t x_i16 = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(x_i16)));
}
static inline vf v_load_i4(const uint8_t *p, int shift) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    const uint16x4_t x_u16 = vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four >> shift & 0x0f0f0f0f))));
    return vsubq_f32(vcvtq_f32_u32(vmovl_u16(x_u16)), vdupq_n_f32(8.0f));
}
static inline void v_store_i8(int8_t *p, vf x) {
    const int16x4_t x_i16 = vmovn_s32(vcvtnq_s32_f32(x));
    const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(x_i16, x_i16))), 0);
    memcpy(p, &four, sizeof four);
}
static inline void v_store_f16(uint8_t *p, vf x) { vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(x))); }
static inline vf v_load_bf16(const uint8_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
static inline float v_sum(vf x) { return vaddvq_f32(x); }
static inline float v_hmax(vf x) { return vmaxvq_f32(x); }

#else

#define GG_ISA c
enum { VL = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
static inline vf v_load(const float *p) {
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void v_store(float *p, vf x) { memcpy(p, &x, sizeof x); }
static inline vf v_set1(float x) { return (vf){x, x, x, x}; }
static inline vf v_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf v_select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
static inline vf v_max(vf a, vf b) { return v_select(a > b, a, b); }
static inline vf v_min(vf a, vf b) { return v_select(a < b, a, b); }
static inline vf v_round(vf x) { /* for |x| < 2^22: the addition drops the fraction, ties to even */
    const vf magic = v_set1(12582912.0f);
    return (x + magic) - magic;
}
static inline vf v_ldexp(vf x, vf n) { return x * (vf)(__builtin_convertvector(n + v_set1(127.0f), vi) << 23); }
static inline vf v_load_f16(const uint8_t *p) {
    vf x;
    for (int i = 0; i < VL; i++) x[i] = gg_f16_to_f32(gg_load_u16(p + 2 * i));
    return x;
}
static inline vf v_load_i8(const int8_t *p) { return (vf){p[0], p[1], p[2], p[3]}; }
static inline vf v_load_i4(const uint8_t *p, int shift) {
    vf x;
    for (int i = 0; i < VL; i++) x[i] = (float)((p[i] >> shift & 15) - 8);
    return x;
}
static inline void v_store_i8(int8_t *p, vf x) {
    const vf rounded = v_min(v_max(v_round(x), v_set1(-128.0f)), v_set1(127.0f)); /* what is no number: -128 */
    for (int i = 0; i < VL; i++) p[i] = (int8_t)rounded[i];
}
static inline void v_store_f16(uint8_t *p, vf x) {
    for (int i = 0; i < VL; i++) {
        const gg_f16 h = gg_f32_to_f16(x[i]);
        memcpy(p + 2 * i, &h, sizeof h);
    }
}
static inline vf v_load_bf16(const uint8_t *p) {
    vf x;
    for (int i = 0; i < VL; i++) x[i] = gg_bf16_to_f32(gg_load_u16(p + 2 * i));
    return x;
}
static inline float v_sum(vf x) { return (x[0] + x[2]) + (x[1] + x[3]); }
static inline float v_hmax(vf x) {
    const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
    return a > b ? a : b;
}

#endif

/* gg_<family>_<isa>, the name of a kernel that a template defines. */
#define GG_PASTE(family, isa) gg_##family##_##isa
#define GG_PASTE2(family, isa) GG_PASTE(family, isa)
#define GG_NAME(family) GG_PASTE2(family, GG_ISA)

static inline vf v_abs(vf x) { return v_max(x, v_set1(0.0f) - x); }

/* exp(x) to 2 ULP for x in [-87.3, 88.0]; smaller x give exp(-87.3), larger ones exp(88.0).
 * x = n ln 2 + r; the polynomial is Taylor's to r^7 with |r| <= ln 2 / 2, its remainder below 1e-8. */
static inline vf v_exp(vf x) {
    x = v_min(v_max(x, v_set1(-87.3f)), v_set1(88.0f));
    const vf n = v_round(x * v_set1(1.44269504f));
    vf r = v_fma(n, v_set1(-0.693359375f), x); /* ln 2 in two parts: the first product is exact */
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    vf p = v_set1(1.0f / 5040);
    p = v_fma(p, r, v_set1(1.0f / 720));
    p = v_fma(p, r, v_set1(1.0f / 120));
    p = v_fma(p, r, v_set1(1.0f / 24));
    p = v_fma(p, r, v_set1(1.0f / 6));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r, v_set1(1.0f));
    p = v_fma(p, r, v_set1(1.0f));
    return v_ldexp(p, n);
}

#endif
