/* Running programs. Contracts in gg_cdef.h. */

#include <math.h>
#include <string.h>

#include "ops/program.h"

/* ---- Ops that work on one row at a time ---- */

static void embed(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_tensor *w = &op->weight[0];
    const struct gg_type type = gg_type(w->type);
    gg_expand_weights(&type, (size_t)w->n_in, w->data + (size_t)run->batch->token[row] * w->stride,
                      gg_row(run, op->dst[0], row));
}

static void rope_table(const struct gg_run *run, const gg_op *op, size_t row) {
    float *table = gg_row(run, op->dst[0], row);
    for (size_t i = 0; i < (size_t)op->n / 2; i++) { /* in double: angles are large, and rows are few */
        const double angle = (double)run->batch->position[row] * (double)op->vector[i];
        table[2 * i] = (float)(cos(angle) * (double)op->scale);
        table[2 * i + 1] = (float)(sin(angle) * (double)op->scale);
    }
}

static void rms_norm(const struct gg_run *run, const gg_op *op, size_t row) {
    gg_k.rms_norm((size_t)op->n, gg_row(run, op->src[0], row), op->vector, op->scale, gg_row(run, op->dst[0], row));
}

static void rope(const struct gg_run *run, const gg_op *op, size_t row) {
    float *x = gg_row(run, op->dst[0], row);
    for (int32_t h = 0; h < op->n_head; h++)
        gg_k.rope((size_t)op->n, gg_row(run, op->src[1], row), x + (size_t)h * (size_t)op->head_dim);
}

static void gather(const struct gg_run *run, const gg_op *op, size_t row) {
    memcpy(gg_row(run, op->dst[0], row), gg_row(run, op->src[0], (size_t)run->batch->out_row[row]),
           (size_t)op->n * sizeof(float));
}

typedef void row_fn(const struct gg_run *run, const gg_op *op, size_t row);

static int each_row(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, row_fn *f) {
    for (size_t row; (row = gg_take(worker)) < gg_op_rows(run, op);) f(run, op, row);
    return gg_barrier(worker);
}

/* ---- The loop ---- */

static int run_op(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    switch (op->kind) {
    case GG_OP_EMBED: return each_row(run, op, worker, embed);
    case GG_OP_ROPE_TABLE: return each_row(run, op, worker, rope_table);
    case GG_OP_RMS_NORM: return each_row(run, op, worker, rms_norm);
    case GG_OP_LINEAR: return gg_linear(run, op, worker, scratch);
    case GG_OP_ROPE: return each_row(run, op, worker, rope);
    case GG_OP_ATTENTION: return gg_attention(run, op, worker, scratch);
    default: return each_row(run, op, worker, gather); /* GG_OP_GATHER */
    }
}

/* Adjacent rows of one sequence, at most `most` of them, make a tile. */
static size_t make_tiles(const gg_batch *b, int32_t most, int32_t *tiles) {
    size_t n = 0;
    for (int32_t row = 0; row < b->n_rows; row++) {
        int32_t *last = n ? tiles + 2 * (n - 1) : NULL;
        if (last && b->sequence[last[0]] == b->sequence[row] && last[1] < most) {
            last[1]++;
        } else {
            tiles[2 * n] = row, tiles[2 * n + 1] = 1;
            n++;
        }
    }
    return n;
}

static void run_ops(void *arg, struct gg_worker *worker) {
    struct gg_run *run = arg;
    const gg_program *p = run->program;
    float *scratch = p->scratch + (size_t)worker->index * p->scratch_floats;
    if (gg_take(worker) == 0) run->n_tiles = make_tiles(run->batch, (int32_t)gg_attention_rows(p), p->tiles);
    if (gg_barrier(worker)) return;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (run_op(run, &p->ops[i], worker, scratch)) return;
}

size_t gg_scratch_floats(const gg_program *program) {
    size_t floats = gg_linear_scratch(program);
    for (int32_t i = 0; i < program->n_ops; i++)
        if (program->ops[i].kind == GG_OP_ATTENTION) {
            const size_t needed = gg_attention_scratch(program, &program->ops[i]);
            if (needed > floats) floats = needed;
        }
    return gg_round_up(floats, 16);
}

/* ---- Nothing is taken on trust ---- */

static int weights_are_whole(const gg_program *p, const gg_op *op) {
    for (int32_t i = 0; i < op->n_weights; i++) {
        const gg_tensor *w = &op->weight[i];
        const struct gg_type type = gg_type(w->type);
        if (type.weights == 0 || w->n_in < 1 || w->n_out < 1 || w->n_in > p->max_in) return 0;
        if (w->n_in != op->weight[0].n_in) return 0;
        if ((size_t)w->n_in % type.weights || w->stride != (size_t)w->n_in / type.weights * type.bytes) return 0;
        if (w->bytes / w->stride < (size_t)w->n_out) return 0;
    }
    return 1;
}

static int is_page(int32_t type, size_t heads, size_t n, size_t bytes) {
    const struct gg_cache_type t = gg_cache_type(type);
    return t.weights && n % t.weights == 0 && bytes == GG_LANES * heads * (n / t.weights * t.bytes);
}

static int cache_is_whole(const gg_op *op) {
    const gg_cache *c = &op->cache;
    const size_t heads = (size_t)op->n_kv, width = gg_round_up((size_t)op->value_dim, GG_LANES);
    return is_page(c->k_type, heads, (size_t)op->head_dim, c->k_page_bytes) &&
           is_page(c->v_type, heads, width, c->v_page_bytes) &&
           (size_t)op->value_dim % gg_cache_type(c->v_type).weights == 0;
}

static int batch_fits(const gg_batch *b, const gg_op *op) {
    for (int32_t row = 0; row < b->n_rows; row++) {
        if (op->kind == GG_OP_EMBED && (b->token[row] < 0 || b->token[row] >= op->weight[0].n_out)) return 0;
        if (op->kind != GG_OP_ATTENTION) continue;
        const int32_t *pages = b->page + b->first_page[b->sequence[row]], page = pages[b->position[row] / GG_LANES];
        if (page < 0 || page >= op->cache.n_pages) return 0;
    }
    return 1;
}

static int is_sound(const gg_program *p, const gg_batch *b) {
    if (b->n_rows > p->max_rows || b->n_out > b->n_rows || b->n_prompt > b->n_rows || b->n_out_wide > b->n_out) return 0;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (!weights_are_whole(p, &p->ops[i]) || !batch_fits(b, &p->ops[i])) return 0;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == GG_OP_ATTENTION && !cache_is_whole(&p->ops[i])) return 0;
    return 1;
}

int gg_run(const gg_program *program, const gg_batch *batch, int n_threads, const int32_t *abort) {
    if (!is_sound(program, batch)) return -1;
    struct gg_run run = {.program = program, .batch = batch};
    return gg_pool_run(n_threads, run_ops, &run, abort);
}
