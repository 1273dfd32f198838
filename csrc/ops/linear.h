/* What the two regimes of the linear op share. */

#ifndef GG_LINEAR_H
#define GG_LINEAR_H

#include "ops/program.h"

/* One linear op at work. */
struct gg_linear {
    const struct gg_run *run;
    const gg_op *op;
    struct gg_rows wide, narrow; /* rows by regime */
    size_t n_in, outputs;        /* outputs: weights that are worked on apart; a gated pair is one */
};

static inline size_t gg_n_narrow(const struct gg_linear *j) { return j->narrow.last - j->narrow.first; }
static inline size_t gg_n_tiles(const struct gg_linear *j) {
    return (j->wide.last - j->wide.first + GG_LANES - 1) / GG_LANES;
}

/* Row i of the op's input, and the room for it quantized. */
static inline struct gg_activation gg_activation_row(const struct gg_linear *j, size_t i) {
    const gg_program *p = j->run->program;
    const size_t width = (size_t)p->max_in;
    return (struct gg_activation){
        .x = gg_row(j->run, j->op->src[0], i),
        .q = p->quantized + i * width,
        .d = p->quantized_scale + i * (width / 32),
        .s = p->quantized_sum + i * (width / 16),
    };
}

static inline void gg_quantize_activation(const struct gg_linear *j, struct gg_activation x) {
    gg_k.quantize(j->n_in, x.x, (int8_t *)x.q, (float *)x.d, (float *)x.s);
}

/* Each regime makes operands of its rows, item by item; then rows first .. first + n of weight k are multiplied with
 * all of them, a step at a time. */
enum { GG_WIDE_STEP = 64 };
void gg_wide_prepare(const struct gg_linear *j, size_t tile);
void gg_wide_multiply(const struct gg_linear *j, size_t k, size_t first, size_t n, float *scratch);
size_t gg_wide_scratch(const gg_program *program);

size_t gg_narrow_step(const gg_tensor *w, int n_threads);
void gg_narrow_prepare(const struct gg_linear *j, size_t i);
void gg_narrow_multiply(const struct gg_linear *j, size_t k, size_t first, size_t n, float *scratch);
size_t gg_narrow_scratch(void);

#endif
