/* dst[0] = src[0] + or * a vector: one value for all, one for each head, one for each value of a head, or one for each
 * value. */

#include "run.h"

typedef struct {
    const float *vector; /* f32[n] */
    int32_t n, multiplies;
} gg_vector;

/* Where in the vector a head's values begin, and how far apart they are. */
static const float *part_of(const gg_vector *a, const gg_view *y, size_t head, size_t *step) {
    const size_t n = (size_t)a->n, width = (size_t)y->width;
    if (n == gg_width(y)) return *step = 1, a->vector + head * width;
    if (n == width) return *step = 1, a->vector;
    return *step = 0, a->vector + (n == 1 ? 0 : head);
}

static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_vector *a = op->args;
    for (size_t h = 0; h < (size_t)op->dst[0].heads; h++) {
        size_t step;
        const float *x = gg_head(run, &op->src[0], row, h), *v = part_of(a, &op->dst[0], h, &step);
        float *y = gg_head(run, &op->dst[0], row, h);
        if (a->multiplies)
            for (size_t i = 0; i < (size_t)op->dst[0].width; i++) y[i] = x[i] * v[i * step];
        else
            for (size_t i = 0; i < (size_t)op->dst[0].width; i++) y[i] = x[i] + v[i * step];
    }
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_vector *a = op->args;
    const gg_view *y = &op->dst[0];
    if (!gg_is_view(&op->src[0]) || !gg_is_view(y) || !gg_same_shape(&op->src[0], y)) return 0;
    return a->n == 1 || a->n == y->heads || a->n == y->width || (a->n > 0 && (size_t)a->n == gg_width(y));
}

const struct gg_op_kind gg_op_vector = {.row = row, .is_sound = is_sound};
