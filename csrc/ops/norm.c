/* dst[0] = src[0] / size * weight + bias over each head; size: the root of the mean square (rms), the deviation, after
 * the mean was taken off (layer), or the length (l2). */

#include <math.h>

#include "run.h"

enum { RMS, LAYER, L2 };

typedef struct {
    const float *weight, *bias; /* f32[n_weights], or NULL */
    int32_t n_weights;          /* values of a head, or of all heads */
    int32_t size;               /* 0: rms, 1: layer, 2: l2 */
    float epsilon;
} gg_norm;

static double sum_of(size_t n, const float *x) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    return sum;
}

static double sum_of_squares(size_t n, const float *x, double mean) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sum;
}

static void normalize(const gg_norm *a, size_t n, const float *x, float *y) {
    const double mean = a->size == LAYER ? sum_of(n, x) / (double)n : 0.0, sum = sum_of_squares(n, x, mean);
    const double scale = a->size == L2 ? 1.0 / fmax(sqrt(sum), (double)a->epsilon)
                                       : 1.0 / sqrt(sum / (double)n + (double)a->epsilon);
    for (size_t i = 0; i < n; i++) y[i] = (float)(((double)x[i] - mean) * scale);
}

static void row(const struct gg_run *run, const gg_op *op, size_t row) {
    const gg_norm *a = op->args;
    const size_t n = (size_t)op->dst[0].width;
    for (size_t h = 0; h < (size_t)op->dst[0].heads; h++) {
        const size_t first = (size_t)a->n_weights > n ? h * n : 0;
        const float *x = gg_head(run, &op->src[0], row, h), *weight = a->weight ? a->weight + first : NULL;
        float *y = gg_head(run, &op->dst[0], row, h);
        if (a->size == RMS && weight) {
            gg_k.rms_norm(n, x, weight, a->epsilon, y);
        } else {
            normalize(a, n, x, y);
            for (size_t i = 0; weight && i < n; i++) y[i] *= weight[i];
        }
        for (size_t i = 0; a->bias && i < n; i++) y[i] += a->bias[first + i];
    }
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_norm *a = op->args;
    if (!gg_maps(op)) return 0;
    return !(a->weight || a->bias) || a->n_weights == op->dst[0].width ||
           (size_t)a->n_weights == gg_width(&op->dst[0]);
}

const struct gg_op_kind gg_op_norm = {.row = row, .is_sound = is_sound};
