/* dst[0] = src[0] + src[1] or src[0] * src[1], value by value; heads of src[1] may have one value for all. */

#include "run.h"

typedef struct {
    int32_t multiplies;
} gg_binary;

static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_binary *a = op->args;
    const size_t step = op->src[1].width == op->dst[0].width;
    for (size_t h = 0; h < (size_t)op->dst[0].heads; h++) {
        const float *x = gg_head(run, &op->src[0], row, h), *z = gg_head(run, &op->src[1], row, h);
        float *y = gg_head(run, &op->dst[0], row, h);
        const size_t n = (size_t)op->dst[0].width;
        if (a->multiplies)
            for (size_t i = 0; i < n; i++) y[i] = x[i] * z[i * step];
        else
            for (size_t i = 0; i < n; i++) y[i] = x[i] + z[i * step];
    }
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_view *y = &op->src[1];
    if (!gg_is_view(&op->src[0]) || !gg_is_view(y) || !gg_is_view(&op->dst[0])) return 0;
    return gg_same_shape(&op->src[0], &op->dst[0]) && y->heads == op->dst[0].heads &&
           (y->width == op->dst[0].width || y->width == 1);
}

const struct gg_op_kind gg_op_binary = {.row = row, .is_sound = is_sound};
