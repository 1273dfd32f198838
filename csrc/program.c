/* Running programs. Contracts in gg_cdef.h. */

#include <math.h>
#include <string.h>

#include "program.h"

/* ---- Ops that work on one row at a time ---- */

static void embed(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_tensor *w = &op->weight[0];
    gg_type(w->type).expand((size_t)w->n_in, w->data + (size_t)run->batch->token[row] * w->stride,
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

static void run_ops(void *arg, struct gg_worker *worker) {
    const struct gg_run *run = arg;
    const gg_program *p = run->program;
    float *scratch = p->scratch + (size_t)worker->index * p->scratch_floats;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (run_op(run, &p->ops[i], worker, scratch)) return;
}

/* Adjacent rows of one sequence, at most GG_TILE_ROWS of them, make a tile. */
static size_t make_tiles(const gg_batch *b, int32_t *tiles) {
    size_t n = 0;
    for (int32_t row = 0; row < b->n_rows; row++) {
        int32_t *last = n ? tiles + 2 * (n - 1) : NULL;
        if (last && b->sequence[last[0]] == b->sequence[row] && last[1] < GG_TILE_ROWS) {
            last[1]++;
        } else {
            tiles[2 * n] = row, tiles[2 * n + 1] = 1;
            n++;
        }
    }
    return n;
}

size_t gg_scratch_floats(const gg_program *program) {
    size_t floats = gg_linear_scratch(program);
    for (int32_t i = 0; i < program->n_ops; i++)
        if (program->ops[i].kind == GG_OP_ATTENTION) {
            const size_t needed = gg_attention_scratch(&program->ops[i]);
            if (needed > floats) floats = needed;
        }
    return gg_round_up(floats, 16);
}

int gg_run(const gg_program *program, const gg_batch *batch, int n_threads, const int32_t *abort) {
    struct gg_run run = {.program = program, .batch = batch, .n_tiles = make_tiles(batch, program->tiles)};
    while (run.n_out_prompt < (size_t)batch->n_out && batch->out_row[run.n_out_prompt] < batch->n_prompt)
        run.n_out_prompt++;
    return gg_pool_run(n_threads, run_ops, &run, abort);
}

/* ---- For tests and tools ---- */

size_t gg_type_weights(int32_t type) { return gg_type(type).weights; }
size_t gg_type_bytes(int32_t type) { return gg_type(type).bytes; }

int gg_expand(int32_t type, size_t n, const uint8_t *w, size_t bytes, float *y) {
    const struct gg_type t = gg_type(type);
    if (t.weights == 0 || n % t.weights || n / t.weights != bytes / t.bytes || bytes % t.bytes) return -1;
    t.expand(n, w, y);
    return 0;
}

int gg_dot(int32_t type, size_t n, size_t rows, const uint8_t *w, size_t bytes, const float *x, float *y,
           float *scratch) {
    const struct gg_type t = gg_type(type);
    if (t.weights == 0 || n % 32 || n % t.weights || rows == 0) return -1;
    const size_t stride = n / t.weights * t.bytes;
    if (bytes / rows != stride || bytes % rows) return -1;
    float *d = scratch, *s = d + n / 32;
    int8_t *q = (int8_t *)(s + n / 16);
    gg_k.quantize(n, x, q, d, s);
    t.dot(n, rows, w, stride, &(struct gg_activation){x, q, d, s}, y);
    return 0;
}

/* ---- Read probe ---- */

enum { PROBE_CHUNK = 1 << 20, PROBE_STEP = 256, PROBE_AHEAD = 4096 };

struct probe {
    const uint8_t *p;
    size_t bytes;
    uint64_t sum;
};

static uint64_t sum_words(const uint8_t *p, size_t bytes) {
    uint64_t sum[PROBE_STEP / 8] = {0}, total = 0; /* independent lanes: nothing waits but for memory */
    size_t i = 0;
    for (; i + PROBE_STEP <= bytes; i += PROBE_STEP) {
        uint64_t words[PROBE_STEP / 8];
        for (size_t line = 0; line < PROBE_STEP; line += 64) __builtin_prefetch(p + i + PROBE_AHEAD + line);
        memcpy(words, p + i, sizeof words);
        for (size_t k = 0; k < PROBE_STEP / 8; k++) sum[k] += words[k];
    }
    for (size_t k = 0; k < PROBE_STEP / 8; k++) total += sum[k];
    for (; i + 8 <= bytes; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, sizeof word);
        total += word;
    }
    return total;
}

static void read_chunks(void *arg, struct gg_worker *worker) {
    struct probe *probe = arg;
    for (size_t i; (i = gg_take(worker) * PROBE_CHUNK) < probe->bytes;) {
        const uint64_t sum = sum_words(probe->p + i, gg_min(PROBE_CHUNK, probe->bytes - i));
        __atomic_add_fetch(&probe->sum, sum, __ATOMIC_RELAXED);
    }
}

uint64_t gg_read_probe(const uint8_t *p, size_t bytes, int n_threads) {
    struct probe probe = {.p = p, .bytes = bytes};
    gg_pool_run(n_threads, read_chunks, &probe, NULL);
    return probe.sum;
}
