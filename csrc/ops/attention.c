/* The attention op over the paged KV cache.
 *
 * A tile is some adjacent rows of a sequence; the query heads of its rows that share a KV head are the rows of two
 * products with that head's pages. Positions are taken in chunks of CHUNK: each has a softmax of its own, whose
 * maximum, sum and output, its state, are merged with those of the chunks before. So a chunk's state depends neither on
 * the tile nor on who computes it, and the work can be divided at will:
 *
 *   rows    piece of work                why
 *   many    a KV head of a tile          its pages stay in the cache for the tile's queries
 *   few     a chunk, all KV heads        memory is the limit, and fastest read page by page, as it lies
 *
 * and where that makes too few pieces, a chunk of a KV head. Chunks that are computed apart are merged afterwards. */

#include <math.h>
#include <string.h>

#include "ops/program.h"

enum {
    CHUNK = 512,
    PAGES = CHUNK / GG_LANES,
    TILE_QUERIES = 48,
    SHARE = 4, /* pieces of work per thread, at least, where that is possible */
};

/* KV heads head .. head + heads of an op, for the queries of one tile, ordered by KV head, row, head of the group. */
struct tile {
    size_t row, rows, head, heads, end;   /* end: positions that the last row sees */
    size_t group, queries;                /* query heads per KV head; queries of a KV head: rows * group */
    float *q, *s;                         /* f32[heads][queries][head_dim], f32[heads][queries][CHUNK] */
    float *chunk, *all;                   /* states: f32[heads][queries][state_floats]: output, maximum, sum */
};

/* How an op's work is divided: into all chunks or none, and how many KV heads at a time. */
struct division {
    size_t chunks, heads;
};

/* ---- Shapes ---- */

static size_t width(const gg_op *op) { return gg_round_up((size_t)op->value_dim, GG_LANES); }
static size_t state_floats(const gg_op *op) { return width(op) + 16; }
static float *max_of(const gg_op *op, float *state) { return state + width(op); }
static float *sum_of(const gg_op *op, float *state) { return state + width(op) + 1; }
static size_t n_chunks(size_t positions) { return (positions + CHUNK - 1) / CHUNK; }
static size_t group(const gg_op *op) { return (size_t)(op->n_head / op->n_kv); }

size_t gg_attention_rows(const gg_program *program) {
    size_t rows = TILE_QUERIES;
    for (int32_t i = 0; i < program->n_ops; i++)
        if (program->ops[i].kind == GG_OP_ATTENTION) rows = gg_min(rows, TILE_QUERIES / group(&program->ops[i]));
    return rows ? rows : 1;
}

/* Queries of a tile that is worked on for all KV heads together, at most. */
static size_t few_queries(const gg_op *op) { return op->n_head > TILE_QUERIES ? (size_t)op->n_head : TILE_QUERIES; }

size_t gg_attention_scratch(const gg_program *program, const gg_op *op) {
    size_t queries = gg_attention_rows(program) * group(op);
    if (queries < few_queries(op)) queries = few_queries(op);
    return queries * ((size_t)op->head_dim + CHUNK + 2 * state_floats(op));
}

size_t gg_partial_floats(const gg_program *program, size_t n) {
    size_t floats = 0;
    for (int32_t i = 0; i < program->n_ops; i++) {
        const gg_op *op = &program->ops[i];
        if (op->kind != GG_OP_ATTENTION) continue;
        const size_t needed = (size_t)op->n_head * n_chunks(n) * state_floats(op);
        if (needed > floats) floats = needed;
    }
    return floats;
}

/* Tile i, for KV heads head .. head + heads. */
static struct tile make_tile(const struct gg_run *run, const gg_op *op, size_t i, size_t head, size_t heads,
                             float *scratch) {
    const int32_t *place = run->program->tiles + 2 * i;
    struct tile t = {.row = (size_t)place[0], .rows = (size_t)place[1], .head = head, .heads = heads};
    t.group = group(op);
    t.queries = t.rows * t.group;
    t.end = (size_t)run->batch->position[t.row + t.rows - 1] + 1;
    t.q = scratch;
    t.s = t.q + heads * t.queries * (size_t)op->head_dim;
    t.chunk = t.s + heads * t.queries * CHUNK;
    t.all = t.chunk + heads * t.queries * state_floats(op);
    return t;
}

/* Row of the batch and query head of query i of a tile. */
static size_t row_of(const struct tile *t, size_t i) { return t->row + i % t->queries / t->group; }
static size_t head_of(const struct tile *t, size_t i) {
    return (t->head + i / t->queries) * t->group + i % t->group;
}

