/* dst[0] = the sum of the heads of src[0], in order. */

#include <string.h>

#include "run.h"


static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const size_t n = gg_width(&op->dst[0]);
    float *y = gg_row(run, &op->dst[0], row);
    memcpy(y, gg_head(run, &op->src[0], row, 0), n * sizeof *y);
    for (size_t h = 1; h < (size_t)op->src[0].heads; h++) {
        const float *x = gg_head(run, &op->src[0], row, h);
        for (size_t i = 0; i < n; i++) y[i] += x[i];
    }
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    if (!gg_is_view(&op->src[0]) || !gg_is_view(&op->dst[0]) || !gg_is_flat(&op->dst[0])) return 0;
    return (size_t)op->src[0].width == gg_width(&op->dst[0]);
}

const struct gg_op_kind gg_op_total = {.row = row, .is_sound = is_sound};
