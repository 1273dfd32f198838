/* dst[0] = the weights (slots, 1) of each row's experts, chosen by the logits src[0] (experts,); who goes where is noted
 * in lists (lists.h). */

#include <math.h>
#include <string.h>

#include "lists.h"
#include "run.h"

enum { SOFTMAX, SIGMOID, CHOSEN, SPARSEMIXER };

typedef struct {
    const float *bias;  /* f32[experts] or NULL: added to what is chosen by */
    int32_t *lists;     /* i32[gg_list_integers()], the first two: experts and slots */
    int32_t *chosen;    /* i32[max_rows][slots] */
    int32_t gating;     /* 0: softmax, 1: sigmoid, 2: softmax over the chosen, 3: over those close to a chosen one */
    float jitter;       /* half of how far from it the last are, in parts of the larger */
    int32_t normalize;  /* weights sum to 1 */
    float scale;
    int32_t groups, groups_used; /* experts are chosen from the groups whose best are best */
    int32_t group_best;          /* of how many of a group the sum counts, 1 or 2 */
} gg_route;

size_t gg_list_integers(size_t experts, size_t rows, size_t slots) {
    return GG_LIST_HEAD + 2 * (experts + 1) + rows * slots;
}

static void softmax(size_t n, const float *x, float *p) {
    float max = -INFINITY, sum = 0.0f;
    for (size_t i = 0; i < n; i++) max = fmaxf(max, x[i]);
    for (size_t i = 0; i < n; i++) sum += p[i] = expf(x[i] - max);
    for (size_t i = 0; i < n; i++) p[i] /= sum;
}

/* The first largest of those that are numbers. */
static size_t largest(size_t n, const float *x) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best] || (isnan(x[best]) && !isnan(x[i]))) best = i;
    return best;
}

/* Only the best groups stay in the choice. score: f32[groups]. */
static void limit_groups(const gg_route *a, size_t experts, float *choice, float *score) {
    const size_t groups = (size_t)a->groups, size = experts / groups;
    for (size_t g = 0; g < groups; g++) {
        float *x = choice + g * size;
        const size_t first = largest(size, x);
        float second = -INFINITY;
        for (size_t i = 0; i < size; i++)
            if (i != first && x[i] > second) second = x[i];
        score[g] = x[first] + (size > 1 && a->group_best > 1 ? second : 0.0f);
    }
    for (size_t used = 0; used < (size_t)a->groups_used; used++) score[largest(groups, score)] = NAN;
    for (size_t i = 0; i < experts; i++)
        if (!isnan(score[i / size])) choice[i] = -INFINITY;
}

/* The share of x[best] among those that are close to it and not taken. */
static float share(const gg_route *a, size_t n, const float *x, const float *choice, size_t best) {
    const float max = x[best];
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++)
        if (!isnan(choice[i]) && max - x[i] <= 2.0f * a->jitter * fmaxf(fabsf(x[i]), max)) sum += expf(x[i] - max);
    return 1.0f / sum;
}

static void choose(const struct gg_run *run, const gg_op *op, size_t row, float *scratch) {
    const gg_route *a = op->args;
    const size_t experts = (size_t)op->src[0].width, slots = (size_t)op->dst[0].heads;
    const float *logits = gg_row(run, &op->src[0], row);
    float *p = scratch, *choice = p + experts, *weight = choice + experts, sum = 0.0f;
    if (a->gating == SOFTMAX) softmax(experts, logits, p);
    else
        for (size_t i = 0; i < experts; i++) p[i] = a->gating == SIGMOID ? 1.0f / (1.0f + expf(-logits[i])) : logits[i];
    for (size_t i = 0; i < experts; i++) {
        choice[i] = a->bias ? p[i] + a->bias[i] : p[i];
        if (isnan(choice[i])) choice[i] = -INFINITY; /* NAN stands for taken: nobody is chosen twice */
    }
    if (a->groups > 1) limit_groups(a, experts, choice, weight);
    int32_t *chosen = a->chosen + row * slots;
    for (size_t s = 0; s < slots; s++) {
        const size_t best = largest(experts, choice);
        weight[s] = a->gating == SPARSEMIXER ? share(a, experts, p, choice, best) : p[best];
        chosen[s] = (int32_t)best, choice[best] = NAN;
    }
    if (a->gating == CHOSEN) softmax(slots, weight, weight);
    for (size_t s = 0; s < slots; s++) sum += weight[s];
    const float scale = a->normalize ? a->scale / fmaxf(sum, 6.103515625e-5f) : a->scale; /* the least normal f16 */
    for (size_t s = 0; s < slots; s++) *gg_head(run, &op->dst[0], row, s) = weight[s] * scale;
}

/* Rows first .. last of one regime, sorted by their experts; items begin at `at`. */
static void sort_rows(const gg_route *a, size_t experts, size_t slots, size_t first, size_t last, int wide, int32_t at) {
    int32_t *lists = a->lists + GG_LIST_HEAD, *start = lists + (wide ? 0 : experts + 1), *items = lists + 2 * (experts + 1);
    memset(start, 0, (experts + 1) * sizeof *start);
    for (size_t i = first * slots; i < last * slots; i++) start[a->chosen[i] + 1]++;
    start[0] = at;
    for (size_t e = 0; e < experts; e++) start[e + 1] += start[e];
    for (size_t i = first * slots; i < last * slots; i++) items[start[a->chosen[i]]++] = (int32_t)i;
    for (size_t e = experts; e > 0; e--) start[e] = start[e - 1]; /* each had moved on to the next */
    start[0] = at;
}

static int run(const struct gg_run *run, const gg_op *op, struct gg_worker *worker, float *scratch) {
    const gg_route *a = op->args;
    const size_t experts = (size_t)op->src[0].width, slots = (size_t)op->dst[0].heads;
    const size_t rows = gg_op_rows(run, op), wide = gg_wide_rows(run, op);
    for (size_t row; (row = gg_take(worker)) < rows;) choose(run, op, row, scratch);
    if (gg_barrier(worker)) return 1;
    if (gg_take(worker) == 0) {
        sort_rows(a, experts, slots, 0, wide, 1, 0);
        sort_rows(a, experts, slots, wide, rows, 0, (int32_t)(wide * slots));
    }
    return gg_barrier(worker);
}

static struct gg_need need(const gg_program *program, const gg_op *op) {
    (void)program;
    return (struct gg_need){3 * (size_t)op->src[0].width, 0};
}

static int is_sound(const gg_program *p, const gg_batch *b, const gg_op *op) {
    (void)p, (void)b;
    const gg_route *a = op->args;
    const gg_view *logits = &op->src[0], *weights = &op->dst[0];
    if (op->rows == GG_ROWS_TEXTS || !gg_is_view(logits) || !gg_is_view(weights) || logits->heads != 1) return 0;
    if (weights->width != 1 || weights->heads > logits->width || !a->lists || !a->chosen) return 0;
    if (!gg_lists_are_of(a->lists, logits->width, weights->heads)) return 0;
    return a->groups >= 1 && a->groups_used >= 1 && a->groups_used <= a->groups && logits->width % a->groups == 0 &&
           weights->heads <= logits->width / a->groups * a->groups_used;
}

const struct gg_op_kind gg_op_route = {.run = run, .need = need, .is_sound = is_sound};
