/* Putting keys and values into the pages of the KV cache; kernels.h has the layout of a page. */

#include <string.h>

#include "ops/program.h"

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

void gg_cache_store(const struct gg_run *run, const gg_op *op, size_t row, size_t head, float *scratch) {
    const gg_cache *c = &op->cache;
    const struct gg_cache_type keys = gg_cache_type(c->k_type), values = gg_cache_type(c->v_type);
    const size_t position = (size_t)run->batch->position[row], slot = position % GG_LANES;
    const size_t n_k = (size_t)op->head_dim, n_v = (size_t)op->value_dim;
    const size_t page = gg_page(run->batch, row, position);
    store_key(&keys, n_k, gg_row(run, op->src[1], row) + head * n_k, gg_keys(op, page, head), slot, (uint8_t *)scratch);
    store_value(&values, n_v, gg_row(run, op->src[2], row) + head * n_v, gg_values(op, page, head), slot,
                (uint8_t *)scratch);
}
