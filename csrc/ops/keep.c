/* Keys src[0] and values src[1] of each row enter the pages of their sequence; kernels.h has the layout of a page. */

#include <string.h>

#include "run.h"

typedef struct {
    gg_cache cache;
} gg_keep;

enum { TOGETHER = 16 }; /* rows of a head: two threads seldom meet on a page */

/* Values of `unit` bytes go to places GG_LANES units apart. */
static void scatter(size_t n, size_t unit, const uint8_t *from, uint8_t *to) {
    switch (unit) {
    case 1:
        for (size_t i = 0; i < n; i++) to[i * GG_LANES] = from[i];
        break;
    case 2:
        for (size_t i = 0; i < n; i++) memcpy(to + 2 * i * GG_LANES, from + 2 * i, 2);
        break;
    default: /* 4 */
        for (size_t i = 0; i < n; i++) memcpy(to + 4 * i * GG_LANES, from + 4 * i, 4);
    }
}

/* A key is a column of its head's page. */
static void store_key(const struct gg_cache_type *type, size_t n, const float *k, uint8_t *head, size_t slot,
                      uint8_t *row) {
    type->store(n, k, row);
    if (type->weights == 1) {
        scatter(n, type->bytes, row, head + slot * type->bytes);
        return;
    }
    for (size_t i = 0; i < n / type->weights; i++, row += type->bytes, head += GG_LANES * type->bytes) {
        memcpy(head + slot * GG_DELTA, row, GG_DELTA);
        scatter(type->bytes - GG_DELTA, 1, row + GG_DELTA, head + GG_LANES * GG_DELTA + slot);
    }
}

/* A value is a row of each panel of its head's page. */
static void store_value(const struct gg_cache_type *type, size_t n, const float *v, uint8_t *head, size_t slot,
                        uint8_t *row) {
    type->store(n, v, row);
    if (type->weights == 1) {
        const size_t width = GG_LANES * type->bytes;
        for (size_t i = 0; i < n * type->bytes; i += width)
            memcpy(head + i * GG_LANES + slot * width, row + i, gg_min(width, n * type->bytes - i));
        return;
    }
    const size_t width = type->bytes - GG_DELTA;
    for (size_t i = 0; i < n / type->weights; i++, row += type->bytes, head += GG_LANES * type->bytes) {
        memcpy(head + slot * GG_DELTA, row, GG_DELTA);
        memcpy(head + GG_LANES * GG_DELTA + slot * width, row + GG_DELTA, width);
    }
}

static void keep(const struct gg_run *run, const gg_op *op, size_t row, size_t head, uint8_t *scratch) {
    const gg_cache *c = &((const gg_keep *)op->args)->cache;
    const struct gg_cache_type keys = gg_cache_type(c->k_type), values = gg_cache_type(c->v_type);
    const size_t place = (size_t)run->batch->place[row], slot = place % GG_LANES;
    const size_t page = gg_page(run->batch, c->state, (size_t)run->batch->sequence[row], place);
    store_key(&keys, (size_t)c->key_length, gg_head(run, &op->src[0], row, head), gg_keys(c, page, head), slot, scratch);
    store_value(&values, (size_t)c->value_length, gg_head(run, &op->src[1], row, head), gg_values(c, page, head), slot,
                scratch);
}

static int run(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    const size_t heads = (size_t)op->src[0].heads, rows = gg_op_rows(run, op), parts = gg_ceil_div(rows, TOGETHER);
    for (size_t i; (i = gg_take(worker)) < parts * heads;) {
        const size_t first = i % parts * TOGETHER, end = gg_min(first + TOGETHER, rows);
        for (size_t row = first; row < end; row++) keep(run, op, row, i / parts, (uint8_t *)scratch);
    }
    return gg_barrier(worker);
}

static struct gg_need need(const gg_program *program, const gg_op *op) {
    (void)program;
    return (struct gg_need){gg_round_up((size_t)gg_max((size_t)op->src[0].width, (size_t)op->src[1].width), 32), 0};
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p;
    const gg_cache *c = &((const gg_keep *)op->args)->cache;
    const gg_view *k = &op->src[0], *v = &op->src[1];
    return op->rows == GG_ROWS_ALL && gg_is_view(k) && gg_is_view(v) && gg_cache_is_whole(b, c) && k->heads == c->heads &&
           v->heads == c->heads && k->width == c->key_length && v->width == c->value_length;
}

const struct gg_op_kind gg_op_keep = {.run = run, .need = need, .is_sound = is_sound};
