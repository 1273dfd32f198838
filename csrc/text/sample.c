/* Sampling. Contracts in gg_cdef.h. Source of order and defaults: llama.cpp common/sampling.cpp. */

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gg.h"

/* ---- mt19937, Matsumoto and Nishimura 1998 ---- */

void gg_rng_seed(gg_rng *rng, uint32_t seed) {
    rng->state[0] = seed;
    for (uint32_t i = 1; i < 624; i++)
        rng->state[i] = 1812433253u * (rng->state[i - 1] ^ rng->state[i - 1] >> 30) + i;
    rng->index = 624;
}

static uint32_t next_u32(gg_rng *rng) {
    uint32_t *s = rng->state;
    if (rng->index == 624) {
        for (int i = 0; i < 624; i++) {
            const uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % 624] & 0x7fffffffu);
            s[i] = s[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        rng->index = 0;
    }
    uint32_t y = s[rng->index++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* Uniform in [0, 1), as C++'s uniform_real_distribution<double> draws it. */
static double next_unit(gg_rng *rng) {
    const double low = next_u32(rng), high = next_u32(rng);
    const double x = (low + high * 4294967296.0) / 18446744073709551616.0;
    return x < 1.0 ? x : nextafter(1.0, 0.0);
}

/* ---- Candidates: the tokens that can be drawn, in the order of the vocabulary until a stage sorts them ---- */

typedef struct {
    const gg_choice *choice;
    gg_candidate *c;
    size_t n;
    enum { UNREAD, ALL, POSSIBLE } read; /* ALL: c[i] is token i; POSSIBLE: those that can be drawn, or fewer */
    int sorted;                          /* the likeliest first */
} chain;

/* What is no number is as impossible as -inf; +inf is a certainty that can be calculated with. */
static float sound(float logit) {
    if (!(logit > -INFINITY)) return -INFINITY;
    return logit < FLT_MAX ? logit : FLT_MAX;
}

static gg_candidate candidate(const gg_choice *choice, size_t i) {
    const float bias = choice->bias ? choice->bias[i] : 0.0f;
    const int masked = choice->mask && !choice->mask[i];
    return (gg_candidate){masked ? -INFINITY : sound(choice->logits[i] + bias), 0.0f, (int32_t)i};
}

static void read_all(chain *x) {
    if (x->read != UNREAD) return;
    x->n = x->choice->n_vocab;
    for (size_t i = 0; i < x->n; i++) x->c[i] = candidate(x->choice, i);
    x->read = ALL;
}

static void read_possible(chain *x) {
    if (x->read == POSSIBLE) return;
    const int all = x->read == ALL;
    const size_t n = x->choice->n_vocab;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const gg_candidate c = all ? x->c[i] : candidate(x->choice, i);
        x->c[kept] = c;
        kept += c.logit > -INFINITY;
    }
    x->n = kept;
    x->read = POSSIBLE;
}

static int by_falling_logit(const void *a, const void *b) {
    const gg_candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->token < y->token ? -1 : x->token > y->token;
}

static int by_rising_p(const void *a, const void *b) {
    const gg_candidate *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? -1 : 1;
    return by_falling_logit(a, b);
}

static void sift_down(gg_candidate *heap, size_t n, size_t i) { /* the worst candidate is at the root */
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && by_falling_logit(&heap[child + 1], &heap[child]) > 0) child++;
        if (by_falling_logit(&heap[i], &heap[child]) >= 0) return;
        const gg_candidate t = heap[i];
        heap[i] = heap[child], heap[child] = t;
    }
}

static void make_heap(gg_candidate *c, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift_down(c, n, i);
}

static void enter(gg_candidate *heap, size_t n, gg_candidate x) {
    if (by_falling_logit(&x, &heap[0]) < 0) heap[0] = x, sift_down(heap, n, 0);
}

static int any_above(const gg_choice *choice, size_t first, size_t n, float least) { /* for the compiler to vectorize */
    const float *x = choice->logits + first;
    int any = 0;
    if (choice->bias) {
        const float *bias = choice->bias + first;
        for (size_t i = 0; i < n; i++) any |= x[i] + bias[i] > least;
    } else {
        for (size_t i = 0; i < n; i++) any |= x[i] > least;
    }
    return any;
}

/* The k best of a vocabulary, k < n_vocab: nearly all logits are only compared, some at a time. */
static void read_best(chain *x, size_t k) {
    enum { STEP = 64 };
    const size_t n = x->choice->n_vocab;
    for (size_t i = 0; i < k; i++) x->c[i] = candidate(x->choice, i);
    make_heap(x->c, k);
    for (size_t first = k, step; first < n; first += step) {
        step = n - first < STEP ? n - first : STEP;
        if (!any_above(x->choice, first, step, x->c[0].logit)) continue;
        for (size_t i = first; i < first + step; i++)
            if (!x->choice->mask || x->choice->mask[i]) enter(x->c, k, candidate(x->choice, i));
    }
    x->n = k;
}

/* The k best, sorted. */
static void keep_best(chain *x, size_t k) {
    if (x->read == UNREAD && k < x->choice->n_vocab) {
        read_best(x, k);
    } else {
        read_all(x);
        if (k < x->n && !x->sorted) {
            make_heap(x->c, k);
            for (size_t i = k; i < x->n; i++) enter(x->c, k, x->c[i]);
        }
        if (k < x->n) x->n = k;
    }
    if (!x->sorted) qsort(x->c, x->n, sizeof *x->c, by_falling_logit);
    while (x->n && x->c[x->n - 1].logit == -INFINITY) x->n--;
    x->read = POSSIBLE, x->sorted = 1;
}

