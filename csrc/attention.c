/* The attention op over the paged KV cache.
 *
 * A page of K lies transposed, [head_dim][32 positions], and a page of V as [32 positions][value_dim]: both products,
 * q k^T and p v, are then the same GEMM with 32 columns, for one query or for many. Softmax goes along page by page. */

#include <math.h>
#include <string.h>

#include "program.h"

/* One KV head of an op, for the queries of one tile. */
struct tile {
    size_t row, rows, head, group, queries; /* queries = rows * group, group = query heads per KV head */
    size_t head_dim, value_dim, value_pad;
    float *q, *s, *out, *max, *sum, *k_page, *v_page;
};

static size_t value_pad(const gg_op *op) { return gg_round_up((size_t)op->value_dim, GG_LANES); }

size_t gg_attention_scratch(const gg_op *op) {
    const size_t queries = GG_TILE_ROWS * (size_t)(op->n_head / op->n_kv), dim = (size_t)op->head_dim;
    return queries * (dim + GG_LANES + value_pad(op) + 2) + GG_LANES * (dim + value_pad(op));
}

static struct tile make_tile(const gg_op *op, size_t head, const int32_t tile[2], float *scratch) {
    struct tile t = {
        .row = (size_t)tile[0], .rows = (size_t)tile[1], .head = head, .group = (size_t)(op->n_head / op->n_kv),
        .head_dim = (size_t)op->head_dim, .value_dim = (size_t)op->value_dim, .value_pad = value_pad(op),
    };
    t.queries = t.rows * t.group;
    t.q = scratch;
    t.s = t.q + t.queries * t.head_dim;
    t.out = t.s + t.queries * GG_LANES;
    t.max = t.out + t.queries * t.value_pad;
    t.sum = t.max + t.queries;
    t.k_page = t.sum + t.queries;
    t.v_page = t.k_page + t.head_dim * GG_LANES;
    return t;
}

/* ---- Cache ---- */

static size_t page_of(const gg_batch *b, size_t row, size_t position) {
    return (size_t)b->page[(size_t)b->first_page[b->sequence[row]] + position / GG_LANES];
}

/* K of one head, a column of its page; V of one head, a row of its page. */
static void store_head(const gg_cache *c, uint8_t *k_page, uint8_t *v_page, size_t slot, const float *k, size_t n_k,
                       const float *v, size_t n_v, uint16_t *halves) {
    if (c->type == GG_CACHE_F32) {
        for (size_t i = 0; i < n_k; i++) memcpy(k_page + 4 * (i * GG_LANES + slot), k + i, 4);
        memcpy(v_page, v, n_v * sizeof *v);
        return;
    }
    gg_k.store_f16(n_k, k, halves);
    for (size_t i = 0; i < n_k; i++) memcpy(k_page + 2 * (i * GG_LANES + slot), halves + i, 2);
    gg_k.store_f16(n_v, v, (uint16_t *)(void *)v_page);
}

/* K and V of one row go to their places in the row's page. */
static void store_row(const struct gg_run *run, const gg_op *op, size_t row, float *scratch) {
    const gg_cache *c = &op->cache;
    const size_t size = c->type == GG_CACHE_F32 ? 4 : 2, position = (size_t)run->batch->position[row];
    const size_t page = page_of(run->batch, row, position), slot = position % GG_LANES, pad = value_pad(op);
    const size_t n_k = (size_t)op->head_dim, n_v = (size_t)op->value_dim;
    for (size_t h = 0; h < (size_t)op->n_kv; h++)
        store_head(c, c->k + page * c->k_page_bytes + size * h * n_k * GG_LANES,
                   c->v + page * c->v_page_bytes + size * (h * GG_LANES + slot) * pad, slot,
                   gg_row(run, op->src[1], row) + h * n_k, n_k, gg_row(run, op->src[2], row) + h * n_v, n_v,
                   (uint16_t *)(void *)scratch);
}