/* ---- One chunk ---- */

static float score_scale(const gg_op *op, int32_t position) {
    return op->scale * (1.0f + op->temperature_scale * logf(1.0f + (float)(position / op->temperature_length)));
}

static void load_queries(const struct gg_run *run, const gg_op *op, const struct tile *t) {
    const size_t n = (size_t)op->head_dim;
    for (size_t i = 0; i < t->heads * t->queries; i++) {
        memcpy(t->q + i * n, gg_row(run, op->src[0], row_of(t, i)) + head_of(t, i) * n, n * sizeof *t->q);
        gg_k.scale(n, score_scale(op, run->batch->position[row_of(t, i)]), t->q + i * n);
    }
}

/* Scores of `n` positions from `first` on to weights; each query sees those up to its own. */
static void weigh(const struct gg_run *run, const gg_op *op, const struct tile *t, size_t first, size_t n,
                  float *states) {
    const size_t size = gg_round_up(n, GG_LANES);
    for (size_t i = 0; i < t->heads * t->queries; i++) {
        const size_t seen = (size_t)run->batch->position[row_of(t, i)] + 1;
        float *s = t->s + i * CHUNK, *state = states + i * state_floats(op);
        memset(state, 0, width(op) * sizeof *state);
        if (seen > first) {
            gg_k.softmax(gg_min(seen - first, n), size, s, max_of(op, state), sum_of(op, state));
        } else {
            memset(s, 0, size * sizeof *s);
            *max_of(op, state) = -INFINITY, *sum_of(op, state) = 0.0f;
        }
    }
}

/* States of all queries over the chunk that begins at `first`. */
static void attend_chunk(const struct gg_run *run, const gg_op *op, const struct tile *t, size_t first, float *states) {
    const struct gg_cache_type keys = gg_cache_type(op->cache.k_type), values = gg_cache_type(op->cache.v_type);
    const size_t n = gg_min(CHUNK, t->end - first), pages = gg_round_up(n, GG_LANES) / GG_LANES;
    const size_t dim = (size_t)op->head_dim, rows = t->queries, ldo = state_floats(op);
    size_t page[PAGES + 1];
    for (size_t i = 0; i < pages; i++) page[i] = gg_page(run->batch, t->row, first + i * GG_LANES);
    page[pages] = page[0]; /* prefetched behind the last, in vain */
    for (size_t i = 0; i < pages; i++)
        for (size_t h = 0; h < t->heads; h++)
            keys.scores(rows, dim, t->q + h * rows * dim, dim, gg_keys(op, page[i], t->head + h),
                        t->s + h * rows * CHUNK + i * GG_LANES, CHUNK,
                        h + 1 < t->heads ? gg_keys(op, page[i], t->head + h + 1) : gg_keys(op, page[i + 1], t->head));
    weigh(run, op, t, first, n, states);
    for (size_t i = 0; i < pages; i++)
        for (size_t h = 0; h < t->heads; h++)
            values.values(rows, gg_min(GG_LANES, n - i * GG_LANES), t->s + h * rows * CHUNK + i * GG_LANES, CHUNK,
                          gg_values(op, page[i], t->head + h), width(op), states + h * rows * ldo, ldo,
                          h + 1 < t->heads ? gg_values(op, page[i], t->head + h + 1)
                                           : gg_values(op, page[i + 1], t->head));
}

/* ---- All chunks ---- */

static void clear(const gg_op *op, const struct tile *t) {
    memset(t->all, 0, t->heads * t->queries * state_floats(op) * sizeof *t->all);
    for (size_t i = 0; i < t->heads * t->queries; i++) *max_of(op, t->all + i * state_floats(op)) = -INFINITY;
}

/* One more chunk enters the states of all queries. */
static void merge(const gg_op *op, const struct tile *t, float *states) {
    for (size_t i = 0; i < t->heads * t->queries; i++) {
        float *part = states + i * state_floats(op), *all = t->all + i * state_floats(op);
        if (*sum_of(op, part) == 0.0f) continue; /* the query sees nothing of it */
        const float max = fmaxf(*max_of(op, part), *max_of(op, all));
        const float a = expf(*max_of(op, part) - max), b = expf(*max_of(op, all) - max);
        gg_k.blend(width(op), a, part, b, all);
        *sum_of(op, all) = a * *sum_of(op, part) + b * *sum_of(op, all);
        *max_of(op, all) = max;
    }
}

