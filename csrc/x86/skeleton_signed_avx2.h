/* Dot products of block types whose weights can be negative, for AVX2: 32 weights at a time, one column after the other.
 *
 * maddubs multiplies unsigned with signed bytes: the signs of the weights go to the activations.
 *
 * The file that includes this defines
 *   struct type          what kernels differ in; block_weights and block_bytes come first
 *   dot_row(n, w, x, t)  one row times one column */

#ifndef GG_X86_SKELETON_SIGNED_AVX2_H
#define GG_X86_SKELETON_SIGNED_AVX2_H

#include "portable/simd.h"
#include "common.h"

/* Products of 32 weights and activations, added in pairs; |w| is at most 127: no sum leaves 16 bits. */
INLINE __m256i signed_products(__m256i w_i8, __m256i x_i8) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w_i8), _mm256_sign_epi8(x_i8, w_i8));
}

/* gg_dot_<name>_<isa>; then what else a struct type has. */
#define DOT_TYPE(name, ...)                                                                                     \
    void GG_NAME(dot_##name)(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,                \
                             const struct gg_activation *x, float *y, size_t ldy) {                             \
        const struct type t = {GG_WEIGHTS_##name, sizeof(block_##name), __VA_ARGS__};                           \
        for (size_t r = 0; r < rows; r++)                                                                       \
            for (size_t c = 0; c < n_x; c++) y[c * ldy + r] = dot_row(n, w + r * stride, x + c, t);             \
    }

#endif
