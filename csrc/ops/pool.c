/* dst[0] = one row for each text: the mean of the rows of src[0] that are its, or the first of them. */

#include <string.h>

#include "run.h"

enum { MEAN, FIRST };

typedef struct {
    int32_t kind; /* 0: mean, 1: first */
} gg_pool;

static void row(const struct gg_run *run, const gg_op *op, size_t text) {
    const gg_pool *a = op->args;
    const size_t first = (size_t)run->batch->first_row[text], end = (size_t)run->batch->first_row[text + 1];
    const size_t n = gg_width(&op->dst[0]);
    float *y = gg_row(run, &op->dst[0], text);
    if (a->kind == FIRST) {
        memcpy(y, gg_row(run, &op->src[0], first), n * sizeof *y);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (size_t r = first; r < end; r++) sum += (double)gg_row(run, &op->src[0], r)[i];
        y[i] = (float)(sum / (double)(end - first));
    }
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    if (op->rows != GG_ROWS_TEXTS || !gg_is_view(&op->src[0]) || !gg_is_view(&op->dst[0])) return 0;
    return gg_is_flat(&op->src[0]) && gg_is_flat(&op->dst[0]) && gg_width(&op->src[0]) == gg_width(&op->dst[0]);
}

const struct gg_op_kind gg_op_pool = {.row = row, .is_sound = is_sound};
