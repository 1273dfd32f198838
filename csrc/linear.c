/* The linear op: dst[i] = src @ weight[i].T.
 *
 * Rows of prompts are many: the limit is arithmetic. A panel of weight rows is expanded to floats, in L2, and multiplied
 * with all rows, which were packed into tiles of GG_LANES rows: [tile][input][lane].
 * Generated rows are few: the limit is memory. Each is quantized once, where weights are of block types, and each chunk of
 * weights is read once, while it is in the cache, for all of them. */

#include "program.h"

enum {
    PANEL = 64,           /* weight rows expanded at a time */
    SLICE = 256,          /* and columns of them: 64 KB */
    CHUNK_BYTES = 524288, /* of weights taken at a time for generated rows: long runs keep the prefetchers busy */
    CHUNK_ROWS = 1024,
    TOGETHER = 8, /* generated rows that share a reading of the weights */
};

struct job {
    const struct gg_run *run;
    const gg_op *op;
    struct gg_rows wide, narrow; /* rows by regime */
    size_t n_in, outputs;        /* outputs: weights that are worked on apart; a gated pair is one */
};

static size_t n_tiles(const struct job *j) { return (j->wide.last - j->wide.first + GG_LANES - 1) / GG_LANES; }
static size_t n_narrow(const struct job *j) { return j->narrow.last - j->narrow.first; }

size_t gg_linear_scratch(const gg_program *program) {
    const size_t rows = gg_round_up((size_t)program->max_rows, GG_LANES);
    return PANEL * SLICE + 2 * PANEL * rows + 2 * TOGETHER * CHUNK_ROWS;
}

static struct job make_job(const struct gg_run *run, const gg_op *op) {
    const size_t rows = gg_op_rows(run, op);
    size_t wide = op->out_rows ? run->n_out_prompt : (size_t)run->batch->n_prompt;
    if (run->program->precision == GG_EXACT) wide = rows;
    if (run->program->precision == GG_INT8) wide = 0;
    return (struct job){
        .run = run,
        .op = op,
        .wide = {0, wide},
        .narrow = {wide, rows},
        .n_in = (size_t)op->weight[0].n_in,
        .outputs = op->gated ? 1 : (size_t)op->n_weights,
    };
}

/* ---- Operands ---- */

/* Lane `lane` of tile `tile` gets a row of the input, or zeros past the last. */
static void pack_tile(const struct job *j, size_t tile) {
    float *packed = j->run->program->packed + tile * GG_LANES * j->n_in;
    for (size_t lane = 0; lane < GG_LANES; lane++) {
        const size_t row = j->wide.first + tile * GG_LANES + lane;
        const float *x = row < j->wide.last ? gg_row(j->run, j->op->src[0], row) : NULL;
        for (size_t i = 0; i < j->n_in; i++) packed[i * GG_LANES + lane] = x ? x[i] : 0.0f;
    }
}

static struct gg_activation activation(const struct job *j, size_t i) {
    const gg_program *p = j->run->program;
    const size_t width = (size_t)p->max_in;
    return (struct gg_activation){
        .x = gg_row(j->run, j->op->src[0], j->narrow.first + i),
        .q = p->quantized + i * width,
        .d = p->quantized_scale + i * (width / 32),
        .s = p->quantized_sum + i * (width / 16),
    };
}

/* Only block types read quantized activations, and their rows are multiples of 32. */
static int has_blocks(const gg_op *op) {
    for (int32_t k = 0; k < op->n_weights; k++)
        if (gg_type(op->weight[k].type).weights > 1) return 1;
    return 0;
}

static void quantize_row(const struct job *j, size_t i) {
    const struct gg_activation x = activation(j, i);
    if (has_blocks(j->op)) gg_k.quantize(j->n_in, x.x, (int8_t *)x.q, (float *)x.d, (float *)x.s);
}

/* ---- Many rows ---- */

/* c[tile][PANEL][GG_LANES] = rows first .. first + n of weight k times all tiles, plus bias. */
static void multiply_panel(const struct job *j, int k, size_t first, size_t n, float *panel, float *c) {
    const gg_tensor *w = &j->op->weight[k];
    const struct gg_type type = gg_type(w->type);
    for (size_t i = 0; i < j->n_in; i += SLICE) {
        const size_t width = gg_min(SLICE, j->n_in - i);
        for (size_t r = 0; r < n; r++)
            type.expand(width, w->data + (first + r) * w->stride + i / type.weights * type.bytes, panel + r * SLICE);
        for (size_t t = 0; t < n_tiles(j); t++)
            gg_k.gemm(n, width, panel, SLICE, j->run->program->packed + (t * j->n_in + i) * GG_LANES, GG_LANES,
                      c + t * PANEL * GG_LANES, GG_LANES, i > 0);
    }
    const float *bias = j->op->bias[k];
    for (size_t t = 0; bias && t < n_tiles(j); t++)
        for (size_t r = 0; r < n; r++)
            for (size_t lane = 0; lane < GG_LANES; lane++) c[(t * PANEL + r) * GG_LANES + lane] += bias[first + r];
}

