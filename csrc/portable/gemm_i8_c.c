/* Integer matrix product: the portable reference. Contract in kernels.h. */

#include "gg.h"
#include "kernels.h"

/* c[lane] += a group's part of row i of the panel, which begins at input l. */
static void add_group(const struct gg_panel_i8 *a, size_t i, size_t l, const struct gg_tile_i8 *t, float *c) {
    const size_t group = (size_t)a->group, step = l % 32 / 4;
    const float scale = a->scale[(i * a->ld + l) / 16];
    for (size_t lane = 0; lane < GG_LANES; lane++) {
        int products = 0, sum = 0;
        for (size_t h = 0; h < group / 16; h++) sum += t->sum[l % 32 / 16 + h][lane];
        for (size_t n = 0; n < group; n++) products += a->q[i * a->ld + l + n] * t->q[step + n / 4][lane][n % 4];
        c[lane] += (float)(products + a->low * sum) * (scale * t->d[lane]);
        if (a->min) c[lane] -= a->min[(i * a->ld + l) / 16] * (t->d[lane] * (float)sum);
    }
}

void gg_gemm_i8_c(size_t m, size_t k, const struct gg_panel_i8 *a, const struct gg_tile_i8 *b, float *c, int accumulate) {
    for (size_t i = 0; i < m; i++, c += GG_LANES) {
        for (size_t lane = 0; !accumulate && lane < GG_LANES; lane++) c[lane] = 0.0f;
        for (size_t l = 0; l < k; l += (size_t)a->group) add_group(a, i, l, b + l / 32, c);
    }
}
