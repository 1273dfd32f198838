/* dst[0] = scale * the row of a tensor that a row's token names (or its place, or the first), or the row that the caller
 * gave instead of a token. */

#include <string.h>

#include "run.h"

enum { BY_TOKEN, BY_PLACE, BY_FIRST };

typedef struct {
    gg_tensor weight;
    int32_t by; /* 0: token, 1: place, 2: the first row */
    float scale;
} gg_embed;

static int32_t index_of(const gg_batch *b, const gg_embed *a, size_t row) {
    return a->by == BY_TOKEN ? b->token[row] : a->by == BY_PLACE ? b->place[row] : 0;
}

static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_embed *a = op->args;
    const gg_batch *b = run->batch;
    const size_t n = (size_t)a->weight.n_in, from = gg_batch_row(run, op, row);
    const int32_t index = index_of(b, a, from);
    float *y = gg_row(run, &op->dst[0], row);
    if (index < 0) {
        memcpy(y, b->given + from * n, n * sizeof *y);
        return;
    }
    const struct gg_type type = gg_type(a->weight.type);
    gg_expand_weights(&type, n, a->weight.data + (size_t)index * a->weight.stride, y);
    if (a->scale != 1.0f) gg_k.scale(n, a->scale, y);
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p;
    const gg_embed *a = op->args;
    if (op->rows == GG_ROWS_TEXTS || !gg_is_view(&op->dst[0]) || !gg_tensor_is_whole(&a->weight)) return 0;
    if (!gg_is_flat(&op->dst[0]) || gg_width(&op->dst[0]) != (size_t)a->weight.n_in) return 0;
    for (int32_t row = 0; row < b->n_rows; row++) {
        const int32_t index = index_of(b, a, (size_t)row);
        if (index >= a->weight.n_out || index < -1) return 0;
        if (index < 0 && !(b->given && b->given_width == a->weight.n_in)) return 0;
    }
    return 1;
}

const struct gg_op_kind gg_op_embed = {.row = row, .is_sound = is_sound};
