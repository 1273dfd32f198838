/* dst[0] = each channel of src[0] with weights of its own over the last `size` places: sum over j of
 * weight[j][channel] * x[t - size + 1 + j][channel], plus bias. What lies before the batch is in the sequence's slot:
 * f32[size - 1][channels]. */

#include <string.h>

#include "run.h"

typedef struct {
    gg_slots slots;
    const float *weight, *bias; /* f32[size][channels], f32[channels] or NULL */
    int32_t size;
} gg_conv;

enum { TOGETHER = 256 }; /* channels */

/* Channels of a sequence's rows, and its slots. */
struct part {
    size_t first, n, row, end;
    const float *before;
    float *after;
};

/* Input i, counted from the first in the slot. */
static const float *input(const struct gg_run *run, const gg_op *op, const struct part *p, size_t channels, size_t i) {
    const size_t past = (size_t)((const gg_conv *)op->args)->size - 1;
    return (i < past ? p->before + i * channels : gg_row(run, &op->src[0], p->row + i - past)) + p->first;
}

static void convolve(const struct gg_run *run, const gg_op *op, const struct part *p) {
    const gg_conv *a = op->args;
    const size_t channels = gg_width(&op->dst[0]), size = (size_t)a->size;
    for (size_t row = p->row; row < p->end; row++) {
        float *y = gg_row(run, &op->dst[0], row) + p->first;
        for (size_t c = 0; c < p->n; c++) y[c] = a->bias ? a->bias[p->first + c] : 0.0f;
        for (size_t j = 0; j < size; j++) {
            const float *x = input(run, op, p, channels, row - p->row + j), *w = a->weight + j * channels + p->first;
            for (size_t c = 0; c < p->n; c++) y[c] += w[c] * x[c];
        }
    }
    for (size_t j = 0; j + 1 < size; j++)
        memcpy(p->after + j * channels + p->first, input(run, op, p, channels, p->end - p->row + j), p->n * sizeof(float));
}

static int run(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    (void)scratch;
    const gg_conv *a = op->args;
    const gg_batch *b = run->batch;
    const size_t channels = gg_width(&op->dst[0]), parts = gg_ceil_div(channels, TOGETHER);
    for (size_t i; (i = gg_take(worker)) < parts * (size_t)b->n_sequences;) {
        const size_t sequence = i / parts, first = i % parts * TOGETHER;
        const struct part p = {first, gg_min(TOGETHER, channels - first), (size_t)b->first_row[sequence],
                               (size_t)b->first_row[sequence + 1], gg_slot_before(b, &a->slots, sequence),
                               gg_slot_after(b, &a->slots, sequence)};
        convolve(run, op, &p);
    }
    return gg_barrier(worker);
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p;
    const gg_conv *a = op->args;
    if (op->rows != GG_ROWS_ALL || !gg_is_view(&op->src[0]) || !gg_is_view(&op->dst[0]) || a->size < 2) return 0;
    if (!gg_is_flat(&op->src[0]) || !gg_is_flat(&op->dst[0])) return 0;
    const size_t channels = gg_width(&op->dst[0]);
    return gg_width(&op->src[0]) == channels && gg_slots_are_whole(b, &a->slots, channels * ((size_t)a->size - 1));
}

const struct gg_op_kind gg_op_conv = {.run = run, .is_sound = is_sound};
