/* Sampling. Contracts in gg_cdef.h. Source of order and defaults: llama.cpp common/sampling.cpp. */

#include <math.h>
#include <stdlib.h>

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

/* ---- The chain: each step keeps some candidates, at the front. They are in the order of the vocabulary until a step
 * needs them sorted; the draw walks along them in whatever order they are ---- */

static int by_falling_logit(const void *a, const void *b) {
    const gg_candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->token < y->token ? -1 : x->token > y->token;
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

/* The k best, sorted. */
static size_t top_k(gg_candidate *c, size_t n, size_t k) {
    if (k < n) {
        make_heap(c, k);
        for (size_t i = k; i < n; i++) enter(c, k, c[i]);
        n = k;
    }
    qsort(c, n, sizeof *c, by_falling_logit);
    return n;
}

static gg_candidate candidate(const float *logits, size_t i) { return (gg_candidate){logits[i], 0.0f, (int32_t)i}; }

static int any_above(const float *x, size_t n, float least) { /* for the compiler to vectorize */
    int any = 0;
    for (size_t i = 0; i < n; i++) any |= x[i] > least;
    return any;
}

/* The k best of a vocabulary, sorted, k < n: nearly all logits are only compared, some at a time. */
static size_t best(const float *logits, size_t n, size_t k, gg_candidate *c) {
    enum { STEP = 64 };
    for (size_t i = 0; i < k; i++) c[i] = candidate(logits, i);
    make_heap(c, k);
    for (size_t first = k, step; first < n; first += step) {
        step = n - first < STEP ? n - first : STEP;
        if (!any_above(logits + first, step, c[0].logit)) continue;
        for (size_t i = first; i < first + step; i++) enter(c, k, candidate(logits, i));
    }
    return top_k(c, k, k);
}

static float best_logit(const gg_candidate *c, size_t n) {
    float best = c[0].logit;
    for (size_t i = 1; i < n; i++)
        if (c[i].logit > best) best = c[i].logit;
    return best;
}

/* Sets p; returns the sum. */
static double softmax(gg_candidate *c, size_t n, float temperature) {
    const float best = best_logit(c, n);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += c[i].p = expf((c[i].logit - best) / temperature);
    return sum;
}

/* The first of the sorted candidates that together reach p. */
static size_t top_p(gg_candidate *c, size_t n, float p) {
    const double sum = softmax(c, n, 1.0f);
    double reached = 0.0;
    for (size_t i = 0; i < n; i++)
        if ((reached += c[i].p / sum) >= p) return i + 1;
    return n;
}

/* Those at least p times as likely as the best. */
static size_t min_p(gg_candidate *c, size_t n, float p) {
    const float least = best_logit(c, n) + logf(p);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (c[i].logit >= least) c[kept++] = c[i];
    return kept ? kept : 1;
}

static void penalize(gg_candidate *c, const gg_sampling *s, const int32_t *history, size_t n) {
    for (size_t i = 0; i < n; i++) c[history[i]].p += 1.0f; /* p counts until softmax needs it */
    for (size_t i = 0; i < n; i++) {
        gg_candidate *x = &c[history[i]];
        if (x->p == 0.0f) continue; /* done at an earlier place */
        x->logit = x->logit <= 0.0f ? x->logit * s->repeat_penalty : x->logit / s->repeat_penalty;
        x->logit -= x->p * s->frequency_penalty + s->presence_penalty;
        x->p = 0.0f;
    }
}

static int32_t draw(gg_candidate *c, size_t n, float temperature, gg_rng *rng) {
    const double target = softmax(c, n, temperature) * next_unit(rng);
    double reached = 0.0;
    for (size_t i = 0; i < n; i++)
        if ((reached += c[i].p) >= target) return c[i].token;
    return c[n - 1].token;
}

int32_t gg_sample(const float *logits, size_t n_vocab, const gg_sampling *sampling, const int32_t *history,
                  size_t n_history, gg_rng *rng, gg_candidate *c) {
    const int greedy = sampling->temperature <= 0.0f;
    const int penalizes =
        sampling->repeat_penalty != 1.0f || sampling->frequency_penalty != 0.0f || sampling->presence_penalty != 0.0f;
    const size_t k = greedy ? 1 : sampling->top_k > 0 ? (size_t)sampling->top_k : n_vocab;
    size_t n = n_vocab;
    if (k < n && !penalizes) {
        n = best(logits, n, k, c);
    } else {
        for (size_t i = 0; i < n; i++) c[i] = candidate(logits, i);
        if (penalizes) penalize(c, sampling, history, n_history);
        if (greedy || sampling->top_k > 0) n = top_k(c, n, k);
    }
    if (greedy) return c[0].token;
    if (sampling->top_p < 1.0f) n = top_p(c, sampling->top_k > 0 ? n : top_k(c, n, n), sampling->top_p);
    if (sampling->min_p > 0.0f) n = min_p(c, n, sampling->min_p);
    return draw(c, n, sampling->temperature, rng);
}
