/* What the files that execute programs share. */

#ifndef GG_PROGRAM_H
#define GG_PROGRAM_H

#include "gg.h"
#include "kernels.h"
#include "pool.h"

/* Rows of the batch, [first, last) of an op's rows. */
struct gg_rows {
    size_t first, last;
};

/* A program at work on a batch. */
struct gg_run {
    const gg_program *program;
    const gg_batch *batch;
    size_t n_tiles;      /* of attention, in program->tiles: first row, number of rows */
};

static inline float *gg_row(const struct gg_run *run, int32_t buffer, size_t row) {
    const gg_buffer b = run->program->buffers[buffer];
    return run->program->arena + b.offset + row * (size_t)b.width;
}

static inline size_t gg_page(const gg_batch *b, size_t row, size_t position) {
    return (size_t)b->page[(size_t)b->first_page[b->sequence[row]] + position / GG_LANES];
}

/* A head of a page of the cache. */
static inline uint8_t *gg_keys(const gg_op *op, size_t page, size_t head) {
    return op->cache.k + page * op->cache.k_page_bytes + head * (op->cache.k_page_bytes / (size_t)op->n_kv);
}
static inline uint8_t *gg_values(const gg_op *op, size_t page, size_t head) {
    return op->cache.v + page * op->cache.v_page_bytes + head * (op->cache.v_page_bytes / (size_t)op->n_kv);
}

static inline size_t gg_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t gg_round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Rows of the batch that an op works on. */
static inline size_t gg_op_rows(const struct gg_run *run, const gg_op *op) {
    return (size_t)(op->out_rows ? run->batch->n_out : run->batch->n_rows);
}

/* Each runs one op on one worker of the team; all workers call it. Barriers inside and at the end.
 * Return 1 if the run shall stop. `scratch` is the worker's own. */
int gg_linear(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch);
int gg_attention(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch);

/* Floats of scratch that the op needs. */
size_t gg_linear_scratch(const gg_program *program);
size_t gg_attention_scratch(const gg_program *program, const gg_op *op);

/* Rows of a sequence that attention takes together, at most. */
size_t gg_attention_rows(const gg_program *program);

/* K and V of one head of a row enter the cache. scratch: f32[head_dim] or f32[value_dim], the larger. */
void gg_cache_store(const struct gg_run *run, const gg_op *op, size_t row, size_t head, float *scratch);

#endif
