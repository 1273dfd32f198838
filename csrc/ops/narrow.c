/* The linear op on few rows, those that are generated: the limit is memory. Each row is quantized once, where weights are
 * of block types, and each chunk of weights is read once for up to TOGETHER rows. */

#include "ops/linear.h"

enum {
    CHUNK_BYTES = 524288, /* of weights taken at a time: long runs keep the prefetchers busy */
    CHUNK_ROWS = 1024,
    TOGETHER = 8, /* rows that share a reading of the weights */
};

size_t gg_narrow_scratch(void) { return 2 * TOGETHER * CHUNK_ROWS; }

/* Only block types read quantized activations, and their rows are multiples of 32. */
static int has_blocks(const gg_op *op) {
    for (int32_t k = 0; k < op->n_weights; k++)
        if (gg_type(op->weight[k].type).weights > 1) return 1;
    return 0;
}

void gg_narrow_prepare(const struct gg_linear *j, size_t i) {
    if (has_blocks(j->op)) gg_quantize_activation(j, gg_activation_row(j, j->narrow.first + i));
}

/* Small tensors are cut finer, so that all threads finish together. */
size_t gg_narrow_step(const gg_tensor *w, int n_threads) {
    const size_t share = gg_round_up((size_t)w->n_out, 4 * (size_t)n_threads) / (4 * (size_t)n_threads);
    const size_t rows = gg_min(gg_min(CHUNK_BYTES / w->stride, CHUNK_ROWS), share);
    return rows < 1 ? 1 : rows;
}

/* y[c][CHUNK_ROWS] = weights first .. first + n times row c of n_x, plus bias. */
static void multiply(const struct gg_linear *j, size_t k, size_t first, size_t n, size_t n_x,
                     const struct gg_activation *x, float *y) {
    const gg_tensor *w = &j->op->weight[k];
    gg_type(w->type).dot(j->n_in, n, w->data + first * w->stride, w->stride, n_x, x, y, CHUNK_ROWS);
    const float *bias = j->op->bias[k];
    for (size_t c = 0; bias && c < n_x; c++)
        for (size_t i = 0; i < n; i++) y[c * CHUNK_ROWS + i] += bias[first + i];
}

static void store(const struct gg_linear *j, size_t k, size_t row, size_t first, size_t n, const float *y) {
    const float *add = j->op->add >= 0 ? gg_row(j->run, j->op->add, row) + first : NULL;
    float *dst = gg_row(j->run, j->op->dst[k], row) + first;
    for (size_t i = 0; i < n; i++) dst[i] = add ? y[i] + add[i] : y[i];
}

void gg_narrow_multiply(const struct gg_linear *j, size_t k, size_t first, size_t n, float *scratch) {
    float *y = scratch, *up = y + TOGETHER * CHUNK_ROWS;
    for (size_t row = j->narrow.first, n_x; row < j->narrow.last; row += n_x) {
        struct gg_activation x[TOGETHER];
        for (n_x = 0; n_x < TOGETHER && row + n_x < j->narrow.last; n_x++) x[n_x] = gg_activation_row(j, row + n_x);
        multiply(j, k, first, n, n_x, x, y);
        if (j->op->gated) multiply(j, 1, first, n, n_x, x, up);
        for (size_t c = 0; c < n_x; c++) {
            if (j->op->gated) gg_k.silu_mul(n, y + c * CHUNK_ROWS, up + c * CHUNK_ROWS);
            store(j, k, row + c, first, n, y + c * CHUNK_ROWS);
        }
    }
}
