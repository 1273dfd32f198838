/* dst[0] = src[0] with pairs of the first values of each head turned by the angles of the table src[1]. dst may be src. */

#include <string.h>

#include "run.h"

typedef struct {
    int32_t halves; /* values i and i + n / 2 are a pair, else 2 i and 2 i + 1 */
} gg_rotate;

static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_rotate *a = op->args;
    const float *table = gg_row(run, &op->src[1], row);
    const size_t turned = (size_t)op->src[1].width;
    for (size_t h = 0; h < (size_t)op->dst[0].heads; h++) {
        const float *x = gg_head(run, &op->src[0], row, h);
        float *y = gg_head(run, &op->dst[0], row, h);
        if (x != y) memcpy(y, x, (size_t)op->dst[0].width * sizeof *y);
        (a->halves ? gg_k.rope_halves : gg_k.rope)(turned, table, y);
    }
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_view *x = &op->src[0], *table = &op->src[1], *y = &op->dst[0];
    if (!gg_is_view(x) || !gg_is_view(table) || !gg_is_view(y) || !gg_same_shape(x, y)) return 0;
    return table->heads == 1 && table->width % 2 == 0 && table->width <= y->width;
}

const struct gg_op_kind gg_op_rotate = {.row = row, .is_sound = is_sound};
