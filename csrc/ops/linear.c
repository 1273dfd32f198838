/* The linear op: dst[i] = src @ weight[i].T, by the regime that each row is in. */

#include "ops/linear.h"

size_t gg_linear_scratch(const gg_program *program) {
    const size_t wide = gg_wide_scratch(program), narrow = gg_narrow_scratch();
    return wide > narrow ? wide : narrow;
}

static struct gg_linear make_linear(const struct gg_run *run, const gg_op *op) {
    const size_t rows = gg_op_rows(run, op);
    size_t wide = (size_t)(op->out_rows ? run->batch->n_out_wide : run->batch->n_prompt);
    if (run->program->precision == GG_EXACT) wide = rows;
    if (run->program->precision == GG_INT8) wide = 0;
    return (struct gg_linear){
        .run = run,
        .op = op,
        .wide = {0, wide},
        .narrow = {wide, rows},
        .n_in = (size_t)op->weight[0].n_in,
        .outputs = op->gated ? 1 : (size_t)op->n_weights,
    };
}

/* Multiply the next rows of weights, counted over all outputs; returns 0 when none is left. */
static int multiply_next(const struct gg_linear *j, struct gg_worker *worker, int wide, float *scratch) {
    size_t item = gg_take(worker);
    for (size_t k = 0; k < j->outputs; k++) {
        const gg_tensor *w = &j->op->weight[k];
        const size_t step = wide ? GG_WIDE_STEP : gg_narrow_step(w, worker->n_threads), n_out = (size_t)w->n_out;
        const size_t items = (n_out + step - 1) / step;
        if (item < items) {
            const size_t first = item * step;
            (wide ? gg_wide_multiply : gg_narrow_multiply)(j, k, first, gg_min(step, n_out - first), scratch);
            return 1;
        }
        item -= items;
    }
    return 0;
}

int gg_linear(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    const struct gg_linear j = make_linear(run, op);
    const size_t tiles = gg_n_tiles(&j), rows = gg_n_narrow(&j);
    for (size_t i; (i = gg_take(worker)) < tiles + rows;)
        if (i < tiles) gg_wide_prepare(&j, i);
        else gg_narrow_prepare(&j, i - tiles);
    if (gg_barrier(worker)) return 1;
    for (int wide = 1; wide >= 0; wide--) {
        if ((wide ? tiles : rows) == 0) continue;
        while (multiply_next(&j, worker, wide, scratch)) continue;
        if (gg_barrier(worker)) return 1;
    }
    return 0;
}
