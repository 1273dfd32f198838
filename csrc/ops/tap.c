/* Adds what a linear reads to memory of the plan's own: the squares of src[0] (n,), or all products of two of its
 * values, for each matrix that rows go through. Sums are in double, over the rows in order. */

#include "lists.h"
#include "run.h"

typedef struct {
    double *sum;          /* f64[matrices][n], or [matrices][n][n] */
    int64_t *count;       /* i64[matrices]: rows that were added */
    const int32_t *lists; /* of a route, or NULL: all rows go through matrix 0; heads of src[0] each through their own */
    int32_t matrices, slots;
    int32_t products;     /* 1: all products */
} gg_tap;

/* Row `item` of a matrix, counted over both regimes. */
static const float *input(const struct gg_run *run, const gg_op *op, const int32_t *items, size_t matrix, size_t item) {
    const size_t heads = (size_t)op->src[0].heads, slots = (size_t)((const gg_tap *)op->args)->slots;
    if (!items) return gg_head(run, &op->src[0], item, heads > 1 ? matrix : 0);
    const size_t row = (size_t)items[item] / slots, slot = (size_t)items[item] % slots;
    return gg_head(run, &op->src[0], row, heads > 1 ? slot : 0);
}

/* Values first .. end of a row enter the sums of its matrix. */
static void add(const gg_tap *a, size_t n, size_t matrix, size_t first, size_t end, const float *x) {
    if (!a->products) {
        double *sum = a->sum + matrix * n;
        for (size_t i = first; i < end; i++) sum[i] += (double)x[i] * (double)x[i];
        return;
    }
    for (size_t i = first; i < end; i++) {
        double *sum = a->sum + (matrix * n + i) * n;
        for (size_t j = 0; j < n; j++) sum[j] += (double)x[i] * (double)x[j];
    }
}

static void add_rows(const struct gg_run *run, const gg_op *op, size_t matrix, size_t first, size_t end) {
    const gg_tap *a = op->args;
    const size_t n = (size_t)op->src[0].width, matrices = (size_t)a->matrices;
    for (int wide = 1; wide >= 0; wide--) {
        const int32_t *start = a->lists ? gg_list_starts(a->lists, matrices, wide) : NULL;
        const int32_t *items = a->lists ? gg_list_items(a->lists, matrices) + start[matrix] : NULL;
        const size_t rows = a->lists ? (size_t)(start[matrix + 1] - start[matrix]) : wide ? gg_op_rows(run, op) : 0;
        for (size_t r = 0; r < rows; r++) add(a, n, matrix, first, end, input(run, op, items, matrix, r));
        if (first == 0) a->count[matrix] += (int64_t)rows;
    }
}

enum { TOGETHER = 64 }; /* values */

static int run(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    (void)scratch;
    const size_t n = (size_t)op->src[0].width, parts = gg_ceil_div(n, TOGETHER);
    const size_t matrices = (size_t)((const gg_tap *)op->args)->matrices;
    for (size_t i; (i = gg_take(worker)) < parts * matrices;)
        add_rows(run, op, i / parts, i % parts * TOGETHER, gg_min((i % parts + 1) * TOGETHER, n));
    return gg_barrier(worker);
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_tap *a = op->args;
    const gg_view *x = &op->src[0];
    if (!gg_is_view(x) || !a->sum || !a->count || a->matrices < 1 || a->slots < 1) return 0;
    if (!a->lists) return x->heads == a->matrices;
    return (x->heads == 1 || x->heads == a->slots) && gg_lists_are_of(a->lists, a->matrices, a->slots);
}

const struct gg_op_kind gg_op_tap = {.run = run, .is_sound = is_sound};
