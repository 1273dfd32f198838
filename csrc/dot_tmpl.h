/* Dot products of float types with float activations; contract in kernels.h. */

#include "kernels.h"
#include "simd.h"

static inline vf load_f32(const uint8_t *p) { return v_load((const float *)(const void *)p); }

static inline float scalar_f32(const uint8_t *p) {
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline float scalar_f16(const uint8_t *p) { return gg_f16_to_f32(gg_load_u16(p)); }
static inline float scalar_bf16(const uint8_t *p) { return gg_bf16_to_f32(gg_load_u16(p)); }

/* Four accumulators hide the latency of the FMA. */
#define DOT_FLOAT(name, bytes, load)                                                                        \
    static inline float row_##name(size_t n, const uint8_t *w, const float *x) {                            \
        vf acc[4] = {v_set1(0.0f), v_set1(0.0f), v_set1(0.0f), v_set1(0.0f)};                               \
        size_t i = 0;                                                                                       \
        for (; i + 4 * VL <= n; i += 4 * VL)                                                                \
            for (size_t j = 0; j < 4; j++)                                                                  \
                acc[j] = v_fma(load(w + (i + j * VL) * bytes), v_load(x + i + j * VL), acc[j]);             \
        for (; i + VL <= n; i += VL) acc[0] = v_fma(load(w + i * bytes), v_load(x + i), acc[0]);            \
        float sum = v_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));                                           \
        for (; i < n; i++) sum += scalar_##name(w + i * bytes) * x[i];                                      \
        return sum;                                                                                         \
    }                                                                                                       \
    void GG_NAME(dot_##name)(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,            \
                             const struct gg_activation *x, float *y, size_t ldy) {                         \
        for (size_t r = 0; r < rows; r++)                                                                   \
            for (size_t c = 0; c < n_x; c++) y[c * ldy + r] = row_##name(n, w + r * stride, x[c].x);        \
    }

DOT_FLOAT(f32, 4, load_f32)
DOT_FLOAT(f16, 2, v_load_f16)
DOT_FLOAT(bf16, 2, v_load_bf16)
