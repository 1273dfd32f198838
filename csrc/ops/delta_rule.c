/* dst[0] = the gated delta rule: for q, k = src[0], src[1] (groups, n), v = src[2] (heads, m), beta, decay = src[3],
 * src[4] (heads,): S = S exp(decay), S += k (beta (v - S^T k))^T, y = S^T q / sqrt(n); head i reads group i modulo the
 * groups. A sequence's S is in its slot: f32[heads][n][m]. Source: Gated DeltaNet (arXiv 2412.06464). */

#include <math.h>
#include <string.h>

#include "run.h"

typedef struct {
    gg_slots slots;
} gg_delta_rule;

/* y[j] = sum over i < n of c[i] * state[i][j]. */
static void project(size_t n, size_t m, const float *state, const float *c, float *y) {
    memset(y, 0, m * sizeof *y);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) y[j] += c[i] * state[i * m + j];
}

/* The state after a token, from that before. change: f32[m]. */
static void step(const struct gg_run *run, const gg_op *op, size_t row, size_t head, const float *before, float *state,
                 float *change) {
    const size_t n = (size_t)op->src[0].width, m = (size_t)op->dst[0].width, group = head % (size_t)op->src[0].heads;
    const float *q = gg_head(run, &op->src[0], row, group), *k = gg_head(run, &op->src[1], row, group);
    const float *v = gg_head(run, &op->src[2], row, head);
    const float beta = gg_row(run, &op->src[3], row)[head], decay = expf(gg_row(run, &op->src[4], row)[head]);
    float *y = gg_head(run, &op->dst[0], row, head);
    for (size_t i = 0; i < n * m; i++) state[i] = before[i] * decay;
    project(n, m, state, k, change);
    for (size_t j = 0; j < m; j++) change[j] = (v[j] - change[j]) * beta;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) state[i * m + j] += k[i] * change[j];
    project(n, m, state, q, change);
    for (size_t j = 0; j < m; j++) y[j] = change[j] / sqrtf((float)n);
}

static int run(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    const gg_delta_rule *a = op->args;
    const gg_batch *b = run->batch;
    const size_t heads = (size_t)op->dst[0].heads, floats = (size_t)op->src[0].width * (size_t)op->dst[0].width;
    for (size_t i; (i = gg_take(worker)) < heads * (size_t)b->n_sequences;) {
        const size_t sequence = i / heads, head = i % heads;
        const float *before = gg_slot_before(b, &a->slots, sequence) + head * floats;
        float *state = gg_slot_after(b, &a->slots, sequence) + head * floats;
        for (size_t row = (size_t)b->first_row[sequence]; row < (size_t)b->first_row[sequence + 1]; row++)
            step(run, op, row, head, before, state, scratch), before = state;
    }
    return gg_barrier(worker);
}

static struct gg_need need(const gg_program *program, const gg_op *op) {
    (void)program;
    return (struct gg_need){(size_t)op->dst[0].width, 0};
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p;
    const gg_view *q = &op->src[0], *beta = &op->src[3], *decay = &op->src[4], *y = &op->dst[0];
    for (int i = 0; i < 5; i++)
        if (!gg_is_view(&op->src[i])) return 0;
    if (op->rows != GG_ROWS_ALL || !gg_is_view(y) || !gg_same_shape(q, &op->src[1])) return 0;
    if (!gg_same_shape(y, &op->src[2]) || y->heads % q->heads) return 0;
    if (beta->heads != 1 || beta->width != y->heads || !gg_same_shape(beta, decay)) return 0;
    return gg_slots_are_whole(b, &((const gg_delta_rule *)op->args)->slots, gg_width(y) * (size_t)q->width);
}

const struct gg_op_kind gg_op_delta_rule = {.run = run, .need = need, .is_sound = is_sound};
