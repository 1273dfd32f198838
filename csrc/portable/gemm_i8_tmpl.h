/* Packing of quantized activations; contract in kernels.h. Plain loops, for the compiler to vectorize. */

#include <string.h>

#include "kernels.h"
#include "portable/simd.h"

/* sum[lane] += the four q of each lane. */
static inline void add_lanes(const int8_t (*q)[4], int16_t *sum) {
    for (size_t lane = 0; lane < GG_LANES; lane++) {
        uint32_t four;
        memcpy(&four, q[lane], sizeof four);
        const int32_t a = (int32_t)(four << 24) >> 24, b = (int32_t)(four << 16) >> 24, c = (int32_t)(four << 8) >> 24;
        sum[lane] = (int16_t)(sum[lane] + a + b + c + ((int32_t)four >> 24));
    }
}

void GG_NAME(pack_i8)(size_t k, size_t rows, const struct gg_activation *x, struct gg_tile_i8 *t) {
    for (size_t i = 0; i < k; i += 32, t++) {
        if (rows < GG_LANES) memset(t, 0, sizeof *t);
        for (size_t row = 0; row < rows; row++) {
            for (size_t step = 0; step < 8; step++) memcpy(t->q[step][row], x[row].q + i + 4 * step, 4);
            t->d[row] = x[row].d[i / 32];
        }
        memset(t->sum, 0, sizeof t->sum);
        for (size_t step = 0; step < 8; step++) add_lanes(t->q[step], t->sum[step / 4]);
    }
}
