/* dst[0] = function(src[0]), value by value. */

#include "run.h"

typedef struct {
    int32_t function; /* enum gg_function */
} gg_unary;

static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_unary *a = op->args;
    for (size_t h = 0; h < (size_t)op->dst[0].heads; h++)
        gg_k.activate(a->function, (size_t)op->dst[0].width, gg_head(run, &op->src[0], row, h), NULL,
                      gg_head(run, &op->dst[0], row, h));
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_unary *a = op->args;
    if (a->function < 0 || a->function >= GG_FUNCTIONS) return 0;
    return gg_maps(op);
}

const struct gg_op_kind gg_op_unary = {.row = row, .is_sound = is_sound};
