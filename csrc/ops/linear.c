/* The linear op: dst[i] = src[0] @ weight[i].T + bias[i] (+ src[1]), by the regime that each row is in.
 *
 * Rows are worked on in lists, one for each matrix: a plain linear has one list, experts and heads one each. The regime
 * of a row follows from the row, never from how many rows its expert got. */

#include "linear.h"

static struct gg_linear_job make_job(const struct gg_run *run, const gg_op *op) {
    const gg_linear *a = op->args;
    return (struct gg_linear_job){
        .run = run,
        .op = op,
        .args = a,
        .rows = gg_op_rows(run, op),
        .wide = gg_wide_rows(run, op),
        .n_in = (size_t)a->weight[0].n_in,
        .outputs = a->gate >= 0 ? 1 : (size_t)a->n_weights,
        .lists = (size_t)a->weight[0].count,
        .slots = (size_t)op->dst[0].heads,
        .packed = run->program->shared + gg_narrow_need(run->program, op).shared_bytes,
        .most_tiles = gg_wide_most_tiles(run->program, op),
    };
}

/* Multiply the next rows of weights, counted over all lists and outputs; returns 0 when none is left. */
static int multiply_next(const struct gg_linear_job *j, struct gg_worker *worker, int wide, float *scratch) {
    size_t item = gg_take(worker);
    for (size_t i = 0; i < j->lists; i++) {
        const struct gg_list list = gg_list_of(j, wide, i);
        for (size_t k = 0; list.n && k < j->outputs; k++) {
            const gg_tensor *w = &j->args->weight[k];
            const size_t step = wide ? GG_WIDE_STEP : gg_narrow_step(w, worker->n_threads), n_out = (size_t)w->n_out;
            const size_t items = gg_ceil_div(n_out, step);
            if (item < items) {
                const size_t first = item * step, n = gg_min(step, n_out - first);
                (wide ? gg_wide_multiply : gg_narrow_multiply)(j, &list, k, first, n, scratch);
                return 1;
            }
            item -= items;
        }
    }
    return 0;
}

static int run(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    const struct gg_linear_job j = make_job(run, op);
    const size_t wide = gg_wide_pieces(&j), narrow = gg_narrow_pieces(&j);
    for (size_t i; (i = gg_take(worker)) < wide + narrow;)
        if (i < wide) gg_wide_prepare(&j, i, scratch);
        else gg_narrow_prepare(&j, i - wide);
    if (gg_barrier(worker)) return 1;
    for (int regime = 1; regime >= 0; regime--) {
        if ((regime ? wide : narrow) == 0) continue;
        while (multiply_next(&j, worker, regime, scratch)) continue;
        if (gg_barrier(worker)) return 1;
    }
    return 0;
}

static struct gg_need need(const gg_program *program, const gg_op *op) {
    const struct gg_need wide = gg_wide_need(program, op), narrow = gg_narrow_need(program, op);
    return (struct gg_need){gg_max(wide.scratch_floats, narrow.scratch_floats),
                            narrow.shared_bytes + wide.shared_bytes};
}

static int weights_fit(const gg_op *op, const gg_linear *a) {
    const gg_tensor *first = &a->weight[0];
    for (int32_t k = 0; k < a->n_weights; k++) {
        const gg_tensor *w = &a->weight[k];
        const gg_view *y = &op->dst[a->gate >= 0 ? 0 : k];
        if (!gg_tensor_is_whole(w) || w->n_in != first->n_in || w->count != first->count) return 0;
        if (!gg_is_view(y) || y->width != w->n_out || y->heads != op->dst[0].heads) return 0;
    }
    return 1;
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_linear *a = op->args;
    const gg_view *x = &op->src[0], *add = &op->src[1], *y = &op->dst[0];
    if (a->n_weights < 1 || a->n_weights > 3 || a->gate >= GG_FUNCTIONS || (a->gate >= 0 && a->n_weights != 2)) return 0;
    if (!gg_is_view(x) || x->width != a->weight[0].n_in || !weights_fit(op, a)) return 0;
    if (gg_is_view(add) && (!gg_same_shape(add, y) || (a->n_weights > 1 && a->gate < 0))) return 0;
    if (a->per_head) return !a->lists && x->heads == a->weight[0].count && y->heads == x->heads;
    if (a->lists) return (x->heads == 1 || x->heads == y->heads) && gg_lists_are_of(a->lists, a->weight[0].count, y->heads);
    return x->heads == 1 && y->heads == 1 && a->weight[0].count == 1;
}

const struct gg_op_kind gg_op_linear = {.run = run, .need = need, .is_sound = is_sound};
