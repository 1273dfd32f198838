/* Dot products of float types with float activations; contract in kernels.h. */

#include "kernels.h"
#include "portable/simd.h"

static inline vf load_f32(const uint8_t *p) { return v_load((const float *)(const void *)p); }

static inline float scalar_f32(const uint8_t *p) {
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline float scalar_f16(const uint8_t *p) { return gg_f16_to_f32(gg_load_u16(p)); }
static inline float scalar_bf16(const uint8_t *p) { return gg_bf16_to_f32(gg_load_u16(p)); }

enum {
    SUMS = VL == 16 ? 2 : 4,    /* accumulators of a row and a column: they hide the latency of the FMA */
    COLUMNS = VL == 16 ? 4 : 2, /* that share what is loaded of a row, as registers allow */
    ROWS = VL == 16 ? 2 : 1,    /* that share what is loaded of columns, which L1 does not hold */
    AHEAD = 12288,              /* bytes to ask for ahead: far, and into L2 */
};

/* y[c * ldy + r] = row r times column c, for r < rows, c < n_x. */
#define DOT_FLOAT(name, bytes, load)                                                                                 \
    static inline __attribute__((always_inline)) void tile_##name(                                                   \
        size_t n, const size_t rows, const uint8_t *w, size_t stride, const size_t n_x,                              \
        const struct gg_activation *x, float *y, size_t ldy) {                                                       \
        vf sum_f32[ROWS][COLUMNS][SUMS];                                                                             \
        for (size_t r = 0; r < rows; r++)                                                                            \
            for (size_t c = 0; c < n_x; c++)                                                                         \
                for (size_t j = 0; j < SUMS; j++) sum_f32[r][c][j] = v_set1(0.0f);                                   \
        size_t i = 0;                                                                                                \
        for (; i + SUMS * VL <= n; i += SUMS * VL)                                                                   \
            for (size_t r = 0; r < rows; r++) {                                                                      \
                const uint8_t *p = w + r * stride + i * bytes;                                                       \
                for (size_t k = 0; k < SUMS * VL * bytes; k += 64) __builtin_prefetch(p + AHEAD + k, 0, 2);          \
                for (size_t j = 0; j < SUMS; j++)                                                                    \
                    for (size_t c = 0; c < n_x; c++)                                                                 \
                        sum_f32[r][c][j] = v_fma(load(p + j * VL * bytes), v_load(x[c].x + i + j * VL),              \
                                                 sum_f32[r][c][j]);                                                  \
            }                                                                                                        \
        for (size_t r = 0; r < rows; r++)                                                                            \
            for (size_t c = 0; c < n_x; c++) {                                                                       \
                size_t k = i;                                                                                        \
                for (; k + VL <= n; k += VL)                                                                         \
                    sum_f32[r][c][0] =                                                                               \
                        v_fma(load(w + r * stride + k * bytes), v_load(x[c].x + k), sum_f32[r][c][0]);               \
                for (size_t j = 1; j < SUMS; j++) sum_f32[r][c][0] += sum_f32[r][c][j];                              \
                float sum = v_sum(sum_f32[r][c][0]);                                                                 \
                for (; k < n; k++) sum += scalar_##name(w + r * stride + k * bytes) * x[c].x[k];                     \
                y[c * ldy + r] = sum;                                                                                \
            }                                                                                                        \
    }                                                                                                                \
    void GG_NAME(dot_##name)(size_t n, size_t rows, const uint8_t *w, size_t stride, size_t n_x,                     \
                             const struct gg_activation *x, float *y, size_t ldy) {                                  \
        size_t r = 0;                                                                                                \
        for (; n_x >= COLUMNS && r + ROWS <= rows; r += ROWS) {                                                      \
            size_t c = 0;                                                                                            \
            for (; c + COLUMNS <= n_x; c += COLUMNS)                                                                 \
                tile_##name(n, ROWS, w + r * stride, stride, COLUMNS, x + c, y + c * ldy + r, ldy);                  \
            for (; c < n_x; c++)                                                                                     \
                for (size_t k = r; k < r + ROWS; k++)                                                                \
                    tile_##name(n, 1, w + k * stride, stride, 1, x + c, y + c * ldy + k, ldy);                       \
        }                                                                                                            \
        for (; r < rows; r++)                                                                                        \
            for (size_t c = 0; c < n_x; c++)                                                                         \
                tile_##name(n, 1, w + r * stride, stride, 1, x + c, y + c * ldy + r, ldy);                           \
    }

DOT_FLOAT(f32, 4, load_f32)
DOT_FLOAT(f16, 2, v_load_f16)
DOT_FLOAT(bf16, 2, v_load_bf16)
