/* dst[0] = Mamba's state space: for x = src[0] (heads, n), dt = src[1] (heads,), b and c = src[2], src[3] (groups, m), of
 * which heads / groups neighbouring heads share one: S = S exp(dt a) + dt x b^T, y = S c. A sequence's S is in its slot:
 * f32[heads][n][m]. Source: Mamba 2 (arXiv 2405.21060). */

#include <math.h>

#include "run.h"

typedef struct {
    gg_slots slots;
    const float *a;   /* f32[heads][n_a] */
    int32_t n_a;      /* 1 or m */
} gg_scan;

/* One row of a head's state after a token, from that before: returns its product with c. decay: NULL for `all`. */
static float step(size_t m, const float *before, float *state, const float *decay, float all, float dx, const float *b,
                  const float *c) {
    float sum[4] = {0};
    for (size_t j = 0; j < m; j++) {
        state[j] = before[j] * (decay ? decay[j] : all) + dx * b[j];
        sum[j % 4] += state[j] * c[j];
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static void scan_head(const struct gg_run *run, const gg_op *op, size_t sequence, size_t head, float *decay) {
    const gg_scan *a = op->args;
    const gg_batch *batch = run->batch;
    const size_t n = (size_t)op->dst[0].width, m = (size_t)op->src[2].width, n_a = (size_t)a->n_a;
    const size_t group = head / ((size_t)op->dst[0].heads / (size_t)op->src[2].heads);
    const float *before = gg_slot_before(batch, &a->slots, sequence) + head * n * m;
    float *state = gg_slot_after(batch, &a->slots, sequence) + head * n * m;
    for (size_t row = (size_t)batch->first_row[sequence]; row < (size_t)batch->first_row[sequence + 1]; row++) {
        const float dt = gg_row(run, &op->src[1], row)[head], *x = gg_head(run, &op->src[0], row, head);
        const float *b = gg_head(run, &op->src[2], row, group), *c = gg_head(run, &op->src[3], row, group);
        float *y = gg_head(run, &op->dst[0], row, head);
        for (size_t j = 0; j < n_a; j++) decay[j] = expf(dt * a->a[head * n_a + j]);
        for (size_t i = 0; i < n; i++)
            y[i] = step(m, before + i * m, state + i * m, n_a > 1 ? decay : NULL, decay[0], dt * x[i], b, c);
        before = state;
    }
}

static int run(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    const size_t heads = (size_t)op->dst[0].heads;
    for (size_t i; (i = gg_take(worker)) < heads * (size_t)run->batch->n_sequences;)
        scan_head(run, op, i / heads, i % heads, scratch);
    return gg_barrier(worker);
}

static struct gg_need need(const gg_program *program, const gg_op *op) {
    (void)program;
    return (struct gg_need){(size_t)((const gg_scan *)op->args)->n_a, 0};
}

static int is_sound(const gg_program *p, const gg_batch *batch, const gg_op *op) {
    (void)p;
    const gg_scan *a = op->args;
    const gg_view *dt = &op->src[1], *b = &op->src[2], *c = &op->src[3], *y = &op->dst[0];
    if (op->rows != GG_ROWS_ALL || !gg_maps(op) || !gg_is_view(dt) || !gg_is_view(b) || !gg_is_view(c)) return 0;
    if (dt->heads != 1 || dt->width != y->heads || !gg_same_shape(b, c) || y->heads % b->heads) return 0;
    if (a->n_a != 1 && a->n_a != b->width) return 0;
    return gg_slots_are_whole(batch, &a->slots, gg_width(y) * (size_t)b->width);
}

const struct gg_op_kind gg_op_scan = {.run = run, .need = need, .is_sound = is_sound};
