/* dst[0] = src[0] * factor + offset, limited to low .. high. */

#include "run.h"

typedef struct {
    float factor, offset, low, high;
} gg_affine;

static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_affine *a = op->args;
    for (size_t h = 0; h < (size_t)op->dst[0].heads; h++) {
        const float *x = gg_head(run, &op->src[0], row, h);
        float *y = gg_head(run, &op->dst[0], row, h);
        for (size_t i = 0; i < (size_t)op->dst[0].width; i++) {
            const float sum = x[i] * a->factor + a->offset, low = sum > a->low ? sum : a->low;
            y[i] = low < a->high ? low : a->high;
        }
    }
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    return gg_maps(op);
}

const struct gg_op_kind gg_op_affine = {.row = row, .is_sound = is_sound};
