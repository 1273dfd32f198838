/* The ground that ops stand on: a program at work on a batch, its rows, and where sequences have their state. */

#ifndef GG_RUN_H
#define GG_RUN_H

#include "gg.h"
#include "kernels.h"
#include "pool.h"

struct gg_run {
    const gg_program *program;
    const gg_batch *batch;
};

/* What an op needs: floats of a thread's own, and bytes that the threads share until the op ends. */
struct gg_need {
    size_t scratch_floats, shared_bytes;
};

typedef void gg_row_fn(const struct gg_run *run, const gg_op *op, size_t row);

/* An op. row: what it does to one of its rows, or run, where there is more to it: all workers of the team call that, with
 * scratch of their own; barriers inside and at the end; returns 1 if the run shall stop. need: NULL for nothing.
 * is_sound: whether shapes and indices fit together (views lie within their buffers already). */
struct gg_op_kind {
    gg_row_fn *row;
    int (*run)(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch);
    struct gg_need (*need)(const gg_program *program, const gg_op *op);
    int (*is_sound)(const gg_program *program, const gg_batch *batch, const gg_op *op);
};

static inline size_t gg_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t gg_max(size_t a, size_t b) { return a > b ? a : b; }
static inline size_t gg_round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
static inline size_t gg_ceil_div(size_t n, size_t by) { return (n + by - 1) / by; }

/* ---- Rows ---- */

static inline float *gg_row(const struct gg_run *run, const gg_view *v, size_t row) {
    const gg_buffer b = run->program->buffers[v->buffer];
    return run->program->arena + b.offset + row * (size_t)b.width + (size_t)v->first;
}
static inline float *gg_head(const struct gg_run *run, const gg_view *v, size_t row, size_t head) {
    return gg_row(run, v, row) + head * (size_t)v->stride;
}

/* Floats from one row of a view to the next. */
static inline size_t gg_row_stride(const struct gg_run *run, const gg_view *v) {
    return (size_t)run->program->buffers[v->buffer].width;
}

/* Values of a row, and whether they lie side by side. */
static inline size_t gg_width(const gg_view *v) { return (size_t)v->heads * (size_t)v->width; }
static inline int gg_is_flat(const gg_view *v) { return v->heads == 1 || v->stride == v->width; }
static inline int gg_same_shape(const gg_view *a, const gg_view *b) {
    return a->heads == b->heads && a->width == b->width;
}

static inline size_t gg_op_rows(const struct gg_run *run, const gg_op *op) {
    const gg_batch *b = run->batch;
    return (size_t)(op->rows == GG_ROWS_ALL ? b->n_rows : op->rows == GG_ROWS_WANTED ? b->n_out : b->n_sequences);
}

/* The row of the batch that row `row` of an op is (not for texts). */
static inline size_t gg_batch_row(const struct gg_run *run, const gg_op *op, size_t row) {
    return op->rows == GG_ROWS_ALL ? row : (size_t)run->batch->out_row[row];
}

/* How many of an op's rows, the first, are in the wide regime. */
static inline size_t gg_wide_rows(const struct gg_run *run, const gg_op *op) {
    if (run->program->precision == GG_EXACT) return gg_op_rows(run, op);
    if (run->program->precision == GG_INT8 || op->rows == GG_ROWS_TEXTS) return 0;
    return (size_t)(op->rows == GG_ROWS_ALL ? run->batch->n_prompt : run->batch->n_out_wide);
}

/* ---- State ---- */

static inline size_t gg_page(const gg_batch *b, int32_t state, size_t sequence, size_t position) {
    const gg_state *s = &b->states[state];
    return (size_t)s->entry[(size_t)s->first[sequence] + position / GG_LANES];
}
/* A sequence's state before the batch, and where that after it goes. */
static inline const float *gg_slot_before(const gg_batch *b, const gg_slots *slots, size_t sequence) {
    const gg_state *s = &b->states[slots->state];
    return slots->data + (size_t)s->entry[s->first[sequence]] * slots->floats;
}
static inline float *gg_slot_after(const gg_batch *b, const gg_slots *slots, size_t sequence) {
    const gg_state *s = &b->states[slots->state];
    return slots->data + (size_t)s->entry[s->first[sequence] + 1] * slots->floats;
}

/* A head of a page of the cache. */
static inline uint8_t *gg_keys(const gg_cache *c, size_t page, size_t head) {
    return c->k + page * c->k_page_bytes + head * (c->k_page_bytes / (size_t)c->heads);
}
static inline uint8_t *gg_values(const gg_cache *c, size_t page, size_t head) {
    return c->v + page * c->v_page_bytes + head * (c->v_page_bytes / (size_t)c->heads);
}

/* ---- Soundness, for is_sound ---- */

/* Whether a view is there, and whether dst[0] has the shape of src[0]. */
static inline int gg_is_view(const gg_view *v) { return v->buffer >= 0; }
static inline int gg_maps(const gg_op *op) {
    return gg_is_view(&op->src[0]) && gg_is_view(&op->dst[0]) && gg_same_shape(&op->src[0], &op->dst[0]);
}

/* `weight` holds `count` matrices of n_out rows of n_in weights, of a type that can be computed with. */
int gg_tensor_is_whole(const gg_tensor *weight);

/* The cache has pages of its type and shape, and its state is one of pages. */
int gg_cache_is_whole(const gg_batch *b, const gg_cache *c);
int gg_slots_are_whole(const gg_batch *b, const gg_slots *s, size_t floats);

#endif
