/* Checks of the kernels around the products of many rows: operands, results. */

#ifndef CHECK_WIDE_H
#define CHECK_WIDE_H

#include "checkkern.h"
#include "gg.h"
#include "kernels.h"

/* Besides the values: nothing between the rows of y is written, and y may be add. */
static int check_untile_shape(gg_untile_fn *new, size_t m, size_t rows, int has_bias, int has_add) {
    enum { PAD = 3 };
    static float want[(64 + PAD) * GG_LANES];
    const size_t ld = m + PAD, size = rows ? (rows - 1) * ld + m : 0;
    float *c = floats(0, m * GG_LANES), *bias = floats(1, m), *add = floats(2, size), *y = floats(3, size);
    fill(c, m * GG_LANES, 1.0f), fill(bias, m, 1.0f), fill(add, size, 1.0f), fill(y, size, 1.0f);
    memcpy(want, y, size * sizeof *y);
    for (size_t j = 0; j < rows; j++)
        for (size_t i = 0; i < m; i++) {
            want[j * ld + i] = c[i * GG_LANES + j];
            if (has_bias) want[j * ld + i] += bias[i];
            if (has_add) want[j * ld + i] += add[j * ld + i];
        }
    new(m, rows, c, has_bias ? bias : NULL, has_add ? add : NULL, ld, y, ld);
    if (!all_close("untile", size, want, y, 0.0f, 0.0f)) return 0;
    if (!has_add) return 1;
    for (size_t j = 0; j < rows; j++) memcpy(want + j * m, y + j * ld, m * sizeof *y);
    new(m, rows, c, has_bias ? bias : NULL, add, ld, add, ld);
    for (size_t j = 0; j < rows; j++)
        if (!all_close("untile in place", m, want + j * m, add + j * ld, 0.0f, 0.0f)) return 0;
    return 1;
}

static int check_untile(gg_untile_fn *ref, gg_untile_fn *new, double *ns) {
    (void)ref; /* the reference itself is held against plain loops too */
    for (size_t m = 0; m <= 64; m += m < 18 ? 1 : 7)
        for (size_t rows = 0; rows <= GG_LANES; rows++)
            for (int options = 0; options < 4; options++)
                if (!check_untile_shape(new, m, rows, options % 2, options / 2)) return 0;
    float *c = floats(0, 64 * GG_LANES), *add = floats(1, 64 * GG_LANES), *y = floats(2, 64 * GG_LANES);
    TIME(ns, new(64, GG_LANES, c, NULL, add, 64, y, 64));
    return 1;
}

#endif
