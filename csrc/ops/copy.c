/* dst[0] = src[0]; picks: of the rows of the batch those that the op works on. */

#include <string.h>

#include "run.h"

typedef struct {
    int32_t picks;
} gg_copy;

static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_copy *a = op->args;
    const size_t from = a->picks ? gg_batch_row(run, op, row) : row;
    for (size_t h = 0; h < (size_t)op->dst[0].heads; h++)
        memcpy(gg_head(run, &op->dst[0], row, h), gg_head(run, &op->src[0], from, h),
               (size_t)op->dst[0].width * sizeof(float));
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_copy *a = op->args;
    if (a->picks && op->rows == GG_ROWS_TEXTS) return 0;
    return gg_maps(op);
}

const struct gg_op_kind gg_op_copy = {.row = row, .is_sound = is_sound};
