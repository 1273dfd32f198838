/* AVX2: dot products of the types whose weights are nibbles that choose from a table, or of two bits at most. */

#include "decode_signs_x86.h"
#include "decode_tables_avx2.h"
#include "skeleton_signed_avx2.h"

typedef void scales_fn(const uint8_t *p, float *scale);
typedef __m256i products_fn(const uint8_t *p, const int k, __m256i x_i8);

/* What kernels differ in. */
struct type {
    size_t block_weights, block_bytes;
    scales_fn *scales;     /* of the groups of 16 of a block */
    products_fn *products; /* of its weights 32 k to 32 k + 31 and x, added in pairs */
};

/* sum_f32 + products, with a scale for each 16 weights. */
INLINE __m256 add_products(__m256 sum_f32, __m256i products_i16, const float *scale, float d) {
    const __m256i products_i32 = _mm256_madd_epi16(products_i16, _mm256_set1_epi16(1));
    const __m256 scale_f32 = _mm256_set_m128(_mm_set1_ps(scale[1] * d), _mm_set1_ps(scale[0] * d));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(products_i32), scale_f32, sum_f32);
}

INLINE float dot_row(size_t n, const uint8_t *w, const struct gg_activation *x, const struct type t) {
    __m256 sum_f32[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t i = 0; i < n; i += t.block_weights, w += t.block_bytes) {
        float scale[16];
        if (i % 256 == 0) prefetch(w, 256 / t.block_weights * t.block_bytes);
        t.scales(w, scale);
        _Pragma("GCC unroll 8") for (int k = 0; k < (int)t.block_weights / 32; k++)
            sum_f32[k % 2] = add_products(sum_f32[k % 2], t.products(w, k, load256(x->q + i + 32 * k)), scale + 2 * k,
                                          x->d[i / 32 + (size_t)k]);
    }
    return sum8(_mm256_add_ps(sum_f32[0], sum_f32[1]));
}

/* ---- Scales ---- */

#define ONE_SCALE(name)                                                                                         \
    INLINE void scales_##name(const uint8_t *p, float *scale) {                                                 \
        for (int g = 0; g < GG_WEIGHTS_##name / 16; g++) scale[g] = f32(((const block_##name *)p)->d);          \
    }

ONE_SCALE(iq4_nl)
ONE_SCALE(tq1_0)
ONE_SCALE(tq2_0)
ONE_SCALE(q1_0)
ONE_SCALE(q2_0)

INLINE void scales_iq4_xs(const uint8_t *p, float *scale) { gg_iq4_xs_scales((const block_iq4_xs *)p, scale); }

INLINE void scales_mxfp4(const uint8_t *p, float *scale) { scale[0] = scale[1] = gg_half_e8m0(*p); }

INLINE void scales_nvfp4(const uint8_t *p, float *scale) {
    _mm_storeu_ps(scale, _mm256_castps256_ps128(half_ue4m3(_mm_cvtsi32_si128((int)load_u32(p)))));
}

/* ---- Products ---- */

#define PRODUCTS(name)                                                                                          \
    INLINE __m256i products_##name(const uint8_t *p, const int k, __m256i x_i8) {                               \
        return signed_products(weights_##name((const block_##name *)p, k), x_i8);                               \
    }

PRODUCTS(iq4_nl)
PRODUCTS(iq4_xs)
PRODUCTS(mxfp4)
PRODUCTS(nvfp4)
PRODUCTS(tq1_0)
PRODUCTS(tq2_0)
PRODUCTS(q2_0)

INLINE __m256i products_q1_0(const uint8_t *p, const int k, __m256i x_i8) {
    return _mm256_maddubs_epi16(_mm256_set1_epi8(1), negate(x_i8, ~load_u32(((const block_q1_0 *)p)->qs + 4 * k)));
}

#define DOT(name) DOT_TYPE(name, scales_##name, products_##name)
DOT(iq4_nl)
DOT(iq4_xs)
DOT(mxfp4)
DOT(nvfp4)
DOT(tq1_0)
DOT(tq2_0)
DOT(q1_0)
DOT(q2_0)
