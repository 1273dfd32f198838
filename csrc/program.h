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
    size_t n_out_prompt; /* how many of the wanted rows are of prompts */
    size_t n_tiles;      /* of attention, in program->tiles: first row, number of rows */
};

static inline float *gg_row(const struct gg_run *run, int32_t buffer, size_t row) {
    const gg_buffer b = run->program->buffers[buffer];
    return run->program->arena + b.offset + row * (size_t)b.width;
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
size_t gg_attention_scratch(const gg_op *op);

enum { GG_TILE_ROWS = 8 }; /* rows of a sequence that attention takes together */

#endif