static void finish(const struct gg_run *run, const gg_op *op, const struct tile *t) {
    const size_t n = (size_t)op->value_dim;
    for (size_t i = 0; i < t->heads * t->queries; i++) {
        float *out = t->all + i * state_floats(op);
        gg_k.scale(n, 1.0f / *sum_of(op, out), out);
        memcpy(gg_row(run, op->dst[0], row_of(t, i)) + head_of(t, i) * n, out, n * sizeof *out);
    }
}

static void attend(const struct gg_run *run, const gg_op *op, const struct tile *t) {
    load_queries(run, op, t);
    clear(op, t);
    for (size_t first = 0; first < t->end; first += CHUNK) {
        attend_chunk(run, op, t, first, t->chunk);
        merge(op, t, t->chunk);
    }
    finish(run, op, t);
}

/* ---- Chunks apart ---- */

/* Where chunk `chunk` leaves its states. */
static float *partial(const struct gg_run *run, const gg_op *op, const struct tile *t, size_t chunk, size_t chunks) {
    const size_t n_head = (size_t)op->n_head, before = (t->row * chunks + chunk * t->rows) * n_head;
    return run->program->partials + (before + t->head * t->queries) * state_floats(op);
}

static struct division divide(const struct gg_run *run, const gg_op *op, const struct gg_worker *worker) {
    const gg_batch *b = run->batch;
    const size_t heads = (size_t)op->n_kv, least = SHARE * (size_t)worker->n_threads;
    size_t end = 0, longest = 0; /* positions of a sequence, rows of a tile */
    for (int32_t row = 0; row < b->n_rows; row++)
        if ((size_t)b->position[row] >= end) end = (size_t)b->position[row] + 1;
    for (size_t i = 0; i < run->n_tiles; i++)
        if ((size_t)run->program->tiles[2 * i + 1] > longest) longest = (size_t)run->program->tiles[2 * i + 1];
    const size_t chunks = n_chunks(end), floats = (size_t)b->n_rows * (size_t)op->n_head * chunks * state_floats(op);
    if (floats <= run->program->partial_floats) {
        if (longest * (size_t)op->n_head <= few_queries(op) && run->n_tiles * chunks >= least)
            return (struct division){chunks, heads};
        if (chunks > 1 && run->n_tiles * heads < least) return (struct division){chunks, 1};
    }
    return (struct division){1, 1};
}

static int attend_apart(const struct gg_run *run, const gg_op *op, struct division by, struct gg_worker *worker,
                        float *scratch) {
    const size_t heads = (size_t)op->n_kv, parts = heads / by.heads;
    for (size_t i; (i = gg_take(worker)) < run->n_tiles * by.chunks * parts;) {
        const size_t chunk = i / parts % by.chunks, head = i % parts * by.heads;
        const struct tile t = make_tile(run, op, i / parts / by.chunks, head, by.heads, scratch);
        if (chunk * CHUNK >= t.end) continue;
        load_queries(run, op, &t);
        attend_chunk(run, op, &t, chunk * CHUNK, partial(run, op, &t, chunk, by.chunks));
    }
    if (gg_barrier(worker)) return 1;
    for (size_t i; (i = gg_take(worker)) < run->n_tiles * heads;) {
        const struct tile t = make_tile(run, op, i / heads, i % heads, 1, scratch);
        clear(op, &t);
        for (size_t chunk = 0; chunk * CHUNK < t.end; chunk++) merge(op, &t, partial(run, op, &t, chunk, by.chunks));
        finish(run, op, &t);
    }
    return gg_barrier(worker);
}

/* Keys and values of all rows go to their pages, a head of a tile at a time: two threads seldom meet on a page. */
static void store_tiles(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    for (size_t i; (i = gg_take(worker)) < run->n_tiles * (size_t)op->n_kv;) {
        const int32_t *tile = run->program->tiles + 2 * (i % run->n_tiles);
        for (int32_t row = tile[0]; row < tile[0] + tile[1]; row++)
            gg_cache_store(run, op, (size_t)row, i / run->n_tiles, scratch);
    }
}

int gg_attention(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    store_tiles(run, op, worker, scratch);
    if (gg_barrier(worker)) return 1;
    const struct division by = divide(run, op, worker);
    if (by.chunks > 1) return attend_apart(run, op, by, worker, scratch);
    const size_t heads = (size_t)op->n_kv, items = run->n_tiles * heads;
    for (size_t i; (i = gg_take(worker)) < items;) { /* the longest first, so that all threads finish together */
        const struct tile t = make_tile(run, op, (items - 1 - i) / heads, (items - 1 - i) % heads, 1, scratch);
        attend(run, op, &t);
    }
    return gg_barrier(worker);
}
