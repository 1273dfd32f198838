/* What the files of the linear op share. */

#ifndef GG_LINEAR_H
#define GG_LINEAR_H

#include "lists.h"
#include "run.h"

typedef struct {
    gg_tensor weight[3];  /* of outputs 0, 1, 2; all with the same n_in and count */
    const float *bias[3]; /* f32[count][n_out] or NULL */
    int32_t n_weights;
    int32_t gate;         /* -1, or enum gg_function: dst[0] = gate(output 0) * output 1 */
    int32_t per_head;     /* head i of src[0] goes through matrix i */
    const int32_t *lists; /* of a route: a row's slots go through the matrices of their experts; or NULL */
} gg_linear;

/* One linear op at work: dst[i] = src[0] @ weight[i].T + bias[i] (+ src[1]). */
struct gg_linear_job {
    const struct gg_run *run;
    const gg_op *op;
    const gg_linear *args;
    size_t rows, wide;           /* of the op; of the wide regime, the first */
    size_t n_in, outputs, lists; /* outputs: weights that are worked on apart; a gated pair is one */
    size_t slots;
    uint8_t *packed;             /* where the wide regime has its operands, of at most most_tiles tiles */
    size_t most_tiles;
};

/* Rows that go through one matrix, in one regime. */
struct gg_list {
    size_t n, matrix;
    const int32_t *item; /* row * slots + slot, or NULL: rows from `first` on, all with `slot` */
    size_t first, slot;
};

static inline struct gg_list gg_list_of(const struct gg_linear_job *j, int wide, size_t i) {
    if (j->args->lists) {
        const int32_t *start = gg_list_starts(j->args->lists, j->lists, wide);
        const int32_t *items = gg_list_items(j->args->lists, j->lists);
        return (struct gg_list){.n = (size_t)(start[i + 1] - start[i]), .matrix = i, .item = items + start[i]};
    }
    return (struct gg_list){
        .n = wide ? j->wide : j->rows - j->wide, .matrix = i, .first = wide ? 0 : j->wide, .slot = i};
}

/* Row of the op, and slot, of item i of a list. */
static inline size_t gg_item_row(const struct gg_linear_job *j, const struct gg_list *list, size_t i) {
    return list->item ? (size_t)list->item[i] / j->slots : list->first + i;
}
static inline size_t gg_item_slot(const struct gg_linear_job *j, const struct gg_list *list, size_t i) {
    return list->item ? (size_t)list->item[i] % j->slots : list->slot;
}

/* Which head of src[0] a slot reads: its own, or the only one. */
static inline size_t gg_source(const struct gg_linear_job *j, size_t slot) { return j->op->src[0].heads > 1 ? slot : 0; }

static inline const float *gg_item_input(const struct gg_linear_job *j, const struct gg_list *list, size_t i) {
    return gg_head(j->run, &j->op->src[0], gg_item_row(j, list, i), gg_source(j, gg_item_slot(j, list, i)));
}
static inline const float *gg_bias(const gg_linear *a, size_t k, size_t matrix) {
    return a->bias[k] ? a->bias[k] + matrix * (size_t)a->weight[k].n_out : NULL;
}
static inline const uint8_t *gg_weight_row(const gg_tensor *w, size_t matrix, size_t row) {
    return w->data + (matrix * (size_t)w->n_out + row) * w->stride;
}

/* Each regime makes operands of its rows, piece by piece; then rows first .. first + n of weight k are multiplied with
 * all rows of a list, a step at a time. */
enum { GG_WIDE_STEP = 64 };
size_t gg_wide_most_tiles(const gg_program *program, const gg_op *op);
size_t gg_wide_pieces(const struct gg_linear_job *j);
void gg_wide_prepare(const struct gg_linear_job *j, size_t piece, float *scratch);
void gg_wide_multiply(const struct gg_linear_job *j, const struct gg_list *list, size_t k, size_t first, size_t n,
                      float *scratch);
struct gg_need gg_wide_need(const gg_program *program, const gg_op *op);

size_t gg_narrow_step(const gg_tensor *w, int n_threads);
size_t gg_narrow_pieces(const struct gg_linear_job *j);
void gg_narrow_prepare(const struct gg_linear_job *j, size_t piece);
void gg_narrow_multiply(const struct gg_linear_job *j, const struct gg_list *list, size_t k, size_t first, size_t n,
                        float *scratch);
struct gg_need gg_narrow_need(const gg_program *program, const gg_op *op);

#endif
