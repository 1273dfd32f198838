/* The linear op on few rows, those that are generated: the limit is memory. Each row is quantized once, where weights are
 * of block types, and each chunk of weights is read once for up to TOGETHER rows. */

#include "linear.h"

enum {
    CHUNK_BYTES = 524288, /* of weights taken at a time: long runs keep the prefetchers busy */
    CHUNK_ROWS = 1024,
    TOGETHER = 8, /* rows that share a reading of the weights */
};

/* Only block types read quantized activations, and their rows are multiples of 32. */
static int has_blocks(const gg_linear *a) {
    for (int32_t k = 0; k < a->n_weights; k++)
        if (gg_type(a->weight[k].type).weights > 1) return 1;
    return 0;
}

/* ---- Quantized rows: shared memory holds q, d and s of all, one after the other; a row may have several heads ---- */

static size_t padded(const gg_linear *a) { return gg_round_up((size_t)a->weight[0].n_in, 32); }
static size_t most_rows(const gg_program *p, const gg_op *op) { return (size_t)p->max_rows * (size_t)op->src[0].heads; }

struct gg_need gg_narrow_need(const gg_program *program, const gg_op *op) {
    const size_t values = most_rows(program, op) * padded(op->args), floats = values / 32 + values / 16;
    return (struct gg_need){2 * TOGETHER * CHUNK_ROWS,
                            has_blocks(op->args) ? gg_round_up(values + floats * sizeof(float), 64) : 0};
}

static struct gg_activation activation(const struct gg_linear_job *j, size_t row, size_t head) {
    const size_t width = padded(j->args), i = row * (size_t)j->op->src[0].heads + head;
    uint8_t *shared = j->run->program->shared;
    const size_t values = most_rows(j->run->program, j->op) * width;
    float *d = (float *)(void *)(shared + values), *s = d + values / 32;
    return (struct gg_activation){
        .x = gg_head(j->run, &j->op->src[0], row, head),
        .q = (int8_t *)shared + i * width,
        .d = d + i * (width / 32),
        .s = s + i * (width / 16),
    };
}

size_t gg_narrow_pieces(const struct gg_linear_job *j) { return (j->rows - j->wide) * (size_t)j->op->src[0].heads; }

void gg_narrow_prepare(const struct gg_linear_job *j, size_t piece) {
    const size_t heads = (size_t)j->op->src[0].heads;
    if (!has_blocks(j->args)) return;
    const struct gg_activation x = activation(j, j->wide + piece / heads, piece % heads);
    gg_k.quantize(j->n_in, x.x, (int8_t *)x.q, (float *)x.d, (float *)x.s);
}

/* ---- Products ---- */

/* Small tensors are cut finer, so that all threads finish together. */
size_t gg_narrow_step(const gg_tensor *w, int n_threads) {
    const size_t share = gg_ceil_div((size_t)w->n_out, 4 * (size_t)n_threads);
    const size_t rows = gg_min(gg_min(CHUNK_BYTES / w->stride, CHUNK_ROWS), share);
    return rows < 1 ? 1 : rows;
}

/* y[c][CHUNK_ROWS] = weights first .. first + n times row c of n_x, plus bias. */
static void multiply(const struct gg_linear_job *j, const struct gg_list *list, size_t k, size_t first, size_t n,
                     size_t n_x, const struct gg_activation *x, float *y) {
    const gg_tensor *w = &j->args->weight[k];
    gg_type(w->type).dot(j->n_in, n, gg_weight_row(w, list->matrix, first), w->stride, n_x, x, y, CHUNK_ROWS);
    const float *bias = gg_bias(j->args, k, list->matrix);
    for (size_t c = 0; bias && c < n_x; c++)
        for (size_t i = 0; i < n; i++) y[c * CHUNK_ROWS + i] += bias[first + i];
}

static void store(const struct gg_linear_job *j, size_t k, size_t row, size_t slot, size_t first, size_t n,
                  const float *y) {
    const gg_view *more = &j->op->src[1];
    const float *add = gg_is_view(more) ? gg_head(j->run, more, row, slot) + first : NULL;
    float *dst = gg_head(j->run, &j->op->dst[k], row, slot) + first;
    for (size_t i = 0; i < n; i++) dst[i] = add ? y[i] + add[i] : y[i];
}

void gg_narrow_multiply(const struct gg_linear_job *j, const struct gg_list *list, size_t k, size_t first, size_t n,
                        float *scratch) {
    float *y = scratch, *second = y + TOGETHER * CHUNK_ROWS;
    for (size_t i = 0, n_x; i < list->n; i += n_x) {
        struct gg_activation x[TOGETHER];
        size_t slot[TOGETHER], row[TOGETHER];
        for (n_x = 0; n_x < TOGETHER && i + n_x < list->n; n_x++) {
            row[n_x] = gg_item_row(j, list, i + n_x), slot[n_x] = gg_item_slot(j, list, i + n_x);
            x[n_x] = activation(j, row[n_x], gg_source(j, slot[n_x]));
        }
        multiply(j, list, k, first, n, n_x, x, y);
        if (j->args->gate >= 0) multiply(j, list, 1, first, n, n_x, x, second);
        for (size_t c = 0; c < n_x; c++) {
            float *result = y + c * CHUNK_ROWS;
            if (j->args->gate >= 0) gg_k.activate(j->args->gate, n, result, second + c * CHUNK_ROWS, result);
            store(j, k, row[c], slot[c], first, n, result);
        }
    }
}
