/* dst[0] = cosines and sines of the rows' angles, times magnitude: of pair i, at 2 i and 2 i + 1, or, for pairs that lie
 * half a head apart, at i and n / 2 + i. */

#include <math.h>

#include "run.h"

typedef struct {
    const float *frequency; /* f32[n / 2]: of pair i */
    const int32_t *axis;    /* i32[n / 2]: which of the batch's four angles it turns by; NULL: the first */
    float magnitude;
    int32_t halves;
} gg_rope_table;

static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_rope_table *a = op->args;
    const gg_batch *b = run->batch;
    const size_t pairs = (size_t)op->dst[0].width / 2, from = gg_batch_row(run, op, row);
    float *table = gg_row(run, &op->dst[0], row);
    for (size_t i = 0; i < pairs; i++) { /* in double: angles are large, and rows are few */
        const size_t axis = a->axis ? (size_t)a->axis[i] : 0;
        const double angle = (double)b->angle[axis * (size_t)b->n_rows + from] * (double)a->frequency[i];
        table[a->halves ? i : 2 * i] = (float)(cos(angle) * (double)a->magnitude);
        table[a->halves ? pairs + i : 2 * i + 1] = (float)(sin(angle) * (double)a->magnitude);
    }
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_rope_table *a = op->args;
    if (op->rows == GG_ROWS_TEXTS || !gg_is_view(&op->dst[0]) || op->dst[0].heads != 1) return 0;
    for (int32_t i = 0; a->axis && i < op->dst[0].width / 2; i++)
        if (a->axis[i] < 0 || a->axis[i] > 3) return 0;
    return op->dst[0].width % 2 == 0;
}

const struct gg_op_kind gg_op_rope_table = {.row = row, .is_sound = is_sound};