/* n values from index `first` of a page, as floats: in place if that is what they are. */
static const float *page_floats(const gg_cache *c, const uint8_t *page, size_t first, size_t n, float *scratch) {
    if (c->type == GG_CACHE_F32) return (const float *)(const void *)page + first;
    gg_k.expand_f16(n, page + 2 * first, scratch);
    return scratch;
}

/* ---- Products ---- */

static float score_scale(const gg_op *op, int32_t position) {
    return op->scale * (1.0f + op->temperature_scale * logf(1.0f + (float)(position / op->temperature_length)));
}

static void load_queries(const struct gg_run *run, const gg_op *op, const struct tile *t) {
    for (size_t i = 0; i < t->queries; i++) {
        const size_t head = t->head * t->group + i % t->group;
        const size_t row = t->row + i / t->group;
        const float *q = gg_row(run, op->src[0], row) + head * t->head_dim;
        memcpy(t->q + i * t->head_dim, q, t->head_dim * sizeof *q);
        gg_k.scale(t->head_dim, score_scale(op, run->batch->position[row]), t->q + i * t->head_dim);
        t->max[i] = -INFINITY;
        t->sum[i] = 0.0f;
    }
    memset(t->out, 0, t->queries * t->value_pad * sizeof *t->out);
}

/* Positions first .. first + n enter the running softmax and sum of all queries; each sees those up to its own. */
static void attend_page(const struct gg_run *run, const gg_op *op, const struct tile *t, size_t first, size_t n) {
    const gg_cache *c = &op->cache;
    const size_t page = page_of(run->batch, t->row, first);
    const float *k = page_floats(c, c->k + page * c->k_page_bytes, t->head * t->head_dim * GG_LANES,
                                 t->head_dim * GG_LANES, t->k_page);
    gg_k.gemm(t->queries, t->head_dim, t->q, t->head_dim, k, GG_LANES, t->s, GG_LANES, 0);
    for (size_t i = 0; i < t->queries; i++) {
        const size_t seen = (size_t)run->batch->position[t->row + i / t->group] + 1;
        const size_t visible = seen > first ? gg_min(seen - first, n) : 0;
        float *s = t->s + i * GG_LANES;
        if (visible == 0) {
            memset(s, 0, GG_LANES * sizeof *s);
            continue;
        }
        const float factor = gg_k.softmax(visible, s, &t->max[i], &t->sum[i]);
        if (factor != 1.0f) gg_k.scale(t->value_pad, factor, t->out + i * t->value_pad);
    }
    const float *v = page_floats(c, c->v + page * c->v_page_bytes, t->head * GG_LANES * t->value_pad,
                                 n * t->value_pad, t->v_page);
    for (size_t i = 0; i < t->value_pad; i += GG_LANES)
        gg_k.gemm(t->queries, n, t->s, GG_LANES, v + i, t->value_pad, t->out + i, t->value_pad, 1);
}

static void attend(const struct gg_run *run, const gg_op *op, const struct tile *t) {
    load_queries(run, op, t);
    const size_t end = (size_t)run->batch->position[t->row + t->rows - 1] + 1;
    for (size_t first = 0; first < end; first += GG_LANES)
        attend_page(run, op, t, first, gg_min(GG_LANES, end - first));
    for (size_t i = 0; i < t->queries; i++) {
        const size_t head = t->head * t->group + i % t->group;
        float *dst = gg_row(run, op->dst[0], t->row + i / t->group) + head * t->value_dim;
        gg_k.scale(t->value_dim, 1.0f / t->sum[i], t->out + i * t->value_pad);
        memcpy(dst, t->out + i * t->value_pad, t->value_dim * sizeof *dst);
    }
}

int gg_attention(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    for (size_t row; (row = gg_take(worker)) < (size_t)run->batch->n_rows;) store_row(run, op, row, scratch);
    if (gg_barrier(worker)) return 1;
    const size_t heads = (size_t)op->n_kv;
    for (size_t i; (i = gg_take(worker)) < run->n_tiles * heads;) {
        const struct tile t = make_tile(op, i % heads, run->program->tiles + 2 * (i / heads), scratch);
        attend(run, op, &t);
    }
    return gg_barrier(worker);
}
