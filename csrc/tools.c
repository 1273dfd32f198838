/* What tests, converters and benchmarks call. Contracts in gg_cdef.h. */

#include <string.h>

#include "run.h"

/* ---- Single rows ---- */

size_t gg_type_weights(int32_t type) { return gg_type(type).weights; }
size_t gg_type_bytes(int32_t type) { return gg_type(type).bytes; }

int gg_expand(int32_t type, size_t n, const uint8_t *w, size_t bytes, float *y) {
    const struct gg_type t = gg_type(type);
    if (t.weights == 0 || n % t.weights || n / t.weights != bytes / t.bytes || bytes % t.bytes) return -1;
    gg_expand_weights(&t, n, w, y);
    return 0;
}

int gg_dot(int32_t type, size_t n, size_t rows, const uint8_t *w, size_t bytes, const float *x, float *y,
           float *scratch) {
    const struct gg_type t = gg_type(type);
    if (t.weights == 0 || n % 32 || n % t.weights || rows == 0) return -1;
    const size_t stride = n / t.weights * t.bytes;
    if (bytes / rows != stride || bytes % rows) return -1;
    float *d = scratch, *s = d + n / 32;
    int8_t *q = (int8_t *)(s + n / 16);
    gg_k.quantize(n, x, q, d, s);
    t.dot(n, rows, w, stride, 1, &(struct gg_activation){x, q, d, s}, y, rows);
    return 0;
}

/* ---- Read probe ---- */

enum { PROBE_CHUNK = 1 << 20, PROBE_STEP = 128, PROBE_AHEAD = 12288 };

struct probe {
    const uint8_t *p;
    size_t bytes;
    uint64_t sum;
};

typedef uint64_t u64x2 __attribute__((vector_size(16)));

/* Eight sums in registers: nothing waits but for memory. */
static uint64_t sum_words(const uint8_t *p, size_t bytes) {
    u64x2 sum[PROBE_STEP / 16] = {{0}};
    uint64_t total = 0;
    size_t i = 0;
    for (; i + PROBE_STEP <= bytes; i += PROBE_STEP) {
        for (size_t line = 0; line < PROBE_STEP; line += 64) __builtin_prefetch(p + i + PROBE_AHEAD + line);
        for (size_t k = 0; k < PROBE_STEP / 16; k++) {
            u64x2 words;
            memcpy(&words, p + i + 16 * k, sizeof words);
            sum[k] += words;
        }
    }
    for (size_t k = 0; k < PROBE_STEP / 16; k++) total += sum[k][0] + sum[k][1];
    for (; i + 8 <= bytes; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, sizeof word);
        total += word;
    }
    return total;
}

static void read_chunks(void *arg, struct gg_worker *worker) {
    struct probe *probe = arg;
    for (size_t i; (i = gg_take(worker) * PROBE_CHUNK) < probe->bytes;) {
        const uint64_t sum = sum_words(probe->p + i, gg_min(PROBE_CHUNK, probe->bytes - i));
        __atomic_add_fetch(&probe->sum, sum, __ATOMIC_RELAXED);
    }
}

uint64_t gg_read_probe(const uint8_t *p, size_t bytes, int n_threads) {
    struct probe probe = {.p = p, .bytes = bytes};
    gg_pool_run(n_threads, read_chunks, &probe, NULL);
    return probe.sum;
}

/* ---- Peak probe ---- */

enum { PEAK_ROUNDS = 4096 };

struct peak {
    gg_peak_fn *loop;
    size_t pieces;
    uint64_t done;
};

static void run_pieces(void *arg, struct gg_worker *worker) {
    struct peak *peak = arg;
    while (gg_take(worker) < peak->pieces) {
        const uint64_t done = peak->loop(PEAK_ROUNDS);
        __atomic_add_fetch(&peak->done, done, __ATOMIC_RELAXED);
    }
}

uint64_t gg_peak_probe(int operand, size_t pieces, int n_threads) {
    gg_peak_fn *const loops[] = {[GG_F32] = gg_k.peak_f32, [GG_BF16_PAIRS] = gg_k.peak_bf16, [GG_I8] = gg_k.peak_i8};
    struct peak peak = {.loop = loops[operand], .pieces = pieces};
    gg_pool_run(n_threads, run_pieces, &peak, NULL);
    return peak.done;
}
