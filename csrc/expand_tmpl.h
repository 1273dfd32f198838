/* Blocks to floats; contract in kernels.h. The loops of unpack.h are written for the compiler to vectorize. */

#include "kernels.h"
#include "simd.h"
#include "unpack.h"
#include "unpack_grids.h"
#include "unpack_tables.h"
#include "unpack_ternary.h"

static inline void expand(size_t n, const struct gg_unpacked *u, float *y) {
    for (size_t i = 0; i < n; i += VL)
        v_store(y + i, v_set1(u->scale[i / 16]) * v_load_i8(u->q + i) - v_set1(u->min[i / 16]));
}

#define GG_BLOCK_TYPE(name, id, weights, bytes)                         \
    void GG_NAME(expand_##name)(size_t n, const uint8_t *w, float *y) { \
        for (size_t i = 0; i < n; i += weights, w += bytes) {           \
            struct gg_unpacked u;                                       \
            gg_unpack_##name(w, &u);                                    \
            expand(weights, &u, y + i);                                 \
        }                                                               \
    }
#include "types.inc"

void GG_NAME(expand_f32)(size_t n, const uint8_t *w, float *y) { memcpy(y, w, n * sizeof *y); }

void GG_NAME(expand_f16)(size_t n, const uint8_t *w, float *y) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_load_f16(w + 2 * i));
    for (; i < n; i++) y[i] = gg_f16_to_f32(gg_load_u16(w + 2 * i));
}

void GG_NAME(expand_bf16)(size_t n, const uint8_t *w, float *y) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_load_bf16(w + 2 * i));
    for (; i < n; i++) y[i] = gg_bf16_to_f32(gg_load_u16(w + 2 * i));
}