static void add_and_store(const struct job *j, int k, size_t row, size_t first, size_t n, const float *y, size_t step) {
    const float *add = j->op->add >= 0 ? gg_row(j->run, j->op->add, row) + first : NULL;
    float *dst = gg_row(j->run, j->op->dst[k], row) + first;
    for (size_t i = 0; i < n; i++) dst[i] = add ? add[i] + y[i * step] : y[i * step];
}

static void wide_panel(const struct job *j, int k, size_t first, size_t n, float *scratch) {
    const size_t c_floats = n_tiles(j) * PANEL * GG_LANES;
    float *panel = scratch, *c = panel + PANEL * SLICE, *up = c + c_floats;
    multiply_panel(j, k, first, n, panel, c);
    if (j->op->gated) {
        multiply_panel(j, 1, first, n, panel, up);
        for (size_t t = 0; t < n_tiles(j); t++)
            gg_k.silu_mul(n * GG_LANES, c + t * PANEL * GG_LANES, up + t * PANEL * GG_LANES);
    }
    for (size_t row = j->wide.first; row < j->wide.last; row++) {
        const size_t i = row - j->wide.first;
        add_and_store(j, k, row, first, n, c + i / GG_LANES * PANEL * GG_LANES + i % GG_LANES, GG_LANES);
    }
}

/* ---- Few rows ---- */

/* y[i][CHUNK_ROWS] = weights first .. first + n times row i of n_x, plus bias. */
static void multiply_chunk(const struct job *j, int k, size_t first, size_t n, size_t n_x,
                           const struct gg_activation *x, float *y) {
    const gg_tensor *w = &j->op->weight[k];
    gg_type(w->type).dot(j->n_in, n, w->data + first * w->stride, w->stride, n_x, x, y, CHUNK_ROWS);
    const float *bias = j->op->bias[k];
    for (size_t c = 0; bias && c < n_x; c++)
        for (size_t i = 0; i < n; i++) y[c * CHUNK_ROWS + i] += bias[first + i];
}

static void narrow_chunk(const struct job *j, int k, size_t first, size_t n, float *scratch) {
    float *y = scratch, *up = y + TOGETHER * CHUNK_ROWS;
    for (size_t i = 0, n_x; i < n_narrow(j); i += n_x) {
        struct gg_activation x[TOGETHER];
        for (n_x = 0; n_x < TOGETHER && i + n_x < n_narrow(j); n_x++) x[n_x] = activation(j, i + n_x);
        multiply_chunk(j, k, first, n, n_x, x, y);
        if (j->op->gated) multiply_chunk(j, 1, first, n, n_x, x, up);
        for (size_t c = 0; c < n_x; c++) {
            if (j->op->gated) gg_k.silu_mul(n, y + c * CHUNK_ROWS, up + c * CHUNK_ROWS);
            add_and_store(j, k, j->narrow.first + i + c, first, n, y + c * CHUNK_ROWS, 1);
        }
    }
}

/* Small tensors are cut finer, so that all threads finish together. */
static size_t chunk_rows(const gg_tensor *w, int n_threads) {
    const size_t share = gg_round_up((size_t)w->n_out, 4 * (size_t)n_threads) / (4 * (size_t)n_threads);
    const size_t rows = gg_min(gg_min(CHUNK_BYTES / w->stride, CHUNK_ROWS), share);
    return rows < 1 ? 1 : rows;
}

/* ---- All of it ---- */

/* Do the next panel or chunk, counted over all outputs; returns 0 when none is left. */
static int do_item(const struct job *j, struct gg_worker *worker, int wide, float *scratch) {
    size_t item = gg_take(worker);
    for (size_t k = 0; k < j->outputs; k++) {
        const gg_tensor *w = &j->op->weight[k];
        const size_t step = wide ? PANEL : chunk_rows(w, worker->n_threads), n_out = (size_t)w->n_out;
        const size_t items = (n_out + step - 1) / step;
        if (item < items) {
            const size_t first = item * step, n = gg_min(step, n_out - first);
            (wide ? wide_panel : narrow_chunk)(j, (int)k, first, n, scratch);
            return 1;
        }
        item -= items;
    }
    return 0;
}

int gg_linear(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    const struct job j = make_job(run, op);
    for (size_t i; (i = gg_take(worker)) < n_tiles(&j) + n_narrow(&j);)
        if (i < n_tiles(&j)) pack_tile(&j, i);
        else quantize_row(&j, i - n_tiles(&j));
    if (gg_barrier(worker)) return 1;

    if (n_tiles(&j)) {
        while (do_item(&j, worker, 1, scratch)) continue;
        if (gg_barrier(worker)) return 1;
    }
    if (n_narrow(&j)) {
        while (do_item(&j, worker, 0, scratch)) continue;
        if (gg_barrier(worker)) return 1;
    }
    return 0;
}
