/* Floats to bf16 and to the GEMM's operand of bf16 pairs; contracts in kernels.h. */

#include "kernels.h"
#include "portable/simd.h"
#include "portable/transpose.h"

/* The bf16 of low, then high, as the bits of one vector. */
static inline vf v_bf16(vf low, vf high);

#if defined(__AVX512BF16__)

static inline vf v_bf16(vf low, vf high) { return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high, low)); }

#elif defined(__AVX512F__)

static inline __m256i v_bf16_half(vf x) { /* as gg_f32_to_bf16 */
    const __m512i bits = _mm512_castps_si512(x), sign = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MIN));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i y = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    y = _mm512_mask_mov_epi32(y, _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f800000)), sign);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    y = _mm512_mask_or_epi32(y, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(y, 16));
}

static inline vf v_bf16(vf low, vf high) {
    const __m512i low_u16 = _mm512_castsi256_si512(v_bf16_half(low));
    return _mm512_castsi512_ps(_mm512_inserti64x4(low_u16, v_bf16_half(high), 1));
}

#elif defined(__AVX2__)

static inline __m256i v_bf16_wide(vf x) { /* as gg_f32_to_bf16, in 32 bits each */
    const __m256i bits = _mm256_castps_si256(x), sign = _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MIN));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i exponent = _mm256_and_si256(bits, _mm256_set1_epi32(0x7f800000));
    __m256i y = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    y = _mm256_blendv_epi8(y, sign, _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256()));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    y = _mm256_blendv_epi8(y, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), nan);
    return _mm256_srli_epi32(y, 16);
}

static inline vf v_bf16(vf low, vf high) { /* packing works in halves: put them in order */
    const __m256i y = _mm256_packus_epi32(v_bf16_wide(low), v_bf16_wide(high));
    return _mm256_castsi256_ps(_mm256_permute4x64_epi64(y, _MM_SHUFFLE(3, 1, 2, 0)));
}

#else

static inline vf v_bf16(vf low, vf high) {
    uint16_t y[2 * VL];
    for (int i = 0; i < VL; i++) y[i] = gg_f32_to_bf16(low[i]), y[VL + i] = gg_f32_to_bf16(high[i]);
    vf bits;
    memcpy(&bits, y, sizeof bits);
    return bits;
}

#endif

void GG_NAME(store_bf16)(size_t n, const float *x, uint8_t *y) {
    size_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        const vf bits = v_bf16(v_load(x + i), v_load(x + i + VL));
        memcpy(y + 2 * i, &bits, sizeof bits);
    }
    for (; i < n; i++) {
        const uint16_t h = gg_f32_to_bf16(x[i]);
        memcpy(y + 2 * i, &h, sizeof h);
    }
}

/* 2 * VL columns of up to VL rows: a square of pairs, transposed in registers (which take known bounds of loops). */
static inline void pack_square(size_t rows, const float *x, size_t stride, uint16_t *b) {
    vf r[VL];
    for (int j = 0; j < VL; j++) {
        const float *row = x + (size_t)j * stride;
        r[j] = (size_t)j < rows ? v_bf16(v_load(row), v_load(row + VL)) : v_set1(0.0f);
    }
    v_transpose(r);
    for (int i = 0; i < VL; i++) memcpy(b + 2 * GG_LANES * i, &r[i], sizeof r[i]);
}

void GG_NAME(pack_bf16)(size_t k, size_t rows, const float *x, size_t stride, uint16_t *b) {
    for (size_t lane = 0; lane < GG_LANES; lane += VL) {
        const size_t n = rows < lane ? 0 : rows - lane;
        size_t i = 0;
        for (; i + 2 * VL <= k; i += 2 * VL) pack_square(n, x + lane * stride + i, stride, b + i * GG_LANES + 2 * lane);
        for (; i < k; i += 2)
            for (size_t j = 0; j < VL; j++) {
                const float *pair = x + (lane + j) * stride + i;
                uint16_t *to = b + i * GG_LANES + 2 * (lane + j);
                to[0] = j < n ? gg_f32_to_bf16(pair[0]) : 0;
                to[1] = j < n && i + 1 < k ? gg_f32_to_bf16(pair[1]) : 0;
            }
    }
}