static float best_logit(const chain *x) {
    float best = -INFINITY;
    for (size_t i = 0; i < x->n; i++)
        if (x->c[i].logit > best) best = x->c[i].logit;
    return best;
}

/* Sets p; returns the sum. */
static double softmax(chain *x) {
    const float best = best_logit(x);
    double sum = 0.0;
    for (size_t i = 0; i < x->n; i++) sum += x->c[i].p = expf(x->c[i].logit - best);
    return sum;
}

/* ---- Stages: each changes logits, or keeps some candidates, at the front ---- */

/* Of the last n tokens: a factor or divisor for all, then so much less for each time, and once. Before all others. */
static void penalties(chain *x, const gg_stage *s) {
    const float repeat = s->value[0], frequency = s->value[1], presence = s->value[2];
    const size_t n = x->choice->n_history < (size_t)s->n ? x->choice->n_history : (size_t)s->n;
    const int32_t *history = x->choice->history + x->choice->n_history - n;
    read_all(x);
    for (size_t i = 0; i < n; i++) x->c[history[i]].p += 1.0f; /* p counts until softmax needs it */
    for (size_t i = 0; i < n; i++) {
        gg_candidate *c = &x->c[history[i]];
        if (c->p == 0.0f || c->logit == -INFINITY) continue; /* done at an earlier place; impossible */
        const float logit = c->logit <= 0.0f ? c->logit * repeat : c->logit / repeat;
        c->logit = sound(logit - (c->p * frequency + presence));
        c->p = 0.0f;
    }
}

static void top_k(chain *x, const gg_stage *s) { keep_best(x, (size_t)s->n); }

/* Those whose surprise is nearest to the entropy, in this order, until together they are likelier than value[0]. */
static void typical_p(chain *x, const gg_stage *s) {
    read_possible(x);
    const double sum = softmax(x), log_sum = log(sum);
    const float best = best_logit(x);
    double entropy = 0.0, reached = 0.0;
    for (size_t i = 0; i < x->n; i++) entropy += x->c[i].p / sum * (log_sum - ((double)x->c[i].logit - best));
    for (size_t i = 0; i < x->n; i++)
        x->c[i].p = (float)fabs(log_sum - ((double)x->c[i].logit - best) - entropy); /* to sort by */
    qsort(x->c, x->n, sizeof *x->c, by_rising_p);
    x->sorted = 0;
    size_t kept = 0;
    while (kept < x->n && (kept == 0 || reached <= s->value[0])) reached += expf(x->c[kept++].logit - best) / sum;
    x->n = kept;
}

/* The likeliest that together reach value[0]. */
static void top_p(chain *x, const gg_stage *s) {
    if (!x->sorted) keep_best(x, SIZE_MAX);
    const double sum = softmax(x);
    double reached = 0.0;
    size_t kept = 0;
    while (kept < x->n && (kept == 0 || reached < s->value[0])) reached += x->c[kept++].p / sum;
    x->n = kept;
}

/* Those at least value[0] times as likely as the likeliest. */
static void min_p(chain *x, const gg_stage *s) {
    read_possible(x);
    const float least = best_logit(x) + logf(fminf(s->value[0], 1.0f));
    size_t kept = 0;
    for (size_t i = 0; i < x->n; i++)
        if (x->c[i].logit >= least) x->c[kept++] = x->c[i];
    x->n = kept;
}

/* Logits over value[0]; of 0 and less the likeliest is left. */
static void temperature(chain *x, const gg_stage *s) {
    if (s->value[0] <= 0.0f) {
        keep_best(x, 1);
        return;
    }
    read_possible(x);
    const float best = best_logit(x);
    for (size_t i = 0; i < x->n; i++) {
        const float logit = (x->c[i].logit - best) / s->value[0];
        x->c[i].logit = logit > -FLT_MAX ? logit : -FLT_MAX;
    }
}

static const struct {
    const char *name;
    void (*apply)(chain *, const gg_stage *);
} STAGES[] = {
    {"penalties", penalties},
    {"top_k", top_k},
    {"typical_p", typical_p},
    {"top_p", top_p},
    {"min_p", min_p},
    {"temperature", temperature},
};

int32_t gg_find_stage(const char *name) {
    for (size_t i = 0; i < sizeof STAGES / sizeof *STAGES; i++)
        if (!strcmp(STAGES[i].name, name)) return (int32_t)i;
    return -1;
}

int32_t gg_sample(const gg_choice *choice, const gg_stage *stages, size_t n_stages, gg_rng *rng,
                  gg_candidate *scratch) {
    chain x = {.choice = choice, .c = scratch, .read = UNREAD};
    for (size_t i = 0; i < n_stages; i++) STAGES[stages[i].kind].apply(&x, &stages[i]);
    read_possible(&x);
    if (x.n == 0) return -1;
    /* Along the candidates in whatever order they are. */
    const double target = softmax(&x) * next_unit(rng);
    double reached = 0.0;
    for (size_t i = 0; i < x.n; i++)
        if ((reached += x.c[i].p) >= target) return x.c[i].token;
    return x.c[x.n - 1].token;
}
